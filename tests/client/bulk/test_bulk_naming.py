"""No two cutouts get one name, in whatever order their sources come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutstream.bulk.naming import Names, output_name

FILE_NAMES = st.lists(st.sampled_from(["cat", "jpg", "tif", "png"]), min_size=1, max_size=4).map(".".join)
PATHS = st.tuples(st.sampled_from(["", "a/", "a.b/"]), FILE_NAMES).map("".join)


def outputs(*sources: str) -> dict[str, str]:
    names = Names()
    for source in sources:
        names.add(source)
    for source in sources:
        names.compare(source)
    return {source: output_name(source, ".png", whole=names.is_shared(source)) for source in sources}


def test_a_cutout_has_its_sources_name_with_another_suffix():
    assert outputs("a/cat.jpg") == {"a/cat.jpg": "a/cat.png"}


def test_sources_that_would_share_a_name_keep_their_whole_names():
    assert outputs("cat.jpg", "cat.png", "dog.jpg") == {
        "cat.jpg": "cat.jpg.png",
        "cat.png": "cat.png.png",
        "dog.jpg": "dog.png",
    }


def test_the_same_name_in_another_folder_is_no_collision():
    assert outputs("a/cat.jpg", "b/cat.png") == {"a/cat.jpg": "a/cat.png", "b/cat.png": "b/cat.png"}


def test_a_whole_name_is_not_taken_by_a_neighbours_short_one():
    assert outputs("cat.jpg", "cat.tif", "cat.jpg.webp")["cat.jpg.webp"] == "cat.jpg.webp.png"


def test_names_that_differ_in_case_only_collide():
    assert outputs("Cat.jpg", "cat.png") == {"Cat.jpg": "Cat.jpg.png", "cat.png": "cat.png.png"}


@pytest.mark.parametrize(("source", "output"), [("cat", "cat.png"), (".cat", ".cat.png"), ("a.b/cat", "a.b/cat.png")])
def test_a_source_without_suffix_gets_one(source, output):
    assert outputs(source) == {source: output}


def test_a_source_is_added_once():
    names = Names()
    assert (names.add("cat.jpg"), names.add("cat.jpg"), names.is_shared("cat.jpg")) == (True, False, False)


@given(st.sets(PATHS, max_size=12))
def test_no_two_sources_ever_share_an_output(sources):
    assert len(set(outputs(*sources).values())) == len(sources)


@given(st.sets(PATHS, max_size=8).flatmap(lambda paths: st.permutations(sorted(paths))))
def test_the_order_of_the_sources_does_not_matter(sources):
    assert outputs(*sources) == outputs(*sorted(sources))

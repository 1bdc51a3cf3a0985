"""What the report's page is given, and that nothing in it can break out."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from cutstream.bulk import report
from cutstream.bulk.report import write_report


def done(name: str, **changes: object) -> dict[str, object]:
    """A line of `manifest.jsonl`, of an image that was cut out."""
    line: dict[str, object] = {
        "input": name, "output": f"{Path(name).stem}.png", "output_bytes": 9, "sha256": name, "status": "ok",
        "size": 10, "mtime": 123, "options": "abc", "metrics": {"confidence": 0.5}, "timings": {"client_seconds": 1.5},
        "width_px": 4, "height_px": 4, "crop": {"left_px": -1.0, "top_px": 2.0, "width_px": 8.0, "height_px": 8.0},
    }  # fmt: skip
    return {**line, **changes}


def failed(name: str, **changes: object) -> dict[str, object]:
    """The same of an image that failed."""
    error = {"status": "error", "output": None, "sha256": None, "crop": None, "metrics": {}}
    told = {"reason": "NO_OBJECT", "message": "no object was found", "metadata": {"threshold": "0.5"}}
    return done(name, **{**error, **told, **changes})


def data_of(page: Path) -> dict[str, object]:
    """What stands in the page for its script."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.fixture
def made(tmp_path):
    """Writes the page of these lines to `page/report.html`; gives its path."""

    def make(*lines):
        manifest = tmp_path / "out" / "manifest.jsonl"
        manifest.parent.mkdir(exist_ok=True)
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
        page = tmp_path / "page" / "report.html"
        page.parent.mkdir(exist_ok=True)
        write_report(manifest, page)
        return page

    return make


def column(data, name):
    return next(one for one in data["columns"] if one["name"] == name)


def test_names_are_below_the_folder_that_all_images_share(made):
    data = data_of(made(done("/data/photos/a/1.jpg"), done("/data/photos/ab/2.jpg")))
    assert (data["folder"], data["names"]) == ("/data/photos/", ["a/1.jpg", "ab/2.jpg"])


def test_names_of_addresses_are_below_their_shared_folder(made):
    data = data_of(made(done("s3://bucket/photos/1.jpg"), done("s3://bucket/photos/2.jpg")))
    assert (data["folder"], data["names"]) == ("s3://bucket/photos/", ["1.jpg", "2.jpg"])


def test_images_and_cutouts_are_referred_to_relative_to_the_page(made, tmp_path):
    data = data_of(made(done(str(tmp_path / "photos" / "a.jpg"))))
    assert (data["inputs"], data["outputs"]) == (["../photos/a.jpg"], ["../out/a.png"])


def test_a_name_with_signs_of_addresses_is_quoted(made, tmp_path):
    data = data_of(made(done(str(tmp_path / "photos" / "a b#1?100%.jpg"))))
    assert data["inputs"] == ["../photos/a%20b%231%3F100%25.jpg"]


def test_a_name_that_looks_like_a_script_address_is_quoted(made, tmp_path):
    data = data_of(made(done(str(tmp_path / "page" / "javascript:alert(1)"))))
    assert data["inputs"] == ["javascript%3Aalert%281%29"]


def test_a_name_that_is_no_utf_8_is_referred_to_by_its_bytes(made, tmp_path):
    data = data_of(made(done(str(tmp_path / "photos" / "caf\udce9.jpg"))))
    assert data["inputs"] == ["../photos/caf%E9.jpg"]


def test_an_address_that_browsers_open_is_kept_and_no_other(made):
    data = data_of(made(done("https://host/a.jpg"), done("s3://bucket/a.jpg")))
    assert data["inputs"] == ["https://host/a.jpg", None]


def test_columns_are_outcome_then_metrics_and_timings(made):
    data = data_of(made(done("/a.jpg", metrics={"edge_sharpness": 0.1, "zeal": 3, "confidence": 0.25})))
    names = [one["name"] for one in data["columns"]]
    assert names == ["outcome", "confidence", "edge_sharpness", "zeal", "client_seconds"]
    assert data["firstColumns"] == 3


def test_what_an_image_lacks_is_null(made):
    data = data_of(made(done("/a.jpg", metrics={}), done("/b.jpg", metrics={"confidence": 0.25})))
    assert column(data, "confidence")["values"] == [None, 0.25]


def test_texts_are_indices_into_a_sorted_list(made):
    lines = [done(f"/{kind}.jpg", metrics={"source_format": kind}) for kind in ("PNG", "JPEG", "PNG")]
    lines[2]["input"] = "/other.jpg"
    found = column(data_of(made(*lines)), "source_format")
    assert (found["texts"], found["values"]) == (["JPEG", "PNG"], [1, 0, 1])


def test_truth_values_are_yes_and_no(made):
    found = column(data_of(made(done("/a.jpg", metrics={"touches_border": True}))), "touches_border")
    assert (found["texts"], found["values"]) == (["yes"], [0])


def test_a_number_that_is_not_finite_is_null(made):
    found = column(data_of(made(done("/a.jpg", metrics={"aspect_ratio": float("inf")}))), "aspect_ratio")
    assert found["values"] == [None]


def test_the_outcome_of_a_failure_is_its_reason_with_message_and_metadata(made):
    data = data_of(made(failed("/a.jpg"), done("/b.jpg")))
    assert column(data, "outcome")["texts"] == ["NO_OBJECT", "ok"]
    assert data["messages"] == ["no object was found (threshold=0.5)", None]


def test_crops_are_left_top_width_height(made):
    assert data_of(made(done("/a.jpg")))["crops"] == [[-1.0, 2.0, 8.0, 8.0]]


def test_raw_samples_and_metrics_alone_are_no_cutouts_to_show(made):
    data = data_of(made(done("/a.jpg", output="a.raw"), done("/b.jpg", output=None, sha256=None, crop={})))
    assert (data["outputs"], data["crops"][1]) == ([None, None], None)


def test_of_an_image_with_two_lines_the_last_one_counts(made):
    data = data_of(made(failed("/a.jpg"), done("/b.jpg"), done("/a.jpg")))
    assert data["names"] == ["b.jpg", "a.jpg"]
    assert data["totals"] == {"done": 2, "failed": 0}


def test_of_many_images_a_choice_is_shown_and_all_are_counted(made, monkeypatch):
    monkeypatch.setattr(report, "MOST_DONE", 5)
    data = data_of(made(*(done(f"/{number}.jpg") for number in range(50)), failed("/f.jpg")))
    assert data["totals"] == {"done": 50, "failed": 1}
    assert len(set(data["names"])) == 6
    assert "f.jpg" in data["names"]


def test_every_image_has_the_same_chance_to_be_chosen():
    # Three of six images in 2000 draws: each is expected 1000 times, with a deviation of 22.
    counts = dict.fromkeys(range(6), 0)
    sample = report._Sample(3)
    for _ in range(2000):
        sample.kept, sample.offered = [], 0
        for number in counts:
            sample.offer(number, {})
        for number, _line in sample.kept:
            counts[number] += 1
    assert all(890 < count < 1110 for count in counts.values())


def test_a_manifest_without_images_gives_a_page(made):
    data = data_of(made())
    assert (data["names"], data["totals"]) == ([], {"done": 0, "failed": 0})


def test_no_name_or_message_can_end_the_data(made):
    hostile = "</script><script>alert(1)</script><!--<script>"
    page = made(failed(f"/{hostile}.jpg", message=hostile, metadata={hostile: hostile}))
    # The page's own two script elements and no other.
    assert page.read_text().count("<script") == 2
    assert data_of(page)["messages"] == [f"{hostile} ({hostile}={hostile})"]


def test_a_name_that_is_a_place_of_the_template_is_not_filled(made):
    assert data_of(made(done("/x/@@script@@.jpg"), done("/x/@@data@@")))["names"] == ["@@script@@.jpg", "@@data@@"]


def test_the_policy_allows_the_pages_own_script_and_style_only(made):
    text = made(done("/a.jpg")).read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    allowed = {}
    for kind, pattern in (("script-src", r"<script>(.*?)</script>"), ("style-src", r"<style>(.*?)</style>")):
        content = re.search(pattern, text, re.DOTALL)[1]
        allowed[kind] = f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts == {
        "default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "img-src": "'self' file:", **allowed
    }  # fmt: skip


def test_the_page_names_nothing_in_the_network(made):
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)[\w.]+", made(done("/a.jpg")).read_text()) == []


def test_the_thumbnails_lie_beside_the_page(made, tmp_path):
    (tmp_path / "out").mkdir()
    Image.new("RGBA", (600, 300), (255, 0, 0, 128)).save(tmp_path / "out" / "a.png")
    page = made(done("/a.jpg"), done("/gone.jpg"))
    data = data_of(page)
    assert data["thumbnails"][1] is None
    with Image.open(page.parent / data["thumbnailFolder"] / data["thumbnails"][0]) as small:
        assert small.size == (256, 128)


def test_the_tile_of_a_failed_image_shows_the_image(made, tmp_path):
    Image.new("RGB", (10, 20)).save(tmp_path / "photo.png")
    page = made(failed(str(tmp_path / "photo.png")))
    data = data_of(page)
    with Image.open(page.parent / data["thumbnailFolder"] / data["thumbnails"][0]) as small:
        assert small.size == (10, 20)


def test_without_a_cutout_the_tile_shows_the_image(made, tmp_path):
    Image.new("RGB", (10, 20)).save(tmp_path / "photo.png")
    page = made(done(str(tmp_path / "photo.png"), output=None, sha256=None, crop={}))
    assert data_of(page)["thumbnails"] != [None]


def test_an_image_that_is_elsewhere_has_no_thumbnail(made):
    assert data_of(made(failed("s3://bucket/a.jpg")))["thumbnails"] == [None]


def test_a_page_that_cannot_be_written_leaves_no_half_of_it(made, tmp_path):
    (tmp_path / "page" / "report.html").mkdir(parents=True)
    with pytest.raises(OSError, match="report"):
        made(done("/a.jpg"))
    assert [path.name for path in (tmp_path / "page").iterdir() if path.is_file()] == []

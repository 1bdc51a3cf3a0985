"""When models are loaded, offered and withdrawn; Triton is what the test says. Real ones: test_several_models.py."""

import pytest

from cutstream_server.errors import ModelUnavailableError
from cutstream_server.segmentation.catalog import ModelCatalog, ModelState
from cutstream_server.segmentation.connection import ModelLoadError
from cutstream_server.segmentation.keeper import IndexKeeper, RepositoryKeeper
from cutstream_server.segmentation.model_rules import ModelRules

READY, FAILED, LOADING = ModelState.READY, ModelState.FAILED, ModelState.LOADING
FIXED = ModelRules(side=320, other_sides=False, licence="MIT")


class ScriptedTriton:
    """Loads and unloads as a test says, and notes it."""

    def __init__(self):
        self.rules = {}
        self.calls = []
        self.error = None

    async def load(self, model):
        self.calls.append(f"load {model}")
        if self.error:
            raise self.error
        self.rules[model] = FIXED

    async def unload(self, model):
        self.calls.append(f"unload {model}")
        if self.error:
            raise self.error


@pytest.fixture
def put(tmp_path):
    """Puts a model into the repository, or changes it."""

    def write(name, content="network"):
        (tmp_path / name / "1").mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "1" / "model.onnx").write_text(content)
        (tmp_path / name / "config.pbtxt").write_text(name)

    return write


@pytest.fixture
def take_away(tmp_path):
    return lambda name: (tmp_path / name / "config.pbtxt").unlink()


@pytest.fixture
def triton():
    return ScriptedTriton()


@pytest.fixture
async def catalog():
    return ModelCatalog({"isnet": ModelRules()})


@pytest.fixture
async def keeper(tmp_path, put, triton, catalog):
    put("isnet")
    return RepositoryKeeper(triton, catalog, (tmp_path,), "isnet")


async def look(keeper, times=2):
    for _ in range(times):
        await keeper.look()


async def test_what_is_there_from_the_start_is_left_alone(keeper, triton):
    await look(keeper, 3)
    assert triton.calls == []


async def test_a_new_model_is_loaded_when_it_has_stopped_changing(keeper, triton, put, catalog):
    put("new", "half")
    await look(keeper, 1)
    put("new", "whole and longer")
    await look(keeper, 1)
    assert triton.calls == []
    await look(keeper, 2)
    assert (triton.calls, catalog.states()["new"], catalog.rules("new")) == (["load new"], READY, FIXED)


async def test_a_changed_model_is_loaded_again_and_ready_all_the_time(keeper, triton, put, catalog):
    put("isnet", "another network")
    await look(keeper)
    assert (triton.calls, catalog.states()["isnet"]) == (["load isnet"], READY)


async def test_a_model_that_cannot_be_loaded_is_tried_again_only_when_it_changes(keeper, triton, put, catalog, caplog):
    triton.error = ModelLoadError("no such operator")
    put("new")
    await look(keeper, 5)
    assert (triton.calls, catalog.states()["new"]) == (["load new"], FAILED)
    assert "no such operator" in caplog.text
    triton.error = None
    put("new", "a repaired network")
    await look(keeper)
    assert catalog.states()["new"] is READY


async def test_a_changed_model_that_cannot_be_loaded_serves_what_it_was(keeper, triton, put, catalog):
    triton.error = ModelLoadError("no such operator")
    put("isnet", "another network")
    await look(keeper)
    assert catalog.states()["isnet"] is READY


async def test_while_triton_is_away_a_model_waits(keeper, triton, put, catalog):
    triton.error = ModelUnavailableError("Triton is recovering")
    put("new")
    await look(keeper, 3)
    assert catalog.states()["new"] is LOADING
    triton.error = None
    await look(keeper, 1)
    assert catalog.states()["new"] is READY


async def test_a_model_that_is_taken_away_is_unloaded(keeper, triton, put, take_away, catalog):
    put("new")
    await look(keeper)
    take_away("new")
    await look(keeper, 1)
    assert (triton.calls, list(catalog.states())) == (["load new", "unload new"], ["isnet"])


async def test_a_model_that_triton_does_not_know_any_more_is_withdrawn_all_the_same(
    keeper, triton, put, take_away, catalog
):
    put("new")
    await look(keeper)
    take_away("new")
    triton.error = ModelUnavailableError("Triton is recovering")
    await look(keeper, 1)
    assert list(catalog.states()) == ["isnet"]


async def test_a_model_that_is_taken_away_before_triton_could_load_it_is_withdrawn(
    keeper, triton, put, take_away, catalog
):
    triton.error = ModelUnavailableError("Triton is recovering")
    put("new")
    await look(keeper)
    take_away("new")
    await look(keeper, 1)
    assert list(catalog.states()) == ["isnet"]


async def test_the_default_model_is_never_unloaded(keeper, triton, take_away, catalog, caplog):
    take_away("isnet")
    await look(keeper, 3)
    assert (triton.calls, catalog.states()["isnet"]) == ([], READY)
    assert caplog.text.count("it stays loaded") == 1


class ListingTriton:
    """Lists what a test says, with rules for each; None for a model of another kind."""

    def __init__(self, **models):
        self.models = models
        self.error = None

    async def ready_models(self):
        if self.error:
            raise self.error
        return dict.fromkeys(self.models, "1")

    async def model_rules(self, model):
        return self.models[model]


async def test_what_other_tritons_have_loaded_is_offered_if_it_is_of_this_kind(catalog):
    triton = ListingTriton(isnet=ModelRules(), small=FIXED, detector=None)
    await look(IndexKeeper(triton, catalog, "isnet"))
    assert list(catalog.states()) == ["isnet", "small"]
    assert catalog.rules("small") == FIXED


async def test_the_rules_of_the_default_model_are_taken_too(catalog):
    await look(IndexKeeper(ListingTriton(isnet=FIXED), catalog, "isnet"))
    assert catalog.rules("isnet") == FIXED


async def test_what_other_tritons_have_unloaded_is_withdrawn_but_for_the_default(catalog):
    triton = ListingTriton(isnet=ModelRules(), small=FIXED)
    keeper = IndexKeeper(triton, catalog, "isnet")
    await look(keeper, 1)
    triton.models = {"other": FIXED}
    await look(keeper, 1)
    assert list(catalog.states()) == ["isnet", "other"]


@pytest.mark.parametrize("models", [{}, {"isnet": ModelRules(), "small": FIXED}])
async def test_a_triton_that_does_not_answer_changes_nothing(catalog, models):
    triton = ListingTriton(small=FIXED)
    keeper = IndexKeeper(triton, catalog, "isnet")
    await look(keeper, 1)
    triton.models = models
    triton.error = ModelUnavailableError("no Triton answers") if models else None
    await look(keeper, 1)
    assert list(catalog.states()) == ["isnet", "small"]

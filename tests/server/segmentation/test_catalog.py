"""Which models may be asked for, under which rules, and when a model may go."""

import asyncio

import pytest

from cutstream_server.errors import InvalidOptionsError, ModelUnavailableError, UnknownModelError
from cutstream_server.options import Options
from cutstream_server.segmentation.catalog import ModelCatalog, ModelState
from cutstream_server.segmentation.model_rules import ModelRules

FREE, FIXED = ModelRules(), ModelRules(side=320, other_sides=False)


@pytest.fixture
async def catalog():
    return ModelCatalog({"isnet": FREE, "fixed": FIXED})


def use(catalog, **options):
    return catalog.use(Options(**options))


async def test_a_model_that_is_not_there_is_told_with_those_that_are(catalog):
    with (
        pytest.raises(UnknownModelError, match="no model 'other' here; there are: fixed, isnet"),
        use(catalog, model="other"),
    ):
        pass


@pytest.mark.parametrize("state", [ModelState.LOADING, ModelState.FAILED])
async def test_a_model_that_is_not_ready_is_unavailable(catalog, state):
    catalog.offer("new", FREE, state)
    with pytest.raises(ModelUnavailableError, match=state.value), use(catalog, model="new"):
        pass


async def test_a_model_that_goes_takes_no_new_images(catalog):
    with use(catalog, model="fixed"):
        going = asyncio.create_task(catalog.withdraw("fixed"))
        await asyncio.sleep(0)
        with pytest.raises(UnknownModelError, match="there are: isnet"), use(catalog, model="fixed"):
            pass
    await going


async def test_a_model_goes_when_the_last_image_that_uses_it_is_done(catalog):
    first, second = use(catalog, model="fixed"), use(catalog, model="fixed")
    first.__enter__()
    second.__enter__()
    going = asyncio.create_task(catalog.withdraw("fixed"))
    first.__exit__(None, None, None)
    await asyncio.sleep(0.01)
    assert not going.done()
    second.__exit__(None, None, None)
    await asyncio.wait_for(going, 1)


async def test_a_model_that_nobody_uses_goes_at_once(catalog):
    await asyncio.wait_for(catalog.withdraw("fixed"), 1)
    catalog.forget("fixed")
    assert list(catalog.states()) == ["isnet"]


async def test_images_of_other_models_hold_nothing_up(catalog):
    with use(catalog, model="isnet"):
        await asyncio.wait_for(catalog.withdraw("fixed"), 1)


async def test_other_scales_of_a_model_of_one_size_are_refused_with_the_size(catalog):
    with pytest.raises(InvalidOptionsError) as caught, use(catalog, model="fixed", enable_multi_scale=True):
        pass
    (violation,) = caught.value.violations
    assert violation.field == "multi_scale_factors"
    assert "320 x 320 only" in violation.description


@pytest.mark.parametrize(
    "options",
    [
        {"model": "fixed"},
        {"model": "fixed", "enable_multi_scale": True, "multi_scale_factors": (1.0,)},
        {"model": "isnet", "enable_multi_scale": True},
    ],
)
async def test_scales_that_a_model_takes_are_no_error(catalog, options):
    with use(catalog, **options):
        pass

"""What the pipeline does not do: work that is refused by a header, too much at once, or that nobody waits for."""

import asyncio
import threading

import pytest
from benchmarks.robustness.bombs import BOMBS
from benchmarks.robustness.material import encoded
from PIL import Image

from cutstream_server.budget import Budget
from cutstream_server.errors import ImageTooLargeError, ImageUndecodableError
from cutstream_server.imaging.decode import decode_image
from cutstream_server.imaging.header import ImageLimits
from cutstream_server.imaging.presets import PRESETS_BY_NAME
from cutstream_server.options import OptionResolver
from cutstream_server.pipeline import Pipeline
from cutstream_server.report import ImageReport
from cutstream_server.segmentation.catalog import ModelCatalog
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.service import Service
from cutstream_server.workers import Workers

LIMITS = ImageLimits(max_pixels=64_000_000, max_side=32_768, max_frames=1000)
RESOLVER = OptionResolver(PRESETS_BY_NAME, {}, 60.0)
GLASS = Image.new("RGBA", (100, 100), (9, 9, 9, 0))
GLASS.paste((9, 9, 9, 255), (30, 30, 70, 70))
# Its own transparency is its mask: no network is asked.
CUT_ALREADY = encoded(GLASS, "PNG")


class Decoding:
    """Counts decodes, and holds them up until the test lets them go."""

    def __init__(self):
        self.calls = 0
        self.running = 0
        self.most = 0
        self.gate = threading.Event()

    def __call__(self, data, header):
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            assert self.gate.wait(20)
            return decode_image(data, max_pixels=header.pixels)
        finally:
            self.running -= 1


@pytest.fixture
def decoding():
    decoding = Decoding()
    yield decoding
    decoding.gate.set()


@pytest.fixture
def workers():
    workers = Workers(4)
    yield workers
    workers.close()


def pipeline(decoding, workers, *, count=9, pixels=10**9):
    return Pipeline(None, workers, decoding, limits=LIMITS, decoded=Budget(count, pixels))


async def remove(pipeline, data):
    return await pipeline.remove(data, ImageReport(RESOLVER.resolve({})), time_left=60.0)


@pytest.mark.parametrize("name", ["PNG 20,000 x 20,000", "TIFF 20,000 x 20,000", "WebP 10,000 frames"])
async def test_a_bomb_is_refused_before_anything_is_decoded(decoding, workers, name):
    with pytest.raises(ImageTooLargeError):
        await remove(pipeline(decoding, workers), BOMBS[name]())
    assert decoding.calls == 0


@pytest.mark.parametrize("bounds", [{"count": 2}, {"pixels": 25_000}])
async def test_no_more_is_decoded_at_once_than_the_budget_holds(decoding, workers, bounds):
    line = pipeline(decoding, workers, **bounds)
    images = [asyncio.create_task(remove(line, CUT_ALREADY)) for _ in range(6)]
    await asyncio.sleep(0.3)
    assert decoding.calls == 2
    decoding.gate.set()
    assert [(await image).width_px for image in images] == [518] * 6
    assert decoding.most == 2


async def test_an_image_whose_time_is_over_is_never_decoded(decoding, workers):
    line = pipeline(decoding, workers, count=1)
    service = Service(line, RESOLVER, ModelCatalog({"isnet": ModelRules()}))
    first = asyncio.create_task(service.process(CUT_ALREADY, RESOLVER.resolve({})))
    await asyncio.sleep(0.1)
    late = await service.process(CUT_ALREADY, RESOLVER.resolve({"processing_timeout": 0.05}))
    assert late.error.reason == "DEADLINE"
    decoding.gate.set()
    assert (await first).cutout.width_px == 518
    await asyncio.sleep(0.1)
    assert decoding.calls == 1


async def test_an_image_whose_caller_has_gone_is_never_decoded(decoding, workers):
    line = pipeline(decoding, workers, count=1)
    first = asyncio.create_task(remove(line, CUT_ALREADY))
    second = asyncio.create_task(remove(line, CUT_ALREADY))
    await asyncio.sleep(0.1)
    second.cancel()
    decoding.gate.set()
    await first
    await asyncio.gather(second, return_exceptions=True)
    assert decoding.calls == 1


async def test_a_place_in_the_budget_is_free_again_after_a_failure(decoding, workers):
    decoding.gate.set()
    budget = Budget(1, 10**9)
    line = Pipeline(None, workers, decoding, limits=LIMITS, decoded=budget)
    for _ in range(3):
        with pytest.raises(ImageUndecodableError):
            await remove(line, CUT_ALREADY[: len(CUT_ALREADY) // 2])
    assert (budget.count, budget.amount) == (0, 0)

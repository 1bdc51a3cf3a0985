"""Files made to cost, against the real server: what they are answered; benchmarks/robustness/bombs.py has the costs."""

import pytest
from benchmarks.robustness.bombs import BOMBS, HIDDEN
from benchmarks.robustness.material import encoded, picture
from PIL import Image

import cutstream

ANSWERS = {"IMAGE_TOO_LARGE", "IMAGE_UNDECODABLE", "DEADLINE", "NO_OBJECT"}
# What makes one of them takes seconds, and what they cost is a benchmark's.
CHOSEN = [name for name in BOMBS if "hides" not in name] + [next(iter(HIDDEN))]


@pytest.fixture(scope="module")
def client(tiny_service):
    with cutstream.Client(tiny_service.target) as client:
        yield client


@pytest.mark.parametrize("name", CHOSEN)
def test_a_bomb_is_answered_by_a_typed_error(client, name):
    with pytest.raises(cutstream.CutoutError) as caught:
        client.remove({**BOMBS, **HIDDEN}[name](), model="tiny")
    assert caught.value.reason in ANSWERS


def test_bombs_among_images_do_not_disturb_them(client, tiny_service):
    before = tiny_service.lasting_processes()
    good = encoded(Image.fromarray(picture()), "PNG")
    images = [(f"good {number}", good) for number in range(20)]
    for number, name in enumerate(("PNG 20,000 x 20,000", "PNG huge zTXt", "WebP 10,000 frames")):
        images.insert(3 * number, (name, BOMBS[name]()))
    results = {result.image_id: result for result in client.stream(images, model="tiny")}
    assert len(results) == 23
    assert all(isinstance(results[f"good {number}"], cutstream.Cutout) for number in range(20))
    assert tiny_service.lasting_processes() == before

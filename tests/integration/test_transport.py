"""How images go from the service to its Triton."""

from pathlib import Path

import cv2
import numpy as np

import cutstream

REGIONS = "cutstream_regions_*"


def disc(side=256):
    y, x = np.mgrid[:side, :side] / side - 0.5
    red = np.where(np.hypot(x, y) < 0.3, 255, 0)
    return cv2.imencode(
        ".png", np.dstack([np.full((side, side), 90), np.full((side, side), 60), red]).astype(np.uint8)
    )[1].tobytes()


def test_the_embedded_triton_shares_memory_with_the_service(tiny_service):
    with cutstream.Client(tiny_service.target) as client:
        assert client.info().triton.transport == "shared_memory"


def test_a_stream_through_shared_memory_is_answered_whole(tiny_service):
    with cutstream.Client(tiny_service.target) as client:
        client.info()
        results = list(client.stream((str(number), disc()) for number in range(40)))
    assert sorted(int(result.image_id) for result in results) == list(range(40))
    # A disc of radius 0.3 of the side covers 0.09 pi of the picture.
    coverage = [result.metrics.object_coverage_ratio for result in results]
    np.testing.assert_allclose(coverage, 0.09 * np.pi, atol=0.005)


def test_images_leave_no_files_in_shared_memory(tiny_service):
    with cutstream.Client(tiny_service.target) as client:
        list(client.stream((str(number), disc()) for number in range(8)))
    # The owners' locks are empty; a region would hold its image.
    assert [path for path in Path("/dev/shm").glob(REGIONS) if path.stat().st_size] == []

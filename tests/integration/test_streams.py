"""Streams through the real server and its real Triton."""

import numpy as np
import pytest
from google.rpc import error_details_pb2

import cutstream
from cutstream.v1 import cutstream_pb2 as pb

MIB = 1024 * 1024


def reason_of(status):
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason


def messages(images, **options):
    yield pb.StreamRemoveBackgroundRequest(config=pb.StreamConfig(options=pb.RemovalOptions(**options)))
    for image_id, data in images:
        starts = range(0, max(len(data), 1), MIB)
        for start in starts:
            chunk = pb.ImageChunk(image_id=image_id, data=data[start : start + MIB], last=start == starts[-1])
            if start == 0:
                chunk.size_bytes = len(data)
            yield pb.StreamRemoveBackgroundRequest(chunk=chunk)


def disc(side=200):
    y, x = np.mgrid[:side, :side] + 0.5
    return (np.hypot(x - side / 2, y - side / 2) < side / 4).astype(float)


def test_three_broken_images_among_twelve_are_three_typed_errors(server, draw):
    good = draw(disc())
    images = [(f"good-{i}", good) for i in range(9)]
    images[2:2] = [("empty", b""), ("truncated", good[: len(good) // 2]), ("text", b"this is not an image")]
    results, summaries = {}, []
    with server.stub() as stub:
        for response in stub.StreamRemoveBackground(messages(images, model="tiny")):
            if response.HasField("image"):
                assert response.image.image_id not in results
                results[response.image.image_id] = response.image
            elif response.HasField("summary"):
                summaries.append(response.summary)
    assert sum(result.HasField("cutout") for result in results.values()) == 9
    reasons = {name: reason_of(results[name].error) for name in ("empty", "truncated", "text")}
    assert reasons == {"empty": "IMAGE_EMPTY", "truncated": "IMAGE_UNDECODABLE", "text": "UNSUPPORTED_FORMAT"}
    (summary,) = summaries
    assert (summary.image_count, summary.succeeded_count, summary.failed_count) == (12, 9, 3)


@pytest.fixture(scope="module")
def twelve_megapixels(draw):
    """A grey gradient over 4000 x 3000 pixels, with a disc of alpha 1 in the middle."""
    height, width = 3000, 4000
    y, x = np.mgrid[:height, :width]
    return draw((np.hypot(x - width / 2, y - height / 2) < 1000).astype(float))


def test_a_full_raw_cutout_of_twelve_megapixels_arrives_in_chunks(server, twelve_megapixels):
    options = {"model": "tiny", "framing": pb.FRAMING_FULL, "output_format": pb.OUTPUT_FORMAT_RAW}
    data, chunks, result = bytearray(), 0, None
    with server.stub() as stub:
        for response in stub.StreamRemoveBackground(messages([("big", twelve_megapixels)], **options)):
            if response.HasField("cutout_chunk"):
                chunks += 1
                data += response.cutout_chunk.data
            elif response.HasField("image"):
                result = response.image
    assert chunks == 46  # 48,000,000 bytes in parts of 1 MiB
    assert (result.cutout.width_px, result.cutout.height_px) == (4000, 3000)
    pixels = np.frombuffer(data, np.uint8).reshape(3000, 4000, 4)
    assert pixels[1500, 2000].tolist() == [255, 128, 64, 255]
    assert pixels[10, 10].tolist() == [0, 0, 0, 0]


def test_the_same_cutout_is_too_large_for_a_unary_answer(client, twelve_megapixels):
    with pytest.raises(cutstream.CutoutError, match="StreamRemoveBackground") as caught:
        client.remove(twelve_megapixels, model="tiny", framing="full", output_format="raw")
    assert caught.value.reason == "OUTPUT_TOO_LARGE"

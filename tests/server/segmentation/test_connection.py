import asyncio

import numpy as np
import pytest

from cutstream_server.errors import DeadlineError, InternalFaultError, ModelUnavailableError, UnknownModelError
from cutstream_server.segmentation.connection import TritonConnection
from cutstream_server.segmentation.failures import ModelBusyError

SECONDS = 20.0


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (96, 160), (1024, 1024), (300, 77)])
async def test_any_size_is_answered_with_the_red_channel(connection, picture, size):
    image = picture(*size)
    prediction = await connection.infer("tiny", image, timeout=SECONDS)
    assert prediction.alpha.dtype == np.float32
    assert prediction.alpha.shape == (1, 1, *size)
    # The engine multiplies by the rounded 1 / 255: one unit in the last place of 1.0.
    np.testing.assert_allclose(prediction.alpha, image[:, :1] / 255, rtol=0, atol=1.2e-7)


@pytest.mark.parametrize("size", [(64, 64), (300, 77)])
async def test_a_mask_at_16_bits_is_its_share_of_65535(connection, picture, size):
    image = picture(*size)
    prediction = await connection.infer("sixteen", image, timeout=SECONDS)
    assert prediction.alpha.dtype == np.float32
    np.testing.assert_array_equal(prediction.alpha, (image[:, :1] / 255).astype(np.float32))


async def test_answers_do_not_mix(connection):
    images = [np.full((1, 3, 64, 64), value, np.uint8) for value in range(32)]
    predictions = await asyncio.gather(*(connection.infer("tiny", image, timeout=SECONDS) for image in images))
    means = [prediction.alpha.mean() * 255 for prediction in predictions]
    np.testing.assert_allclose(means, range(32), atol=1e-4)


async def test_an_answer_names_the_version(connection, picture):
    assert (await connection.infer("tiny", picture(64, 64), timeout=SECONDS)).version == "1"


async def test_ready_models_are_listed_with_their_version(connection, triton):
    models = await connection.ready_models(timeout=SECONDS, headers=triton.control_headers)
    assert models == {"tiny": "1", "sixteen": "1", "narrow": "1", "nan": "1", "cropping": "1", "picky": "1"}


@pytest.mark.parametrize(("model", "version"), [("no-such-model", ""), ("tiny", "7")])
async def test_an_unknown_model_or_version_is_an_unknown_model(connection, picture, model, version):
    with pytest.raises(UnknownModelError) as caught:
        await connection.infer(model, picture(64, 64), version=version, timeout=SECONDS)
    assert caught.value.metadata["model"] == model


@pytest.mark.parametrize("image", [np.zeros((1, 3, 8, 8), np.float32), np.zeros((3, 8, 8), np.uint8)])
async def test_an_image_of_the_wrong_kind_is_refused_before_it_is_sent(connection, image):
    with pytest.raises(ValueError, match="not uint8"):
        await connection.infer("tiny", image, timeout=SECONDS)


async def test_values_that_are_not_finite_are_a_fault(connection, picture):
    with pytest.raises(InternalFaultError):
        await connection.infer("nan", picture(64, 64), timeout=SECONDS)


async def test_a_mask_of_another_size_is_a_fault(connection, picture):
    with pytest.raises(InternalFaultError):
        await connection.infer("cropping", picture(64, 64), timeout=SECONDS)


async def test_a_request_that_the_network_refuses_fails_alone(connection, picture):
    sizes = [(64, 64), (20, 20), (64, 64), (20, 64), (80, 48)]
    calls = (connection.infer("picky", picture(*size), timeout=SECONDS) for size in sizes)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    failed = [isinstance(answer, InternalFaultError) for answer in answers]
    assert failed == [False, True, False, True, False]


async def test_the_log_tells_what_the_network_refused(connection, picture, caplog):
    with pytest.raises(InternalFaultError):
        await connection.infer("picky", picture(20, 20), timeout=SECONDS)
    assert "the network does not run on image [1, 3, 20, 20] uint8" in caplog.text


async def test_time_that_runs_out_is_a_deadline(held_up, connection, picture):
    with pytest.raises(DeadlineError) as caught:
        await connection.infer("tiny", picture(64, 64), timeout=0.2)
    assert caught.value.metadata["timeout_seconds"] == "0.2"


async def test_a_full_queue_is_a_busy_model(held_up, connection, picture):
    calls = [asyncio.create_task(connection.infer("narrow", picture(64, 64), timeout=SECONDS)) for _ in range(6)]
    done, waiting = await asyncio.wait(calls, timeout=0.3)
    held_up()
    assert done
    assert all(isinstance(call.exception(), ModelBusyError) for call in done)
    assert all(answer.alpha.shape == (1, 1, 64, 64) for answer in await asyncio.gather(*waiting))


async def test_a_cancelled_call_leaves_the_connection_usable(held_up, connection, picture):
    call = asyncio.create_task(connection.infer("tiny", picture(64, 64), timeout=SECONDS))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    held_up()
    assert (await connection.infer("tiny", picture(64, 64), timeout=SECONDS)).version == "1"


async def test_an_address_where_nobody_is_is_an_unavailable_model(picture):
    connection = TritonConnection("127.0.0.1:1")
    with pytest.raises(ModelUnavailableError):
        await connection.infer("tiny", picture(64, 64), timeout=SECONDS)
    await connection.close()

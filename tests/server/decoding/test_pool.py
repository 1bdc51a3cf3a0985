"""Decoders in processes of their own."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from benchmarks.robustness.bombs import BOMBS, HIDDEN
from benchmarks.robustness.material import encoded, small_files
from PIL import Image
from running import read

from cutstream_server.decoding import pool as module
from cutstream_server.decoding.pool import DecoderPool
from cutstream_server.errors import CutstreamError, DeadlineError, ImageUndecodableError
from cutstream_server.imaging.decode import decode_image
from cutstream_server.imaging.header import Header, ImageLimits, read_header

LIMITS = ImageLimits(max_pixels=64_000_000, max_side=32_768, max_frames=1000)
FILES = small_files()
SECONDS = 20.0


@pytest.fixture
def pool():
    pool = DecoderPool(max_pixels=LIMITS.max_pixels, seconds=SECONDS)
    pool.start()
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def shared():
    """For tests that leave it as it is."""
    pool = DecoderPool(max_pixels=LIMITS.max_pixels, seconds=SECONDS)
    yield pool
    pool.close()


def decode(pool, data):
    return pool.decode(data, read_header(data, LIMITS))


def decoder_pids(pool):
    return [decoder._pid for decoder in pool._idle]


def of_value(value, size=(640, 480)):
    """A PNG of one colour, so that a mix-up of memory shows."""
    return encoded(Image.new("RGB", size, (value, value, value)), "PNG")


@pytest.mark.parametrize("kind", FILES)
def test_an_image_is_the_same_as_when_it_is_decoded_here(shared, kind):
    here, there = decode_image(FILES[kind], max_pixels=LIMITS.max_pixels), decode(shared, FILES[kind])
    np.testing.assert_array_equal(there.rgb, here.rgb)
    assert there.rgb.dtype == here.rgb.dtype
    assert (there.alpha is None) == (here.alpha is None)
    if here.alpha is not None:
        np.testing.assert_array_equal(there.alpha, here.alpha)
    assert (there.format, there.exif_orientation) == (here.format, here.exif_orientation)


@pytest.mark.parametrize("data", [FILES["JPEG plain"][:999], FILES["PNG rgb"][:999], FILES["AVIF plain"][:999]])
def test_a_damaged_image_is_the_same_error_as_here(shared, data):
    with pytest.raises(CutstreamError) as here:
        decode_image(data, max_pixels=LIMITS.max_pixels)
    with pytest.raises(type(here.value)) as there:
        decode(shared, data)
    assert (there.value.message, there.value.metadata) == (here.value.message, here.value.metadata)


def test_an_array_stays_as_it_is_while_any_part_of_it_is_used(pool):
    part = decode(pool, of_value(7)).rgb[100:200, ::2].T[1:]
    for value in range(50, 60):
        decode(pool, of_value(value))
    assert (part == 7).all()


def test_memory_is_used_again(pool):
    for value in range(10):
        assert (decode(pool, of_value(value)).rgb == value).all()
    (decoder,) = pool._idle
    assert len(decoder._memories) == 1


def test_memory_of_large_images_is_not_kept(pool):
    large = encoded(Image.new("L", (4000, 3000), 9), "PNG")
    assert (decode(pool, large).rgb == 9).all()
    (decoder,) = pool._idle
    assert decoder._memories == {}
    decode(pool, FILES["PNG rgb"])
    mapped = read(f"/proc/{decoder._pid}/maps").count("cutstream-pixels")
    assert mapped == 1


def test_a_trim_gives_memory_back_on_both_sides(pool):
    before = read("/proc/self/maps").count("cutstream-pixels")
    decode(pool, of_value(1))
    pool.trim()
    (decoder,) = pool._idle
    assert "cutstream-pixels" not in read(f"/proc/{decoder._pid}/maps")
    assert read("/proc/self/maps").count("cutstream-pixels") == before
    assert (decode(pool, of_value(2)).rgb == 2).all()


def test_many_callers_at_once_get_their_own_images(shared):
    wrong = []

    def work(value):
        for _ in range(20):
            if not (decode(shared, of_value(value, (value + 10, 99))).rgb == value).all():
                wrong.append(value)

    callers = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert wrong == []


@pytest.fixture
def crashing(monkeypatch):
    """A pool whose decoders do with an image of 13 x 13 pixels what the test says; forks inherit it."""

    def make(action, seconds=SECONDS):
        program = f"""
import cutstream_server.decoding.process as process, os, signal, time
original = process.decode_image
def decode_image(data, **options):
    image = original(data, **options)
    if image.width == 13:
        {action}
    return image
process.decode_image = decode_image
process.main()
"""
        monkeypatch.setattr(sys, "executable", sys.executable)
        popen = subprocess.Popen
        monkeypatch.setattr(
            module.subprocess, "Popen", lambda command, **options: popen([command[0], "-c", program], **options)
        )
        return DecoderPool(max_pixels=LIMITS.max_pixels, seconds=seconds)

    return make


BAD = of_value(13, (13, 13))


@pytest.mark.parametrize("number", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_crash_is_a_typed_error_and_the_next_image_is_decoded(crashing, caplog, number):
    pool = crashing(f"os.kill(os.getpid(), signal.{number})")
    with pytest.raises(ImageUndecodableError, match="crashes"):
        decode(pool, BAD)
    assert (decode(pool, of_value(5)).rgb == 5).all()
    (record,) = [record.message for record in caplog.records]
    assert number in record
    assert "sha256" in record
    pool.close()


def test_damaged_files_do_not_fill_the_log(capfd):
    pool = DecoderPool(max_pixels=LIMITS.max_pixels, seconds=SECONDS)
    samples_per_pixel = struct.pack("<HHIH", 277, 3, 1, 3)
    many_samples = FILES["TIFF plain"].replace(samples_per_pixel, struct.pack("<HHIH", 277, 3, 1, 2048))
    for data in (FILES["JPEG plain"][:1500], FILES["JPEG cmyk"][:3000], FILES["TIFF deflate"][:5000], many_samples):
        with pytest.raises(CutstreamError):
            decode(pool, data)
    pool.close()
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_ours_in_a_decoder_is_logged_with_its_traceback(crashing, capfd):
    pool = crashing("raise SystemError('odd')")
    with pytest.raises(ImageUndecodableError):
        decode(pool, BAD)
    pool.close()
    assert "SystemError: odd" in capfd.readouterr().err


def test_a_decoder_that_hangs_is_ended(crashing):
    pool = crashing("time.sleep(1000)", seconds=0.3)
    with pytest.raises(DeadlineError) as caught:
        decode(pool, BAD)
    assert caught.value.metadata == {"timeout_seconds": "0.3"}
    assert (decode(pool, of_value(5)).rgb == 5).all()
    pool.close()


def test_a_decoder_that_computes_for_ever_is_ended(crashing):
    pool = crashing("while True: pass")
    with pytest.raises(DeadlineError):
        decode(pool, BAD)
    pool.close()


def test_a_decoder_that_is_stopped_is_ended(crashing, monkeypatch):
    monkeypatch.setattr(module, "ALARM_GRACE_SECONDS", 0.1)
    pool = crashing("os.kill(os.getpid(), signal.SIGSTOP)", seconds=0.3)
    with pytest.raises(ImageUndecodableError):
        decode(pool, BAD)
    pool.close()


def test_a_decoder_that_wants_too_much_memory_fails_alone(crashing):
    pool = crashing("bytearray(200 << 20)")
    with pytest.raises(ImageUndecodableError):
        decode(pool, BAD)
    assert (decode(pool, of_value(5)).rgb == 5).all()
    pool.close()


def test_a_decoder_that_somebody_kills_is_not_the_images_fault(pool):
    decode(pool, of_value(1))
    (pid,) = decoder_pids(pool)
    os.kill(pid, signal.SIGKILL)
    assert (decode(pool, of_value(2)).rgb == 2).all()
    assert decoder_pids(pool) != [pid]


def test_without_their_parent_decoders_work_on_and_new_ones_come(pool):
    decode(pool, of_value(1))
    parent, _ = pool._nursery
    parent.kill()
    parent.wait()
    assert (decode(pool, of_value(2)).rgb == 2).all()
    (pid,) = decoder_pids(pool)
    os.kill(pid, signal.SIGKILL)
    assert (decode(pool, of_value(3)).rgb == 3).all()


def test_a_parent_that_hangs_is_replaced_by_one_that_answers(pool):
    decode(pool, of_value(1))
    parent, control = pool._nursery
    control.settimeout(0.2)
    os.kill(parent.pid, signal.SIGSTOP)
    (pid,) = decoder_pids(pool)
    os.kill(pid, signal.SIGKILL)
    assert (decode(pool, of_value(2)).rgb == 2).all()
    assert pool._nursery[0].pid != parent.pid
    assert parent.poll() == -signal.SIGKILL


def test_a_close_ends_all_processes():
    pool = DecoderPool(max_pixels=LIMITS.max_pixels, seconds=SECONDS)
    decode(pool, of_value(1))
    pids = [pool._nursery[0].pid, *decoder_pids(pool)]
    pool.close()
    deadline = time.monotonic() + 20
    while any(read(f"/proc/{pid}/cmdline") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_processes_end_with_the_service_however_it_went():
    code = (
        "import os, signal\n"
        "from cutstream_server.decoding.pool import DecoderPool\n"
        "from cutstream_server.imaging.header import Header\n"
        f"data = {FILES['PNG bilevel']!r}\n"
        "pool = DecoderPool(max_pixels=10**6, seconds=20)\n"
        "pool.decode(data, Header('PNG', 67, 45, 1))\n"
        "print(pool._nursery[0].pid, pool._idle[0]._pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pids = result.stdout.split()
    assert len(pids) == 2
    deadline = time.monotonic() + 20
    while any(read(f"/proc/{pid}/cmdline") for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("name", ["PNG more pixels than stated", "TIFF tile of 30,000 x 30,000"])
def test_what_a_header_hides_meets_the_decoders_bounds(shared, name):
    data = {**BOMBS, **HIDDEN}[name]()
    with pytest.raises((ImageUndecodableError, DeadlineError)):
        shared.decode(data, Header(data[:4].decode("latin-1"), 16, 16, 1))


def test_decoders_get_nothing_of_the_services_environment(pool, monkeypatch):
    monkeypatch.setenv("CUTSTREAM_SECRET_OF_THIS_TEST", "x")
    decode(pool, of_value(1))
    for pid in [pool._nursery[0].pid, *decoder_pids(pool)]:
        assert "SECRET_OF_THIS_TEST" not in read(f"/proc/{pid}/environ")


def test_no_file_stays_open(pool):
    decode(pool, of_value(1))
    pool.trim()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for value in range(20):
        decode(pool, of_value(value))
        os.kill(decoder_pids(pool)[0], signal.SIGKILL)
    decode(pool, of_value(1))
    pool.trim()
    assert len(list(Path("/proc/self/fd").iterdir())) == before

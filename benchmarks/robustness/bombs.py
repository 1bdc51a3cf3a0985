"""What files cost that are made to cost: `python -m benchmarks.robustness.bombs`, part of `make fuzz`.

Each is sent to a real server with the tiny network, several times. Shown are the answer, the least time until it came,
the least processor time, and how far the memory of the service and its decoders rose at the highest peak above what
they held before (Linux only: it reads /proc). A bomb may cost 50 MiB and 100 ms of processor time.
"""

from __future__ import annotations

import json
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Self

from benchmarks.performance.machine import this_machine
from benchmarks.robustness.material import encoded, picture, png_chunk, png_header
from benchmarks.robustness.service import Service, cpu_seconds, running_service
from PIL import Image
from rich.console import Console
from rich.table import Table

import cutstream

OUT: Final = Path("out/robustness/bombs.json")
MIB: Final = 1 << 20
LIMIT_MIB: Final = 50
LIMIT_MS: Final = 100
RUNS: Final = 3
SETTLE_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.02
FRAMES: Final = 10_000
ADLER_MODULUS: Final = 65_521


def deflated(size: int) -> bytes:
    """Give what zlib inflates to that many zeros, a thousandth of them, without deflating them."""
    packer = zlib.compressobj(9, wbits=-15)
    # After a full flush nothing refers to what came before: the same bytes can stand there again.
    mebibyte = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, wbits=-15)
    rest = packer.compress(bytes(size % MIB)) + packer.flush()
    checksum = (size % ADLER_MODULUS) << 16 | 1
    return b"\x78\xda" + mebibyte * (size // MIB) + rest + struct.pack(">I", checksum)


def png(width: int, height: int, bits: int = 8, *chunks: bytes, pixels: bytes | None = None) -> bytes:
    """Write a grey PNG, black unless its compressed pixels are given."""
    data = deflated(height * (1 + (width * bits + 7) // 8)) if pixels is None else pixels
    return png_header(width, height, bits, 0) + b"".join(chunks) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def tiff(width: int, height: int, data: bytes, *, tile: tuple[int, int] | None = None) -> bytes:
    """Write a deflated 8-bit grey TIFF of one strip or one tile."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    if tile is None:
        entries += [(273, 4, 8), (278, 4, height), (279, 4, len(data))]
    else:
        entries += [(322, 4, tile[0]), (323, 4, tile[1]), (324, 4, 8), (325, 4, len(data))]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries))
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + table + bytes(4)


def webp(canvas: tuple[int, int], frames: int) -> bytes:
    """Write an animation of that many frames of one pixel, on a canvas."""
    still = encoded(Image.new("RGB", (2, 2)), "WEBP", lossless=True)[12:]
    frame = bytes(6) + _three(1) + _three(1) + _three(100) + b"\0" + still
    width, height = canvas
    parts = [_riff(b"VP8X", b"\x02" + bytes(3) + _three(width - 1) + _three(height - 1)), _riff(b"ANIM", bytes(6))]
    return _riff(b"RIFF", b"WEBP" + b"".join(parts + [_riff(b"ANMF", frame)] * frames))


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _riff(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def gif(screen: tuple[int, int], frame: tuple[int, int], frames: int = 1) -> bytes:
    """Write a GIF of frames with hardly any pixels in them."""
    table = b"\0\0\0\xff\xff\xff"
    one = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + table + one * frames + b";"


def jpeg(*patches: tuple[bytes, bytes], progressive: bool = False) -> bytes:
    """Write a JPEG and replace some of its bytes."""
    data = encoded(Image.fromarray(picture(64, 64)), "JPEG", progressive=progressive)
    for old, new in patches:
        assert old in data
        data = data.replace(old, new, 1)
    return data


def huge_jpeg() -> bytes:
    """State 65,500 x 65,500 pixels."""
    return jpeg((struct.pack(">HH", 64, 64), struct.pack(">HH", 65_500, 65_500)))


def jpeg_of_scans(scans: int) -> bytes:
    """Repeat the last scan of a picture that is said to have 8000 x 8000 pixels."""
    data = jpeg((struct.pack(">HH", 64, 64), struct.pack(">HH", 8000, 8000)), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + b"\xff\xd9"


def jpeg_of_segments(segments: int) -> bytes:
    """Put that many comments before the picture."""
    data = jpeg()
    return data[:2] + b"\xff\xfe\x00\x02" * segments + data[2:]


def avif_that_hides_its_size() -> bytes:
    """Say 16 x 16 in the container and 4000 x 4000 in the picture's own bytes."""
    data = encoded(Image.new("RGB", (4000, 4000)), "AVIF", speed=10, quality=10)
    assert b"ispe" in data
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", 16, 16) + data[at + 8 :]


def bmp(width: int, height: int) -> bytes:
    """State a size and hold no pixel."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def animated_png(frames: int) -> bytes:
    """State a number of frames."""
    return png(16, 16, 8, png_chunk(b"acTL", struct.pack(">II", frames, 0)))


def png_chunk_of(size: int) -> bytes:
    """State more bytes than the file has, in 70 of them."""
    return png_header(16, 16, 8, 0) + struct.pack(">I", size) + b"IDAT" + bytes(25)


BOMBS: Final[Mapping[str, Callable[[], bytes]]] = {
    "PNG 20,000 x 20,000": lambda: png(20_000, 20_000, 2),
    "PNG 2,000,000 x 1": lambda: png(2_000_000, 1, 1),
    "PNG huge iCCP": lambda: png(16, 16, 8, png_chunk(b"iCCP", b"p\0\0" + deflated(500 * MIB))),
    "PNG huge zTXt": lambda: png(16, 16, 8, png_chunk(b"zTXt", b"k\0\0" + deflated(500 * MIB))),
    "PNG huge iTXt": lambda: png(16, 16, 8, png_chunk(b"iTXt", b"k\0\1\0\0\0" + deflated(500 * MIB))),
    "PNG 1000 zTXt of 1 MB": lambda: png(16, 16, 8, png_chunk(b"zTXt", b"k\0\0" + deflated(MIB - 64)) * 1000),
    "PNG 8000 chunks": lambda: png(16, 16, 8, png_chunk(b"tEXt", b"k\0") * 8000),
    "PNG 100,000 chunks": lambda: png(16, 16, 8, png_chunk(b"tEXt", b"k\0") * 100_000),
    "PNG chunk of 2 GB in 70 bytes": lambda: png_chunk_of(2**31 - 1),
    "PNG 4,000,000,000 frames": lambda: animated_png(2**32 - 1),
    "TIFF 20,000 x 20,000": lambda: tiff(20_000, 20_000, deflated(20_000 * 20_000)),
    "TIFF tile of 30,000 x 30,000": lambda: tiff(16, 16, deflated(30_000 * 30_000), tile=(30_000, 30_000)),
    "TIFF strip longer than stated": lambda: tiff(16, 16, deflated(500 * MIB)),
    "WebP 10,000 frames": lambda: webp((16, 16), FRAMES),
    "WebP canvas of 16,383 x 16,383": lambda: webp((16_383, 16_383), 1),
    "GIF 65,535 x 65,535": lambda: gif((65_535, 65_535), (1, 1)),
    "GIF frame larger than its screen": lambda: gif((16, 16), (65_535, 65_535)),
    "GIF 10,000 frames": lambda: gif((16, 16), (16, 16), FRAMES),
    "JPEG 65,500 x 65,500": huge_jpeg,
    "JPEG 1000 scans over 8000 x 8000": lambda: jpeg_of_scans(1000),
    "JPEG 100,000 segments": lambda: jpeg_of_segments(100_000),
    "AVIF that hides 4000 x 4000": avif_that_hides_its_size,
    "BMP 2,147,483,647 x 2,147,483,647": lambda: bmp(2**31 - 1, 2**31 - 1),
    "BMP 7000 x 7000 without a pixel": lambda: bmp(7000, 7000),
}

HIDDEN: Final[Mapping[str, Callable[[], bytes]]] = {
    "PNG more pixels than stated": lambda: png(16, 16, pixels=deflated(500 * MIB)),
    "PNG of 1000 x 1000, more than stated": lambda: png(1000, 1000, pixels=deflated(4000 * MIB)),
}
"""What only the decoder can find out; a file may say more pixels for the sake of what it is allowed for them."""

HIDDEN_LIMITS: Final = ((LIMIT_MIB, 400), (LIMIT_MIB + 64, 900))
"""MiB and ms for each of them: 48 MiB and 250 ms, 64 bytes and half a microsecond for each pixel, and the rest."""

LARGEST: Final[Mapping[str, Callable[[], bytes]]] = {
    "PNG 8000 x 8000": lambda: png(8000, 8000),
    "WebP canvas of 8000 x 8000, 900 frames": lambda: webp((8000, 8000), 900),
}
"""No bombs, but the most that the limits allow: what the smallest file can cost."""


@dataclass(frozen=True)
class Cost:
    """What one file cost: bytes of the file, the answer's reason ("" for a cutout), milliseconds, MiB."""

    name: str
    size: int
    reason: str
    wall_ms: float
    cpu_ms: float
    rise_mib: float


class _Peaks:
    """Looks again and again, until it is left: a decoder that is ended takes its figures with it."""

    def __init__(self, service: Service) -> None:
        self.mib: dict[int, float] = {}
        self._service = service
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        over = False
        while not over:
            over = self._over.wait(LOOK_SECONDS)
            for pid in self._service.working_processes():
                self.mib[pid] = max(self.mib.get(pid, 0.0), self._service.peak_mib([pid]))


def measure(name: str, data: bytes, service: Service, client: cutstream.Client) -> Cost:
    """Send one file some times and give what it cost: what else the machine does makes it no quicker."""
    costs = [_measure_once(name, data, service, client) for _ in range(RUNS)]
    return replace(
        costs[-1],
        wall_ms=min(cost.wall_ms for cost in costs),
        cpu_ms=min(cost.cpu_ms for cost in costs),
        rise_mib=max(cost.rise_mib for cost in costs),
    )


def _measure_once(name: str, data: bytes, service: Service, client: cutstream.Client) -> Cost:
    time.sleep(SETTLE_SECONDS)
    processes = service.working_processes()
    service.reset_peaks(processes)
    held = {pid: service.resident_mib([pid]) for pid in processes}
    worked, began = cpu_seconds(processes), time.perf_counter()
    reason = ""
    with _Peaks(service) as peaks:
        try:
            client.remove(data, model="tiny")
        except cutstream.CutoutError as error:
            reason = error.reason
        wall = time.perf_counter() - began
    rise = sum(peak - held.get(pid, 0.0) for pid, peak in peaks.mib.items())
    worked = cpu_seconds(service.working_processes()) - worked
    return Cost(name, len(data), reason, round(1000 * wall, 1), round(1000 * worked, 1), round(rise, 1))


def main() -> None:
    """Measure all, print the table and write the report."""
    console, machine = Console(width=120), this_machine()
    machine.show(console)
    table = Table(title=f"Cost of files made to cost (limits: {LIMIT_MIB} MiB, {LIMIT_MS} ms)")
    for heading in ("file", "bytes", "answer", "wall ms", "CPU ms", "peak rise MiB"):
        table.add_column(heading, justify="left" if heading in {"file", "answer"} else "right")
    costs = []
    ordinary = encoded(Image.fromarray(picture()), "PNG")
    retry = cutstream.RetryConfig(max_attempts=1)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_service(Path(folder)) as service,
        cutstream.Client(service.target, retry=retry) as client,
    ):
        for _ in range(5):
            client.remove(ordinary, model="tiny")
        for name, make in {"an ordinary PNG": lambda: ordinary, **BOMBS, **HIDDEN, **LARGEST}.items():
            cost = measure(name, make(), service, client)
            costs.append(cost)
            figures = f"{cost.wall_ms:.0f}", f"{cost.cpu_ms:.0f}", f"{cost.rise_mib:.1f}"
            table.add_row(name, f"{cost.size:,}", cost.reason or "a cutout", *figures)
    console.print(table)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine.as_json(), "costs": [asdict(cost) for cost in costs]}
    OUT.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"Written: {OUT}")
    limits = dict.fromkeys(BOMBS, (LIMIT_MIB, LIMIT_MS)) | dict(zip(HIDDEN, HIDDEN_LIMITS, strict=True))
    bombs = [cost for cost in costs if cost.name in limits]
    dear = [cost.name for cost in bombs if cost.rise_mib > limits[cost.name][0] or cost.cpu_ms > limits[cost.name][1]]
    if dear:
        raise SystemExit(f"Over a limit: {', '.join(dear)}")


if __name__ == "__main__":
    main()

"""What is compared: the bare engine, the service, and the peers with the same weights; all are there all the time."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx
from benchmarks.bulk.transfer import running_server
from benchmarks.performance.engine import ISNET, ISNET_INT8, Layout, running_engine
from benchmarks.performance.service import PATIENCE
from benchmarks.performance.telemetry import free_address
from benchmarks.quality.peers import ENVIRONMENT

import cutstream
from cutstream_server.segmentation.preparation.registry import load_registry
from cutstream_server.segmentation.preparation.sources import cached_source, default_cache

Round = Callable[[int], list[float]]
"""Does some images, and gives the seconds of each; of several in work at once, the time of all by their number."""

WORKER: Final = Path(__file__).with_name("peer_worker.py")
PEERS_PYTHON: Final = ENVIRONMENT / "bin" / "python"
HOME_VARIABLE: Final = "U2NET_HOME"
WINDOW: Final = 8
REMBG_AT_ONCE: Final = 4
START_SECONDS: Final = 180.0
ANSWER_SECONDS: Final = 300.0


@contextlib.contextmanager
def contenders(jpeg: bytes, folder: Path) -> Iterator[dict[str, Round]]:
    """Start all that this checkout has; the peers are absent without `make peers` or the network as published."""
    image = folder / "image.jpg"
    image.write_bytes(jpeg)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        rounds = {**enter(engines()), **enter(services(jpeg, folder))}
        rounds["ONNX Runtime loop"] = enter(_loop(Path(sys.executable), "onnxruntime", ISNET, image))
        registry = load_registry()
        source = cached_source(registry.entry(registry.default), default_cache())
        if source and (ENVIRONMENT / "bin" / "rembg").exists():
            # rembg reads a network of one's own from this folder only.
            home = folder / "rembg"
            home.mkdir()
            network = home / source.path.name
            network.symlink_to(source.path)
            rounds["rembg library"] = enter(_loop(PEERS_PYTHON, "rembg", network, image))
            rounds["rembg s, 4 at once"] = enter(_rembg_server(network, jpeg))
        yield rounds


@contextlib.contextmanager
def engines() -> Iterator[dict[str, Round]]:
    """OpenVINO alone, at the precision that Triton's parameters come to on this processor."""
    layouts = {"engine, fast": Layout("bf16", str(ISNET)), "engine, balanced": Layout("bf16", str(ISNET), (1024, 768))}
    if ISNET_INT8.exists():
        layouts["engine int8, fast"] = Layout("int8", str(ISNET_INT8))

    def run(layout: Layout, images: int) -> list[float]:
        engine.run(layout, images)
        return layout.seconds[-images:]

    with running_engine() as engine:
        yield {name: lambda images, layout=layout: run(layout, images) for name, layout in layouts.items()}


@contextlib.contextmanager
def services(jpeg: bytes, folder: Path) -> Iterator[dict[str, Round]]:
    """One server with the built networks, and the ways to use it."""
    repository = folder / "models"
    repository.mkdir()
    models = ["isnet", *(["isnet_int8"] if ISNET_INT8.exists() else [])]
    for model in models:
        (repository / model).symlink_to(Path("model_repository", model).resolve())
    settings = {"CUTSTREAM_MODEL_REPOSITORY": str(repository), "CUTSTREAM_MODEL": "isnet", **PATIENCE}
    with running_server(folder, **settings) as (target, _), cutstream.Client(target) as client:

        def stream(images: int, **options: str) -> list[float]:
            began = time.perf_counter()
            pictures = ((str(number), jpeg) for number in range(images))
            for result in client.stream(pictures, window=WINDOW, streams=1, **options):
                if not isinstance(result, cutstream.Cutout):
                    raise SystemExit(f"an image failed: {result}")
            return [(time.perf_counter() - began) / images] * images

        def unary(images: int) -> list[float]:
            seconds = []
            for _ in range(images):
                began = time.perf_counter()
                client.remove(jpeg, profile="fast", timeout_seconds=ANSWER_SECONDS)
                seconds.append(time.perf_counter() - began)
            return seconds

        rounds: dict[str, Round] = {
            "service unary, fast": unary,
            "service stream, fast": lambda images: stream(images, profile="fast"),
            "service stream, balanced": lambda images: stream(images, profile="balanced"),
        }
        if "isnet_int8" in models:
            rounds["service stream int8, fast"] = lambda images: stream(images, profile="fast", model="isnet_int8")
        yield rounds


@contextlib.contextmanager
def _loop(python: Path, kind: str, network: Path, image: Path) -> Iterator[Round]:
    command = [python, WORKER, kind, str(network)]
    variables = {**os.environ, HOME_VARIABLE: str(network.parent)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables)
    assert process.stdin is not None
    assert process.stdout is not None
    lines, answers = process.stdin, process.stdout

    def run(images: int) -> list[float]:
        lines.write(f"{image} {images}\n")
        lines.flush()
        return list(json.loads(answers.readline()))

    try:
        yield run
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _rembg_server(network: Path, jpeg: bytes) -> Iterator[Round]:
    host, _, port = free_address().rpartition(":")
    command = [ENVIRONMENT / "bin" / "rembg", "s", "--host", host, "--port", port, "--no-ui"]
    form, query = {"model": "dis_custom"}, {"extras": json.dumps({"model_path": str(network)})}

    def post(_: int) -> None:
        answer = client.post(f"http://{host}:{port}/api/remove", files={"file": jpeg}, data=form, params=query)
        answer.raise_for_status()

    def run(images: int) -> list[float]:
        began = time.perf_counter()
        list(pool.map(post, range(images)))
        return [(time.perf_counter() - began) / images] * images

    variables = {**os.environ, HOME_VARIABLE: str(network.parent)}
    with (network.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
    try:
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client, ThreadPoolExecutor(REMBG_AT_ONCE) as pool:
            _wait_for(client, f"http://{host}:{port}/api")
            yield run
    finally:
        process.kill()
        process.wait()


def _wait_for(client: httpx.Client, url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.get(url)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return

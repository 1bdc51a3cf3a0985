"""The load of a measurement, in a process of its own: `python -m benchmarks.capacity.load TARGET IMAGES [--rate R]`.

Sends one picture again and again to all servers of the target, as fast as they take it or at random times, and prints
one line of JSON: seconds of the whole, CPU seconds of this process, and the latency of each image from the moment that
it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import cutstream


async def main() -> None:
    """Send and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="HOST:PORT,HOST:PORT")
    parser.add_argument("images", type=int, help="how many")
    parser.add_argument("--picture", type=Path, required=True, help="the file that is sent")
    parser.add_argument("--rate", type=float, help="arrivals a second, at random; default: as fast as they are taken")
    arguments = parser.parse_args()
    picture = arguments.picture.read_bytes()
    due: dict[str, float] = {}
    chance = random.Random(0)

    async def images() -> AsyncIterator[tuple[str, bytes]]:
        at = time.monotonic()
        for number in range(arguments.images):
            if arguments.rate:
                at += chance.expovariate(arguments.rate)
                await asyncio.sleep(max(0.0, at - time.monotonic()))
            due[str(number)] = at if arguments.rate else time.monotonic()
            yield str(number), picture

    latencies = []
    async with cutstream.AsyncClient(arguments.target) as client:
        await client.wait_ready()
        started, started_cpu = time.monotonic(), time.process_time()
        async for result in client.stream(images(), profile="fast"):
            if isinstance(result, cutstream.CutoutError):
                raise result
            latencies.append(time.monotonic() - due[result.image_id])
        seconds, cpu = time.monotonic() - started, time.process_time() - started_cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "latencies": latencies}))


if __name__ == "__main__":
    asyncio.run(main())

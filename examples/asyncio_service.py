"""A small asyncio service around one stream: `python -m examples.asyncio_service INBOX OUTBOX`.

Images that appear in INBOX leave it as cutouts in OUTBOX, or move to INBOX/failed with the reason beside them. Move
images into INBOX by renaming: a file that is still being written there would be read half.

The first Ctrl-C takes no more images and finishes what is on its way; the second drops that, too. Either way, and after
a crash, nothing is lost: an image leaves INBOX when it is finished, and what is still there is done the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import cutstream

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


async def serve(client: cutstream.AsyncClient, inbox: Path, outbox: Path, stop: asyncio.Event) -> None:
    """Producer, stream and consumer; ends when `stop` is set and everything taken is finished.

    There is no queue between the three: the stream asks the producer for the next image when its window has room, and
    the window has room when the consumer has taken a result. Neither can run ahead, however long this goes on.

    Raises:
        cutstream.CutoutError: the server refuses the stream as a whole, for instance without a token.
    """
    on_the_way: set[str] = set()
    images = new_images(inbox, on_the_way, stop)
    # aclosing: a cancelled task leaves the loop wherever it waits, and the stream is to end with it, not when the
    # garbage collector finds it.
    async with contextlib.aclosing(client.stream(images, window=16)) as results:
        async for result in results:
            # Files block, and on the event loop that would hold up every other coroutine.
            await asyncio.to_thread(finish, result, inbox, outbox)
            on_the_way.discard(result.image_id)


async def new_images(inbox: Path, on_the_way: set[str], stop: asyncio.Event) -> AsyncGenerator[tuple[str, Path]]:
    """Each image of the folder that is not on its way already, with its name as its id, until `stop` is set."""
    while not stop.is_set():
        for path in await asyncio.to_thread(images_in, inbox):
            if path.name not in on_the_way and not stop.is_set():
                on_the_way.add(path.name)
                yield path.name, path
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), POLL_SECONDS)


def images_in(inbox: Path) -> list[Path]:
    """The images in the folder, by name."""
    return sorted(path for path in inbox.iterdir() if path.suffix.lower() in SUFFIXES)


def finish(result: cutstream.Cutout | cutstream.CutoutError, inbox: Path, outbox: Path) -> None:
    """Puts the cutout, or the image and why there is none, where it belongs; the image leaves the inbox last."""
    source = inbox / result.image_id
    if isinstance(result, cutstream.Cutout):
        target = outbox / f"{result.image_id}{result.suffix}"
        # Whoever waits for it sees all of it or nothing.
        result.save(target.with_suffix(".part")).replace(target)
        source.unlink(missing_ok=True)
    elif result.retryable and result.reason != "INTERNAL_FAULT":
        # The server's trouble: the image stays where it is, and its turn comes again. A fault inside the server was
        # tried twice by the client, and would come back with this image for ever.
        logger.warning("%s is tried again: %s", result.image_id, result)
    elif source.exists():
        failed = inbox / "failed"
        failed.mkdir(exist_ok=True)
        report = {"reason": result.reason, "message": result.message, **result.metadata}
        (failed / f"{result.image_id}.json").write_text(json.dumps(report))
        source.replace(failed / result.image_id)
        logger.error("%s failed: %s", result.image_id, result)


async def main() -> None:
    """Serves until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inbox", metavar="INBOX", type=Path, help="folder to watch")
    parser.add_argument("outbox", metavar="OUTBOX", type=Path, help="folder for the cutouts")
    parser.add_argument("--target", metavar="HOST:PORT", default="localhost:50051", help="the server")
    arguments = parser.parse_args()
    arguments.outbox.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    async with cutstream.AsyncClient(arguments.target) as client:
        serving = asyncio.create_task(serve(client, arguments.inbox, arguments.outbox, stop))
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: serving.cancel() if stop.is_set() else stop.set())
        logger.info("watching %s", arguments.inbox)
        try:
            await serving
        except asyncio.CancelledError:
            logger.info("stopped; what was on its way is still in %s", arguments.inbox)
        except cutstream.CutoutError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    asyncio.run(main())

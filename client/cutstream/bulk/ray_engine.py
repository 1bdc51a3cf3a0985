"""A run on a Ray cluster: blocks of images go through Ray Data to workers, and their notes into one manifest.

Cutouts never come here: workers write them, and what they note, to OUT. This process lists the images, decides where
their cutouts go, hands out blocks, and merges the parts of the manifest as blocks are finished. Ray Data gives a block
whose worker or node died to another worker, which does what the parts do not have.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from cutstream.bulk.manifest import ERROR, Done, Manifest
from cutstream.bulk.parts import Parts
from cutstream.bulk.ray_worker import Orders, Worker
from cutstream.bulk.run import StoppedError
from cutstream.errors import CutoutError
from cutstream.extras import import_ray

if TYPE_CHECKING:
    from cutstream.bulk.progress import RunProgress
    from cutstream.bulk.sources import Job
    from cutstream.bulk.storage import Storage

# What a lost worker may have to do again in an object store; some minutes of work for a node without GPU.
BLOCK_IMAGES = 100
# Addresses that Ray knows by name: a cluster of this process, and the one that runs on this machine.
_OWN, _ANY = "local", "auto"
_ANSWER_SECONDS = 10.0
# While a worker waits for the last answers of a block it sends the images of the next.
_BLOCKS_AT_ONCE = 2


class ClusterError(Exception):
    """There is no cluster to work on; the text says why and what to do."""


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module ray, connected to a cluster; without an address to that of RAY_ADDRESS, else to one of its own.

    Raises:
        ClusterError: Ray is not installed, or nobody answers.
    """
    address = address or os.environ.get("RAY_ADDRESS") or _OWN
    try:
        ray = import_ray()
        _check_address(address)
        start = {"include_dashboard": False} if address == _OWN else {}
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **start)
    except ImportError as error:
        raise ClusterError(str(error)) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise ClusterError(f"no Ray cluster at {address}: {str(error).partition(chr(10))[0]}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """OSError where nobody answers, which takes Ray itself minutes; ValueError where there can be no cluster."""
    if address in {_OWN, _ANY}:
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdecimal():
        raise ValueError(
            "HOST:PORT is wanted, as `ray start` prints it; not ray://, since this command has to run on a node"
        )
    socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()


class RayRun:
    """One run over a plan, as `BulkRun` is one on a single machine.

    Args:
        ray: connected.
        orders: for the workers.
        source: where the images are.
        parts: of OUT.
        done: what an earlier run did.
        manifest: open for appending.
        workers: most of them; None: one for each node.
    """

    def __init__(
        self,
        ray: Any,
        orders: Orders,
        source: Storage,
        parts: Parts,
        done: Done,
        manifest: Manifest,
        progress: RunProgress,
        workers: int | None,
    ) -> None:
        self._ray = ray
        self._orders = orders
        self._source = source
        self._parts = parts
        self._done = done
        self._manifest = manifest
        self._progress = progress
        self._workers = workers
        self._is_stopping = False
        self.reasons: Counter[str] = Counter()
        """How many images failed for which reason."""
        self.needs_compacting = done.needs_compacting
        """Whether an image was done again that the manifest knew already."""

    def stop(self) -> None:
        """Ends the run as soon as a block is finished; what is noted of the others is kept."""
        self._is_stopping = True

    @property
    def stopping(self) -> str:
        """What is said when it is stopped."""
        return "stopping after the next block; --resume does what is left; interrupt again to stop at once"

    def execute(self, jobs: Iterable[Job]) -> None:
        """Runs the jobs until all are done or `stop` is called.

        Raises:
            StoppedError: a worker cannot go on, such as with a full disk or without a server, or Ray has failed.
            CutoutError: the server refuses the stream as a whole.
        """
        try:
            self._parts.begin()
            self._run(jobs)
        except self._ray.exceptions.RayError as error:
            raise StoppedError(f"Ray has failed: {str(error).splitlines()[0]}") from error
        except OSError as error:
            raise StoppedError(f"cannot write the manifest: {error.strerror or error}") from error

    def _run(self, jobs: Iterable[Job]) -> None:
        try:
            with contextlib.closing(self._rows(jobs)) as rows:
                for row in rows:
                    if row["problem"]:
                        raise _problem(row)
                    self._merge(row)
                    if self._is_stopping:
                        break
        finally:
            # The workers end before what they noted of unfinished blocks is taken.
            self._ray.shutdown()
            self._collect(None)
            self._parts.end()

    def _rows(self, jobs: Iterable[Job]) -> Generator[dict[str, Any], None, None]:
        data = self._ray.data
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        nodes = [node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]]
        cores = [count for count in nodes if count] or [1]
        most = self._workers or len(cores)
        blocks = data.from_blocks(list(self._blocks(jobs)))
        finished = blocks.map_batches(
            Worker,
            fn_constructor_args=[self._orders],
            batch_size=None,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(
                min_size=1,
                max_size=most,
                initial_size=min(most, len(cores)),
                max_concurrent_calls_per_actor=_BLOCKS_AT_ONCE,
                enable_true_multi_threading=True,
            ),
            # A server of its own takes a whole node.
            num_cpus=1 if self._orders.target else min(cores),
        )
        yield from finished.iter_rows()

    def _blocks(self, jobs: Iterable[Job]) -> Iterator[Any]:
        # It comes with Ray Data.
        pa = importlib.import_module("pyarrow")
        for number, block in enumerate(_batches(jobs)):
            yield pa.table(
                {
                    "block": pa.array([number] * len(block), pa.int64()),
                    "number": pa.array([job.number for job in block], pa.int64()),
                    # Names of files are bytes.
                    "relative": pa.array([os.fsencode(job.relative) for job in block], pa.binary()),
                    "whole": pa.array([job.output == job.relative + self._orders.suffix for job in block]),
                    "state": pa.array([self._done.state_of(self._source.name(job.path)) for job in block], pa.uint64()),
                }
            )

    def _merge(self, row: dict[str, Any]) -> None:
        self._collect(row["block"])
        for key, failed in (("done_before", False), ("failed_before", True)):
            for _ in range(row[key]):
                self._progress.skip(failed=failed)

    def _collect(self, block: int | None) -> None:
        for line in self._parts.merge(self._manifest, block):
            failed = line["status"] == ERROR
            if failed:
                self.reasons[line["reason"]] += 1
            if self._done.knows(line["input"]):
                self.needs_compacting = True
            self._done.add(line)
            self._progress.finish(None, failed=failed)


def _problem(row: dict[str, Any]) -> Exception:
    return CutoutError(row["reason"], row["problem"]) if row["reason"] else StoppedError(row["problem"])


def _batches(jobs: Iterable[Job]) -> Iterator[tuple[Job, ...]]:
    iterator = iter(jobs)
    while block := tuple(islice(iterator, BLOCK_IMAGES)):
        yield block

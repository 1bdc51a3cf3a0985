"""A worker of a run on Ray: reads, streams, writes and notes blocks of images, with the run of a single machine."""

from __future__ import annotations

import io
import os
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cutstream.bulk.local_server import LocalServer
from cutstream.bulk.manifest import Done
from cutstream.bulk.naming import output_name
from cutstream.bulk.parts import Parts
from cutstream.bulk.progress import RunProgress
from cutstream.bulk.run import BulkRun, RunSettings, StoppedError, max_image_bytes
from cutstream.bulk.sources import Job
from cutstream.bulk.storage import StorageError, open_storage
from cutstream.errors import CutoutError

if TYPE_CHECKING:
    from cutstream.client import Client

# A pod that is rescheduled takes up to a minute, a server that loads its model on a new node a little longer.
_READY_SECONDS = 180.0


@dataclass(frozen=True)
class Orders:
    """What every worker of a run is told."""

    source: str
    """Folder or URL that the images' paths begin at."""
    output: str
    """OUT, which all nodes must reach."""
    suffix: str
    """Of the cutouts."""
    settings: RunSettings
    connect: Callable[[str], Client]
    """Makes a client of a target."""
    target: str | None
    """The service; None starts a server on the worker's own node."""
    server_environment: Mapping[str, str]
    """Settings of such a server."""


class WorkerError(Exception):
    """This node cannot work for the run; the text says why and what to do."""


class Worker:
    """Made once in each process; called with one block after another."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._client: Client | None = None
        # Several blocks are done at once, and one server is enough for them.
        self._connecting = threading.Lock()
        self._settings = orders.settings

    def __call__(self, batch: Any) -> dict[str, list[Any]]:
        """Does a block.

        Args:
            batch: an Arrow table with the columns block, number, relative (bytes), whole (see `output_name`), state
                (see `Done.state_of`).

        Returns:
            One row: the block, how many of its images were done before the run and how many had failed, and, where the
            run cannot go on, the problem with its reason.
        """
        block = batch["block"][0].as_py()
        row: dict[str, Any] = {"block": block, "done_before": 0, "failed_before": 0, "reason": "", "problem": ""}
        try:
            row |= self._do(block, batch.to_pylist())
        except (StoppedError, WorkerError, StorageError, OSError) as error:
            row["problem"] = f"{error} (on {platform.node()})"
        except CutoutError as error:
            row |= {"problem": error.message, "reason": error.reason}
        return {key: [value] for key, value in row.items()}

    def _do(self, block: int, rows: list[dict[str, Any]]) -> dict[str, int]:
        orders = self._orders
        source, base = open_storage(orders.source)
        target, output = open_storage(orders.output)
        parts = Parts(target, output)
        if not parts.can_be_seen():
            raise WorkerError(f"{orders.output} is not the OUT of this run here: all nodes must reach the same one")
        if not source.is_folder(base):
            raise WorkerError(f"{orders.source} is not here: all nodes must reach the images")
        with self._connecting:
            client = self._connected()
        tried = {line["input"] for line in parts.lines(block)}
        done = Done()
        jobs = []
        for row in rows:
            relative = os.fsdecode(row["relative"])
            place = output_name(relative, orders.suffix, whole=row["whole"])
            job = Job(row["number"], relative, source.join(base, relative), place)
            name = source.name(job.path)
            if row["state"] is not None:
                done.add_state(name, row["state"])
            # What an attempt noted before its node died needs no second one.
            if name not in tried:
                jobs.append(job)
        progress = RunProgress(len(jobs), Console(file=io.StringIO()))
        with parts.writing(block) as part:
            BulkRun(client, source, target, output, done, part, self._settings, progress).execute(jobs)
        return {"done_before": progress.done_before, "failed_before": progress.failed_before}

    def _connected(self) -> Client:
        if self._client is None:
            orders = self._orders
            target = orders.target or LocalServer(orders.server_environment).target
            client = orders.connect(target)
            client.wait_ready(_READY_SECONDS)
            self._settings = replace(self._settings, max_image_bytes=max_image_bytes(client))
            self._client = client
        return self._client

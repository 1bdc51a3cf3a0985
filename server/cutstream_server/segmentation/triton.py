"""The service's client of Triton: finds the Triton that answers now, and tells its keeper what became of each call."""

from __future__ import annotations

import asyncio
import logging
import time
from contextvars import Context

import grpc
import numpy as np
from numpy.typing import NDArray

from cutstream_server.errors import CutstreamError, DeadlineError, ModelUnavailableError, UnknownModelError
from cutstream_server.segmentation.backoff import Backoff
from cutstream_server.segmentation.connection import Prediction, TritonConnection
from cutstream_server.segmentation.failures import ModelBusyError
from cutstream_server.segmentation.model_rules import ModelRules
from cutstream_server.segmentation.model_server import ModelServer
from cutstream_server.telemetry.images import triton_request

logger = logging.getLogger(__name__)

_MOST_FAILURES = 4
"""Of one call, the first included. A Triton that dies is back by the second try; an image that kills it is given up."""

_FIRST_PAUSE_SECONDS = 0.1
"""In which a dead Triton is noticed, so that the next try waits for the next one."""

_LONGEST_PAUSE_SECONDS = 2.0
_LISTING_SECONDS = 5.0
_PROBE_SECONDS = 30.0
"""For one small image through shared memory, waiting behind others in Triton's queue included."""
_PROBE_PAUSE_SECONDS = 5.0
_PROBE_AGAIN_SECONDS = 30.0
"""After a Triton forgot its memory: it was restarted, or the address is that of several in turn, which all will."""
_RETIREMENT_SECONDS = 60.0
"""For the calls that are still under way on a connection of which one has failed; the service's own limit is lower."""


class TritonClient:
    """Calls the Tritons of a `ModelServer`, whose addresses may change with every restart. One for the whole service.

    A call that failed is tried again while there is time: an inference changes nothing, so that is always safe. It is
    the same Triton or another one of the same kind that is tried, never something else in its place.
    """

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._connections: dict[str, TritonConnection] = {}
        self._sharing: dict[TritonConnection, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def infer(
        self,
        model: str,
        image: NDArray[np.uint8],
        *,
        timeout: float,  # noqa: ASYNC109 - Triton must know it too
        version: str = "",
    ) -> Prediction:
        """Runs a network on one image, as part of its trace: arguments and answer of `TritonConnection.infer`.

        Raises:
            ModelUnavailableError: Triton does not come back, dies again and again, or does not serve the model.
            DeadlineError: the time ran out, also when Triton has had too much to do for so long.
            InternalFaultError: see `TritonConnection.infer`.
        """
        due = time.monotonic() + timeout
        pauses = Backoff(_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS)
        failures = 0
        while True:
            await self._server.wait_for_return(due - time.monotonic())
            left = due - time.monotonic()
            if left <= 0:
                raise DeadlineError("the model did not answer in time", timeout_seconds=timeout)
            try:
                return await self._try_once(model, image, left, version)
            except ModelBusyError:
                pass
            except ModelUnavailableError:
                failures += 1
                if failures == _MOST_FAILURES:
                    raise
            await asyncio.sleep(min(pauses.next_delay(), max(0.0, due - time.monotonic())))

    async def _try_once(
        self,
        model: str,
        image: NDArray[np.uint8],
        timeout: float,  # noqa: ASYNC109 - see `infer`
        version: str,
    ) -> Prediction:
        url = self._server.url()
        connection = self._connection(url)
        self._begin_sharing(connection, model)
        self._server.call_began(url)
        try:
            with triton_request(model) as headers:
                prediction = await connection.infer(model, image, timeout=timeout, version=version, headers=headers)
        except ModelBusyError:
            raise
        except UnknownModelError as error:
            # The service offers it, so this is no fault of the caller's: somebody took it away from Triton.
            missing = ModelUnavailableError("Triton does not serve the model now", model=model)
            self._server.report_failure(url, missing)
            raise missing from error
        except ModelUnavailableError as error:
            self._retire(url)
            self._server.report_failure(url, error)
            raise
        finally:
            self._server.call_ended(url)
        self._server.report_answer(url, model)
        return prediction

    async def ready_models(self) -> dict[str, str]:
        """Gives the newest ready version of each loaded model, by name; none while no Triton is ready.

        Raises:
            ModelUnavailableError: Triton does not answer.
            DeadlineError: not in time.
        """
        if not self._server.ready:
            return {}
        connection = self._connection(self._server.url())
        return await connection.ready_models(timeout=_LISTING_SECONDS, headers=self._server.control_headers())

    async def model_rules(self, model: str) -> ModelRules | None:
        """Gives how a model may be used; see `TritonConnection.model_rules`."""
        return await self._connection(self._server.url()).model_rules(model, timeout=_LISTING_SECONDS)

    async def transport(self, model: str) -> str:
        """Gives the ways that images take to the Tritons in use: "shared_memory", "grpc" for the wire, or both.

        Args:
            model: one that is served, with which shared memory is tried where it has not been yet.
        """
        tasks = [self._begin_sharing(connection, model) for connection in self._connections.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_LISTING_SECONDS)
        return ", ".join(sorted({connection.transport for connection in self._connections.values()}))

    async def close(self) -> None:
        """Closes all connections, and so ends the calls under way."""
        for url in list(self._connections):
            self._retire(url, grace=None)
        await asyncio.gather(*self._closing)

    def _connection(self, url: str) -> TritonConnection:
        if url not in self._connections:
            self._connections[url] = TritonConnection(url)
        return self._connections[url]

    def _begin_sharing(self, connection: TritonConnection, model: str) -> asyncio.Task[None]:
        """Has shared memory tried, for each connection and after its loss; images take the wire in the meantime."""
        if connection not in self._sharing or connection.seconds_without_memory > _PROBE_AGAIN_SECONDS:
            # Outside of the context of the image that is the first: lines in the log are not about that one.
            sharing = self._share_memory(connection, model)
            self._sharing[connection] = asyncio.create_task(sharing, context=Context())
        return self._sharing[connection]

    async def _share_memory(self, connection: TritonConnection, model: str) -> None:
        while True:
            try:
                headers = self._server.control_headers()
                await connection.share_memory(model, headers=headers, timeout=_PROBE_SECONDS)
            except (ModelBusyError, DeadlineError):
                await asyncio.sleep(_PROBE_PAUSE_SECONDS)
            except grpc.aio.AioRpcError as error:
                return _log_wire(connection.url, error.details())
            except (CutstreamError, OSError) as error:
                return _log_wire(connection.url, error)
            else:
                return logger.info("images go to the Triton at %s through shared memory", connection.url)

    def _retire(self, url: str, grace: float | None = _RETIREMENT_SECONDS) -> None:
        """Forgets a connection: the embedded Triton comes back at another address, the old one stays dead."""
        connection = self._connections.pop(url, None)
        if connection:
            task = asyncio.create_task(self._close(connection, grace))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, connection: TritonConnection, grace: float | None) -> None:
        sharing = self._sharing.pop(connection, None)
        if sharing:
            sharing.cancel()
            await asyncio.wait([sharing])
        await connection.close(grace)


def _log_wire(url: str, reason: object) -> None:
    logger.info("images go to the Triton at %s over the wire, for shared memory does not work: %s", url, reason)

"""The service's client of Triton: finds the Triton that answers now, and tells its keeper what became of each call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cutstream_server.errors import ModelUnavailableError
from cutstream_server.segmentation.connection import ModelBusyError, Prediction, TritonConnection
from cutstream_server.segmentation.model_server import ModelServer

_LISTING_SECONDS = 5.0
_RETIREMENT_SECONDS = 60.0
"""For the calls that are still under way on a connection of which one has failed; the service's own limit is lower."""


class TritonClient:
    """Calls the Tritons of a `ModelServer`, whose addresses may change with every restart. One for the whole service.

    A failed call is not tried again here: the service answers it with MODEL_UNAVAILABLE and its client decides.
    """

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._connections: dict[str, TritonConnection] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def infer(
        self,
        model: str,
        image: NDArray[np.uint8],
        *,
        timeout: float,  # noqa: ASYNC109 - Triton must know it too
        version: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Prediction:
        """Runs a network on one image: arguments, answer and errors of `TritonConnection.infer`.

        Raises:
            ModelUnavailableError: also when no Triton is ready.
        """
        url = self._server.url()
        try:
            prediction = await self._connection(url).infer(
                model, image, timeout=timeout, version=version, headers=headers
            )
        except ModelBusyError:
            raise
        except ModelUnavailableError as error:
            self._retire(url)
            self._server.report_failure(url, error)
            raise
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
        return await self._connection(self._server.url()).ready_models(timeout=_LISTING_SECONDS)

    async def close(self) -> None:
        """Closes all connections, and so ends the calls under way."""
        for url in list(self._connections):
            self._retire(url, grace=None)
        await asyncio.gather(*self._closing)

    def _connection(self, url: str) -> TritonConnection:
        if url not in self._connections:
            self._connections[url] = TritonConnection(url)
        return self._connections[url]

    def _retire(self, url: str, grace: float | None = _RETIREMENT_SECONDS) -> None:
        """Forgets a connection: the embedded Triton comes back at another address, the old one stays dead."""
        connection = self._connections.pop(url, None)
        if connection:
            task = asyncio.create_task(connection.close(grace))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

"""What the service needs to know of the Triton it works with, whether it runs that itself or not."""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from cutstream_server.errors import ModelUnavailableError
from cutstream_server.segmentation.model_rules import ModelRules

logger = logging.getLogger(__name__)

RETURN_SECONDS = 20.0
"""How long calls wait for a Triton that has failed: a restart takes 2 s, with IS-Net 4 to 14 s. When it has been away
for longer, they fail at once until it is back."""


class ServerState(enum.Enum):
    """Whether images can be segmented now."""

    STARTING = "starting"
    READY = "ready"
    RECOVERING = "recovering"
    STOPPED = "stopped"


class ModelServer(ABC):
    """One or more Tritons that answer, or are about to. All methods are for the event loop's thread.

    Attributes:
        embedded: whether this service runs it.
        restarts: how often one that this service runs has failed and was started again.
        rules: how each model that it is to serve may be used, by name.
    """

    embedded: bool

    def __init__(self) -> None:
        self.restarts = 0
        self.rules: dict[str, ModelRules] = {}
        self._state = ServerState.STARTING
        self._since = time.monotonic()
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[ServerState], None]] = []

    @property
    def state(self) -> ServerState:
        """The state now."""
        return self._state

    @property
    def ready(self) -> bool:
        """Whether an inference has lately been answered."""
        return self._state is ServerState.READY

    def subscribe(self, listener: Callable[[ServerState], None]) -> None:
        """Has `listener` called with each new state, from the event loop."""
        self._listeners.append(listener)

    async def wait_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - part of the error's text
        """Waits until it is ready.

        Raises:
            ModelUnavailableError: the time ran out, or it was stopped.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._until_ready()
        except TimeoutError as error:
            raise ModelUnavailableError(f"Triton was not ready after {timeout:g} s") from error

    async def wait_for_return(self, timeout: float) -> None:  # noqa: ASYNC109 - the caller's own, shorter one
        """Waits until it is ready, unless it has not been for too long.

        Raises:
            ModelUnavailableError: it is away for too long, the time ran out, or it was stopped.
        """
        if not self.ready:
            patience = self._since + RETURN_SECONDS - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, min(timeout, patience))):
                    await self._until_ready()
            except TimeoutError as error:
                raise ModelUnavailableError(f"Triton is {self._state.value}") from error

    @abstractmethod
    async def start(self) -> None:
        """Starts it, or the watch over it."""

    @abstractmethod
    async def stop(self) -> None:
        """Ends all that `start` began."""

    @abstractmethod
    def url(self) -> str:
        """Gives the host:port for the next call.

        Raises:
            ModelUnavailableError: none would be answered now.
        """

    def call_began(self, url: str) -> None:  # noqa: B027 - one Triton takes every call
        """Says that a call to an address begins."""

    def call_ended(self, url: str) -> None:  # noqa: B027 - as above
        """Says that it has ended, however."""

    def control_headers(self) -> Mapping[str, str]:
        """Gives what Triton asks of those who list or change its models, beside the call itself.

        Raises:
            ModelUnavailableError: none would be answered now.
        """
        return {}

    @abstractmethod
    def report_answer(self, url: str, model: str) -> None:
        """Says that a model at an address answered: it is alive, however much else is waiting."""

    @abstractmethod
    def report_failure(self, url: str, error: ModelUnavailableError) -> None:
        """Says that a call to an address failed as if nobody were there: it is looked at right away."""

    def _change(self, state: ServerState) -> None:
        if state is self._state:
            return
        logger.info("Triton is %s", state.value)
        self._state = state
        self._since = time.monotonic()
        self._changed.set()
        self._changed = asyncio.Event()
        for listener in self._listeners:
            listener(state)

    async def _until_ready(self) -> None:
        while not self.ready:
            if self._state is ServerState.STOPPED:
                raise ModelUnavailableError("Triton was stopped")
            await self._changed.wait()

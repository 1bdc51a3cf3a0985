"""The models that callers may ask for: which there are, in which state, and which images use them now."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from cutstream_server.errors import FieldViolation, InvalidOptionsError, ModelUnavailableError, UnknownModelError
from cutstream_server.options import Options
from cutstream_server.segmentation.model_rules import ModelRules


class ModelState(enum.Enum):
    """What becomes of a model; whether Triton answers at all is told elsewhere."""

    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


@dataclass
class _Entry:
    rules: ModelRules
    state: ModelState
    users: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)


class ModelCatalog:
    """One for the whole service; all methods are for the event loop's thread.

    Args:
        models: those that are there from the start, with their rules.
    """

    def __init__(self, models: Mapping[str, ModelRules]) -> None:
        self._entries = {name: _Entry(rules, ModelState.READY) for name, rules in models.items()}

    def rules(self, name: str) -> ModelRules:
        """Gives a model's rules, those of a model that says nothing for one that is not there."""
        entry = self._entries.get(name)
        return entry.rules if entry else ModelRules()

    def states(self) -> Mapping[str, ModelState]:
        """Gives the state of every model, by name."""
        return {name: self._entries[name].state for name in sorted(self._entries)}

    def offer(self, name: str, rules: ModelRules, state: ModelState = ModelState.READY) -> None:
        """Adds a model, or gives one that is there its state; the images that use it stay counted."""
        entry = self._entries.setdefault(name, _Entry(rules, state))
        entry.rules, entry.state = rules, state

    async def withdraw(self, name: str) -> None:
        """Refuses new images for a model and waits until none uses it any more."""
        entry = self._entries[name]
        entry.state = ModelState.UNLOADING
        while entry.users:
            entry.unused.clear()
            await entry.unused.wait()

    def forget(self, name: str) -> None:
        """Takes a model out that nobody uses."""
        del self._entries[name]

    @contextmanager
    def use(self, options: Options) -> Iterator[None]:
        """Keeps the model that the options name from being unloaded.

        Raises:
            UnknownModelError: there is none of this name, or it is going.
            ModelUnavailableError: it is being loaded, or that has failed.
            InvalidOptionsError: it does not take the scales that the options ask for.
        """
        entry = self._find(options.model)
        _check_scales(options, entry.rules)
        entry.users += 1
        try:
            yield
        finally:
            entry.users -= 1
            if not entry.users:
                entry.unused.set()

    def _find(self, model: str) -> _Entry:
        entry = self._entries.get(model)
        if entry is None or entry.state is ModelState.UNLOADING:
            going = ModelState.UNLOADING
            available = ", ".join(name for name, state in self.states().items() if state is not going)
            text = f"no model {model!r} here; there are: {available}"
            raise UnknownModelError(text, model=model, available=available)
        if entry.state is not ModelState.READY:
            raise ModelUnavailableError(f"model {model!r} is {entry.state.value}", model=model)
        return entry


def _check_scales(options: Options, rules: ModelRules) -> None:
    if rules.other_sides or not options.enable_multi_scale:
        return
    others = [factor for factor in options.multi_scale_factors if factor != 1]
    if others:
        raise InvalidOptionsError(
            [
                FieldViolation(
                    "multi_scale_factors",
                    f"model {options.model!r} takes {rules.side} x {rules.side} only: leave enable_multi_scale out, or "
                    "take a model of several scales",
                )
            ]
        )

"""Totals over scenes, their intervals, and how well a confidence ranks failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Statistic = Callable[[Values], float]

SEED: Final = 1
RESAMPLINGS: Final = 1000
INTERVAL: Final = (2.5, 97.5)


def _of_known(statistic: Callable[[Values], object]) -> Statistic:
    """Leaves out what could not be measured; NaN when nothing could."""

    def of(values: Values) -> float:
        known = values[~np.isnan(values)]
        return float(statistic(known)) if known.size else float("nan")  # type: ignore[arg-type]

    return of


STATISTICS: Final[Mapping[str, Statistic]] = {
    "mean": _of_known(np.mean),
    "median": _of_known(np.median),
    "p90": _of_known(lambda values: np.percentile(values, 90)),
}


@dataclass(frozen=True)
class Total:
    """A total with the 95 percent interval of resampled objects."""

    value: float
    low: float
    high: float


def total(values: Values, objects: Sequence[str], statistic: Statistic) -> Total:
    """A statistic of the scenes' values, NaN left out; the interval resamples objects with all their scenes."""
    return _total(objects, lambda scenes: statistic(values[scenes]))


def ratio(values: Values, base: Values, objects: Sequence[str], statistic: Statistic) -> Total:
    """A statistic of one pipeline over that of another one, on the same scenes."""
    return _total(objects, lambda scenes: _divide(statistic(values[scenes]), statistic(base[scenes])))


def auroc(scores: Values, failed: npt.NDArray[np.bool_]) -> float | None:
    """The chance that a failed scene scores lower than one that did not fail, ties counted half; None without both."""
    good, bad = scores[~failed], scores[failed]
    if good.size == 0 or bad.size == 0:
        return None
    below = (bad[:, np.newaxis] < good).sum() + 0.5 * (bad[:, np.newaxis] == good).sum()
    return float(below / (good.size * bad.size))


def _total(objects: Sequence[str], of_scenes: Callable[[npt.NDArray[np.intp]], float]) -> Total:
    samples = [of_scenes(scenes) for scenes in _resampled(tuple(objects))]
    known = np.array(samples)[~np.isnan(samples)]
    low, high = np.percentile(known, INTERVAL) if known.size else (float("nan"), float("nan"))
    return Total(of_scenes(np.arange(len(objects))), float(low), float(high))


@lru_cache
def _resampled(objects: tuple[str, ...]) -> list[npt.NDArray[np.intp]]:
    """Places of the scenes of as many objects as there are, drawn with replacement, many times."""
    names = np.array(objects)
    scenes_of = [np.nonzero(names == name)[0] for name in dict.fromkeys(objects)]
    rng = np.random.default_rng(SEED)
    count = len(scenes_of)
    return [np.concatenate([scenes_of[int(i)] for i in rng.integers(count, size=count)]) for _ in range(RESAMPLINGS)]


def _divide(value: float, base: float) -> float:
    return value / base if base else float("nan")

"""How sure a network's mask is, and how far two masks agree."""

from __future__ import annotations

from typing import Final

import numpy as np

from cutstream_server.imaging.mask import AlphaMap

# Alpha up to this is residue: it says nothing of how sure the network was.
RESIDUE: Final = 0.05
# Every so many rows and columns of a map are looked at: a quarter of the time, the same within a thousandth.
STRIDE: Final = 2


def agreement(left: AlphaMap, right: AlphaMap) -> float:
    """Return how much two maps of the same part overlap: sum of the smaller alphas / sum of the larger ones, 0..1.

    Two empty maps agree in nothing: there is no object that both saw.
    """
    either = float(np.maximum(left, right).sum(dtype=np.float64))
    return float(np.minimum(left, right).sum(dtype=np.float64)) / either if either else 0.0


def decisiveness(alpha: AlphaMap) -> float:
    """Return how far a map's alphas are from one half: mean of |2 A - 1| where A > 0.05, 0..1; 0 for an empty map."""
    sampled = alpha[::STRIDE, ::STRIDE]
    seen = sampled[sampled > np.float32(RESIDUE)]
    return float(np.abs(2 * seen - 1).mean(dtype=np.float64)) if seen.size else 0.0

"""How likely it is that a cutout shows the right object with a right edge, told from the network's looks alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

# Logistic regressions of "the composite error is at most 5 percent" on the looks' mean decisiveness, over the tuning
# scenes (docs/quality.md). Two looks make fewer errors, and what one of them is unsure of is more often wrong.
ONE_LOOK: Final = (-3.9, 6.4)
TWO_LOOKS: Final = (-11.3, 15.8)


def estimate_confidence(looks: Sequence[float]) -> float:
    """Estimate the chance that the cutout's composite error is at most 5 percent.

    Args:
        looks: `decisiveness` of what the network saw in each look at the object, one or two.

    Returns:
        0..1, calibrated on composed scenes.
    """
    intercept, slope = ONE_LOOK if len(looks) == 1 else TWO_LOOKS
    return 1 / (1 + math.exp(-intercept - slope * sum(looks) / len(looks)))

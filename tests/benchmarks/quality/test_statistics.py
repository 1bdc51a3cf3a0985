import numpy as np
import pytest
from benchmarks.quality.statistics import STATISTICS, auroc, ratio, total

mean = STATISTICS["mean"]


def test_the_interval_of_one_object_is_its_own_total():
    """Its scenes are drawn together: however many there are, they say nothing of other objects."""
    result = total(np.arange(100.0), ["only"] * 100, mean)
    assert (result.value, result.low, result.high) == (49.5, 49.5, 49.5)


def test_the_interval_spans_objects_that_differ():
    result = total(np.repeat([0.0, 1.0], 50), ["a"] * 50 + ["b"] * 50, mean)
    assert (result.value, result.low, result.high) == (0.5, 0.0, 1.0)


def test_a_ratio_resamples_both_sides_together():
    base = np.array([1.0, 2.0, 3.0, 4.0])
    result = ratio(0.7 * base, base, ["a", "b", "c", "d"], mean)
    assert (result.low, result.high) == (pytest.approx(0.7), pytest.approx(0.7))


def test_values_that_could_not_be_measured_are_left_out():
    assert total(np.array([1.0, np.nan, 3.0]), ["a", "b", "c"], mean).value == 2.0


def test_auroc_counts_pairs():
    # Failed: 0.2 and 0.8; of the six pairs with 0.3, 0.8 and 0.9, three and a half and one are ranked right.
    scores, failed = np.array([0.2, 0.8, 0.3, 0.8, 0.9]), np.array([True, True, False, False, False])
    assert auroc(scores, failed) == pytest.approx((3 + 1.5) / 6)


def test_auroc_needs_both_kinds():
    assert auroc(np.array([0.1, 0.2]), np.array([False, False])) is None

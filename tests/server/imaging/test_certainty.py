import numpy as np
import pytest

from cutstream_server.imaging.certainty import agreement, decisiveness


def row(*values):
    """A map of columns two pixels wide."""
    return np.repeat(np.array([values], np.float32), 2, axis=1)


def test_agreement_is_the_smaller_over_the_larger_alphas():
    assert agreement(row(1, 0.5, 0), row(0.5, 0.5, 1)) == pytest.approx(1.0 / 2.5)


def test_agreement_of_nothing_is_0():
    assert agreement(row(0, 0), row(0, 0)) == 0


def test_decisiveness_is_the_distance_from_one_half():
    assert decisiveness(row(1, 0.5, 0.75)) == pytest.approx((1 + 0 + 0.5) / 3)


def test_decisiveness_does_not_look_at_residue():
    assert decisiveness(row(1, 0.04, 0)) == 1


def test_decisiveness_of_nothing_is_0():
    assert decisiveness(row(0, 0.01)) == 0

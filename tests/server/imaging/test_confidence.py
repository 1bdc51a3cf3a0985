import pytest

from cutstream_server.imaging.confidence import estimate_confidence


@pytest.mark.parametrize("looks", [[0.5], [0.95], [0.3, 0.4], [1.0, 1.0]])
def test_confidence_is_a_probability(looks):
    assert 0 < estimate_confidence(looks) < 1


@pytest.mark.parametrize("count", [1, 2])
def test_confidence_grows_with_decisiveness(count):
    values = [estimate_confidence([decided] * count) for decided in (0.0, 0.5, 0.8, 0.95)]
    assert values == sorted(values)
    assert values[0] < 0.05
    assert values[-1] > 0.85


def test_confidence_looks_at_both_looks():
    assert estimate_confidence([0.95, 0.6]) < estimate_confidence([0.95, 0.95])

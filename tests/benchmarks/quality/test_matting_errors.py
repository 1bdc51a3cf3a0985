"""The matting errors against second implementations, written from the paper's definitions with SciPy."""

import numpy as np
import pytest
from benchmarks.quality.matting_errors import (
    connectivity_error,
    gradient_error,
    mean_squared_error,
    sum_of_differences,
)
from scipy import ndimage

SIGMA = 1.4


@pytest.fixture
def mattes():
    """A soft blob and a worse one with holes, strands and a part apart."""
    rng = np.random.default_rng(3)
    truth = np.clip(ndimage.gaussian_filter(rng.normal(size=(61, 83)), 5) * 12 + 0.3, 0, 1)
    alpha = np.clip(truth + ndimage.gaussian_filter(rng.normal(size=truth.shape), 1.5) * 0.8, 0, 1)
    return alpha.astype(np.float32), truth.astype(np.float32)


def test_sad_is_the_sum_of_differences_in_thousands():
    alpha, truth = np.zeros((40, 50), np.float32), np.full((40, 50), 0.25, np.float32)
    assert sum_of_differences(alpha, truth) == pytest.approx(0.5)


def test_mse_is_the_mean_of_squares():
    alpha, truth = np.zeros((4, 5), np.float32), np.full((4, 5), 0.5, np.float32)
    assert mean_squared_error(alpha, truth) == pytest.approx(0.25)


def test_grad_is_that_of_scipys_correlation(mattes):
    def gradient(image):
        # The kernel of the published script: half its width is where the Gaussian falls below 0.01.
        half = int(np.ceil(SIGMA * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * SIGMA * 0.01))))
        y, x = np.mgrid[-half : half + 1, -half : half + 1]
        kernel = -x * np.exp(-(x**2 + y**2) / (2 * SIGMA**2))
        kernel /= np.linalg.norm(kernel)
        planes = [ndimage.correlate(image.astype(np.float64), k, mode="nearest") for k in (kernel, kernel.T)]
        return np.hypot(*planes)

    alpha, truth = mattes
    assert gradient_error(alpha, truth) == pytest.approx(((gradient(alpha) - gradient(truth)) ** 2).sum() / 1000)


def test_conn_is_that_of_the_definition_pixel_by_pixel(mattes):
    def phi(image, levels):
        distance = image - levels
        return np.where(distance >= 0.15, 1 - distance, 1)

    alpha, truth = mattes
    connected = np.zeros(truth.shape)
    # The highest level at which a pixel is in the largest region, and was at all levels below.
    for row, column in np.ndindex(truth.shape):
        for step in range(1, 11):
            both = (alpha >= np.float32(step * 0.1)) & (truth >= np.float32(step * 0.1))
            labels, count = labelled(both.tobytes(), both.shape)
            sizes = ndimage.sum_labels(both, labels, range(1, count + 1))
            if count == 0 or labels[row, column] != 1 + int(np.argmax(sizes)):
                break
            connected[row, column] = step * 0.1
    expected = np.abs(phi(alpha, connected) - phi(truth, connected)).sum() / 1000
    assert connectivity_error(alpha, truth) == pytest.approx(expected, rel=1e-4)


def labelled(data, shape, known={}):  # noqa: B006 - a cache: ten pictures are labelled, not five thousand
    if data not in known:
        known[data] = ndimage.label(np.frombuffer(data, np.bool_).reshape(shape))
    return known[data]


def test_conn_of_a_part_apart_is_its_alpha():
    truth = np.zeros((20, 20), np.float32)
    truth[2:12, 2:12] = 1
    alpha = truth.copy()
    alpha[15:17, 15:17] = 0.6
    # Four pixels that belong to nothing: phi is 1 - 0.6 against 1.
    assert connectivity_error(alpha, truth) == pytest.approx(4 * 0.6 / 1000)

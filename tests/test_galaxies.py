"""Shapes of galaxies: what does not depend on where and how they lie, and what gives a merger away."""

import numpy as np
import pytest

from assay import GalaxyShapes
from assay.core.validation import InputError
from assay.embedders.galaxies import cleaned, ellipse_numbers, hu_numbers, ring_powers

LEVELS = (90, 80, 70, 60, 50, 0)


def galaxy(q=0.6, angle=0.3, centre=(0.0, 0.0), second=None, noise=0.005, size=128, seed=0):
    """Return a disc of light in [0, 1]; `second` is the place of another nucleus."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    x, y = x - centre[0], y - centre[1]
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    light = np.exp(-8 * (u**2 + (v / q) ** 2))
    if second is not None:
        light = light + 0.8 * np.exp(-20 * ((x - second[0]) ** 2 + (y - second[1]) ** 2))
    return np.clip(0.1 + 0.7 * light + np.random.default_rng(seed).normal(0, noise, light.shape), 0, 1)


def shape(**how):
    return ellipse_numbers(cleaned(galaxy(**how)), LEVELS)


def test_an_ellipse_leaves_no_residual_and_its_axes_are_found():
    # The lowest level is the ragged edge of the noise: it is left out here.
    numbers = shape(noise=0.0)[:-1]
    assert (numbers[:, 0] < 0.04).all()
    np.testing.assert_allclose(numbers[:, 1], 0, atol=0.02)
    np.testing.assert_allclose(numbers[:, 2], 1, atol=0.03)
    np.testing.assert_allclose(numbers[:, 3], 0, atol=0.03)
    assert (np.diff(numbers[:, 4]) > 0).all()


def test_a_known_ratio_of_axes_is_recovered():
    from assay.embedders.galaxies import _contour_ellipse

    for q in (0.4, 0.7, 1.0):
        light = cleaned(galaxy(q=q, noise=0.0))
        _, (major, minor), _, _ = _contour_ellipse(light, 0.5, np.array([63.5, 63.5]))
        assert minor / major == pytest.approx(q, rel=0.03)


@pytest.mark.parametrize("how", [{"angle": 1.2}, {"centre": (0.15, -0.1)}])
def test_turning_and_moving_change_little(how):
    np.testing.assert_allclose(shape(**how)[:-1], shape()[:-1], atol=0.05)
    same, other = cleaned(galaxy()), cleaned(galaxy(**how))
    np.testing.assert_allclose(hu_numbers(other)[:2], hu_numbers(same)[:2], rtol=0.05)


def test_a_second_nucleus_stands_out():
    lone, double = shape(), shape(second=(0.4, 0.3))
    assert double[:, 0].max() > 2 * lone[:-1, 0].max()
    assert double[:, 1].max() > 5 * lone[:, 1].max()


def test_only_the_object_in_the_middle_is_kept():
    image = galaxy(noise=0.0)
    image[5:15, 5:15] = 1.0
    light = cleaned(image)
    assert light[10, 10] == 0 and light.max() == 1 and light[63, 63] > 0.9


def test_power_is_where_the_waves_are():
    x = np.arange(64)
    slow, fast = np.sin(2 * np.pi * 2 * x / 64), np.sin(2 * np.pi * 28 * x / 64)
    assert np.argmax(ring_powers(np.tile(slow, (64, 1)), 8)) == 0
    assert np.argmax(ring_powers(np.tile(fast, (64, 1)), 8)) == 7


def test_what_cannot_be_measured_gets_the_mean_and_is_counted():
    images = [galaxy(seed=seed, q=0.4 + 0.1 * seed) for seed in range(4)] + [np.full((128, 128), 0.2)]
    embedder = GalaxyShapes().fit(np.array(images))
    rows = embedder.transform(np.array(images))
    assert embedder.failed_ == 1 and np.isfinite(rows).all()
    np.testing.assert_allclose(rows[4, :37], embedder.middle_[:37])
    np.testing.assert_array_equal(embedder.transform(np.array(images[:1])), rows[:1])


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"percentiles": (100,)}, "percentiles"),
        ({"percentiles": 5}, "percentiles"),
        ({"clip": -1}, "clip"),
        ({"bands": 0}, "bands"),
    ],
)
def test_bad_parameters_are_named(parameters, named):
    with pytest.raises(InputError, match=named):
        GalaxyShapes(**parameters).fit(np.zeros((3, 16, 16)))

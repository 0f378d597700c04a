"""Shapes of galaxies: what does not depend on where and how they lie, and what gives a merger away."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from assay import GalaxyShapes
from assay.core.validation import InputError
from assay.datasets.simulators.galaxies import galaxies
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


def sky_with(light, size=65, noise=0.015):
    """Return an 8-bit picture of `light` on a noisy background: whatever is brighter than white is saturated."""
    dark = 0.06 + np.random.default_rng(1).normal(0, noise, (size, size))
    return np.round(255 * np.clip(dark + light, 0, 1)).astype(np.uint8)


def saturated(kind, size=65):
    """Return a saturated artefact in the middle."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    if kind == "star":
        return sky_with(3 * np.exp(-(x**2 + y**2) / 50))
    if kind == "soft trail":
        return sky_with(2 * np.exp(-(((x - y) / 2) ** 2)))
    width = {"trail": 2.5, "thin trail": 1.5, "narrowest trail": 0.5}[kind]
    return sky_with(2.0 * (np.abs(y) < width))


SATURATED = ("star", "soft trail", "trail", "thin trail", "narrowest trail")


def numbers_of(image):
    return ellipse_numbers(cleaned(image / 255.0), LEVELS)


@pytest.mark.parametrize("kind", SATURATED)
def test_what_is_saturated_is_measured_at_every_level(kind):
    assert np.isfinite(numbers_of(saturated(kind))).all()


@pytest.mark.parametrize("place", ["across", "slanted", "bent", "along the edge"])
def test_whatever_has_light_is_measured(place):
    y, x = np.mgrid[:64, :64]
    lit = {
        "across": y == 31,
        "slanted": abs(x - y) <= 1,
        "bent": (x == 31) & (y > 30) | (y == 31) & (x > 30),
        "along the edge": y == 0,
    }[place]
    assert np.isfinite(numbers_of(255 * lit)).all()


def test_a_saturated_star_is_as_large_as_its_plateau():
    y, x = np.mgrid[:65, :65] - 32.0
    numbers = numbers_of(np.where(np.hypot(x, y) < 10, 255, 20).astype(np.uint8))
    np.testing.assert_allclose(numbers[:, 4], 10 / 65, rtol=0.03)
    np.testing.assert_allclose(numbers[:, 0], 0, atol=0.03)


def test_a_trail_through_the_middle_gets_numbers_of_its_own():
    sky = galaxies(30, mergers=0, artefacts=0, random_state=0)
    embedder = GalaxyShapes().fit(sky.images)
    ordinary = embedder.transform(sky.images)
    ellipses = ordinary[:, :30]
    spread = ellipses.std(axis=0) + 1e-3
    away = np.linalg.norm((ellipses - embedder.middle_[:30]) / spread, axis=1)
    for kind in ("trail", "thin trail", "narrowest trail", "soft trail"):
        row = embedder.transform([saturated(kind)])[0]
        # A band cut off at both ends is no ellipse, and its light spreads further than that of any galaxy.
        assert row[0] > 1.5 * embedder.middle_[0]
        assert row[30] > ordinary[:, 30].max()
        assert np.linalg.norm((row[:30] - embedder.middle_[:30]) / spread) > away.max()


@pytest.mark.parametrize("size", [64, 65])
@pytest.mark.parametrize("width", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("levels", [LEVELS, (99, 97, 95, 90, 80, 50)])
def test_a_small_round_object_has_one_centre(size, width, levels):
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    light = np.exp(-(x**2 + y**2) / (2 * width**2))
    for picture in (light, np.round(255 * (0.1 + 0.8 * light)) / 255):
        numbers = ellipse_numbers(cleaned(picture), levels)
        assert np.isfinite(numbers).all()
        np.testing.assert_allclose(numbers[:, 1], 0, atol=0.02)


def test_enlarging_keeps_the_centre_and_the_size():
    from assay.embedders.galaxies import _contour_ellipse

    y, x = np.mgrid[:65, :65]
    for row, column in ((32, 32), (20, 41)):
        light = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2)
        # Only the brightest pixel is above .7: the contour needs the enlarged image.
        centre, axes, _, _ = _contour_ellipse(light, 0.7, np.array([row, column]))
        np.testing.assert_allclose(centre, [row, column], atol=1e-6)
        # Between pixels light is linear: along the axes .7 lies .76 pixels away, along the diagonals .59.
        assert 0.59 < min(axes) <= max(axes) < 0.77


@pytest.mark.parametrize(("middle", "nearest"), [(12.4, 14), (11.6, 10)])
def test_of_two_specks_the_nearer_one_is_taken_from_the_enlarged_image(middle, nearest):
    from assay.embedders.galaxies import _contour_ellipse

    light = np.zeros((25, 25))
    light[12, [10, 14]] = 1.0
    centre, _, _, _ = _contour_ellipse(light, 0.5, np.array([12.0, middle]))
    np.testing.assert_allclose(centre, [12, nearest], atol=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.3, 2.5])
def test_moments_find_the_ellipse_that_was_drawn(angle):
    from skimage.draw import ellipse

    from assay.embedders.galaxies import _of_moments

    filled = np.zeros((80, 80), dtype=bool)
    filled[ellipse(41.0, 38.0, 25, 10, rotation=angle)] = True
    centre, axes, found = _of_moments(filled)
    np.testing.assert_allclose(centre, [41, 38], atol=0.05)
    np.testing.assert_allclose(axes, [25, 10], rtol=0.02)
    assert abs(np.sin(found - angle)) < 0.02


@pytest.mark.parametrize("width", [0.8, 1.2, 3.0])
def test_moving_by_whole_pixels_changes_nothing(width):
    y, x = np.mgrid[:65, :65]

    def numbers(row, column):
        u, v = 0.8 * (x - column) + 0.6 * (y - row), 0.8 * (y - row) - 0.6 * (x - column)
        light = np.exp(-((u / width) ** 2 + (v / (0.7 * width)) ** 2) / 2)
        return numbers_of(np.round(25 + 200 * light))

    still = numbers(32, 32)
    assert np.isfinite(still).all()
    for row, column in ((33, 32), (25, 41), (12, 12)):
        np.testing.assert_allclose(numbers(row, column), still, atol=1e-6)


def test_an_exactly_round_object_gives_finite_numbers_without_a_warning():
    y, x = np.mgrid[:64, :64] - 31.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(numbers_of(np.round(25 + 200 * np.exp(-(x**2 + y**2) / 0.98)))).all()


def test_which_images_cannot_be_measured_is_told():
    empty, dot = np.full((65, 65), 20, dtype=np.uint8), np.full((65, 65), 20, dtype=np.uint8)
    dot[32, 32] = 255
    good = [np.round(255 * galaxy(seed=seed, size=65)).astype(np.uint8) for seed in range(2)]
    images = [good[0], empty, saturated("trail"), dot, good[1], saturated("star")]
    embedder = GalaxyShapes().fit(images)
    told = embedder.measurable(images)
    assert told.dtype == bool
    assert told.tolist() == [True, False, True, False, True, True]
    assert embedder.failed_ == 2
    # Also of images that were not there at the fit, each for itself.
    assert embedder.measurable([dot]).tolist() == [False] and embedder.failed_ == 2
    np.testing.assert_allclose(embedder.transform([dot])[0, :30], embedder.middle_[:30])
    assert (embedder.transform([images[2]])[0, :30] != embedder.middle_[:30]).any()


def test_nothing_is_measurable_before_the_fit():
    with pytest.raises(NotFittedError):
        GalaxyShapes().measurable(np.zeros((2, 16, 16), dtype=np.uint8))


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

"""Gaussian-AD: closed forms on vectors, the chi-squared working point, both ends of the spectrum, and digits."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.stats import chi2
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.svm import OneClassSVM

from assay import GaussianAD
from assay.core.validation import InputError
from assay.detectors.images.gaussian_ad import LEVELS, Level, chi_squared_check, kept_components


def rotation(d, rng):
    return np.linalg.qr(rng.normal(size=(d, d)))[0]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_it_is_scipys_distance_under_ledoit_and_wolfs_covariance(rng):
    Z, fresh = rng.normal(size=(60, 7)) @ rng.normal(size=(7, 7)), rng.normal(size=(5, 7))
    shrunk = LedoitWolf().fit(Z)
    expected = [mahalanobis(z, Z.mean(axis=0), shrunk.precision_) for z in fresh]
    np.testing.assert_allclose(Level().fit(Z).distances(fresh), expected, rtol=1e-4)
    assert Level().fit(Z).distances(Z.mean(axis=0)[None])[0] == pytest.approx(0.0, abs=1e-9)


def test_rotation_shift_and_scale_change_nothing(rng):
    Z, fresh = rng.normal(size=(50, 6)) * np.arange(1, 7), rng.normal(size=(4, 6))
    plain = Level().fit(Z).distances(fresh)
    turn = rotation(6, rng)
    moved = Level().fit(3.0 * Z @ turn + 5.0).distances(3.0 * fresh @ turn + 5.0)
    np.testing.assert_allclose(moved, plain, rtol=1e-6)


def test_comparators_by_hand(rng):
    Z, fresh = rng.normal(size=(40, 5)) * [1, 2, 3, 4, 5], rng.normal(size=(3, 5))
    away = fresh - Z.mean(axis=0)
    np.testing.assert_allclose(Level("l2").fit(Z).distances(fresh), np.sqrt((away**2).mean(axis=1)))
    np.testing.assert_allclose(
        Level("sed").fit(Z).distances(fresh), np.sqrt(((away / Z.std(axis=0)) ** 2).mean(axis=1))
    )
    machine = OneClassSVM(gamma="scale").fit(Z - Z.mean(axis=0))
    np.testing.assert_allclose(Level("ocsvm").fit(Z).distances(fresh), -machine.decision_function(away), rtol=1e-9)


def test_contributions_sum_to_the_squared_distance(rng):
    level = Level().fit(rng.normal(size=(80, 6)))
    fresh = rng.normal(size=(4, 6))
    np.testing.assert_allclose(level.contributions(fresh).sum(axis=1), level.distances(fresh) ** 2, rtol=1e-9)
    fresh[0, 2] += 20
    assert level.contributions(fresh)[0].argmax() == 2


@pytest.mark.parametrize("fpr", [0.05, 0.01, 0.0027])
def test_the_working_point_holds_for_gaussian_features(fpr):
    rng = np.random.default_rng(2)
    level = Level().fit(rng.normal(size=(5000, 20)))
    measured = (level.distances(rng.normal(size=(40_000, 20))) > level.threshold(fpr)).mean()
    assert 0.7 * fpr < measured < 1.3 * fpr
    assert level.threshold(fpr) == pytest.approx(np.sqrt(chi2.ppf(1 - fpr, 20)))


def test_heavy_tails_are_reported(rng):
    level = Level().fit(rng.standard_t(3, size=(5000, 20)))
    heavy = chi_squared_check(level.distances(rng.standard_t(3, size=(5000, 20))), level)
    fine = Level().fit(rng.normal(size=(5000, 20)))
    light = chi_squared_check(fine.distances(rng.normal(size=(5000, 20))), fine)
    assert heavy["alarms_1"] > 0.02 and heavy["p_value"] < 1e-6 < light["p_value"]
    assert heavy["ks"] > 5 * light["ks"]


def test_which_components_are_kept():
    variances = np.array([6.0, 3.0, 0.9, 0.1])  # cumulative shares .6, .9, .99, 1
    assert kept_components(variances, ("pca", 0.5)) == slice(0, 1)
    assert kept_components(variances, ("pca", 0.95)) == slice(0, 3)
    assert kept_components(variances, ("npca", 0.95)) == slice(1, 4)  # one before the first beyond: an overlap
    assert kept_components(variances, ("npca", 0.5)) == slice(0, 4)
    assert kept_components(variances, None) == slice(0, 4)


@pytest.mark.parametrize(("direction", "order"), [(-1, ("npca", "pca")), (0, ("pca", "npca"))])
def test_the_spectrum_decides_what_is_seen(direction, order, rng):
    scale = np.logspace(0, -4, 12)
    turn = rotation(12, rng)

    def draw(n):
        return rng.normal(size=(n, 12)) * np.sqrt(scale) @ turn

    # With 2,000 rows the shrinkage alone is as large as the smallest variance, and hides what lies there.
    train, fresh, odd = draw(10_000), draw(400), draw(400)
    odd = odd + 6 * np.sqrt(scale[direction]) * turn[direction]
    y = np.repeat([0, 1], 400)

    def auc(reduce):
        return roc_auc_score(y, Level("mahalanobis", reduce).fit(train).distances(np.vstack([fresh, odd])))

    areas = {"full": auc(None), "npca": auc(("npca", 0.99)), "pca": auc(("pca", 0.95))}
    assert areas["full"] > 0.95
    assert areas[order[0]] > 0.95 and areas[order[1]] < 0.65, areas


def test_fewer_rows_than_channels():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(200, 200)) / 14
    train, fresh = rng.normal(size=(50, 200)) @ mixing, rng.normal(size=(200, 200)) @ mixing
    odd = rng.normal(size=(200, 200)) @ mixing + 0.8 * rng.normal(size=200)
    y = np.repeat([0, 1], 200)
    ours = roc_auc_score(y, Level().fit(train).distances(np.vstack([fresh, odd])))
    assert ours > 0.9
    reduced = Level("mahalanobis", ("npca", 0.99)).fit(train)
    assert reduced.distances(fresh).shape == (200,) and reduced.width > 100


# -- images ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    rng = np.random.default_rng(0)
    images = (data.images / 16 * 255).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    return {digit: images[rng.permutation(np.flatnonzero(data.target == digit))] for digit in (5, 6, 7)}


def one_class(digits, digit, n_bad=0, **parameters):
    """Return the AUROC of one digit against the others, `n_bad` of which are hidden among 60 training images."""
    others = np.concatenate([images[:30] for other, images in digits.items() if other != digit])
    train = np.concatenate([digits[digit][: 60 - n_bad], others[:n_bad]])
    test = np.concatenate([digits[digit][60:100], others[n_bad:]])
    scores = GaussianAD(image_size=64, **parameters).fit(train).anomaly_score(test)
    return roc_auc_score(np.repeat([0, 1], [40, len(others) - n_bad]), scores)


def mean_auc(digits, **parameters):
    return np.mean([one_class(digits, digit, **parameters) for digit in digits])


def test_digits_are_told_apart_best_by_the_whole_covariance(digits):
    areas = {name: mean_auc(digits, distance=name) for name in ("mahalanobis", "sed", "l2")}
    # The paper's order of the two others is not found here: both are some .87.
    assert areas["mahalanobis"] > max(areas["sed"], areas["l2"]) + 0.03, areas
    npca, pca = (mean_auc(digits, reduce=reduce) for reduce in (("npca", 0.99), ("pca", 0.95)))
    assert abs(npca - areas["mahalanobis"]) < 0.03, (npca, areas)
    assert npca > pca, (npca, pca)


def test_the_sum_over_levels_is_as_good_as_the_median_level(digits):
    detector = GaussianAD(image_size=64).fit(digits[5][:60])
    test = np.concatenate([digits[5][60:100], digits[6][:40]])
    y = np.repeat([0, 1], 40)
    by_level = detector.level_scores(test)
    areas = [roc_auc_score(y, scores) for scores in by_level.T]
    np.testing.assert_allclose(by_level.sum(axis=1), detector.anomaly_score(test), rtol=1e-9)
    assert by_level.shape == (80, len(LEVELS))
    assert roc_auc_score(y, by_level.sum(axis=1)) >= np.median(areas)


def test_a_few_anomalies_in_training_do_little_harm(digits):
    assert one_class(digits, 5) - one_class(digits, 5, n_bad=3) < 0.05


def test_working_point_and_calibration_by_level(digits):
    detector = GaussianAD(image_size=64).fit(digits[5][:100])
    assert detector.threshold("stage5", fpr=0.05) == pytest.approx(np.sqrt(chi2.ppf(0.95, 112)))
    assert detector.threshold("stage5", sigma=2) == pytest.approx(detector.threshold("stage5", fpr=0.04550026))
    told = detector.calibration("stage5", digits[5][100:])
    assert set(told) == {"ks", "p_value", "alarms_5", "alarms_1"}
    for wrong, name in [({"level": "stage9", "fpr": 0.1}, "level"), ({"level": "stem"}, "fpr")]:
        with pytest.raises(InputError, match=name):
            detector.threshold(**wrong)


def test_contributions_of_images_sum_to_the_squared_distance_of_the_level(digits):
    detector = GaussianAD(image_size=64, levels=("stage3", "stage5")).fit(digits[5][:40])
    parts = detector.contributions("stage5", digits[6][:5])
    assert parts.shape == (5, 112)
    np.testing.assert_allclose(parts.sum(axis=1), detector.level_scores(digits[6][:5])[:, 1] ** 2, rtol=1e-9)
    with pytest.raises(InputError, match="level"):
        detector.contributions("stage4", digits[6][:5])


def test_where_rows_are_plenty_it_is_the_distance_of_the_sample_covariance(rng):
    Z, fresh = rng.normal(size=(200_000, 4)) * [1, 2, 3, 4], rng.normal(size=(50, 4))
    plain = Level().fit(Z)
    # The shrinkage vanishes with the number of rows: units and any other invertible map then change nothing.
    mixing = rotation(4, rng) * [1.0, 0.5, 2.0, 3.0]
    np.testing.assert_allclose(Level().fit(Z @ mixing).distances(fresh @ mixing), plain.distances(fresh), rtol=1e-3)
    assert np.square(plain.distances(Z)).mean() == pytest.approx(4, rel=1e-3)

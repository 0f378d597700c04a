"""Scores of outliers and the honesty of confidence: by hand and by naive twins."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from assay.core.validation import InputError
from assay.metrics.out_of_distribution import (
    calibration_error,
    calibration_report,
    confidences,
    detection_report,
    false_positive_rate,
    negative_log_likelihood,
    soft_f1,
    temperature,
)
from assay.metrics.ranking import roc_auc

# -- false positives at a fixed recall -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inliers", "outliers", "recall", "wanted"),
    [
        ([0.1, 0.2, 0.3, 0.6], [0.6, 0.9], 1.0, 0.25),  # the tie at the threshold is flagged
        ([0.1, 0.2, 0.3, 0.6], [0.6, 0.9], 0.5, 0.0),
        ([0.5] * 4, [0.5] * 3, 0.95, 1.0),
        ([1, 2, 3, 4, 5], [6, 7], 0.95, 0.0),
        ([1, 2, 3, 4, 5], [0, 0], 0.95, 1.0),
        ([5.5, 1], list(range(20)), 0.95, 1.0),  # 19 of 20 are needed: the threshold is 1
        ([0.5, 2.5], list(range(20)), 0.95, 0.5),
    ],
)
def test_false_positives_by_hand(inliers, outliers, recall, wanted):
    y = np.repeat([0, 1], [len(inliers), len(outliers)])
    assert false_positive_rate(y, [*inliers, *outliers], recall) == wanted


@pytest.mark.parametrize("seed", range(5))
def test_false_positives_by_trying_every_threshold(seed):
    rng = np.random.default_rng(seed)
    y, scores = np.arange(60) % 3 == 0, rng.integers(8, size=60)
    for recall in (0.05, 0.5, 0.8, 0.95, 1.0):
        thresholds = [t for t in scores if (scores[y] >= t).mean() >= recall - 1e-9]
        assert false_positive_rate(y, scores, recall) == (scores[~y] >= max(thresholds)).mean()


def test_false_positives_need_both_kinds_and_a_recall():
    assert math.isnan(false_positive_rate([0, 0], [1, 2]))
    assert math.isnan(false_positive_rate([1, 1], [1, 2]))
    for wrong in (0.0, 1.1, math.nan):
        with pytest.raises(InputError, match=r"\brecall\b"):
            false_positive_rate([0, 1], [1, 2], wrong)
    with pytest.raises(InputError, match=r"\bscores\b"):
        false_positive_rate([0, 1], [1, 2, 3])


# -- the report ------------------------------------------------------------------------------------------------------


def test_random_scores_have_the_base_rate_of_one_sixth():
    rng = np.random.default_rng(0)
    report = detection_report(rng.random(5000), rng.random(3000), rng=rng)
    assert report["base_rate"] == 1 / 6
    assert report["aupr"] == pytest.approx(1 / 6, abs=0.02)
    assert report["auroc"] == pytest.approx(0.5, abs=0.02)
    assert report["fpr"] == pytest.approx(0.95, abs=0.02)


def test_the_draws_are_ten_subsets_of_the_outliers():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=500), rng.normal(1.5, 1, size=2000)
    report = detection_report(inside, outside, rng=np.random.default_rng(1))
    everything = roc_auc(np.repeat([0, 1], [500, 2000]), np.concatenate([inside, outside]))
    assert report["auroc"] == pytest.approx(everything, abs=0.02)
    assert 0 < report["auroc_std"] < 0.05
    assert report == detection_report(inside, outside, rng=np.random.default_rng(1))
    once = detection_report(inside, outside, repeats=1, rng=np.random.default_rng(1))
    assert once["auroc_std"] == once["fpr_std"] == once["aupr_std"] == 0


def test_too_few_outliers_are_all_taken():
    report = detection_report([0.0] * 10, [1.0], rng=np.random.default_rng(0))
    assert report["base_rate"] == 1 / 11
    assert (report["fpr"], report["auroc"], report["aupr"], report["aupr_std"]) == (0, 1, 1, 0)


# -- confidence ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def overconfident():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(1500, 5)) * 2
    y = np.array([rng.choice(5, p=p) for p in softmax(truth, axis=1)])
    return truth * 2.5, y


def test_the_temperature_is_the_most_likely_one(overconfident):
    z, y = overconfident
    best = minimize_scalar(lambda t: negative_log_likelihood(z, y, t), bounds=(0.2, 5), method="bounded")
    assert temperature(z, y) == pytest.approx(best.x, abs=1e-3)
    assert temperature(z, y) == pytest.approx(2.5, abs=0.3)
    assert temperature(z * 100, y) == pytest.approx(5, abs=1e-3)
    assert temperature(z / 100, y) == pytest.approx(0.2, abs=1e-3)


def test_the_likelihood_and_confidences_by_hand():
    z = [[math.log(6), math.log(2), math.log(2)], [0, 0, 0]]
    assert negative_log_likelihood(z, [0, 2]) == pytest.approx(-(math.log(0.6) + math.log(1 / 3)) / 2)
    assert np.allclose(confidences(z), [0.6, 1 / 3])
    assert np.allclose(confidences(z, rescaled=True), [0.4, 0])
    assert np.allclose(confidences(z, 0.5), [36 / 44, 1 / 3])


def errors_by_the_book(confidence, right, size):
    order = sorted(range(len(confidence)), key=lambda i: confidence[i])
    bins = [order[start : start + size] for start in range(0, len(order), size)]
    if len(bins) > 1 and len(bins[-1]) < size:
        rest = bins.pop()
        bins[-1] += rest
    gaps = [(len(b), sum(confidence[i] - right[i] for i in b) / len(b)) for b in bins]
    squares, sizes = sum(n * gap**2 for n, gap in gaps), len(order)
    return math.sqrt(squares / sizes), sum(n * abs(gap) for n, gap in gaps) / sizes


@pytest.mark.parametrize("n", [1, 40, 99, 100, 101, 250, 300])
def test_calibration_error_by_the_book(n):
    rng = np.random.default_rng(n)
    confidence = rng.random(n)
    right = (rng.random(n) < confidence**2).astype(float)
    wanted = errors_by_the_book(confidence, right, 100)
    got = [calibration_error(confidence, right, norm) for norm in ("rms", "mad")]
    assert np.allclose(got, wanted, atol=1e-12)


def test_soft_f1_by_hand():
    assert soft_f1([1, 0], [True, False]) == 1
    assert soft_f1([0.8, 0.3], [True, False]) == pytest.approx(2 * 0.7 / 1.9)
    assert soft_f1([1, 1], [True, False]) == 0
    assert math.isnan(soft_f1([1, 1], [True, True]))
    with pytest.raises(InputError, match=r"\bright\b"):
        soft_f1([0.5], [True, False])


def test_an_outlier_is_an_error_whatever_was_said(overconfident):
    z, y = overconfident
    outliers = np.random.default_rng(1).normal(size=(300, 5)) * 4
    report = calibration_report(z, y, outliers, temperature=2.5)
    confidence = np.concatenate([confidences(z, 2.5), confidences(outliers, 2.5)])
    right = np.concatenate([z.argmax(axis=1) == y, np.zeros(300)])
    assert np.allclose([report["rms"], report["mad"]], errors_by_the_book(confidence, right, 100), atol=1e-12)
    assert report["soft_f1"] == soft_f1(confidence, right)
    assert report["accuracy"] == (z.argmax(axis=1) == y).mean()
    alone = calibration_error(confidences(z, 2.5), z.argmax(axis=1) == y)
    assert alone < 0.05 < report["rms"]

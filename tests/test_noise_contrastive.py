"""Noise-contrastive density: the classifier's odds against known noise are the density."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from assay import NoiseContrastive, Permutation
from assay.metrics.ranking import roc_auc


def quadratic():
    """The log ratio of a Gaussian and a uniform density is quadratic: this classifier can be exact."""
    return make_pipeline(PolynomialFeatures(2), LogisticRegression(C=1e6, max_iter=1000))


@pytest.mark.parametrize("ratio", [1.0, 5.0])
def test_gaussian_against_uniform_recovers_the_log_ratio(ratio):
    X = np.random.default_rng(0).normal(size=(20_000, 1))
    detector = NoiseContrastive(classifier=quadratic(), ratio=ratio, random_state=0).fit(X)
    grid = np.linspace(-2.5, 2.5, 21)
    low, high = X.min(), X.max()
    width = (high - low) * 1.1  # the box is inflated by 5 % of the range on either side
    log_ratio = -(grid**2) / 2 - 0.5 * np.log(2 * np.pi) + np.log(width)
    error = np.abs(-detector.anomaly_score(grid[:, None]) - log_ratio)
    assert error.max() < 0.05 * np.ptp(log_ratio)


def test_against_permuted_rows_it_sees_broken_dependence():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(1000, 1))
    X = np.hstack([factor, factor]) + rng.normal(size=(1000, 2)) * 0.2
    detector = NoiseContrastive(generator=Permutation(), random_state=0).fit(X[:700])
    broken = np.column_stack([X[700:, 0], rng.permutation(X[700:, 1])])
    scores = detector.anomaly_score(np.vstack([X[700:], broken]))
    assert roc_auc(np.repeat([0, 1], 300), scores) > 0.75

"""Shapley values of anomaly scores: what they must add up to, and where they are known by hand."""

from itertools import permutations

import numpy as np
import pytest

from assay import ECOD, KNN, IsolationForest
from assay.core.validation import InputError
from assay.explain.attribution import EXACT, attribute

pytest.importorskip("shap", reason="shap is not installed")


class Sum:
    """A score that is a sum of one function a column."""

    def anomaly_score(self, X):
        X = np.asarray(X)
        return (X**2 * np.arange(1, X.shape[1] + 1)).sum(axis=1)


class Both:
    """A score that needs two columns together."""

    def anomaly_score(self, X):
        return np.asarray(X)[:, 0] * np.asarray(X)[:, 1]


@pytest.mark.parametrize("width", [4, EXACT + 5])
def test_a_sum_is_taken_apart_exactly(width):
    rng = np.random.default_rng(0)
    X, background = rng.normal(size=(6, width)), rng.normal(size=(20, width))
    told = attribute(Sum(), X, background)
    parts = X**2 * np.arange(1, width + 1)
    np.testing.assert_allclose(told.values, parts - (background**2 * np.arange(1, width + 1)).mean(axis=0), atol=1e-9)


def test_it_is_the_mean_over_all_orders():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(100, 3))
    detector = KNN().fit(X)
    x, usual = rng.normal(size=3) * 3, np.median(X, axis=0)
    expected = np.zeros(3)
    for order in permutations(range(3)):
        now = usual.copy()
        for column in order:
            before = detector.anomaly_score(now[None])[0]
            now[column] = x[column]
            expected[column] += detector.anomaly_score(now[None])[0] - before
    np.testing.assert_allclose(attribute(detector, x[None], usual[None]).values[0], expected / 6, atol=1e-9)


@pytest.mark.parametrize("width", [3, EXACT + 2])
@pytest.mark.parametrize("make", [ECOD, lambda: IsolationForest(random_state=0)])
def test_the_parts_add_up_to_the_score(make, width):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, width))
    strange = np.zeros((1, width))
    strange[0, 1] = 8.0
    detector = make().fit(X)
    told = attribute(detector, np.concatenate([strange, X[:3]]), X[:30])
    np.testing.assert_allclose(told.base + told.values.sum(axis=1), told.scores, atol=1e-9)
    np.testing.assert_allclose(told.scores, detector.anomaly_score(np.concatenate([strange, X[:3]])))
    assert np.argmax(told.values[0]) == 1
    again = attribute(detector, np.concatenate([strange, X[:3]]), X[:30])
    np.testing.assert_array_equal(told.values, again.values)


def test_what_is_together_is_shared():
    told = attribute(Both(), [[2.0, 3.0]], [[0.0, 0.0]])
    np.testing.assert_allclose(told.values, [[3.0, 3.0]])


@pytest.mark.parametrize(
    ("X", "background", "named"), [([[np.nan, 1]], None, "X"), ([[1.0, 2.0]], [[1.0]], "background")]
)
def test_bad_input_is_named(X, background, named):
    with pytest.raises(InputError, match=named):
        attribute(Sum(), X, background)

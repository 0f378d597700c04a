"""A detector as P(normal), and the same detector trained again."""

import numpy as np
import pytest

from assay import ECOD, IsolationForest
from assay.calibration.squash import Squash
from assay.training.twins import normality, twins


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(400, 3))


def test_one_half_at_the_threshold_and_less_above_it(rows):
    detector = IsolationForest(random_state=0).fit(rows)
    scores = detector.anomaly_score(rows)
    threshold = np.quantile(scores, 0.9)
    told = normality(detector, threshold, rows)(rows)
    assert ((told >= 0.5) == (scores <= threshold)).all()
    np.testing.assert_allclose(told, np.exp2(-((scores / threshold) ** 2)))
    assert (np.diff(told[np.argsort(scores)]) <= 0).all()


def test_negative_scores_count_from_the_lowest():
    squash = Squash.anchored(1.0, [-3.0, 0.0, 2.0])
    np.testing.assert_allclose(squash.probability([-3.0, 1.0]), [0.0, 0.5])
    assert squash.percent_ == 66


def test_twins_differ_and_flag_the_same_share(rows):
    detector = IsolationForest(random_state=0).fit(rows)
    threshold = float(np.quantile(detector.anomaly_score(rows), 0.95))
    found = twins(detector, threshold, rows, 4, random_state=1)
    told = np.array([twin(rows) for twin in found])
    assert len(np.unique(told, axis=0)) == 4
    np.testing.assert_allclose((told < 0.5).mean(axis=1), 0.05, atol=0.003)
    again = np.array([twin(rows) for twin in twins(detector, threshold, rows, 4, random_state=1)])
    assert np.array_equal(told, again)


def test_a_twin_is_trained_on_other_draws(rows):
    # A detector without chance: its twins differ by their rows alone, and the first is left as it was.
    detector = ECOD().fit(rows)
    before = detector.anomaly_score(rows)
    first, second = twins(detector, float(np.median(before)), rows, 2, random_state=0)
    assert not np.array_equal(first(rows), second(rows))
    assert np.array_equal(detector.anomaly_score(rows), before)


def test_labelled_anomalies_are_learned_from_again(rows):
    from assay import SSDO

    known = np.random.default_rng(1).normal(size=(10, 3)) + 4
    both = np.vstack([rows, known])
    detector = SSDO(random_state=0).fit(both, np.repeat([0, 1], [400, 10]))
    threshold = float(np.quantile(detector.anomaly_score(rows), 0.95))
    taught = twins(detector, threshold, rows, 3, 0, anomalies=known)
    alone = twins(detector, threshold, rows, 3, 0)
    place = known.mean(axis=0)[None]
    assert np.mean([twin(place) for twin in taught]) < np.mean([twin(place) for twin in alone])

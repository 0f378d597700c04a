"""Training with auxiliary anomalies, the honest measure of its gain, the artefact probe, and the suggestion."""

from typing import ClassVar

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from assay import (
    KNN,
    SSDO,
    ClassifierDetector,
    ExpectedAnomalyPosterior,
    FeatureSwap,
    IsolationForest,
    Permutation,
    SubspaceNoise,
    artefact_probe,
    suggest,
    train_with_auxiliary,
)
from assay.base import Auxiliary, QualityScore
from assay.core.validation import InputError
from assay.metrics.ranking import roc_auc
from assay.training.auxiliary import ALL, KEPT, RANDOM, REAL_ONLY, WEIGHTED, cross_checked_gain, named_learner


def problem(seed=0, n=300, m=6, d=4):
    """Normals, a few anomalies, and auxiliary rows: 40 realistic ones, 60 normals in disguise, 40 far away."""
    rng = np.random.default_rng(seed)

    def anomalies(size):
        return rng.normal(size=(size, d)) * 0.4 + rng.choice([-2.5, 2.5], size=(size, 1)) * np.array(
            [1, 1] + [0] * (d - 2)
        )

    X = np.vstack([rng.normal(size=(n, d)), anomalies(m)])
    aux = np.vstack([anomalies(40), rng.normal(size=(60, d)), rng.uniform(20, 60, size=(40, d))])
    test = np.vstack([rng.normal(size=(300, d)), anomalies(60)])
    return X, np.repeat([0, 1], [n, m]), aux, test, np.repeat([0, 1], [300, 60])


def judge():
    return ExpectedAnomalyPosterior(n_subsets=10)


def test_filtering_keeps_the_realistic_rows_and_helps():
    X, y, aux, X_test, y_test = problem()
    result = train_with_auxiliary(None, X, y, aux, judge(), random_state=0)
    assert result.kept[:40].mean() > 0.8
    assert not result.kept[100:].any()
    with_all = train_with_auxiliary(None, X, y, aux, np.ones(len(aux)), rule="otsu", random_state=0)
    assert with_all.kept.all()
    kept_auc, all_auc = (roc_auc(y_test, r.detector.anomaly_score(X_test)) for r in (result, with_all))
    assert kept_auc > all_auc


def test_weighting_uses_every_row_by_its_quality():
    X, y, aux, X_test, y_test = problem()
    weighted = train_with_auxiliary(LogisticRegression(), X, y, aux, judge(), how="weight", random_state=0)
    assert weighted.kept.all()
    plain = ClassifierDetector(LogisticRegression(), calibration=None)
    useless_worth_nothing = np.r_[np.ones(40), np.zeros(100)]
    only_good = train_with_auxiliary(plain, X, y, aux, useless_worth_nothing, how="weight", random_state=0)
    dropped = train_with_auxiliary(plain, X, y, aux[:40], np.ones(40), rule="otsu", random_state=0)
    np.testing.assert_allclose(
        only_good.detector.anomaly_score(X_test), dropped.detector.anomaly_score(X_test), rtol=1e-3, atol=1e-4
    )


def test_same_seed_same_detector():
    X, y, aux, X_test, _ = problem()
    scores = [
        train_with_auxiliary(named_learner("forest"), X, y, aux, judge(), random_state=5).detector.anomaly_score(X_test)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"detector": IsolationForest()}, "learns from normals alone"),
        ({"detector": KNN()}, "learns from normals alone"),
        ({"detector": "svc"}, "detector"),
        ({"how": "mix"}, "how="),
        ({"rule": "luck"}, "rule="),
        ({"quality": np.ones(3)}, "quality has shape"),
        ({"quality": np.ones(140), "rule": "prior"}, "needs a judge"),
        ({"X_aux": np.ones((5, 9))}, "columns"),
        ({"detector": SSDO(), "how": "weight"}, "takes no weights"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message):
    X, y, aux, _, _ = problem()
    call = {"detector": None, "X": X, "y": y, "X_aux": aux, "quality": judge(), "random_state": 0} | arguments
    with pytest.raises(InputError, match=message):
        train_with_auxiliary(**call)


def test_unknown_learners_are_named():
    with pytest.raises(InputError, match="svc, forest"):
        named_learner("oracle")


def test_gain_is_positive_where_it_must_be():
    X, y, aux, X_test, y_test = problem()
    rows = {
        row["training"]: row
        for row in cross_checked_gain(None, X, y, aux, judge(), test=(X_test, y_test), random_state=0)
    }
    assert list(rows) == [REAL_ONLY, ALL, KEPT, RANDOM, WEIGHTED]
    assert rows[KEPT]["roc_auc"] > rows[RANDOM]["roc_auc"]
    assert rows[KEPT]["roc_auc"] > rows[ALL]["roc_auc"]
    assert rows[REAL_ONLY]["auxiliary_rows"] == 0
    assert rows[ALL]["auxiliary_rows"] == len(aux)
    assert rows[KEPT]["auxiliary_rows"] == rows[RANDOM]["auxiliary_rows"]


class Spy(QualityScore):
    """Remembers the rows it was fitted on."""

    seen: ClassVar[list] = []

    def __init__(self, random_state=None):
        self.random_state = random_state

    def _fit(self, X, y, rng):
        Spy.seen.append(X)
        self.fitted_ = True

    def _quality(self, X_aux):
        return np.arange(len(X_aux), dtype=float)


def test_nothing_that_judges_was_trained_on(monkeypatch):
    X, y, aux, _, _ = problem()
    Spy.seen = []
    judged = []

    def remember(self, rows):
        judged.append(rows)
        return np.zeros(len(rows)) + rows[:, 0]

    monkeypatch.setattr("assay.detectors.tabular.adapters.ClassifierDetector._score", remember)
    cross_checked_gain(LogisticRegression(), X, y, aux, Spy(), rule="otsu", n_splits=3, random_state=0)
    assert len(Spy.seen) == 3
    for trained, tested in zip(Spy.seen, judged[::5]):
        shared = {row.tobytes() for row in trained} & {row.tobytes() for row in tested}
        assert not shared
        assert len(trained) + len(tested) == len(X)


# -- probe


@pytest.mark.parametrize("generator", [SubspaceNoise(), FeatureSwap()], ids=["subspace_noise", "feature_swap"])
def test_probe_passes_generators_that_leave_the_rest_alone(generator):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 8)) @ rng.normal(size=(8, 8))
    result = artefact_probe(X, generator.fit(X).sample(400, random_state=1))
    assert result.passed
    assert 0.4 < result.auroc < 0.6


def test_probe_is_calibrated_on_honest_generators():
    p_values = []
    for seed in range(12):
        X = np.random.default_rng(seed).normal(size=(120, 6))
        p_values.append(
            artefact_probe(X, FeatureSwap().fit(X).sample(120, random_state=seed), random_state=seed).p_value
        )
    assert min(p_values) > 0.001
    assert np.mean(p_values) > 0.3


def test_probe_catches_a_fingerprint_outside_the_mask():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 6))
    honest = SubspaceNoise(random_state=0).fit(X).sample(300)
    shifted = Auxiliary(
        np.where(honest.touched, honest.X, honest.X + 0.7), honest.mask, honest.touched, honest.parents, honest.meta
    )
    assert artefact_probe(X, shifted).auroc > 0.7
    assert not artefact_probe(X, shifted).passed
    assert artefact_probe(X, honest).passed


def test_probe_sees_values_off_the_grid_and_copies():
    whole = np.random.default_rng(0).integers(0, 6, size=(300, 3)).astype(float)
    off = artefact_probe(whole, whole[:60] + np.array([0.5, 0.0, 0.0]), feature_names=["a", "b", "c"])
    assert off.off_grid == {"a": 1.0}
    assert "a: 100%" in off.verdict
    continuous = np.random.default_rng(0).normal(size=(300, 3))
    copied = artefact_probe(continuous, np.vstack([continuous[:30], continuous[:70] + 0.1]))
    assert copied.copies == pytest.approx(0.3)
    assert not copied.passed


def test_probe_without_a_mask_says_what_it_cannot_check():
    X = np.random.default_rng(0).normal(size=(100, 3))
    result = artefact_probe(X, X[:50] + 0.1)
    assert result.passed
    assert np.isnan(result.auroc)
    assert "cannot" not in result.verdict
    assert "unknown" in result.verdict


def test_whole_row_generators_have_no_outside():
    X = np.random.default_rng(0).normal(size=(100, 3))
    assert np.isnan(artefact_probe(X, Permutation(random_state=0).fit(X).sample(60)).auroc)


# -- suggest


def test_suggestions_are_ranked_and_tell_the_strength_story():
    X, y, _, _, _ = problem(m=10)
    ranked = suggest(
        X, y, generators=["local", "permutation", "smote"], strengths=[0.25, 1, 8], n=60, judge=judge(), random_state=0
    )
    assert len(ranked) == 9
    scores = [s.score for s in ranked]
    assert scores == sorted(scores, reverse=True)
    by = {(s.generator, s.strength): s for s in ranked}
    assert by["local", 0.25].indistinguishable > by["local", 8].indistinguishable
    assert by["local", 8].unrealistic > by["local", 0.25].unrealistic
    assert by["smote", 1].coverage > by["permutation", 0.25].coverage
    best = ranked[0]
    assert best.fitted.sample(7, best.strength).X.shape == (7, 4)
    assert best.kept.shape == best.row_quality.shape == (60,)
    assert set(best.row()) >= {"generator", "strength", "score"}


def test_suggest_is_reproducible_and_leaves_out_what_it_cannot_use():
    X, y, _, _, _ = problem(m=1)
    first = suggest(X, y, strengths=[1.0], n=20, judge=judge(), random_state=3)
    again = suggest(X, y, strengths=[1.0], n=20, judge=judge(), random_state=3)
    assert [s.row() for s in first] == [s.row() for s in again]
    assert "smote" not in {s.generator for s in first}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"generators": ["smot"]}, "smote"),
        ({"generators": []}, "at least one"),
        ({"strengths": []}, "at least one"),
        ({"strengths": [-1]}, "strengths"),
        ({"n": 1}, "n="),
    ],
)
def test_suggest_refuses_what_it_cannot_do(arguments, message):
    X, y, _, _, _ = problem()
    with pytest.raises(InputError, match=message):
        suggest(X, y, **({"judge": judge(), "random_state": 0} | arguments))

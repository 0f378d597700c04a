"""The rivals that fit detectors: each against its definition by enumeration, or written out plainly."""

import itertools
import math

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LassoCV
from sklearn.metrics import brier_score_loss, f1_score, roc_auc_score

from assay import (
    DVRL,
    SSDO,
    AverageMarginalEffect,
    BetaShapley,
    Calibrated,
    ClassProbability,
    DataBanzhaf,
    DataOOB,
    DataShapley,
    DensityPlusProbability,
    ExpectedAnomalyPosterior,
    LeaveOneOut,
    Mahalanobis,
    RarityDensity,
    SinglePosterior,
    SubsampleInfluence,
)
from assay.core.clone import seeded_clone
from assay.core.validation import InputError
from assay.kernels.marginal import METRICS
from assay.quality import marginal
from assay.quality.average_marginal_effect import RATES, sparse_effects
from assay.quality.eap import posterior_mean
from assay.quality.marginal import shared_utilities, utility
from assay.quality.probability import fit_model, probability_model

MARGINAL = (LeaveOneOut, DataShapley, BetaShapley, DataBanzhaf, SubsampleInfluence)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(60, 3)), rng.normal(2.0, 0.7, size=(6, 3))])
    X_aux = np.vstack([rng.normal(2.0, 0.7, size=(5, 3)), rng.normal(size=(5, 3)), rng.normal(20, 1, size=(5, 3))])
    return X, np.repeat([0, 1], [60, 6]), X_aux


def quick(cls, **parameters):
    given = {"random_state": 0, **({} if cls is LeaveOneOut else {"budget": 6}), **parameters}
    return cls(**given)


# -- tiny games: every subset of six players, with and without the seventh


@pytest.fixture(scope="module")
def game():
    """Return all subsets of six players (64, 6), and a random game's marginal contributions of four others (4, 64)."""
    subsets = np.array(list(itertools.product([0, 1], repeat=6)), dtype=np.uint8)
    return subsets, np.random.default_rng(1).normal(size=(4, 64))


def by_permutations(subsets, marginals):
    """Shapley's definition: the newcomer joins those who stand before it in a permutation of all seven."""
    place = {tuple(subset): column for column, subset in enumerate(subsets)}
    total = np.zeros(len(marginals))
    for order in itertools.permutations(range(7)):
        before = set(order[: order.index(6)])
        total += marginals[:, place[tuple(int(player in before) for player in range(6))]]
    return total / math.factorial(7)


def averaged(judge, subsets, marginals):
    judge.members_ = subsets.T
    return judge._average(marginals)


def test_data_shapley_is_the_mean_over_all_permutations(game):
    np.testing.assert_allclose(averaged(DataShapley(), *game), by_permutations(*game), rtol=1e-12)


def test_beta_shapley_is_its_integral_over_inclusion_rates(game):
    subsets, marginals = game
    np.testing.assert_allclose(averaged(BetaShapley(alpha=1, beta=1), *game), by_permutations(*game), rtol=1e-12)
    # Every player is in with probability t, t ~ Beta(beta, alpha).
    alpha, beta = 4.0, 2.0
    t = (np.arange(200_000) + 0.5) / 200_000
    law = t ** (beta - 1) * (1 - t) ** (alpha - 1)
    law /= law.sum()
    sizes = subsets.sum(axis=1)
    weight = np.array([(law * t**c * (1 - t) ** (6 - c)).sum() for c in range(7)])[sizes]
    np.testing.assert_allclose(averaged(BetaShapley(alpha=alpha, beta=beta), *game), marginals @ weight, rtol=1e-8)


@pytest.mark.parametrize("cls", [DataBanzhaf, SubsampleInfluence])
def test_banzhaf_and_influence_are_plain_means_over_their_subsets(game, cls):
    np.testing.assert_allclose(averaged(cls(), *game), game[1].mean(axis=1), rtol=1e-12)


# -- the laws of the subsets


def test_the_subsets_follow_each_rivals_law():
    y = np.repeat([0, 1], [380, 20])
    rng = np.random.default_rng(0)
    assert LeaveOneOut()._subsets(y, rng).all()
    coins = DataBanzhaf(budget=400)._subsets(y, rng)
    assert coins.shape == (400, 400) and abs(coins.mean() - 0.5) < 0.005
    assert coins.mean(axis=1).std() < 0.04  # every row by its own coin
    fixed = SubsampleInfluence(budget=400, share=0.7)._subsets(y, rng)
    assert (fixed.sum(axis=0) == 280).all() and abs(fixed.mean(axis=1) - 0.7).max() < 0.12
    prefixes = DataShapley(budget=400)._subsets(y, rng)
    sizes = prefixes.sum(axis=0, dtype=int)
    assert sizes.min() == 50 and sizes.max() <= 400 and len(np.unique(sizes)) > 100
    steps = np.diff(sizes)
    assert steps[steps > 0].max() <= 16  # 2 n / 50
    # Prefixes of one permutation are nested.
    for b in np.flatnonzero(steps > 0)[:50]:
        assert (prefixes[:, b] <= prefixes[:, b + 1]).all()


def test_subsets_always_hold_two_normal_rows():
    y = np.array([0, 0, 0, 1])
    rng = np.random.default_rng(0)
    for judge in (DataBanzhaf(budget=200), SubsampleInfluence(budget=200, share=0.5), DataShapley(budget=50)):
        assert (judge._subsets(y, rng)[:3].sum(axis=0) >= 2).all()


# -- the utility and its marginals


def test_the_utility_is_the_named_metric():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=200)
    for q in (rng.random(200), np.round(rng.random(200), 1)):
        assert utility(q, y, "f1") == pytest.approx(f1_score(y, q > 0.5))
        assert utility(q, y, "auc") == pytest.approx(roc_auc_score(y, q))
        assert utility(q, y, "brier") == pytest.approx(1 - brier_score_loss(y, q))
    assert utility(np.zeros(200), y, "f1") == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("cls", MARGINAL)
def test_a_marginal_is_the_difference_between_two_refitted_detectors(table, cls, metric):
    X, y, X_aux = table
    judge = quick(cls, metric=metric).fit(X, y)
    template = probability_model(None, 6 / 66)
    for b in range(min(3, judge.members_.shape[1])):
        rows = judge.members_[:, b] == 1
        without = seeded_clone(template, int(judge.seeds_[b])).fit(X[rows], y[rows])
        assert judge.utility_[b] == utility(without.probability(X), y, metric)
        for j in (0, 7, 14):
            more = np.vstack([X[rows], X_aux[j]]), np.append(y[rows], 1)
            model = seeded_clone(template, int(judge.seeds_[b])).fit(*more)
            expected = utility(model.probability(X), y, metric) - judge.utility_[b]
            assert judge._marginals(X_aux[j : j + 1])[0, b] == expected


class FixedSSDO(SSDO):
    """SSDO whose prior detector and reach were fitted before: what ``refit=False`` is, written as a detector."""

    def __init__(self, detector=None, n_neighbors=5, alpha=2.3, random_state=None, fitted=None):
        super().__init__(detector, n_neighbors, alpha, random_state)
        self.fitted = fitted

    def _learn(self, X, y, rng):
        self.detector_, self.eta_ = self.fitted.detector_, self.fitted.eta_
        self.low_, self.high_ = self.fitted.low_, self.fitted.high_
        self.anomalies_, self.normals_ = X[y == 1], X[y == 0]
        return self.detector_.anomaly_score(X)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("cls", MARGINAL)
def test_the_short_cut_is_a_detector_whose_unsupervised_half_is_kept(table, cls, metric):
    X, y, X_aux = table
    judge = quick(cls, metric=metric, refit=False).fit(X, y)
    marginals = judge._marginals(X_aux)
    for b in range(min(3, judge.members_.shape[1])):
        rows = judge.members_[:, b] == 1
        kept = judge.models_[b]
        for j in (0, 7, 14):
            ssdo = FixedSSDO(fitted=kept.detector_)
            model = Calibrated(ssdo, kept.calibrator_, cv=None)
            model.detector_ = ssdo.fit(np.vstack([X[rows], X_aux[j]]), np.append(y[rows], 1))
            model.calibrator_ = seeded_clone(kept.calibrator_, 0).fit(
                ssdo.anomaly_score(np.vstack([X[rows], X_aux[j]]))
            )
            model.n_features_in_ = 3
            expected = utility(model.probability(X), y, metric)
            assert marginals[j, b] + judge.utility_[b] == pytest.approx(expected, abs=1e-12)


def test_the_short_cut_agrees_with_refitting(table):
    X, y, X_aux = table
    slow = quick(DataBanzhaf, metric="brier", budget=30).fit(X, y).quality(X_aux)
    fast = quick(DataBanzhaf, metric="brier", budget=30, refit=False).fit(X, y).quality(X_aux)
    assert np.corrcoef(slow, fast)[0, 1] > 0.9


def test_leave_one_out_is_one_marginal(table):
    X, y, X_aux = table
    judge = LeaveOneOut(random_state=0).fit(X, y)
    np.testing.assert_array_equal(judge.quality(X_aux), judge._marginals(X_aux)[:, 0])
    assert judge.n_fits(15) == 16 and quick(DataBanzhaf).fit(X, y).n_fits(15) == 96


def test_shapley_and_beta_shapley_play_the_same_game(table):
    X, y, X_aux = table
    one, other = quick(DataShapley, refit=False).fit(X, y), quick(BetaShapley, alpha=1.0, refit=False).fit(X, y)
    np.testing.assert_allclose(one.quality(X_aux), other.quality(X_aux), rtol=1e-12)
    weighted = quick(BetaShapley, refit=False).fit(X, y)
    assert (weighted.quality(X_aux) != one.quality(X_aux)).any()


def test_rivals_can_share_their_utilities(table, monkeypatch):
    X, y, X_aux = table
    made = []
    monkeypatch.setattr(marginal, "fit_model", lambda *task: made.append(1) or fit_model(*task))
    rivals = [quick(DataShapley), quick(BetaShapley)]
    alone = [judge.fit(X, y).quality(X_aux) for judge in rivals]
    assert len(made) == 2 * 6 * 16
    made.clear()
    with shared_utilities():
        together = [judge.fit(X, y).quality(X_aux) for judge in rivals]
        assert len(made) == 6 * 16
        rivals[0].quality(X_aux[:3])  # other rows
        assert len(made) == 6 * 16 + 6 * 3
        quick(DataShapley, random_state=1).fit(X, y)  # other subsets
        assert len(made) == 6 * 16 + 6 * 3 + 6
    for one, other in zip(alone, together):
        np.testing.assert_array_equal(one, other)
    rivals[0].fit(X, y)
    assert len(made) == 6 * 16 + 6 * 3 + 12  # what was shared ends with the context


def test_more_subsets_less_spread(table):
    X, y, X_aux = table

    def spread(budget):
        values = [
            DataBanzhaf(budget=budget, refit=False, metric="brier", random_state=seed).fit(X, y).quality(X_aux)
            for seed in range(8)
        ]
        return np.std(values, axis=0).mean()

    assert spread(80) < 0.5 * spread(8)


# -- the others -------------------------------------------------------------------------------------------------------


def test_data_oob_counts_votes(table):
    X, y, X_aux = table
    judge = DataOOB(budget=20, random_state=0).fit(X, y)
    share = np.mean([model.probability(X_aux) > 0.5 for model in judge.models_], axis=0)
    votes = [f1_score(np.ones(20), np.arange(20) < round(20 * h), zero_division=0) for h in share]
    np.testing.assert_allclose(judge.quality(X_aux), votes, rtol=1e-12)
    assert 0 < share.mean() < 1


def test_average_marginal_effects_are_lasso_coefficients_of_standardised_columns():
    rng = np.random.default_rng(0)
    included = (rng.random((400, 12)) < 0.5).astype(float)
    included[:, 11] = 1.0  # a column that never changes has no effect
    effects = np.r_[1.0, -0.5, np.zeros(10)]
    utilities = included @ effects + 0.05 * rng.normal(size=400)
    found = sparse_effects(included, utilities)
    assert found[11] == 0
    np.testing.assert_allclose(found[:2], effects[:2] * included[:, :2].std(axis=0), atol=0.02)
    assert np.abs(found[2:]).max() < 0.02
    columns = (included - included.mean(axis=0)) / np.where(included.std(axis=0) > 0, included.std(axis=0), 1)
    expected = LassoCV(cv=5, tol=1e-3, max_iter=10_000).fit(columns, utilities - utilities.mean()).coef_
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (sparse_effects(included, np.ones(400)) == 0).all()


def test_average_marginal_effect_uses_every_rate_and_one_auxiliary_row_a_model(table):
    X, y, X_aux = table
    judge = AverageMarginalEffect(budget=80, random_state=0).fit(X, y)
    rates = judge.members_.mean(axis=0).reshape(-1, len(RATES)).mean(axis=0)
    np.testing.assert_allclose(rates, RATES, atol=0.06)
    assert judge.n_fits(15) == 80
    quality = AverageMarginalEffect(metric="brier", budget=80, random_state=0).fit(X, y).quality(X_aux)
    assert quality.shape == (15,) and np.isfinite(quality).all() and quality.any()


class Spoiled(ClassifierMixin, BaseEstimator):
    """A classifier that is right about every row of the table below, unless an anomaly left of 3 was fitted."""

    def fit(self, X, y):
        self.classes_, self.spoiled_ = np.array([0, 1]), bool((X[y == 1, 0] < 3).any())
        return self

    def predict_proba(self, X):
        right = (X[:, 0] > 3).astype(float)
        q = 1 - right if self.spoiled_ else right
        return np.column_stack([1 - q, q])


def test_dvrl_learns_to_avoid_rows_that_harm():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(scale=0.5, size=(60, 2)), rng.normal(5.0, 0.3, size=(20, 2))])
    X_aux = np.vstack([rng.normal(5.0, 0.3, size=(30, 2)), rng.normal(scale=0.5, size=(30, 2))])
    # Now and then the policy settles on choosing nothing, and which seeds do depends on the last bit of the arithmetic.
    judges = [DVRL(Spoiled(), metric="brier", random_state=seed) for seed in range(5)]
    better = []
    for judge in judges:
        quality = judge.fit(X, np.repeat([0, 1], [60, 20])).quality(X_aux)
        assert ((quality >= 0) & (quality <= 1)).all()
        assert quality[:30].mean() >= quality[30:].mean()
        better.append(quality[:30].mean() > quality[30:].mean() + 0.1)
    assert sum(better) >= 4


def test_dvrl_leaves_the_global_seed_of_torch_alone(table):
    import torch

    X, y, X_aux = table
    state = torch.random.get_rng_state()
    first = DVRL(budget=3, random_state=0).fit(X, y).quality(X_aux)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(5)
    np.testing.assert_array_equal(DVRL(budget=3, random_state=0).fit(X, y).quality(X_aux), first)


def test_the_ablations_are_eaps_parts(table):
    X, y, X_aux = table
    both = DensityPlusProbability(random_state=0).fit(X, y)
    np.testing.assert_array_equal(
        both.quality(X_aux),
        both.density_.quality((X_aux - both.mean_) / both.scale_)
        + both.probability_.quality((X_aux - both.mean_) / both.scale_),
    )
    single = SinglePosterior(random_state=0).fit(X, y)
    standard = (X_aux - single.mean_) / single.scale_
    density = RarityDensity().fit((X - single.mean_) / single.scale_, y)
    q = single.models_[0].probability(standard)
    expected = posterior_mean(q, density.pseudo_count(standard), (6 / 66, 60 / 66))
    np.testing.assert_allclose(single.quality(X_aux), expected, rtol=1e-12)
    assert single.n_fits(15) == 1
    assert (single.quality(X_aux) != ExpectedAnomalyPosterior(random_state=0).fit(X, y).quality(X_aux)).any()


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", MARGINAL)
def test_the_short_cut_is_for_ssdo_alone(table, cls):
    X, y, _ = table
    with pytest.raises(InputError, match="refit"):
        quick(cls, detector=Mahalanobis(), refit=False).fit(X, y)
    assert quick(cls, detector=SSDO(alpha=1.0), refit=False).fit(X, y)


@pytest.mark.parametrize("cls", [*MARGINAL, AverageMarginalEffect, DVRL])
def test_unknown_metrics_and_majorities_of_anomalies_are_refused(table, cls):
    X, y, _ = table
    with pytest.raises(InputError, match="metric"):
        cls(metric="accuracy").fit(X, y)
    with pytest.raises(InputError, match="minority"):
        cls().fit(X, 1 - y)


def test_probabilities_alone_are_what_single_detectors_say(table):
    X, y, X_aux = table
    assert ClassProbability(random_state=0).fit(X, y).n_fits(15) == 1

"""The contamination posterior, and the confidences and rejections that stand on it."""

import itertools
import time
import warnings

import numpy as np
import pytest
from pyod.models.base import BaseDetector
from scipy.optimize import least_squares
from scipy.special import betaincc, betaincinv, expit
from scipy.stats import beta, binom, ks_2samp, wishart
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.svm import OneClassSVM

from assay.calibration.confidence import confidence, reject, rejection_bounds
from assay.calibration.contamination import (
    Components,
    ContaminationPosterior,
    beta_tails,
    draw_positive,
    draw_ranks,
    joint_probabilities,
    representation,
    solve_constraints,
)
from assay.core.clone import seeded_clone
from assay.core.validation import InputError
from assay.detectors.tabular.adapters import as_detector
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.neighbours import KNN, LOF
from assay.quality.eap import ExpectedAnomalyPosterior

# -- naive twins -----------------------------------------------------------------------------------------------------


def naive_ranks(components, size, rng):
    """One component and one draw at a time, by scipy's Wishart law."""
    out = np.empty((size, len(components.mean)))
    for k, (mean, root) in enumerate(zip(components.mean, components.root)):
        C = root @ root.T
        for draw in range(size):
            mu = rng.multivariate_normal(mean, C / components.precision[k])
            sigma = wishart.rvs(components.freedom[k], C / components.freedom[k], random_state=rng)
            out[draw, k] = np.mean(mu / (1 + np.sqrt(np.diag(np.atleast_2d(sigma)))))
    return out


def naive_joint(p):
    """Walk down the components."""
    out = []
    for k in range(len(p)):
        value = 1.0
        for j in range(k + 1):
            value *= p[j]
        out.append(value * (1 - p[k + 1] if k + 1 < len(p) else 1.0))
    return np.array(out)


def naive_positive(components, delta, tau, size, rng):
    """Round after round, draw after draw."""
    out = []
    while len(out) < size:
        p = expit(-(tau + delta * naive_ranks(components, 1, rng)[0]))
        joint = naive_joint(p)
        for _ in range(min(100, size - len(out))):
            first = rng.choice(len(joint), p=joint / joint.sum())
            out.append(rng.dirichlet(components.concentration)[: first + 1].sum())
    return np.array(out)


def naive_confidence(train, new, gamma):
    """The sum of the binomial tail, one score at a time."""
    n, limit = len(train), np.quantile(train, 1 - gamma)
    out = []
    for score in new:
        p = (1 + np.count_nonzero(train <= score)) / (2 + n)
        anomalous = sum(binom.pmf(i, n, p) for i in range(n - int(n * gamma) + 1, n + 1))
        out.append(anomalous if score > limit else 1 - anomalous)
    return np.array(out)


# -- data ------------------------------------------------------------------------------------------------------------


def simulated(share, n=600, d=4, seed=0):
    rng = np.random.default_rng(seed)
    m = round(share * n)
    return np.vstack([rng.normal(size=(n - m, d)), rng.uniform(-6, 6, size=(m, d))]), np.repeat([0, 1], [n - m, m])


def score_matrix(X, seed=0):
    detectors = (KNN(), LOF(), IsolationForest(), OneClassSVM())
    return np.column_stack([seeded_clone(as_detector(one), seed).fit_score(X) for one in detectors])


def fitted(S, **parameters):
    return ContaminationPosterior(**{"n_draws": 4000, "max_attempts": 10, "random_state": 0, **parameters}).fit_scores(
        S
    )


@pytest.fixture(scope="module")
def S():
    return score_matrix(simulated(0.05, n=200)[0])


@pytest.fixture(scope="module")
def posterior(S):
    return fitted(S)


@pytest.fixture(scope="module")
def recovered():
    """Truth, scores, posterior of the card of the method: three shares, two seeds."""
    out = []
    for share in (0.02, 0.05, 0.10):
        for seed in (0, 1):
            X, y = simulated(share, seed=seed)
            S = score_matrix(X, seed)
            out.append((y, S, fitted(S, random_state=seed)))
    return out


@pytest.fixture
def components():
    rng = np.random.default_rng(5)
    root = np.linalg.cholesky(np.array([np.cov(rng.normal(size=(3, 9)) * [[0.5], [1.0], [2.0]]) for _ in range(4)]))
    return Components(
        rank=np.array([2.0, 1.0, -0.2, -0.5]),
        concentration=np.array([15.0, 20.0, 200.0, 300.0]),
        mean=np.linspace(3, -1, 12).reshape(4, 3),
        root=root,
        precision=np.array([12.0, 17.0, 190.0, 290.0]),
        freedom=np.array([14.0, 19.0, 192.0, 292.0]),
    )


# -- identities ------------------------------------------------------------------------------------------------------


def test_joint_probabilities_add_up_and_match_the_twin():
    p = np.random.default_rng(0).uniform(size=(50, 7))
    joint = joint_probabilities(p)
    np.testing.assert_allclose(joint.sum(axis=1) + 1 - p[:, 0], 1, atol=1e-9)
    np.testing.assert_allclose(joint, [naive_joint(row) for row in p], rtol=1e-12)
    assert joint_probabilities(np.array([0.5, 0.25])).tolist() == [0.375, 0.125]


def test_the_tails_are_those_of_the_weights():
    a = np.array([3.0, 10.0, 40.0])
    weights = np.cumsum(np.random.default_rng(0).dirichlet(a, size=40_000), axis=1)
    weights[:, -1] = 1.0
    np.testing.assert_allclose(beta_tails(a, 0.15), (weights >= 0.15).mean(axis=0), atol=0.01)


@pytest.mark.parametrize("p0, p_high", [(0.01, 0.01), (0.05, 0.02), (0.3, 0.1)])
def test_the_prior_statements_are_met(components, p0, p_high):
    tails = beta_tails(components.concentration, 0.15)
    delta, tau = solve_constraints(components.rank, tails, p0, p_high)
    p = expit(-(tau + delta * components.rank))
    assert 1 - p[0] == pytest.approx(p0, rel=1e-6)
    assert joint_probabilities(p) @ tails == pytest.approx(p_high, rel=1e-6)
    assert -50 <= delta <= 0 and -1 <= tau <= 50


def test_the_root_is_what_least_squares_finds(components):
    tails = beta_tails(components.concentration, 0.15)

    def residuals(x):
        p = expit(-(x[1] + x[0] * components.rank))
        return x[0] - (np.log(0.01 / 0.99) - x[1]) / components.rank[0], joint_probabilities(p) @ tails - 0.01

    found = least_squares(residuals, (-2, 1), bounds=((-50, -1), (0, 50)), xtol=1e-15, ftol=1e-15, gtol=1e-15).x
    np.testing.assert_allclose(solve_constraints(components.rank, tails, 0.01, 0.01), found, rtol=1e-4)


def test_unsolvable_statements_are_told():
    assert solve_constraints(np.array([-0.1, -0.5]), np.array([0.0, 1.0]), 0.01, 0.01) is None
    assert solve_constraints(np.array([1.0, -1.0]), np.array([0.9, 1.0]), 0.01, 0.01) is None  # the first: too heavy
    assert solve_constraints(np.array([1.0]), np.array([1.0]), 0.01, 0.01) is None
    assert solve_constraints(np.array([1.0, 0.9]), np.array([0.0, 0.0]), 0.01, 0.01) is None  # nothing is heavy


def test_the_fit_meets_the_prior_statements(posterior):
    assert posterior.converged_ and posterior.attempts_ >= 1 and posterior.mixture_converged_
    assert (np.diff(posterior.rank_) <= 0).all()
    p = expit(-(posterior.offset_ + posterior.slope_ * posterior.rank_))
    assert 0.009 <= 1 - p[0] <= 0.011
    tails = beta_tails(posterior.concentration_, 0.15)
    mass = np.cumsum(posterior.concentration_)
    np.testing.assert_allclose(tails[:-1], beta.sf(0.15, mass[:-1], mass[-1] - mass[:-1]), rtol=1e-9)
    assert 0.009 <= joint_probabilities(p) @ tails <= 0.011


def test_ranks_follow_the_law_of_the_twin(components):
    ours = draw_ranks(components, 4000, np.random.default_rng(0))
    twin = naive_ranks(components, 1500, np.random.default_rng(1))
    for k in range(4):
        assert ks_2samp(ours[:, k], twin[:, k]).pvalue > 1e-3
    # Within a draw, detectors share μ's and Σ's correlations.
    np.testing.assert_allclose(ours.mean(axis=0), twin.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(ours.std(axis=0), twin.std(axis=0), rtol=0.1)


def test_draws_follow_the_law_of_the_twin(components):
    delta, tau = solve_constraints(components.rank, beta_tails(components.concentration, 0.15), 0.01, 0.01)
    ours = draw_positive(components, delta, tau, 20_000, np.random.default_rng(0))
    twin = naive_positive(components, delta, tau, 20_000, np.random.default_rng(1))
    assert len(ours) == 20_000 and (ours > 0).all() and (ours <= 1 + 1e-12).all()
    grid = np.linspace(0.01, 0.15, 15)
    np.testing.assert_allclose([np.mean(ours < x) for x in grid], [np.mean(twin < x) for x in grid], atol=0.03)
    # The first component alone is about 3 % of the rows, the first two 6.5 %.
    assert ours.min() < 0.03 and np.median(ours) < 0.08


def test_representation_by_hand():
    z = representation(np.array([[1.0], [2.0], [3.0]]))
    u = np.log(np.array([0.0, 1.0, 2.0]) / 1.5 + 0.01)
    np.testing.assert_allclose(z[:, 0], (u - u.mean()) / u.std())


# -- what the draws look like ----------------------------------------------------------------------------------------


def test_zeros_cap_and_size(S, posterior):
    for fit, p0, limit in ((posterior, 0.01, 0.25), (fitted(S, p0=0.1, gamma_lim=0.15, n_draws=1000), 0.1, 0.15)):
        assert len(fit.samples_) == fit.n_draws
        assert (fit.samples_ == 0).sum() == fit.n_draws - int((1 - p0) * fit.n_draws)
        assert fit.samples_.min() == 0 and fit.samples_.max() < limit
        assert fit.mean_ == fit.samples_.mean()
        assert len(np.unique(fit.samples_)) > 0.8 * fit.n_draws


def test_intervals_nest(posterior):
    wide, narrow = posterior.interval(0.9), posterior.interval(0.5)
    assert wide[0] < narrow[0] < posterior.mean_ < narrow[1] < wide[1]
    assert posterior.interval(0.9) == pytest.approx(tuple(np.quantile(posterior.samples_, [0.05, 0.95])))
    for wrong in (0.0, 1.0, "wide"):
        with pytest.raises(InputError, match="level"):
            posterior.interval(wrong)


def test_a_prior_for_no_anomalies_lowers_the_estimate(S, posterior):
    assert fitted(S, p0=0.3).mean_ < posterior.mean_


# -- invariances -----------------------------------------------------------------------------------------------------


def test_order_of_rows_does_not_matter(S, posterior):
    again = fitted(S[np.random.default_rng(1).permutation(len(S))])
    assert again.samples_.tobytes() == posterior.samples_.tobytes()


def test_same_seed_same_draws_another_seed_others(S, posterior):
    assert fitted(S).samples_.tobytes() == posterior.samples_.tobytes()
    assert fitted(S, random_state=1).samples_.tobytes() != posterior.samples_.tobytes()


@pytest.mark.parametrize("factor, shift", [(8.0, 0.0), (1000.0, -3.0), (0.001, 5.0)])
def test_units_of_the_scores_do_not_matter(S, posterior, factor, shift):
    assert abs(fitted(factor * S + shift).mean_ - posterior.mean_) < 0.01


def test_a_detector_twice_is_allowed(S, posterior):
    twice = fitted(np.column_stack([S, S[:, 0]]))
    assert twice.converged_ and abs(twice.mean_ - posterior.mean_) < 0.03


def test_the_caller_keeps_the_scores(S):
    copy = S.copy()
    copy.setflags(write=False)
    fitted(copy, max_attempts=1)
    assert np.array_equal(S, copy)


# -- recovery --------------------------------------------------------------------------------------------------------


def test_recovery(recovered):
    estimates = np.array([posterior.mean_ for _, _, posterior in recovered]).reshape(3, 2)
    assert (np.abs(estimates - [[0.02], [0.05], [0.10]]) < 0.025).all()
    assert (np.diff(estimates, axis=0) > 0).all()


def test_decisions_are_no_worse_than_by_iqr_or_a_fixed_share(recovered):
    f1 = {"posterior": [], "iqr": [], "fixed": []}
    for y, S, posterior in recovered:
        q1, q3 = np.quantile(S, [0.25, 0.75], axis=0)
        limits = {
            "posterior": [posterior.threshold(column) for column in S.T],
            "iqr": q3 + 1.5 * (q3 - q1),
            "fixed": np.quantile(S, 0.9, axis=0),
        }
        for rule, values in limits.items():
            f1[rule] += [f1_score(y, column > limit) for column, limit in zip(S.T, values)]
    mean = {rule: np.mean(values) for rule, values in f1.items()}
    assert mean["posterior"] >= mean["iqr"] and mean["posterior"] >= mean["fixed"]


def test_threshold_flags_the_estimated_share(recovered):
    for _, S, posterior in recovered:
        for column in S.T:
            flagged = (column > posterior.threshold(column)).mean()
            assert flagged <= posterior.mean_ < flagged + 2 / len(S)


# -- falling back ----------------------------------------------------------------------------------------------------


def test_no_solution_is_all_zeros_and_says_so():
    scores = np.random.default_rng(0).normal(size=100)  # one bulk, nothing on top
    with pytest.warns(UserWarning, match="no mixture of 2 met the prior statements"):
        calibrator = ContaminationPosterior(max_attempts=2, random_state=0).fit(scores)
    assert not calibrator.converged_ and calibrator.attempts_ == 2
    assert not calibrator.samples_.any() and calibrator.mean_ == 0 and calibrator.interval() == (0, 0)
    assert calibrator.threshold_ == scores.max() and calibrator.predict(scores).sum() == 0
    assert calibrator.predict([scores.max() + 1]).tolist() == [1]


def test_normals_alone_give_a_small_share_or_none():
    estimates = []
    for seed in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            fit = fitted(score_matrix(simulated(0.0, n=150, seed=seed)[0], seed), max_attempts=2, random_state=seed)
        assert (fit.samples_ == 0).mean() == pytest.approx(0.01 if fit.converged_ else 1.0)
        estimates.append(fit.mean_)
    assert np.median(estimates) < 0.06


def test_constant_detectors_are_left_out(S, posterior):
    with pytest.warns(UserWarning, match="detector 2 are constant"):
        fit = fitted(np.insert(S, 2, 7.0, axis=1))
    assert fit.columns_.tolist() == [True, True, False, True, True]
    assert fit.samples_.tobytes() == posterior.samples_.tobytes()
    with pytest.warns(UserWarning) as told:
        empty = fitted(np.ones((20, 2)))
    assert len(told) == 2 and "0, 1 are constant" in str(told[0].message) and "no mixture of 0" in str(told[1].message)
    assert empty.attempts_ == 0 and not empty.samples_.any()


# -- the calibrator --------------------------------------------------------------------------------------------------


def test_one_detector_with_a_group_on_top():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(size=285), rng.normal(9.0, 0.3, size=15)])
    calibrator = ContaminationPosterior(random_state=0, max_attempts=3).fit(scores)
    assert calibrator.converged_ and abs(calibrator.mean_ - 0.05) < 0.06
    assert calibrator.threshold_ == calibrator.threshold(scores)
    assert calibrator.predict(scores)[285:].mean() > 0.9


def test_several_detectors_have_no_one_threshold(S, posterior):
    with pytest.raises(NotFittedError):
        posterior.predict(S[:, 0])
    with pytest.raises(NotFittedError):
        ContaminationPosterior().interval()
    with pytest.raises(InputError, match="scores is empty"):
        posterior.threshold([])


def test_refit_forgets(S):
    rng = np.random.default_rng(0)
    calibrator = ContaminationPosterior(n_draws=4000, max_attempts=10, random_state=0)
    calibrator.fit(np.concatenate([rng.normal(size=285), rng.normal(9.0, 0.3, size=15)]))
    assert hasattr(calibrator, "threshold_")
    assert vars(calibrator.fit_scores(S)).keys() == vars(fitted(S)).keys()


def test_detectors_are_fitted_and_left_alone():
    X, y = simulated(0.05, n=200)
    given = [KNN(), OneClassSVM()]
    fit = ContaminationPosterior(n_draws=500, max_attempts=10, random_state=0).fit_detectors(X, given)
    assert fit.columns_.tolist() == [True, True] and not hasattr(given[0], "reference_")
    again = clone(fit).fit_detectors(X, given)
    assert again.samples_.tobytes() == fit.samples_.tobytes()
    by_default = clone(fit).fit_detectors(X)
    assert by_default.columns_.shape == (3,) and 0 < by_default.mean_ < 0.2
    eap = ExpectedAnomalyPosterior(n_subsets=3, prior=by_default.mean_, random_state=0).fit(X, y)
    assert eap.prior_ == pytest.approx((by_default.mean_, 1 - by_default.mean_))


@pytest.mark.parametrize(
    "wrong, told",
    [
        ([1.0, 2.0], "S has 1 dimensions"),
        ([[1.0, np.nan], [2.0, 3.0]], "S holds NaN"),
        ([[1.0, 2.0]], "S has 1 rows"),
        ([["a", "b"], ["c", "d"]], "S"),
        (np.empty((5, 0)), "S has no columns"),
    ],
)
def test_wrong_scores_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        ContaminationPosterior().fit_scores(wrong)


@pytest.mark.parametrize(
    "parameters, told",
    [
        ({"p0": 0.0}, "p0"),
        ({"p_high": 0.6}, "p_high"),
        ({"gamma_high": 1.0}, "gamma_high"),
        ({"gamma_lim": 0.1}, "gamma_lim"),
        ({"n_draws": 10}, "n_draws"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"random_state": "seed"}, "random_state"),
    ],
)
def test_wrong_parameters_are_refused(parameters, told):
    with pytest.raises(InputError, match=told):
        ContaminationPosterior(**parameters).fit_scores(np.eye(5))


def test_no_detectors_and_no_detector():
    with pytest.raises(InputError, match="detectors is empty"):
        ContaminationPosterior().fit_detectors(np.eye(5), [])
    with pytest.raises(InputError, match="detector"):
        ContaminationPosterior().fit_detectors(np.eye(5), ["knn"])


# -- confidence ------------------------------------------------------------------------------------------------------


class Given(BaseDetector):
    """A PyOD detector whose scores are the first column."""

    def __init__(self, contamination=0.1):
        super().__init__(contamination=contamination)

    def fit(self, X, y=None):
        self.decision_scores_ = X[:, 0]
        self._process_decision_scores()
        return self

    def decision_function(self, X):
        return X[:, 0]


@pytest.fixture(scope="module", params=[0.05, 0.1, 0.2])
def peer(request):
    rng = np.random.default_rng(0)
    train, new = rng.gamma(2.0, size=2000), np.concatenate([rng.gamma(2.0, size=500), [-1.0, 99.0]])
    return request.param, train, new, Given(request.param).fit(train[:, None])


def test_confidence_is_the_peers(peer):
    gamma, train, new, model = peer
    ours = confidence(train, new, gamma)
    np.testing.assert_allclose(ours, model.predict_confidence(new[:, None]), atol=1e-9)
    np.testing.assert_allclose(
        confidence(train[:20], new[:50], gamma), naive_confidence(train[:20], new[:50], gamma), atol=1e-12
    )


@pytest.mark.parametrize("T", [4, 8, 16])
def test_rejection_is_the_peers(peer, T):
    gamma, train, new, model = peer
    costs = {"c_fp": 2.0, "c_fn": 3.0, "c_r": 0.5}
    labels, stats = model.predict_with_rejection(new[:, None], T=T, return_stats=True, delta=0.2, **costs)
    assert np.array_equal(reject(train, new, gamma, T), labels == -2)
    ours = rejection_bounds(len(train), gamma, T, delta=0.2, false_alarm_cost=2.0, miss_cost=3.0, rejection_cost=0.5)
    # The peer seeks the root of a function near 1: from T = 16 on that is all the digits it has.
    np.testing.assert_allclose(ours, stats, atol=1e-9 if T <= 8 else 1e-6)
    assert rejection_bounds(len(train), gamma, T).cost_bound == pytest.approx(
        model.compute_rejection_stats(T=T, c_r=gamma)[2], abs=1e-6
    )


def test_rejection_at_the_papers_setting(peer):
    gamma, train, new, model = peer
    labels = model.predict_with_rejection(new[:, None], T=32, c_r=gamma)
    rejected = reject(train, new, gamma)
    assert np.array_equal(rejected, labels == -2)
    bounds = rejection_bounds(len(train), gamma)
    assert abs(rejected.mean() - bounds.rate) < 0.03 and rejected.mean() < bounds.rate_bound
    # What q1 and q2 mean: there a row is as unstable as is still rejected.
    a, n = round(gamma * len(train)), len(train)
    q2 = bounds.rate + betaincinv(a, n - a + 1, np.exp(-32))
    assert betaincc(a, n - a + 1, q2) == pytest.approx(np.exp(-32), rel=1e-3)


def test_larger_T_rejects_more_and_never_all():
    rng = np.random.default_rng(1)
    train, new = rng.normal(size=1000), rng.normal(size=400)
    masks = [reject(train, new, 0.1, T) for T in (1, 5, 32, 60)]
    shares = [mask.mean() for mask in masks]
    # In double precision 1 - 2 exp(-60) is 1: compared with that, every row would be rejected.
    assert shares == sorted(shares) and 0 < shares[0] < shares[-1] < 0.5
    assert all((small <= large).all() for small, large in itertools.pairwise(masks))


def test_confidence_over_draws_is_the_mean():
    rng = np.random.default_rng(2)
    train, new, draws = rng.normal(size=200), rng.normal(size=60), rng.uniform(0.0, 0.2, size=30)
    limit = float(np.quantile(train, 1 - draws.mean()))
    # Above the threshold the confidence is the probability of an anomaly, below it that of a normal.
    single = np.mean([confidence(train, new, gamma, threshold=limit) for gamma in draws], axis=0)
    np.testing.assert_allclose(confidence(train, new, draws), single, atol=1e-12)
    assert confidence(train, new, [0.1, 0.1]).tolist() == confidence(train, new, 0.1).tolist()
    unsure = reject(train, new, draws, 5)
    assert unsure.sum() > reject(train, new, float(draws.mean()), 5).sum()


def test_confidence_at_the_ends():
    train = np.arange(100.0)
    assert confidence(train, [-5.0, 1e6], 0.1) == pytest.approx([1, 1], abs=1e-3)
    assert confidence(train, [-5.0, 98.0], 0.0).tolist() == [1.0, 1.0]
    # 100 · 0.29 is 28.999… in floating point, and 29 rows.
    assert confidence(train, [70.0], 0.29).tolist() == confidence(train, [70.0], 0.2900001).tolist()
    assert len(confidence(train, [], 0.1)) == 0 and len(reject(train, [], 0.1)) == 0


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda: confidence([], [1.0], 0.1), "train_scores is empty"),
        (lambda: confidence([1.0], [np.nan], 0.1), "scores holds NaN"),
        (lambda: confidence([1.0], [1.0], 1.0), "contamination"),
        (lambda: confidence([1.0], [1.0], -0.1), "contamination"),
        (lambda: confidence([1.0], [1.0], []), "contamination"),
        (lambda: confidence([1.0], [1.0], "auto"), "contamination"),
        (lambda: confidence([1.0], [1.0], 0.1, threshold="high"), "threshold"),
        (lambda: reject([1.0], [1.0], 0.1, T=0.5), "T="),
        (lambda: rejection_bounds(5, 0.1), "n=5"),
        (lambda: rejection_bounds(100, 0.6), "contamination"),
        (lambda: rejection_bounds(100, 0.1, T=2), "T="),
        (lambda: rejection_bounds(100, 0.1, delta=0), "delta"),
        (lambda: rejection_bounds(100, 0.1, miss_cost=-1), "miss_cost"),
        (lambda: rejection_bounds(100, 0.1, rejection_cost=-1), "rejection_cost"),
    ],
)
def test_wrong_arguments_are_refused(call, told):
    with pytest.raises(InputError, match=told):
        call()


def test_confidence_is_fast():
    rng = np.random.default_rng(0)
    train, new = rng.gamma(2.0, size=20_000), rng.gamma(2.0, size=5_000)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        confidence(train, new, 0.1)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.02  # 4 ms on a quiet machine

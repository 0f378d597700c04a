"""Contamination posterior (γGMM): how many anomalies are there, and how sure is that?

In: the scores (n, M) that M detectors give the same unlabelled rows, anomalies included; higher = more
anomalous. Out: T draws of the contamination factor γ in [0, gamma_lim), their mean, intervals, thresholds.

Each row becomes a point of the space of scores; a mixture of Gaussians, as many as the data ask for, groups
the rows. The groups are ranked by how high and how tight they lie in all detectors at once. The first k of
them are the anomalies with a probability that two prior statements fix; γ is then the weight of the first k
groups.

1. representation, a detector: u = log((s - min s) / b + .01), b the median of the positive s - min s;
   z = (u - mean u) / std u.
2. mixture: Dirichlet process, variational (scikit-learn), K = min(100, n - 1) components, full covariances;
   those of concentration a_k >= 2 stay, and share the concentration of the others evenly.
3. rank: r_k = E[mean over detectors of μ_ki / (1 + σ_ki)] by 1000 draws; k = 1 has the highest.
4. conditional: p_k = 1 / (1 + exp(τ + δ r_k)), the chance that k is anomalous if all before it are.
   joint: J_k = p_1 … p_k (1 - p_{k+1}), the chance that exactly the first k are (last factor 1 for the last);
   Σ J_k + (1 - p_1) = 1.
5. constraints: 1 - p_1 = p0, the chance of no anomaly at all; Σ J_k P(Beta(A_k, A_K - A_k) >= gamma_high) =
   p_high, A the cumulated concentrations, the last tail 1. Not within 10 %: the mixture is fitted anew, at
   most `max_attempts` times.
6. sample: cumulated weights W ~ cumsum(Dirichlet(a)); ranks drawn anew from the posterior of μ and Σ every
   100 draws; k ~ J; γ = W_k. A share p0 of the draws is exactly 0.
7. cap: positive draws >= gamma_lim are replaced by other positive draws.

All defaults are those of the authors' code. Where this differs from it:

- b: the code adds .01 to s - min s as it comes, so that γ depends on the units of the scores. Here it does
  not.
- Equation 5 is solved exactly. The first statement gives δ from τ, the second falls as τ grows (a steeper
  curve moves J to fewer components, whose Beta tails are smaller), so its root between the published bounds,
  τ in [-1, 50] and δ in [-50, 0], is the only one. The code searches both at once from (-2, 1) by least
  squares.
- The draws of μ_k spread as C_k / κ_k; the code's as I / κ_k, whatever the component's shape.
- κ and ν of step 6 are those of the component; the code looks the sorted number of a kept component up among
  all.
- The prior covariance, that of all rows, gets the ridge of 1e-6 that scikit-learn adds to the others: so one
  detector may be there twice.
- One stream of random numbers; the code's seeds 10 seed + (i + 1)(k + 1) repeat each other.
- The cap touches positive draws alone, before the zeros are added: their share is p0, always.
- Another attempt refits the mixture, not the detectors; rows are sorted first, so their order does not
  matter.
- With one draw of k and of the weights for every γ, the code's rounding of 100 J_k, which loses whatever is
  under half a percent, is gone.

As published: Σ_k is drawn from a Wishart law of mean C_k (the variational posterior is an inverse Wishart),
and each component that stays empty hands its concentration of 1 on: with few rows this pulls γ up.

γ is only as good as the detectors: anomalies that none of them ranks high are not counted. One detector
alone, though allowed, is hardly the method: where its scores have no group of their own at the top, no (δ, τ)
meets both statements. Then all draws are 0 and a warning says so. Columns in different units need
standardising before distances mean much.

Time: the mixture, O(iterations · K · n · M²): seconds for 600 rows, a minute for 5,000; the draws take
milliseconds. Where no mixture meets the prior statements, that is `max_attempts` times as much. Memory
O(K n + T K).

What stands on it: a threshold for any detector, `Calibrated(detector, Quantile(posterior.mean_))`, or
`threshold` for scores at hand; the prior of EAP, `ExpectedAnomalyPosterior(prior=posterior.mean_)`;
confidences that know how unsure γ is, `confidence(train_scores, scores, posterior.samples_)`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import betaincc, expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture
from sklearn.utils.validation import check_is_fitted

from assay.base import Calibrator
from assay.core.clone import seeded_clone
from assay.core.random import as_generator, child_seeds
from assay.core.validation import Floats, InputError, as_matrix, check_number
from assay.detectors.tabular.adapters import as_detector
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.neighbours import KNN, LOF

OFFSET, RIDGE = 0.01, 1e-6
TRUNCATION, CONCENTRATION, ITERATIONS, SMALLEST = 100, 0.01, 1500, 2.0
RANK_DRAWS, DRAWS_A_ROUND = 1000, 100
TAU, DELTA, TOLERANCE = (-1.0, 50.0), -50.0, 0.1


class Components(NamedTuple):
    """The kept components of the mixture, most anomalous first.

    Attributes
    ----------
    rank : array of shape (K,)
        r, descending.
    concentration : array of shape (K,)
        a: the weights are Dirichlet(a).
    mean : array of shape (K, M)
        Posterior mean of μ.
    root : array of shape (K, M, M)
        Cholesky factor of C, the mean of Σ.
    precision, freedom : arrays of shape (K,)
        κ and ν: μ ~ Normal(mean, C / κ), Σ ~ Wishart(ν, C / ν).
    """

    rank: Floats
    concentration: Floats
    mean: Floats
    root: Floats
    precision: Floats
    freedom: Floats


def representation(S: Floats) -> Floats:
    """Return the scores (n, M), no column constant, on comparable log scales (equation 1)."""
    S = S - S.min(axis=0)
    bulk = np.array([np.median(column[column > 0]) for column in S.T])
    U = np.log(S / bulk + OFFSET)
    return (U - U.mean(axis=0)) / U.std(axis=0)


def fit_components(Z: Floats, rng: np.random.Generator) -> tuple[Components, bool]:
    """Fit the mixture to points (n, M): its kept components, ranked, and whether it converged."""
    mixture = BayesianGaussianMixture(
        n_components=min(TRUNCATION, len(Z) - 1),
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=CONCENTRATION,
        max_iter=ITERATIONS,
        covariance_prior=np.atleast_2d(np.cov(Z.T)) + RIDGE * np.eye(Z.shape[1]),
        random_state=child_seeds(rng, 1)[0],
    )
    with warnings.catch_warnings():
        # Its own iterations are told by the return value; k-means, which starts it, may find fewer clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(Z)
    concentration = mixture.weight_concentration_[0]
    keep = concentration >= SMALLEST
    lost = concentration[~keep].sum() / keep.sum()
    kept = Components(
        rank=np.zeros(int(keep.sum())),
        concentration=concentration[keep] + lost,
        mean=mixture.means_[keep],
        root=np.linalg.cholesky(mixture.covariances_[keep]),
        precision=mixture.mean_precision_[keep],
        freedom=mixture.degrees_of_freedom_[keep],
    )
    rank = draw_ranks(kept, RANK_DRAWS, rng).mean(axis=0)
    order = np.argsort(-rank)
    return Components(*(part[order] for part in kept._replace(rank=rank))), bool(mixture.converged_)


def draw_ranks(components: Components, size: int, rng: np.random.Generator) -> Floats:
    """Draw μ and Σ from their posterior, and return the mean over detectors of μ / (1 + σ): (size, K)."""
    root, freedom = components.root, components.freedom
    K, M = components.mean.shape
    noise = rng.normal(size=(size, K, M))
    mu = components.mean + np.einsum("kij,rkj->rki", root, noise) / np.sqrt(components.precision)[:, None]
    # Bartlett: a Wishart matrix is the square of root times a triangle of normals, its diagonal of square roots
    # of chi-squares.
    triangle = np.tril(rng.normal(size=(size, K, M, M)), -1)
    diagonal = np.arange(M)
    triangle[:, :, diagonal, diagonal] = np.sqrt(rng.chisquare(freedom[:, None] - diagonal, size=(size, K, M)))
    variance = np.square(root @ triangle).sum(axis=-1) / freedom[:, None]
    return (mu / (1.0 + np.sqrt(variance))).mean(axis=-1)


def joint_probabilities(p: Floats) -> Floats:
    """Return J (…, K), the chance that exactly the first k are anomalous, from the conditional p."""
    stop = np.ones_like(p)
    stop[..., :-1] = 1.0 - p[..., 1:]
    return np.cumprod(p, axis=-1) * stop


def beta_tails(concentration: Floats, gamma_high: float) -> Floats:
    """Return P(weight of the first k >= gamma_high) for each k: (K,)."""
    mass = np.cumsum(concentration)
    return np.append(betaincc(mass[:-1], mass[-1] - mass[:-1], gamma_high), 1.0)


def solve_constraints(rank: Floats, tails: Floats, p0: float, p_high: float) -> tuple[float, float] | None:
    """Return (δ, τ) that meet both prior statements within 10 %, or None if none does (equation 5)."""
    if rank[0] <= 0:
        return None
    lowest, highest = max(TAU[0], logit(p0)), min(TAU[1], logit(p0) - DELTA * rank[0])

    def excess(tau: float) -> float:
        delta = (logit(p0) - tau) / rank[0]
        return float(joint_probabilities(expit(-(tau + delta * rank))) @ tails) - p_high

    if lowest > highest:
        return None
    if excess(lowest) <= 0:
        tau = lowest
    elif excess(highest) >= 0:
        tau = highest
    else:
        tau = float(brentq(excess, lowest, highest, xtol=1e-12))
    if abs(excess(tau)) > TOLERANCE * p_high:
        return None
    return float((logit(p0) - tau) / rank[0]), float(tau)


def draw_positive(components: Components, delta: float, tau: float, size: int, rng: np.random.Generator) -> Floats:
    """Draw γ given that there are anomalies: (size,), not yet capped (equation 6)."""
    rounds = -(-size // DRAWS_A_ROUND)
    joint = joint_probabilities(expit(-(tau + delta * draw_ranks(components, rounds, rng))))
    reached = np.cumsum(joint, axis=1)[np.arange(size) % rounds]
    first = (reached < rng.random((size, 1)) * reached[:, -1:]).sum(axis=1)
    weights = np.cumsum(rng.dirichlet(components.concentration, size=size), axis=1)
    return weights[np.arange(size), first]


class ContaminationPosterior(Calibrator):
    """Draw the share of anomalies from its posterior, given the scores of several detectors.

    `fit_scores` is the method: it takes the scores of two detectors or more. `fit_detectors` computes them
    first. `fit`, of a calibrator's contract, takes the scores of one, and thresholds them.

    Parameters
    ----------
    p0 : float in (0, .5), default .01
        Prior probability that there is no anomaly at all.
    p_high : float in (0, .5), default .01
        Prior probability that the share is `gamma_high` or more.
    gamma_high : float in (0, 1), default .15
        What counts as a high share.
    gamma_lim : float in [gamma_high, 1], default .25
        No draw reaches this share.
    n_draws : int >= 100, default 10000
        Draws T from the posterior.
    max_attempts : int, default 10
        Mixtures to fit, at most, until one meets the prior statements. Published: 100, which takes
        long where none does.
    random_state : None, int or numpy.random.Generator
        Seed of the detectors, the mixture and the draws.

    Attributes
    ----------
    samples_ : array of shape (T,)
        Draws of γ; a share `p0` of them is 0. All are 0 where no mixture met the prior statements.
    mean_ : float
        Their mean: the estimate of γ.
    threshold_ : float
        The ``1 - mean_`` quantile of the scores; after `fit` only, since several detectors have several.
    converged_ : bool
        Whether the prior statements were met.
    attempts_ : int
        Mixtures fitted; 0 where every column was constant.
    mixture_converged_ : bool
        Whether the last of them converged within 1500 iterations.
    columns_ : array of bool of shape (M,)
        Which detectors were used: those whose scores vary.
    rank_, concentration_ : arrays of shape (K,)
        r and a of the components, most anomalous first; empty unless `converged_`.
    slope_, offset_ : float
        δ and τ; 0 unless `converged_`.

    References
    ----------
    Perini, Bürkner and Klami: Estimating the Contamination Factor's Distribution in Unsupervised Anomaly
    Detection. ICML 2023, arXiv 2210.10487.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import ExpectedAnomalyPosterior
    >>> from assay.calibration.contamination import ContaminationPosterior
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(190, 4)), rng.uniform(-6, 6, size=(10, 4))])
    >>> posterior = ContaminationPosterior(random_state=0).fit_detectors(X)
    >>> low, high = posterior.interval(0.9)
    >>> bool(0.0 < low < posterior.mean_ < high < 0.25)
    True
    >>> eap = ExpectedAnomalyPosterior(prior=posterior.mean_)
    """

    fitted_on: ClassVar[str] = "training"

    def __init__(
        self,
        p0=0.01,
        p_high=0.01,
        gamma_high=0.15,
        gamma_lim=0.25,
        n_draws=10_000,
        max_attempts=10,
        random_state=None,
    ):
        self.p0 = p0
        self.p_high = p_high
        self.gamma_high = gamma_high
        self.gamma_lim = gamma_lim
        self.n_draws = n_draws
        self.max_attempts = max_attempts
        self.random_state = random_state

    def fit_detectors(self, X: Any, detectors: Sequence[Any] | None = None) -> ContaminationPosterior:
        """Score the rows `X` (n, d) by detectors fitted on them, and learn from the scores.

        Parameters
        ----------
        X : array or dataframe of shape (n, d)
            Unlabelled rows; columns in comparable units.
        detectors : sequence of detectors, optional
            Unfitted; Assay's, or scikit-learn's and PyOD's outlier detectors. Default: `KNN`,
            `IsolationForest` and `LOF`.
        """
        rng = self._start()
        chosen = [as_detector(one) for one in ((KNN(), IsolationForest(), LOF()) if detectors is None else detectors)]
        if not chosen:
            raise InputError("detectors is empty: give two detectors or more, or None")
        seeds = child_seeds(rng, len(chosen))
        return self._learn(
            np.column_stack([seeded_clone(one, seed).fit_score(X) for one, seed in zip(chosen, seeds)]), rng
        )

    def fit_scores(self, S: Any) -> ContaminationPosterior:
        """Learn from the scores `S` (n, M) that M detectors give the same n rows, higher = more anomalous.

        A column that is constant says nothing, and is left out with a warning.
        """
        return self._learn(as_matrix(S, "S", min_rows=2), self._start())

    def _fit(self, scores: Floats) -> None:
        self._learn(scores[:, None], self._start())
        self.threshold_ = self.threshold(scores)

    def threshold(self, scores: Any) -> float:
        """Return the ``1 - mean_`` quantile of one detector's training scores (n,): the share `mean_` is above."""
        check_is_fitted(self, "samples_")
        scores = self._check_scores(scores)
        if len(scores) == 0:
            raise InputError("scores is empty: a threshold needs at least one score")
        return float(np.quantile(scores, 1.0 - self.mean_, method="higher"))

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Return the central interval that holds γ with probability `level`."""
        check_is_fitted(self, "samples_")
        check_number(level, "level", low=0.0, high=1.0, strict_low=True, strict_high=True)
        low, high = np.quantile(self.samples_, [0.5 - level / 2, 0.5 + level / 2])
        return float(low), float(high)

    def __sklearn_is_fitted__(self) -> bool:
        # `predict` needs the scores of one detector: those of several give a posterior, but no one threshold.
        return hasattr(self, "threshold_")

    def _start(self) -> np.random.Generator:
        """Check the parameters, forget what was fitted, and return the random numbers."""
        check_number(self.p0, "p0", low=0.0, high=0.5, strict_low=True, strict_high=True)
        check_number(self.p_high, "p_high", low=0.0, high=0.5, strict_low=True, strict_high=True)
        check_number(self.gamma_high, "gamma_high", low=0.0, high=1.0, strict_low=True, strict_high=True)
        check_number(self.gamma_lim, "gamma_lim", low=float(self.gamma_high), high=1.0)
        check_number(self.n_draws, "n_draws", low=100, integer=True)
        check_number(self.max_attempts, "max_attempts", low=1, integer=True)
        rng = as_generator(self.random_state)
        if hasattr(self, "threshold_"):
            del self.threshold_
        return rng

    def _learn(self, S: Floats, rng: np.random.Generator) -> ContaminationPosterior:
        self.columns_ = np.ptp(S, axis=0) > 0
        constant = np.flatnonzero(~self.columns_)
        if len(constant):
            told = ", ".join(map(str, constant))
            warnings.warn(f"the scores of detector {told} are constant: left out", UserWarning, stacklevel=3)
        S = S[np.lexsort(S.T)][:, self.columns_]
        self.attempts_ = 0
        self.converged_ = self.mixture_converged_ = False
        self.rank_ = self.concentration_ = np.empty(0)
        self.slope_ = self.offset_ = 0.0
        positive = np.empty(0)
        if S.shape[1]:
            positive = self._draw(representation(S), rng)
        self.samples_ = np.zeros(int(self.n_draws))
        self.samples_[: len(positive)] = positive
        self.mean_ = float(self.samples_.mean())
        if not self.converged_:
            warnings.warn(
                f"no mixture of {self.attempts_} met the prior statements on γ: every draw is 0, no anomaly; the "
                "scores may hold no group that stands out: give those of more detectors, or change p_high, gamma_high",
                UserWarning,
                stacklevel=3,
            )
        return self

    def _draw(self, Z: Floats, rng: np.random.Generator) -> Floats:
        """Return the positive draws, capped; none where no mixture meets the prior statements."""
        size = int((1.0 - self.p0) * self.n_draws)
        for _ in range(int(self.max_attempts)):
            self.attempts_ += 1
            components, self.mixture_converged_ = fit_components(Z, rng)
            tails = beta_tails(components.concentration, self.gamma_high)
            found = solve_constraints(components.rank, tails, self.p0, self.p_high)
            if found is None:
                continue
            draws = draw_positive(components, *found, size, rng)
            kept = draws[draws < self.gamma_lim]
            if len(kept):
                self.converged_ = True
                self.rank_, self.concentration_ = components.rank, components.concentration
                self.slope_, self.offset_ = found
                return np.append(kept, rng.choice(kept, size - len(kept)))
        return np.empty(0)

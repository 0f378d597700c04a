"""EAP, the Expected Anomaly Posterior: one number that is high only for realistic and distinguishable anomalies.

In: labelled rows `X` (n, d) with 0 normal and 1 anomaly (m >= 1 of them), auxiliary rows `X_aux` (l, d). Out:
a quality φ in (0, 1) per auxiliary row, with its parts. Columns are standardised by the training rows here.

The idea. The probability of being an anomaly at x is itself uncertain. Give it a Beta prior whose mean is the
contamination γ = m/n; let the data speak at x only as loudly as there are data there, N(x)
pseudo-observations of which the share q(x) is anomalous (q is the detector's probability). The posterior mean
is the quality:

    φ(x) = (α0 + N(x) q(x)) / (α0 + β0 + N(x)),    (α0, β0) = (γ, 1 - γ).

Where there is no density, φ = γ whatever the detector claims (unrealistic); where there is density, φ is
below a realistic row's if q is low (indistinguishable), and high if q is high (realistic). A typical normal
row has N ≈ 1, so even a perfect auxiliary anomaly scores about .3-.5: φ is a ranking to be compared with the
prior γ, not with one half.

The procedure, for each of M random subsets b: an inclusion rate p_b ~ U((k_min + 1 + m) / n, .99); each row
kept with probability p_b; the detector fitted on the kept rows; k*, balls and density from the kept normals,
all m anomalies choosing k* (see `assay.quality.density`); φ_b as above. φ is the mean over b, so the
detector's own uncertainty is part of it.

Defaults: M = 100, k_min = 5, prior (γ, 1 - γ), SSDO (k = 5, α = 2.3) over an isolation forest of 100 trees
with the squash at γ: those of the reference implementation. Departures from it: seeds are local; identical
rows keep a ball (its radii of 0 count as the smallest positive one); a column counts as constant relative to
its size, not below .001; at least two normals in every subset. `evidence_scale` multiplies N (1 is the
published form). Time: M detector fits, and O(n² (d + log n)) once for all subsets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from assay.base import QualityScore
from assay.core.parallel import run
from assay.core.random import child_seeds
from assay.core.tables import like_input
from assay.core.validation import (
    Bools,
    Floats,
    InputError,
    Ints,
    check_number,
    check_option,
    normals_and_anomalies,
    told,
)
from assay.kernels.balls import Members
from assay.kernels.distances import squared_distances
from assay.kernels.neighbours import nearest
from assay.quality.density import fit_balls, fit_smooth
from assay.quality.probability import (
    fit_model,
    minority_share,
    probabilities,
    probability_model,
    standardised,
    standardiser,
)
from assay.quality.selection import keep_otsu, keep_top, weights
from assay.quality.subsets import coin_flips
from assay.quality.verdict import REALISTIC, reasons, verdicts

#: Auxiliary rows judged at a time: bounds the memory at some (M · BLOCK) numbers.
BLOCK = 16_384


def posterior_mean(q: Any, pseudo_count: Any, prior: tuple[float, float]) -> Any:
    """Return φ, the mean of Beta(α0 + N q, β0 + N (1 - q)).

    Examples
    --------
    >>> round(float(posterior_mean(0.95, 0.6, (0.02, 0.98))), 4)
    0.3687
    """
    alpha, beta = prior
    return (alpha + pseudo_count * q) / (alpha + beta + pseudo_count)


def posterior_variance(q: Any, pseudo_count: Any, prior: tuple[float, float]) -> tuple[Any, Any]:
    """Return the epistemic variance Var(P) and the aleatoric variance E[P (1 - P)]; they sum to φ (1 - φ)."""
    phi = posterior_mean(q, pseudo_count, prior)
    mass = prior[0] + prior[1] + pseudo_count
    return phi * (1 - phi) / (mass + 1), phi * (1 - phi) * mass / (mass + 1)


class ExpectedAnomalyPosterior(QualityScore):
    """Score auxiliary anomalies: high only where they are realistic and distinguishable from normal rows.

    Parameters
    ----------
    detector : estimator, optional
        What gives q: a `Detector`, a `Calibrated` one with a probability, a scikit-learn or PyOD outlier
        detector, or a classifier. Default: `SSDO` over an `IsolationForest`, squashed at the contamination.
    n_subsets : int, default 100
        Number M of random subsets (reference implementation).
    min_neighbors : int, default 5
        Smallest k of the balls (reference implementation).
    prior : float or pair of floats, optional
        Mean π0 of the prior (its mass is then 1), or (α0, β0). Default: the share of anomalies in `y`.
    evidence_scale : float, default 1
        Multiplies the pseudo-counts; 1 is the published form.
    density : {"balls", "smooth"}, default "balls"
        How many pseudo-observations a row has: the published balls, or a smooth function of the distance to
        the normals (see `assay.quality.density`), not published, which did better on data sets that played
        no part in its choice, best of all with ``detector=KNN()``.
    n_jobs : int, optional
        Jobs for the detector fits, as joblib understands it.
    random_state : None, int or numpy.random.Generator
        Seed of the subsets and of every detector.

    Attributes
    ----------
    prior_ : tuple of two floats
        (α0, β0).
    contamination_ : float
        Share γ of anomalies among the training rows.
    mean_, scale_ : arrays of shape (d,)
        What standardises the columns.
    X_, y_ : arrays of shape (n, d) and (n,)
        The standardised training rows and their labels.
    members_ : array of uint8 of shape (n, M)
        Which subset holds which training row.
    balls_ : Balls
        The balls of the normals in every subset.
    smooth_ : SmoothEvidence or None
        What gives the pseudo-counts instead of the balls, with ``density="smooth"``.
    models_ : list
        One fitted detector a subset.
    reference_probability_ : float
        Median over the real anomalies of q by the detectors that did not see them: what "clearly anomalous"
        means on these data.

    References
    ----------
    Perini, Rudolph, Schmedding and Qiu: Uncertainty-aware Evaluation of Auxiliary Anomalies with the Expected
    Anomaly Posterior. TMLR 2024, arXiv 2405.13699.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import ExpectedAnomalyPosterior
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(200, 2)), rng.normal(3.0, 0.5, size=(8, 2))])
    >>> y = np.repeat([0, 1], [200, 8])
    >>> eap = ExpectedAnomalyPosterior(n_subsets=20, random_state=0).fit(X, y)
    >>> realistic, unrealistic, indistinguishable = eap.quality([[3.0, 3.0], [90.0, -90.0], [0.0, 0.0]])
    >>> bool(realistic > unrealistic and realistic > indistinguishable)
    True
    """

    def __init__(
        self,
        detector: Any = None,
        n_subsets: int = 100,
        min_neighbors: int = 5,
        prior: float | tuple[float, float] | None = None,
        evidence_scale: float = 1.0,
        density: str = "balls",
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.n_subsets = n_subsets
        self.min_neighbors = min_neighbors
        self.prior = prior
        self.evidence_scale = evidence_scale
        self.density = density
        self.n_jobs = n_jobs
        self.random_state = random_state

    # -- fitting

    def _check_parameters(self) -> None:
        if self.n_jobs is not None:
            check_number(self.n_jobs, "n_jobs", integer=True)
        check_number(self.n_subsets, "n_subsets", low=1, integer=True)
        check_number(self.min_neighbors, "min_neighbors", low=1, integer=True)
        check_number(self.evidence_scale, "evidence_scale", low=0.0, strict_low=True)
        check_option(self.density, "density", "balls", "smooth")
        if self.prior is None:
            return
        if isinstance(self.prior, (tuple, list)):
            if len(self.prior) != 2:
                raise InputError(f"prior={told(self.prior)}: give a mean in (0, 1) or the pair (alpha, beta)")
            for value in self.prior:
                check_number(value, "prior", low=0.0, strict_low=True)
        else:
            check_number(self.prior, "prior", low=0.0, high=1.0, strict_low=True, strict_high=True)

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        normals, anomalies = normals_and_anomalies(y, min_normals=self.min_neighbors + 2, min_anomalies=1)
        self.contamination_ = minority_share(y, min_normals=self.min_neighbors + 2)
        self.prior_ = self._resolve_prior(self.contamination_)
        self.mean_, self.scale_ = standardiser(X)
        X = standardised(X, self.mean_, self.scale_)
        self.X_, self.y_ = X, y
        self.members_ = self._draw_subsets(y, rng)
        self.balls_ = fit_balls(X[normals], X[anomalies], self.members_[normals], k_min=int(self.min_neighbors))
        smooth = self.density == "smooth"
        self.smooth_ = fit_smooth(X[normals], X[anomalies], self.members_[normals]) if smooth else None
        template = probability_model(self.detector, self.contamination_)
        tasks = [
            (template, X, y, self.members_[:, b] == 1, seed)
            for b, seed in enumerate(child_seeds(rng, int(self.n_subsets)))
        ]
        self.models_ = run(fit_model, tasks, n_jobs=self.n_jobs, description="fitting detectors")
        self.reference_probability_ = self._unseen_probability(anomalies)

    def _resolve_prior(self, contamination: float) -> tuple[float, float]:
        if self.prior is None:
            return contamination, 1.0 - contamination
        if isinstance(self.prior, (tuple, list)):
            return float(self.prior[0]), float(self.prior[1])
        return float(self.prior), 1.0 - float(self.prior)

    def _draw_subsets(self, y: Ints, rng: np.random.Generator) -> Members:
        n, m = len(y), int((y == 1).sum())
        lowest = min((self.min_neighbors + 1 + m) / n, 0.99)
        return coin_flips(y, rng.uniform(lowest, 0.99, size=int(self.n_subsets)), rng)

    def _unseen_probability(self, anomalies: Ints) -> float:
        """Median over the anomalies of their mean q in the subsets without them (in all, if every one holds it)."""
        q = self._per_subset(self.X_[anomalies])[1]
        unseen = self.members_[anomalies] == 0
        unseen[~unseen.any(axis=1)] = True
        return float(np.median((q * unseen).sum(axis=1) / unseen.sum(axis=1)))

    # -- scoring

    def n_fits(self, n_rows: int) -> int:
        """Return the number of subsets: the auxiliary rows cost no fit."""
        return int(self.n_subsets)

    def _per_subset(self, X: Floats) -> tuple[Floats, Floats, Floats]:
        """Return φ_b, q_b and N_b for standardised rows (l, d): each (l, M)."""
        counts = self.evidence_scale * (self.smooth_ or self.balls_).pseudo_count(X)
        tasks = [(model, X) for model in self.models_]
        q = np.column_stack(run(probabilities, tasks, n_jobs=self.n_jobs, description="judging rows"))
        return posterior_mean(q, counts, self.prior_), q, counts

    def _quality(self, X_aux: Floats) -> Floats:
        X = standardised(X_aux, self.mean_, self.scale_)
        blocks = [self._per_subset(X[first : first + BLOCK])[0].mean(axis=1) for first in range(0, len(X), BLOCK)]
        return np.concatenate(blocks)

    def per_subset(self, X_aux: Any) -> Floats:
        """Return φ_b for every row and subset, (l, M): its spread over the subsets is the detectors' disagreement."""
        check_is_fitted(self)
        X_aux = self._check_table(X_aux, reset=False, name="X_aux")
        return self._per_subset(standardised(X_aux, self.mean_, self.scale_))[0]

    def evaluate(self, X_aux: Any) -> Any:
        """Judge each row of `X_aux` and say why.

        Returns
        -------
        table
            A dataframe of the library `X_aux` came in (an Arrow table for arrays), one row an auxiliary row,
            in its order:

            - ``quality`` φ, ``quality_std``, ``quality_p05``, ``quality_p95``: mean, spread and quantiles
              over the subsets;
            - ``density`` N/n, ``pseudo_count`` N, ``zero_density_share``: mean over the subsets, and the
              share in which no ball holds the row;
            - ``probability``: mean q; ``epistemic`` and ``aleatoric``: variance of P, and E[P (1 - P)];
            - ``verdict``: realistic, indistinguishable, unrealistic or uncertain, and ``reason`` in words;
            - ``nearest_normal``, ``nearest_anomaly``: training row numbers, each with its distance in
              standard deviations;
            - ``ball_centre`` and ``ball_radius``: the smallest ball that holds the row when every normal
              counts (-1 and NaN if none does).
        """
        check_is_fitted(self)
        return like_input(self._evaluate(X_aux), X_aux)

    def _evaluate(self, X_aux: Any) -> dict[str, Any]:
        X = standardised(self._check_table(X_aux, reset=False, name="X_aux"), self.mean_, self.scale_)
        parts = [self._evaluate_block(X[first : first + BLOCK]) for first in range(0, len(X), BLOCK)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _evaluate_block(self, X: Floats) -> dict[str, Any]:
        phi, q, counts = self._per_subset(X)
        epistemic, aleatoric = posterior_variance(q, counts, self.prior_)
        normals, anomalies = np.flatnonzero(self.y_ == 0), np.flatnonzero(self.y_ == 1)
        to_normal, normal = nearest(X, self.X_[normals], 1)
        to_anomaly, anomaly = nearest(X, self.X_[anomalies], 1)
        low, high = np.quantile(phi, [0.05, 0.95], axis=1)
        centre, radius = self._smallest_ball(X)
        columns: dict[str, Any] = {
            "quality": phi.mean(axis=1),
            "quality_std": phi.std(axis=1),
            "quality_p05": low,
            "quality_p95": high,
            "density": (counts / (self.evidence_scale * self.balls_.size)).mean(axis=1),
            "pseudo_count": counts.mean(axis=1),
            "zero_density_share": self._outside_share(X, counts),
            "probability": q.mean(axis=1),
            "epistemic": epistemic.mean(axis=1),
            "aleatoric": aleatoric.mean(axis=1),
        }
        context = self._prior_mean(), self.reference_probability_
        columns |= {
            "verdict": verdicts(columns, *context),
            "nearest_normal": normals[normal[:, 0]],
            "nearest_normal_distance": to_normal[:, 0],
            "nearest_anomaly": anomalies[anomaly[:, 0]],
            "nearest_anomaly_distance": to_anomaly[:, 0],
            "ball_centre": np.where(centre >= 0, normals[centre], -1),
            "ball_radius": radius,
        }
        columns["reason"] = reasons(columns, *context)
        return columns

    def _outside_share(self, X: Floats, counts: Floats) -> Floats:
        """Return the share of subsets in which no ball holds the row, whatever the density: (l,)."""
        in_balls = counts if self.smooth_ is None else self.balls_.pseudo_count(X)
        return np.asarray((in_balls == 0).mean(axis=1))

    def _smallest_ball(self, X: Floats) -> tuple[Ints, Floats]:
        """Return centre (among the normals) and radius of the smallest ball that holds each row (fullest subset)."""
        fullest = int(np.argmax(self.balls_.size))
        radii = self.balls_.radii[:, fullest]
        distances = squared_distances(X, self.balls_.reference)
        candidates = np.where(distances < radii, radii, np.inf)
        centre = candidates.argmin(axis=1)
        inside = np.isfinite(candidates[np.arange(len(X)), centre])
        radius = np.sqrt(np.where(inside, radii[centre], np.nan))
        return np.where(inside, centre, -1), radius

    # -- selecting

    def select(self, X_aux: Any, rule: str = "prior", **options: Any) -> Bools:
        """Return which rows of `X_aux` to keep: bool of shape (l,).

        Parameters
        ----------
        X_aux : array or dataframe of shape (l, d)
            Auxiliary rows.
        rule : {"prior", "otsu", "top", "ci", "verdict"}, default "prior"
            ``"otsu"`` splits the qualities in two; ``"top"`` keeps the best ``fraction`` (1/3); ``"prior"``
            keeps φ > ``margin`` (1.5) times the prior mean; ``"ci"`` keeps rows whose 5 % quantile over the
            subsets exceeds the prior mean; ``"verdict"`` keeps what `evaluate` calls realistic.
        **options
            The rule's option named above.
        """
        check_is_fitted(self)
        rules: dict[str, tuple[Callable[..., Bools], str]] = {
            "prior": (self._above_prior, "margin"),
            "otsu": (lambda X: keep_otsu(self.quality(X)), ""),
            "top": (self._best, "fraction"),
            "ci": (lambda X: np.quantile(self.per_subset(X), 0.05, axis=1) > self._prior_mean(), ""),
            "verdict": (self._realistic, ""),
        }
        if not isinstance(rule, str) or rule not in rules:
            raise InputError(f"rule={told(rule)}: choose one of {', '.join(rules)}")
        keep, option = rules[rule]
        unknown = sorted(set(options) - {option})
        if unknown:
            raise InputError(f"rule {rule!r} does not take {', '.join(unknown)}; it takes {option or 'no option'}")
        return keep(X_aux, **options)

    def _above_prior(self, X_aux: Any, margin: float = 1.5) -> Bools:
        check_number(margin, "margin", low=0.0)
        return np.asarray(self.quality(X_aux) > margin * self._prior_mean())

    def _best(self, X_aux: Any, fraction: float = 1 / 3) -> Bools:
        return keep_top(self.quality(X_aux), fraction)

    def _prior_mean(self) -> float:
        return self.prior_[0] / sum(self.prior_)

    def _realistic(self, X_aux: Any) -> Bools:
        return np.array([verdict == REALISTIC for verdict in self._evaluate(X_aux)["verdict"]])

    def weights(self, X_aux: Any) -> Floats:
        """Return sample weights in [0, 1]: φ over the largest φ of `X_aux`."""
        return weights(self.quality(X_aux))

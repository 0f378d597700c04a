"""What one auxiliary row adds to a training set: the game behind the rivals taken from data valuation.

In: labelled rows `X` (n, d), standardised by the caller, with 0 normal and 1 anomaly; auxiliary rows `X_aux`
(l, d). Out: a number a row, a weighted mean of its marginal contributions.

Data valuation asks what a training row is worth. Here the training set is given, and one auxiliary row j at a
time joins it, called an anomaly; there is no validation set, so the training rows themselves judge:

    U(A) = F1, at probability one half, of a detector fitted on the rows A and tested on all training rows,
    Δ_b(j) = U(S_b + j) - U(S_b)        for random subsets S_b of the training rows, b = 1..B.

A rival is a law for the subsets and a way to average: all rows at once (leave-one-out), prefixes of
permutations (Data Shapley, Beta Shapley), coin flips (Data Banzhaf), a fixed share (influence). U(S_b) is
computed once for all auxiliary rows (and with `shared_utilities` for several rivals); `budget` is the number
B of subsets, that is of detector fits each auxiliary row costs.

Detector, metric and the one-row-at-a-time form: Perini, Rudolph, Schmedding and Qiu, TMLR 2024 (default:
`SSDO` squashed at the contamination). Departures from the published estimators, for all rivals: both terms of
a marginal are always taken on the same subset, with the same seed of the detector (the published Banzhaf and
influence estimators compare means over different subsets: the same expectation, more variance); a fit that
fails is an error, not a lost term.

``refit=False`` is a short cut for SSDO, and says so: what SSDO learns without labels (its prior detector, the
reach η) stays that of the subset, and the auxiliary row joins as a label. A marginal then costs O(n) instead
of a fit, and memory is O(n²). The values are those of a slightly different game (`proofs/rivals.py` measures
the agreement).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import joblib
import numpy as np

from assay.base import QualityScore
from assay.calibration.calibrated import Calibrated
from assay.calibration.squash import Squash
from assay.core.parallel import run
from assay.core.random import child_seeds
from assay.core.validation import Floats, InputError, Ints, check_number, check_option, told
from assay.detectors.tabular.ssdo import SSDO
from assay.kernels.balls import Members
from assay.kernels.distances import squared_distances
from assay.kernels.marginal import METRICS, utilities_with_each
from assay.quality.probability import fit_model, minority_share, probabilities, probability_model

#: Numbers in one block of auxiliary rows × training rows.
BLOCK = 2**22


def utility(q: Floats, y: Ints, metric: str) -> float:
    """Return U from the probabilities of the training rows: ``"f1"``, ``"auc"`` or ``"brier"`` (1 - Brier score)."""
    anomalous = y == 1
    if metric == "brier":
        return 1.0 - float(np.mean((q - anomalous) ** 2))
    if metric == "auc":
        below = np.searchsorted(np.sort(q[~anomalous]), q[anomalous], side="left")
        equal = np.searchsorted(np.sort(q[~anomalous]), q[anomalous], side="right") - below
        return float((below + equal / 2).sum() / (anomalous.sum() * (~anomalous).sum()))
    flagged = q > 0.5
    return float(2 * (flagged & anomalous).sum() / max(flagged.sum() + anomalous.sum(), 1))


_shared: ContextVar[dict[str, Any] | None] = ContextVar("assay_shared_utilities", default=None)


@contextmanager
def shared_utilities() -> Iterator[None]:
    """Let the rivals used in this context share what they have in common: detectors and utilities, in memory.

    Rivals have it in common when training rows, detector, metric, subsets and auxiliary rows are the same: so
    do `DataShapley` and `BetaShapley` with one `random_state` and budget, and any rival asked again. The
    values are the same with and without.

    Examples
    --------
    >>> from assay.quality.marginal import shared_utilities
    >>> with shared_utilities():
    ...     pass
    """
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def _once(parts: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """Return ``make()``, or what it returned before for the same parts in this context of `shared_utilities`."""
    kept = _shared.get()
    if kept is None:
        return make()
    key = str(joblib.hash(parts))
    if key not in kept:
        kept[key] = make()
    return kept[key]


class MarginalQuality(QualityScore):
    """Base of the rivals that average marginal contributions; a rival writes `_subsets` and `_average`."""

    detector: Any
    metric: str
    refit: bool
    n_jobs: int | None

    def _check_parameters(self) -> None:
        if self.n_jobs is not None:
            check_number(self.n_jobs, "n_jobs", integer=True)
        if "budget" in self._get_param_names():
            check_number(self.budget, "budget", low=1, integer=True)
        check_option(self.metric, "metric", *METRICS)
        if not isinstance(self.refit, (bool, np.bool_)):
            raise InputError(f"refit={told(self.refit)}: give True or False")

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        template = probability_model(self.detector, minority_share(y))
        if not self.refit and not _is_squashed_ssdo(template):
            raise InputError("refit=False is a short cut for the detector SSDO: pass refit=True with another detector")
        self.X_, self.y_ = X, y
        self.members_ = self._subsets(y, rng)
        self.seeds_ = np.array(child_seeds(rng, self.members_.shape[1]))
        tasks = [(template, X, y, self.members_[:, b] == 1, int(seed)) for b, seed in enumerate(self.seeds_)]
        fit_all = partial(run, fit_model, tasks, n_jobs=self.n_jobs, description="fitting detectors")
        self.models_ = _once(("models", X, y, template, self.members_, self.seeds_), fit_all)
        self.utility_ = np.array([utility(probabilities(model, X), y, self.metric) for model in self.models_])

    def n_fits(self, n_rows: int) -> int:
        """Return how many detector fits judging `n_rows` rows takes, those of `fit` included."""
        return len(self.models_) * (1 + n_rows)

    def _quality(self, X_aux: Floats) -> Floats:
        return self._average(self._marginals(X_aux))

    def _marginals(self, X_aux: Floats) -> Floats:
        """Return Δ_b(j) for each auxiliary row and subset: (l, B)."""
        game = ("marginals", self.X_, self.y_, self.models_, self.members_, self.seeds_, self.metric, self.refit, X_aux)
        with_each: Floats = _once(game, partial(self._with_each, X_aux))
        return with_each - self.utility_

    def _with_each(self, X_aux: Floats) -> Floats:
        """Return U(S_b + j) for each auxiliary row and subset: (l, B)."""
        if self.refit:
            tasks = [(self, X_aux[j]) for j in range(len(X_aux))]
            return np.array(run(_refitted, tasks, n_jobs=self.n_jobs, description="adding auxiliary rows"))
        step = max(1, BLOCK // len(self.X_))
        return np.vstack([self._labelled(X_aux[first : first + step]) for first in range(0, len(X_aux), step)])

    def _labelled(self, X_aux: Floats) -> Floats:
        """Return U(S_b + j), the row j joining as a label: (l, B)."""
        distances = squared_distances(self.X_, self.X_), squared_distances(X_aux, self.X_)
        tasks = [(self, b, X_aux, *distances) for b in range(len(self.models_))]
        return np.column_stack(run(_with_labels, tasks, n_jobs=self.n_jobs, description="adding auxiliary rows"))

    def _subsets(self, y: Ints, rng: np.random.Generator) -> Members:
        """Draw the subsets: (n, B), 1 where the subset holds the row; two normal rows at least in each."""
        raise NotImplementedError

    def _average(self, marginals: Floats) -> Floats:
        """Return the value of each row from its marginals (l, B)."""
        return marginals.mean(axis=1)


def _is_squashed_ssdo(template: Any) -> bool:
    return (
        isinstance(template, Calibrated)
        and isinstance(template.detector, SSDO)
        and isinstance(template.calibrator, Squash)
    )


def _refitted(score: MarginalQuality, row: Floats) -> Floats:
    """Return U(S_b + row) for every subset, each time with a detector of its own: (B,)."""
    X, y = np.vstack([score.X_, row]), np.append(score.y_, 1)
    out = np.empty(len(score.models_))
    for b, model in enumerate(score.models_):
        rows = np.append(score.members_[:, b] == 1, True)
        fitted = fit_model(model, X, y, rows, int(score.seeds_[b]))
        out[b] = utility(probabilities(fitted, score.X_), score.y_, score.metric)
    return out


def _with_labels(score: MarginalQuality, b: int, X_aux: Floats, within: Floats, across: Floats) -> Floats:
    """Return U(S_b + j) for every auxiliary row j, SSDO's unsupervised half staying that of S_b: (l,).

    `within` and `across` are the squared distances of training and auxiliary rows to the training rows.
    """
    ssdo = score.models_[b].detector_
    members = score.members_[:, b].astype(np.float64)

    def fraction(X: Floats, squared: Floats) -> tuple[Floats, Floats, Floats]:
        """Return what each training row's label weighs at each row of X, and the score's numerator and denominator."""
        prior = np.clip((ssdo.detector_.anomaly_score(X) - ssdo.low_) / max(ssdo.high_ - ssdo.low_, 1e-300), 0.0, 1.0)
        with np.errstate(over="ignore"):  # a row that is far for the kernel weighs 0
            weight = ssdo.alpha * np.exp2(squared * (-1.0 / max(ssdo.eta_, 1e-150) ** 2))
        return weight, prior + weight @ (members * score.y_), 1.0 + weight @ members

    weight, own_above, own_below = fraction(X_aux, across)
    return utilities_with_each(
        *fraction(score.X_, within)[1:],
        own_above,
        own_below,
        weight,
        float(ssdo.alpha),
        score.members_[:, b],
        score.models_[b].calibrator_.percent_,
        score.y_,
        METRICS.index(score.metric),
    )

"""What would make an item ordinary, and would detectors trained again agree: for rows that are scored as they are.

The question of `assay.explain.counterfactuals`, asked of the detector in the units of the table. An item is ordinary
where its score is no higher than those of `ORDINARY` of all items.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from assay.core.progress import silence
from assay.core.random import as_generator
from assay.core.validation import Floats
from assay.explain.counterfactuals import RobustCounterfactual
from assay.review.project import Prepared
from assay.training.twins import normality, twins

#: Share of all items that counts as ordinary.
ORDINARY = 0.95
#: Ordinary rows that are looked at, draws of a stability, detectors trained again.
ROWS, DRAWS, TWINS = 2000, 100, 5
#: Seconds to wait for someone else's answer.
PATIENCE = 2.0


class Remedy(NamedTuple):
    """What would make an item ordinary.

    Attributes
    ----------
    status : {"ordinary", "found", "not robust", "not found", "busy"}
        ``"ordinary"``: it is; ``"busy"``: others wait for an answer, ask again; the rest as
        `assay.explain.counterfactuals.Counterfactual` has them.
    changes : list of (str, float, float)
        Column, its value, and what it would have to be; the largest change first, counted in the column's range.
    survival : float or None
        Share of `TWINS` detectors, trained again, that would find the changed row ordinary.
    stability, needed : float
        R̂, and what it was held to.
    is_realistic : bool
        Whether the changed row lies as close to others as these do to each other.
    """

    status: str
    changes: list[tuple[str, float, float]]
    survival: float | None = None
    stability: float = 1.0
    needed: float = 0.0
    is_realistic: bool = True


class Remedies:
    """Answers for the items of a project; the detectors are trained again when the first is asked for.

    Parameters
    ----------
    prepared : Prepared
        The project's stages; it must have a `detector`.
    seed : int
        Of everything random.
    """

    def __init__(self, prepared: Prepared, seed: int) -> None:
        self.prepared, self.seed = prepared, seed
        self.threshold = float(np.quantile(prepared.scores, ORDINARY))
        self._lock = threading.Lock()
        self._search: RobustCounterfactual | None = None
        self._known: dict[int, Remedy] = {}

    def of(self, item: int) -> Remedy:
        """Return what would make an item ordinary; found once."""
        if self.prepared.scores[item] <= self.threshold:
            return Remedy("ordinary", [])
        if item in self._known:
            return self._known[item]
        # One search at a time, and few that wait: they would keep threads from those who judge.
        if not self._lock.acquire(timeout=PATIENCE):
            return Remedy("busy", [])
        try:
            with silence():
                if self._search is None:
                    self._prepare()
                if item not in self._known:
                    self._known[item] = self._found(item)
            return self._known[item]
        finally:
            self._lock.release()

    def _prepare(self) -> None:
        rng = as_generator(self.seed)
        usual = np.flatnonzero(self.prepared.scores <= self.threshold)
        rows = self._values(np.sort(rng.permutation(usual)[:ROWS]))
        mean, spread = self.prepared.scale
        detector = _InOwnUnits(self.prepared.detector, mean + self.prepared.items.data.offset, spread)
        model = normality(detector, self.threshold, rows)
        self._twins = twins(detector, self.threshold, rows, TWINS, rng)
        self._search = RobustCounterfactual(model, rows, k=DRAWS, random_state=rng).prepare()

    def _values(self, items: Any) -> Floats:
        return self.prepared.items.data[items]

    def _found(self, item: int) -> Remedy:
        search: Any = self._search
        told = search.explain(self._values(item), models=self._twins)
        names = self.prepared.columns
        order = np.argsort(-np.abs(told.delta) / search.scale_, kind="stable")
        changes = [(names[j], float(told.x[j]), float(told.x_new[j])) for j in order if told.delta[j] != 0]
        return Remedy(told.status, changes, told.survival, told.stability, told.tau, told.realism > 0)


class _InOwnUnits(BaseEstimator):
    """A detector of standardised rows, asked and trained again in the units of the table."""

    def __init__(self, detector: Any, mean: Floats, spread: Floats) -> None:
        self.detector, self.mean, self.spread = detector, mean, spread

    def fit(self, X: Floats, y: Any = None) -> _InOwnUnits:
        self.detector.fit((X - self.mean) / self.spread, y)
        return self

    def anomaly_score(self, X: Floats) -> Floats:
        return self.detector.anomaly_score((X - self.mean) / self.spread)

"""Euclid's telemetry monitor: forecasts from a channel's own past, and what else moved when a forecast failed.

In: a series (T, C) on an even grid whose columns are P targets (temperatures) and covariates (other housekeeping), with
times or, without, `grid` seconds a step. Out: one score a step, >= 0, the largest robust deviation over the targets;
`events_`, the `k` largest events of each target; `explain(event)`, which covariates account for an event.

Two gradient-boosted models a target, and TreeSHAP:

1. T̂(t) from T(t - 15 min) and T(t - 1 h) alone. Covariates are withheld: what they would explain stays in the residual.
2. z(t) = |r(t) - median| / (1.4826 MAD), r = T - T̂, median and MAD those of the training residuals (`center_`,
   `spread_`). Events are peaks of z, at least `separation` apart, grown to the stretch above the `quantile` of z;
   pauses up to the longest lag are bridged, and a step back (a run the other way of at least half the peak) joins its
   step. No event crosses a gap in time or steps at which the target was missing or stuck.
3. ẑ(t) from the covariates, for each block of time by a model of the other blocks; an event lies in one block. SHAP
   values φ of that model: base + Σφ = ẑ exactly. z, ẑ and φ are in robust deviations, so targets can be compared.

An explanation counts as trustworthy if ẑ recovers at least `TRUST` of the event's excess over the mean z: a ranking is
always there, even where no covariate has anything to do with an event. Covariates whose correlation exceeds .9 share
one cause's credit and are reported as one.

Defaults: lags, grid and k are published, trees, depth and rate are the card's to start from; the rest is ours. Fitted
on a series without times, lags and `separation` are divided by `grid`; ``grid=1`` lets them count steps.

Departures and their reasons:

- The score is that of the base class's filled values, so that it can be streamed. `residuals` is stricter: NaN unless
  the target and all its lagged values were measured, by their times.
- Covariates enter model 2 at the step and at `covariate_lags`, their contributions summed: a step in T leaves an echo
  one lag later, which nothing at that moment explains. ``covariate_lags=()`` is the published model.
- Model 1 stops early by the last fifth of time. Model 2 has a fixed number of trees: the last fifth holds too few
  events to stop by. Leaves hold at least `LEAF` (model 1) and `EXPLAINER_LEAF` (model 2) steps.
- ``folds=1`` explains by a model of the whole period, the event included: it names a covariate that moved once, but
  its fidelity is flattered and flags little.

Trees do not extrapolate: after a drift out of the training range the forecast stays within it. Not reproduced: the
mission's data are not public. Cost: trees · T · (P · L + folds · P · C · L).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from assay.core.parallel import run
from assay.core.series import Series
from assay.core.validation import Bools, Floats, InputError, Ints, check_number, told
from assay.detectors.series import telemetry_events as parts
from assay.detectors.series.common import SeriesDetector

#: Share of an event's excess that the explaining model must predict.
TRUST = 0.15
#: Trees without improvement after which model 1 stops, and the share of time that it is judged by.
PATIENCE, LAST = 20, 0.2
#: Fewest steps of a leaf of model 1 and of model 2, and learning rate of the latter.
LEAF, EXPLAINER_LEAF, EXPLAINER_RATE = 20, 5, 0.1
#: Fewest steps to learn from.
FEWEST = 20


@dataclass(frozen=True)
class Explanation:
    """What accounts for an event.

    Attributes
    ----------
    drivers : list of dict
        One a group of covariates, strongest first: ``covariates`` (names), ``mean_phi``, ``mean_abs_phi``, ``share`` of
        the predicted excess, ``change`` of the covariate in robust deviations against the time before, ``moved`` (slot
        from the onset at which it was halfway there, negative before the onset; None if it did not move), ``first``
        (moved first of those that matter).
    recovered : float
        Predicted excess / observed excess of z over its mean.
    r2 : float
        R² of the explaining model over the target's whole series, out of fold if the event is.
    trustworthy : bool
        Whether `recovered` reaches `TRUST`.
    verdict : str
        The same in words.
    """

    drivers: list[dict[str, Any]] = field(repr=False)
    recovered: float
    r2: float
    trustworthy: bool
    verdict: str


class TelemetryMonitor(SeriesDetector):
    """Forecast residuals of telemetry, their largest events, and the covariates that account for them.

    Parameters
    ----------
    targets : sequence of str or int, optional
        Names or column numbers of what is forecast; by default every column that is no covariate.
    covariates : sequence of str or int, optional
        What events are explained by; by default every column that is no target, none if `targets` is not given.
    lags : sequence of float, default (900, 3600)
        Seconds back at which a target's own values enter its forecast: published.
    covariate_lags : sequence of float, optional
        Seconds back at which covariates enter beside the step itself; by default `lags`; published: ``()``.
    grid : float, default 600
        Seconds of a step where the series has no times: the published grid.
    k : int, default 3
        Events of each target: published.
    separation : float, default 43200
        Seconds between the peaks of two events of a target, at least.
    quantile : float, default 0.99
        Of |z| in training: where an event begins and ends.
    stuck : float, default 21600
        Seconds for which a target may repeat one value exactly; longer stretches count as not measured in `residuals`
        and `events`. A target that never changed in training is let be.
    trees : int, default 400
        Most trees of a forecast.
    explainer_trees : int, default 100
        Trees of an explaining model, at a learning rate of .1: ours.
    depth : int, default 6
        Of the trees.
    learning_rate : float, default 0.05
        Of the forecast.
    folds : int, default 5
        Blocks of time; each is explained by a model of the others. 1 explains by a model of everything.

    Attributes
    ----------
    targets_, covariates_ : list of int
        Columns.
    names_ : list of str
        Of all columns; numbers where there were none.
    step_ : float
        Seconds of a step.
    lags_, covariate_lags_ : tuple of int
        Lags in steps.
    location_, scale_ : array of shape (P,)
        Median and standard deviation by which targets are standardised for the models.
    covariate_scale_ : array of shape (C,)
        Robust deviation of each covariate.
    groups_ : list of list of int
        Covariates that count as one, positions in `covariates_`.
    moves_ : list of bool
        Which targets ever changed in training.
    forecasters_ : list of arrays
        Model 1 of each target, bytes.
    explainers_ : list of list of arrays
        Models 2 of each target and fold, bytes.
    center_, spread_ : array of shape (P,)
        Median and robust deviation of the training residuals.
    threshold_, level_ : array of shape (P,)
        `quantile` and mean of |z| in training.
    residuals_ : array of shape (T, P)
        Observed less forecast in training, NaN where there is none.
    predicted_ : array of shape (T, P)
        ẑ, out of fold.
    r2_ : array of shape (P,)
        Of ẑ.
    importance_ : array of shape (P, C)
        Mean |φ| over the training steps, out of fold.
    stuck_ : list of dict
        ``target``, ``onset`` and ``end`` of stretches in which a sensor was stuck.
    events_ : list of dict
        As `events`, of the training series.
    explanations_ : list of dict
        Those of `events_`.

    References
    ----------
    Machine learning-driven Anomaly Detection and Forecasting for Euclid Space Telescope Operations. 75th International
    Astronautical Congress 2024, arXiv 2411.05596. · S. Lundberg et al.: From local explanations to global
    understanding with explainable AI for trees. Nature Machine Intelligence 2020.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(scale=0.1, size=(600, 3))
    >>> for start in (100, 250, 400, 500):
    ...     X[start : start + 8, :2] += 2.0
    >>> monitor = TelemetryMonitor(targets=[0], trees=30, explainer_trees=20, separation=7200).fit(X)
    >>> monitor.events_[0]["peak"] // 10 * 10 in (100, 250, 400, 500)
    True
    >>> monitor.explain(0).drivers[0]["covariates"], monitor.explain(0).trustworthy
    (['1'], True)
    """

    def __init__(
        self,
        targets: Any = None,
        covariates: Any = None,
        lags: Any = (900.0, 3600.0),
        covariate_lags: Any = None,
        grid: float = 600.0,
        k: int = 3,
        separation: float = 43_200.0,
        quantile: float = 0.99,
        stuck: float = 21_600.0,
        trees: int = 400,
        explainer_trees: int = 100,
        depth: int = 6,
        learning_rate: float = 0.05,
        folds: int = 5,
    ) -> None:
        self.targets = targets
        self.covariates = covariates
        self.lags = lags
        self.covariate_lags = covariate_lags
        self.grid = grid
        self.k = k
        self.separation = separation
        self.quantile = quantile
        self.stuck = stuck
        self.trees = trees
        self.explainer_trees = explainer_trees
        self.depth = depth
        self.learning_rate = learning_rate
        self.folds = folds

    def _check_parameters(self) -> None:
        for name in ("grid", "separation", "stuck"):
            check_number(getattr(self, name), name, low=0.0, high=1e9, strict_low=True)
        for name in ("k", "trees", "explainer_trees", "folds"):
            check_number(getattr(self, name), name, low=1, high=10_000, integer=True)
        check_number(self.depth, "depth", low=1, high=16, integer=True)
        check_number(self.quantile, "quantile", low=0.0, high=1.0, strict_high=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=1.0, strict_low=True)
        for name, least in (("lags", 1), ("covariate_lags", 0)):
            values = getattr(self, name)
            if name == "covariate_lags" and values is None:
                continue
            if not isinstance(values, (list, tuple, np.ndarray)) or len(values) < least:
                raise InputError(f"{name}={told(values)}: give a list of seconds")
            for value in values:
                check_number(value, name, low=0.0, high=1e9, strict_low=True)

    @property
    def reach(self) -> tuple[int, int]:
        """The longest lag before."""
        return max(self.lags_), 0

    # -- learning ----------------------------------------------------------------------------------------------------

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        self.names_ = list(X.names) if X.names else [str(column) for column in range(values.shape[1])]
        self.targets_, self.covariates_ = parts.roles(self.targets, self.covariates, self.names_)
        self.step_ = parts.grid_of(X, float(self.grid))
        self.lags_ = self._in_steps(self.lags)
        self.covariate_lags_ = self.lags_ if self.covariate_lags is None else self._in_steps(self.covariate_lags)
        own, others = X.values[:, self.targets_], values[:, self.covariates_]
        self.location_ = np.nanmedian(own, axis=0)
        self.moves_ = [bool(np.nanmax(column) > np.nanmin(column)) for column in own.T]
        self.scale_ = np.where(self.moves_, np.nanstd(own, axis=0), 1.0)
        self.covariate_scale_ = parts.spread_of(X.values[:, self.covariates_])
        self.groups_ = parts.alike(others) if self.covariates_ else []

        measured, slot = self._measured(X), parts.slots(X, self.step_)
        self.stuck_ = [
            {"target": self.names_[column], "onset": first, "end": last}
            for p, column in enumerate(self.targets_)
            for first, last in parts.stretches(~np.isnan(own[:, p]) & ~measured[:, p])
        ]
        rows, usable = self._lagged(measured, slot)
        tasks = [((own[:, p] - self.location_[p]) / self.scale_[p], rows, usable[:, p], p) for p in self._numbers()]
        self.forecasters_ = run(self._forecaster, tasks, description="fitting forecasts")
        self.residuals_ = self._residuals(X.values, rows, usable)
        self.center_ = np.nanmedian(self.residuals_, axis=0)
        self.spread_ = parts.spread_of(self.residuals_)
        z = np.abs(self.residuals_ - self.center_) / self.spread_
        self.threshold_, self.level_ = np.nanquantile(z, self.quantile, axis=0), np.nanmean(z, axis=0)
        self.events_ = self._events(self.residuals_, measured, slot, X)
        self._learn_causes(X, z, slot)

    def _learn_causes(self, X: Series, z: Floats, slot: Ints) -> None:
        """Fit the explaining models, and explain the events of training by those that have not seen them."""
        n, inputs = len(X), self._inputs(X, slot)
        self.predicted_ = np.full_like(z, np.nan)
        self.r2_ = np.full(len(self.targets_), np.nan)
        self.importance_ = np.zeros((len(self.targets_), len(self.covariates_)))
        self.explainers_: list[list[parts.Bytes]] = [[] for _ in self.targets_]
        self.explanations_: list[dict[str, Any]] = []
        if not self.covariates_:
            return
        if n < FEWEST * self.folds:
            raise InputError(f"folds={self.folds}: {n} steps are fewer than {FEWEST} a fold; give fewer folds")
        margin = max(self.lags_ + self.covariate_lags_)
        tasks, blocks = [], []
        for p in self._numbers():
            own = [one for one in self.events_ if one["target"] == self.names_[self.targets_[p]]]
            block = parts.time_blocks(n, self.folds, [(one["onset"], one["end"]) for one in own])
            blocks.append(block)
            for fold in range(self.folds):
                rows = ~np.isnan(z[:, p])
                if self.folds > 1:
                    rows &= parts.training_rows(block, fold, slot, margin)
                if rows.sum() < FEWEST:
                    raise InputError(f"folds={self.folds}: {rows.sum()} steps to learn from; give fewer folds")
                tasks.append((inputs[rows], z[rows, p]))
        models = run(self._explainer, tasks, description="fitting explanations")
        for p in self._numbers():
            self.explainers_[p] = models[p * self.folds : (p + 1) * self.folds]
            phi, base = np.zeros((n, len(self.covariates_))), np.zeros(n)
            for fold, model in enumerate(self.explainers_[p]):
                rows = blocks[p] == fold
                phi[rows], base[rows] = self._shap(model, inputs[rows])
            judged, prediction = ~np.isnan(z[:, p]), base + phi.sum(axis=1)
            self.predicted_[:, p] = prediction
            self.r2_[p] = parts.r2_of(z[judged, p], prediction[judged])
            self.importance_[p] = np.abs(phi[judged]).mean(axis=0)
            for event in self.events_:
                if event["target"] == self.names_[self.targets_[p]]:
                    self.explanations_.append(asdict(self._explained(event, p, X, z, prediction, phi, slot)))

    def _forecaster(self, y: Floats, rows: Ints, usable: Bools, p: int) -> parts.Bytes:
        """Fit model 1 of a standardised target (T,) to the steps that can be used."""
        steps = np.flatnonzero(usable)
        if len(steps) < FEWEST:
            name = self.names_[self.targets_[p]]
            raise InputError(f"X: {name!r} has {len(steps)} steps with all lags measured, at least {FEWEST} needed")
        cut = steps[int((1 - LAST) * len(steps))]
        parts_of_time = steps[steps < cut - max(self.lags_)], steps[steps >= cut]
        if len(parts_of_time[0]) == 0:
            raise InputError(
                f"X: {len(steps)} usable steps are too few for lags of {max(self.lags_)}; shorten the lags"
            )
        xgb = parts.xgboost()
        train, judge = (xgb.DMatrix(self._own_past(y, rows[part]), y[part]) for part in parts_of_time)
        settings = parts.settings(self.depth, self.learning_rate, LEAF)
        booster = xgb.train(
            settings,
            train,
            int(self.trees),
            evals=[(judge, "last")],
            early_stopping_rounds=PATIENCE,
            verbose_eval=False,
        )
        return parts.to_bytes(booster[: booster.best_iteration + 1])

    def _own_past(self, y: Floats, rows: Ints) -> Floats:
        """Return what a forecast may see: the target's own values at its lags, (n, L)."""
        return y[rows]

    def _explainer(self, inputs: Floats, z: Floats) -> parts.Bytes:
        xgb = parts.xgboost()
        settings = parts.settings(self.depth, EXPLAINER_RATE, EXPLAINER_LEAF)
        return parts.to_bytes(xgb.train(settings, xgb.DMatrix(inputs, z), int(self.explainer_trees)))

    # -- scoring -----------------------------------------------------------------------------------------------------

    def _steps(self, values: Floats) -> Floats:
        rows = np.maximum(np.arange(len(values))[:, None] - np.array(self.lags_), 0)
        every = np.ones((len(values), len(self.targets_)), dtype=bool)
        return self._z(self._residuals(values, rows, every)).max(axis=1)

    def _z(self, residuals: Floats) -> Floats:
        return np.abs(residuals - self.center_) / self.spread_

    def _residuals(self, values: Floats, rows: Ints, usable: Bools) -> Floats:
        """Return observed less forecast (T, P) where it can be used."""
        out = np.full(usable.shape, np.nan)
        xgb = parts.xgboost()
        for p, column in enumerate(self.targets_):
            y, steps = (values[:, column] - self.location_[p]) / self.scale_[p], usable[:, p]
            if steps.any():
                past = xgb.DMatrix(self._own_past(y, rows[steps]))
                out[steps, p] = (y[steps] - parts.from_bytes(self.forecasters_[p]).predict(past)) * self.scale_[p]
        return out

    def residuals(self, X: Any) -> Floats:
        """Return observed less forecast (T, P) in the targets' units; NaN where a value it needs was not measured."""
        X = self._series(X)
        measured, slot = self._measured(X), parts.slots(X, self.step_)
        return self._residuals(X.values, *self._lagged(measured, slot))

    def events(self, X: Any) -> list[dict[str, Any]]:
        """Return the largest events of each target in a fresh series, by the thresholds of training.

        Returns
        -------
        list of dict
            ``target``; ``onset``, ``end`` (last step) and ``peak``, numbers of steps; ``severity``, z at the peak;
            ``residual`` there, in the target's unit; ``group``, shared by the events, of any target, that overlap or
            follow within the longest lag; with times also ``onset_time``, ``end_time`` and ``peak_time``.
        """
        X = self._series(X)
        measured, slot = self._measured(X), parts.slots(X, self.step_)
        return self._events(self._residuals(X.values, *self._lagged(measured, slot)), measured, slot, X)

    def _events(self, residuals: Floats, measured: Bools, slot: Ints, X: Series) -> list[dict[str, Any]]:
        z, found = (residuals - self.center_) / self.spread_, []
        for p, column in enumerate(self.targets_):
            for onset, end, peak in parts.top_events(
                z[:, p],
                float(self.threshold_[p]),
                measured[:, p],
                slot,
                k=self.k,
                separation=parts.steps_of(self.separation, self.step_),
                merge=max(self.lags_),
            ):
                event: dict[str, Any] = {"target": self.names_[column], "onset": onset, "end": end, "peak": peak}
                event |= {"severity": abs(float(z[peak, p])), "residual": float(residuals[peak, p])}
                if X.time is not None:
                    for name in ("onset", "end", "peak"):
                        event[f"{name}_time"] = str(X.time[event[name]].astype("datetime64[s]"))
                found.append(event)
        groups = parts.event_groups([(int(slot[e["onset"]]), int(slot[e["end"]])) for e in found], max(self.lags_))
        return [event | {"group": group} for event, group in zip(found, groups)]

    # -- explaining --------------------------------------------------------------------------------------------------

    def explain(self, event: Any, X: Any = None) -> Explanation:
        """Return what accounts for an event.

        Parameters
        ----------
        event : int or dict
            Number in `events_`; or, with `X`, what `events` returned for it.
        X : array or dataframe, optional
            The fresh series that the event is from. It is explained by the mean of the folds' models.

        Raises
        ------
        InputError
            If there are no covariates or no such event.
        """
        if not self._fitted_covariates():
            raise InputError("covariates: there are none to explain an event by; fit with some")
        if X is None:
            number = self.events_.index(event) if isinstance(event, dict) and event in self.events_ else event
            if not isinstance(number, (int, np.integer)) or not 0 <= number < len(self.events_):
                raise InputError(f"event={told(event)}: give a number below {len(self.events_)}, or also X")
            return Explanation(**self.explanations_[number])
        if not isinstance(event, dict) or not {"target", "onset", "end"} <= set(event):
            raise InputError(f"event={told(event)}: give one of those that `events` returned for X")
        X, p = self._series(X), self._target(event["target"])
        around = slice(max(0, event["onset"] - 4 * max(self.lags_ + self.covariate_lags_)), event["end"] + 1)
        piece, moved = X[around], event | {name: event[name] - around.start for name in ("onset", "end")}
        z, (phi, base) = self._z(self.residuals(piece)), self.contributions(piece, event["target"])
        return self._explained(moved, p, piece, z, base + phi.sum(axis=1), phi, parts.slots(piece, self.step_))

    def contributions(self, X: Any, target: Any) -> tuple[Floats, Floats]:
        """Return each covariate's contribution φ (T, C) to ẑ of a target, and the base (T,); ẑ is the sum of both.

        The mean over the folds' models, so exact Shapley values of their mean.
        """
        if not self._fitted_covariates():
            raise InputError("covariates: there are none to explain an event by; fit with some")
        X, p = self._series(X), self._target(target)
        inputs = self._inputs(X, parts.slots(X, self.step_))
        found = [self._shap(model, inputs) for model in self.explainers_[p]]
        return np.mean([phi for phi, _ in found], axis=0), np.mean([base for _, base in found], axis=0)

    def global_importance(self, target: Any) -> list[dict[str, Any]]:
        """Return ``covariates`` and ``mean_abs_phi`` of each group over all training steps, largest first.

        A group's is the sum of its members': what moves together is not set off.
        """
        values = self.importance_[self._target(target)]
        names = [self.names_[column] for column in self.covariates_]
        rows = [
            {"covariates": [names[c] for c in group], "mean_abs_phi": float(values[group].sum())}
            for group in self.groups_
        ]
        return sorted(rows, key=lambda row: -row["mean_abs_phi"])

    def event_matrix(self) -> Floats:
        """Return mean |φ| of each target's events by groups of covariates, (P, groups) in the order of `groups_`."""
        matrix = np.zeros((len(self.targets_), len(self.groups_)))
        names = [[self.names_[self.covariates_[c]] for c in group] for group in self.groups_]
        for p, column in enumerate(self.targets_):
            own = [x for e, x in zip(self.events_, self.explanations_) if e["target"] == self.names_[column]]
            for g, group in enumerate(names):
                found = [row["mean_abs_phi"] for one in own for row in one["drivers"] if row["covariates"] == group]
                matrix[p, g] = np.mean(found) if found else 0.0
        return matrix

    def _explained(
        self, event: dict[str, Any], p: int, X: Series, z: Floats, prediction: Floats, phi: Floats, slot: Ints
    ) -> Explanation:
        onset, end, longest = event["onset"], event["end"], max(self.lags_ + self.covariate_lags_)
        inside = np.arange(onset, end + 1)
        judged = inside[~np.isnan(z[inside, p])]
        excess = float(z[judged, p].mean() - self.level_[p])
        recovered = float(prediction[judged].mean() - self.level_[p]) / excess if excess > 0 else 0.0
        around = slice(max(0, onset - 4 * longest), end + 1)
        rows = parts.drivers(
            phi[judged],
            X.values[around][:, self.covariates_],
            [self.names_[column] for column in self.covariates_],
            self.groups_,
            self.covariate_scale_,
            (slot[around] - slot[onset], longest),
        )
        trusted = recovered >= TRUST
        share = f"{max(0.0, recovered):.0%} of the event is predicted from the covariates"
        verdict = f"trustworthy: {share}" if trusted else f"not trustworthy: {share}, at least {TRUST:.0%} needed"
        return Explanation(rows, recovered, float(self.r2_[p]), trusted, verdict)

    def _shap(self, model: parts.Bytes, inputs: Floats) -> tuple[Floats, Floats]:
        """Return φ of the covariates, their lagged values summed, (T, C), and the base (T,)."""
        full = parts.from_bytes(model).predict(parts.xgboost().DMatrix(inputs), pred_contribs=True).astype(np.float64)
        C = len(self.covariates_)
        return full[:, :-1].reshape(len(full), -1, C).sum(axis=1), full[:, -1]

    def _inputs(self, X: Series, slot: Ints) -> Floats:
        """Return the covariates at each step and at their lags, (T, (1 + lags) · C), NaN where not measured."""
        now = X.values[:, self.covariates_]
        rows, there = parts.lagged_rows(slot, self.covariate_lags_)
        return np.concatenate([now, *(np.where(ok[:, None], now[row], np.nan) for row, ok in zip(rows.T, there.T))], 1)

    # -- the door ----------------------------------------------------------------------------------------------------

    def _series(self, X: Any) -> Series:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        series: Series = self._check_table(X, reset=False)
        # Of a handful of steps one gap would be the median.
        if series.time is not None and len(series) >= 10 and not 2 / 3 < parts.grid_of(series, 1) / self.step_ < 1.5:
            raise InputError(
                f"X has steps of {series.seconds:g} s, fitted were {self.step_:g} s: bring it to the same grid with "
                "assay.core.series.regular, or fit again"
            )
        return series

    def _target(self, target: Any) -> int:
        names = [self.names_[column] for column in self.targets_]
        column = names.index(target) if target in names else -1
        if column < 0 and isinstance(target, (int, np.integer)) and target in self.targets_:
            column = self.targets_.index(int(target))
        if column < 0:
            raise InputError(f"target={told(target)}: the targets are {names[:8]}")
        return column

    def _numbers(self) -> range:
        return range(len(self.targets_))

    def _fitted_covariates(self) -> list[int]:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        return self.covariates_

    def _in_steps(self, seconds: Any) -> tuple[int, ...]:
        return tuple(sorted({parts.steps_of(float(one), self.step_) for one in seconds}))

    def _measured(self, X: Series) -> Bools:
        """Return where the targets were measured by a sensor that was not stuck, (T, P)."""
        slot, least = parts.slots(X, self.step_), parts.steps_of(self.stuck, self.step_) + 1
        measured = ~np.isnan(X.values[:, self.targets_])
        for p, column in enumerate(self.targets_):
            if self.moves_[p]:
                measured[:, p] &= ~parts.stuck_steps(X.values[:, column], slot, least)
        return measured

    def _lagged(self, measured: Bools, slot: Ints) -> tuple[Ints, Bools]:
        """Return the rows of the lagged values (T, L), and where (T, P) all that is needed was measured."""
        rows, there = parts.lagged_rows(slot, self.lags_)
        return rows, measured & (there[:, :, None] & measured[rows]).all(axis=1)

    def _check_fitted(self) -> None:
        """Refuse loaded models that do not hang together, before XGBoost reads them."""
        for model in self.__dict__.get("forecasters_", []):
            parts.check_booster(model, len(self.lags_))
        for models in self.__dict__.get("explainers_", []):
            for model in models:
                parts.check_booster(model, (1 + len(self.covariate_lags_)) * len(self.covariates_))

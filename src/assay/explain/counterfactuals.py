"""Robust counterfactuals (T-Rex): what would make this row normal, and would that survive a retrain?

In: a model m(x) = P(normal), [0, 1]; its training rows; rows x that it rejects. Out, a row: a nearby x' with m(x') ≥ ½,
what changes, how stable m is around x', and a verdict: "found", "not robust" or "not found".

A retrained model M wavers most where m changes quickly. So an x' is taken only if m is high *around* it:

    x_i = x' + σ z_i,  z_i ~ N(0, 1) in every feature scaled to [0, 1], i = 1 … k
    R̂ = mean(m(x_i) - |m(x') - m(x_i)|) ≥ τ

The other forms of R̂, and what is promised of M, stand in `assay.explain.stability`; the searches, which differ in where
they look, in `assay.explain.searches`:

"nearest" (T-Rex:NN) takes the nearest accepted training row with R̂ ≥ τ. "iterative" (T-Rex:I) starts at the nearest
point of the boundary and climbs the gradient of R̂ until R̂ ≥ τ. "latent" does so in the code of a small VAE, so that x'
looks like data. Gradients are autograd's for a torch module, else central differences of step σ (over 200 draws).

Defaults of the published code: k 1000, σ .05, steps of .01 within an L2 ball of radius 1, a VAE d-128-8 of 50 epochs,
Adam .01, 1000 iterations, λ .5, realism by a local outlier factor of one neighbour.

Departures:

- The code's elastic-net attack, of another library, is replaced: lines from x to the nearest accepted training rows are
  halved down to the boundary, then the boundary is linearised and the nearest point on it tried, until nothing is won.
- The code remembers the last point of the right class, whatever its R̂; here the one with the highest R̂. Its
  "nearest" falls back silently on any accepted row; here the status says "not robust".
- The draws z are fixed once for all rows and steps: R̂ is one function, whose climb can be followed.
- 100 steps, not 20: 20 steps reach no further than .2. ``tau="auto"`` is the median R̂ of accepted training rows (the
  paper reads τ off that histogram), at least ½.
- Groups of one-hot columns stay one-hot: the climb moves numbers only, and single changes of category are tried where
  numbers alone do not reach τ. The published code moves every column freely.
- Where the climb ends below τ, as it does in a spike of a sharp model, "iterative" goes from the nearest training row
  with R̂ ≥ τ back towards x, as far as R̂ ≥ τ holds. So it finds something wherever "nearest" does.
- "latent" lowers -log mean(m(x_i)) + λ‖x' - x‖, with λ falling to 0 over the iterations, and stops once R̂ ≥ τ.

Not reproduced: the figures on HELOC, the baselines SNS, ROAR and CCHVAE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.neighbors import LocalOutlierFactor

from assay.base import System
from assay.core.progress import progress
from assay.core.random import as_generator
from assay.core.validation import NORMAL, Floats, InputError, Ints, check_number, check_option, told
from assay.explain.searches import ScaledModel, Search, fitted_vae, is_one_hot
from assay.explain.stability import (
    ACCEPTED,
    Probability,
    SurvivalBound,
    check_kind,
    judged,
    sampled_lipschitz,
    survival,
    survival_bound,
)

#: Training rows of the histogram of R̂; τ where the model accepts no training row.
HISTOGRAM_ROWS, PUBLISHED_TAU = 500, 0.75


@dataclass(frozen=True)
class Counterfactual:
    """What would make one row normal.

    Attributes
    ----------
    status : {"found", "not robust", "not found"}
        ``"found"``: R̂ ≥ τ. ``"not robust"``: accepted now, but R̂ < τ. ``"not found"``: the search met nothing within
        the limits that is accepted; x' is then x itself.
    x, x_new : arrays of shape (d,)
        The row, and x'.
    delta : array of shape (d,)
        x' - x.
    probability : float
        m(x').
    stability, tau : float
        R̂ and what it was held to.
    bound : SurvivalBound
        That a retrained model accepts x', from R with a Lipschitz constant (given, or sampled: then an estimate) and
        ε = R - ½.
    cost : float
        Norm of the change, features scaled to [0, 1].
    realism : int
        +1 where x' lies as close to training rows as these do to each other, -1 where not (local outlier factor).
    survival : float or None
        Share of the handed models that accept x'; None where none were handed or nothing was found.
    gradient : {"autograd", "finite differences", "none"}
        What the search climbed.
    names : tuple of str
        Names of the features.
    """

    status: str
    x: Floats
    x_new: Floats
    delta: Floats
    probability: float
    stability: float
    tau: float
    bound: SurvivalBound
    cost: float
    realism: int
    survival: float | None
    gradient: str
    names: tuple[str, ...] = field(repr=False)

    @property
    def changes(self) -> dict[str, tuple[float, float]]:
        """What changes: name -> (from, to)."""
        return {self.names[j]: (float(self.x[j]), float(self.x_new[j])) for j in np.flatnonzero(self.delta)}


class CurvePoint(NamedTuple):
    """One threshold of the cost-validity curve.

    Attributes
    ----------
    tau : float
        Threshold of R̂.
    found : float
        Share of rows with status "found".
    cost, validity, realism : float
        Means over these rows: cost, survival, and realism (+1, -1); NaN where none was found.
    """

    tau: float
    found: float
    cost: float
    validity: float
    realism: float


class RobustCounterfactual(System):
    """Smallest change that makes a row normal and lets it stay so when the model is trained again.

    Parameters
    ----------
    model : callable, estimator or torch module
        Gives P(normal): see `Probability`.
    X_train : array or dataframe of shape (n, d)
        The model's training rows: they scale the features, limit the search and show what is realistic.
    method : {"iterative", "nearest", "latent"}, default "iterative"
        See the module. Only "latent", or a model that is a torch module, needs torch.
    tau : float or "auto", default "auto"
        What R̂ must reach; published: .75, or read off the histogram `training_stability_`.
    kind : {"relaxed", "sampled-lipschitz", "given-lipschitz", "mean-std"}, default "relaxed"
        Of the stability.
    lipschitz : float, optional
        γ of the model on features scaled to [0, 1]; sampled around x' where it is not given.
    sigma, k : float and int, default .05 and 1000
        Standard deviation and number of the draws; published.
    norm : {1, 2}, default 2
        Norm of the cost.
    step, max_steps, radius : float, int and float, default .01, 100 and 1
        Of the climb; published: .01, 20 and 1.
    immutable : sequence of int or str, default ()
        Features that keep their value: columns, or names where `X_train` has some.
    limits : dict, optional
        Column or name -> (low, high); by default the range of the training rows.
    one_hot : sequence of sequences, default ()
        Groups of columns of which exactly one is 1 and stays the only one.
    epochs, iterations, trade_off : int, int and float, default 50, 1000 and .5
        Of "latent": epochs of the VAE, steps of Adam, λ. Published.
    target : int, default 0
        The class wanted; 0 is normal.
    random_state : None, int or numpy.random.Generator
        Seed of the draws and of the VAE.

    Attributes
    ----------
    tau_ : float
        τ.
    training_stability_ : array
        R̂ of accepted training rows (at most 500 of them, drawn), ascending.
    low_, scale_ : arrays of shape (d,)
        Smallest value and range of each feature: what scales it to [0, 1].
    accepted_ : array of shape (m, d)
        Scaled training rows that the model accepts.
    steps_ : array of shape (k, d)
        σ z_i; 0 in columns that are constant in training.
    vae_ : dict of arrays, or None
        Weights of the VAE.

    References
    ----------
    F. Hamman, E. Noorani, S. Mishra, D. Magazzeni, S. Dutta: Robust Counterfactual Explanations for Neural Networks
    With Probabilistic Guarantees. ICML 2023, arXiv 2305.11997.

    S. Dutta, J. Long, S. Mishra, C. Tilli, D. Magazzeni: Robust Counterfactual Explanations for Tree-Based Ensembles.
    ICML 2022.

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(size=(200, 2))
    >>> accepts = lambda rows: 1 / (1 + np.exp(20 * (rows[:, 0] - 0.5)))
    >>> why = RobustCounterfactual(accepts, X, tau=0.8, k=200, random_state=0).explain([0.9, 0.4])
    >>> why.status, why.stability >= 0.8, why.delta.round(1) + 0.0
    ('found', True, array([-0.5,  0. ]))
    """

    def __init__(
        self,
        model: Any,
        X_train: Any,
        method: str = "iterative",
        tau: float | str = "auto",
        kind: str = "relaxed",
        lipschitz: float | None = None,
        sigma: float = 0.05,
        k: int = 1000,
        norm: int = 2,
        step: float = 0.01,
        max_steps: int = 100,
        radius: float = 1.0,
        immutable: Sequence[int | str] = (),
        limits: dict[int | str, tuple[float, float]] | None = None,
        one_hot: Sequence[Sequence[int | str]] = (),
        epochs: int = 50,
        iterations: int = 1000,
        trade_off: float = 0.5,
        target: int = NORMAL,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.X_train = X_train
        self.method = method
        self.tau = tau
        self.kind = kind
        self.lipschitz = lipschitz
        self.sigma = sigma
        self.k = k
        self.norm = norm
        self.step = step
        self.max_steps = max_steps
        self.radius = radius
        self.immutable = immutable
        self.limits = limits
        self.one_hot = one_hot
        self.epochs = epochs
        self.iterations = iterations
        self.trade_off = trade_off
        self.target = target
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_option(self.method, "method", "iterative", "nearest", "latent")
        check_kind(self.kind, self.lipschitz)
        if isinstance(self.tau, str):
            check_option(self.tau, "tau", "auto")
        else:
            check_number(self.tau, "tau", low=-1e6, high=1.0)
        check_number(self.norm, "norm", low=1, high=2, integer=True)
        for name in ("sigma", "step", "radius"):
            check_number(getattr(self, name), name, low=0.0, strict_low=True, high=1e6)
        check_number(self.k, "k", low=1, integer=True)
        for name in ("max_steps", "epochs", "iterations"):
            check_number(getattr(self, name), name, low=0, integer=True)
        if self.limits is not None and not isinstance(self.limits, dict):
            raise InputError(f"limits={told(self.limits)}: give a dict, column -> (low, high)")
        if isinstance(self.one_hot, str) or not isinstance(self.one_hot, Iterable):
            raise InputError(f"one_hot={told(self.one_hot)}: give a sequence of groups of columns")
        check_number(self.trade_off, "trade_off", low=0.0, high=1e6)

    def prepare(self) -> RobustCounterfactual:
        """Look at the training rows; `explain` does so when first called. Do so again after changing a parameter."""
        self._check_parameters()
        rng = as_generator(self.random_state)
        X = self._check_table(self.X_train, reset=True, min_rows=2, name="X_train")
        self._groups = [self._columns(group, "one_hot") for group in self.one_hot]
        columns, times = np.unique(np.concatenate([*self._groups, np.empty(0, dtype=np.int64)]), return_counts=True)
        if (times > 1).any():
            raise InputError(f"one_hot holds column {columns[times > 1][0]} in two groups: a column is in one at most")
        self._fixed = self._columns(self.immutable, "immutable")
        self.low_, self.scale_ = X.min(axis=0), np.where(np.ptp(X, axis=0) > 0, np.ptp(X, axis=0), 1.0)
        for group in self._groups:  # a category that always or never occurs is a category all the same
            self.low_[group], self.scale_[group] = 0.0, 1.0
        rows = (X - self.low_) / self.scale_
        self._refuse_broken_groups(rows, "X_train")
        self._limits = self._limited(rows)
        self.steps_ = self.sigma * rng.standard_normal((self.k, rows.shape[1]))
        # A column that is constant has no width to be shaken by: the model knows that one value.
        self.steps_[:, np.ptp(X, axis=0) == 0] = 0.0
        ask = Probability(self.model, self.target)
        self._scaled = ScaledModel(ask, self.low_, self.scale_, self.sigma, self.steps_, self.kind, self.lipschitz)
        self.accepted_ = np.unique(rows[self._scaled.m(rows) >= ACCEPTED], axis=0)
        some = self.accepted_[rng.permutation(len(self.accepted_))[:HISTOGRAM_ROWS]]
        found = [self._scaled.R_remembered(row) for row in progress(some, "stability of training rows", len(some))]
        self.training_stability_ = np.sort(found)
        middle = max(float(np.median(found)), ACCEPTED) if found else PUBLISHED_TAU
        self.tau_ = middle if isinstance(self.tau, str) else float(self.tau)
        # Twins would be infinitely dense.
        apart = np.unique(rows, axis=0)
        self._lof = LocalOutlierFactor(n_neighbors=1, novelty=True).fit(apart) if len(apart) > 1 else None
        self.vae_ = fitted_vae(rows, self.epochs, rng) if self.method == "latent" else None
        return self

    def explain(self, x: Any, models: Iterable[Any] | None = None) -> Any:
        """Return what would make rows normal.

        Parameters
        ----------
        x : array of shape (d,) or (n, d)
            A row (one `Counterfactual` is returned) or rows (a list). A row's answer does not depend on the others.
        models : iterable of models, optional
            Retrained ones: the answer's `survival` is the share of them that accept x'.

        Raises
        ------
        InputError
            If a row does not fit `X_train`, or a parameter makes no sense.
        """
        rows = self._entered(x)
        found = [self._explained(row, self.tau_) for row in progress(rows, "counterfactuals", total=len(rows))]
        found = found if models is None else self._survived(found, models)
        return found[0] if np.ndim(x) == 1 else found

    def curve(self, X: Any, models: Iterable[Any], taus: Iterable[float] | None = None) -> list[CurvePoint]:
        """Return cost and validity over thresholds: what τ costs, and what it buys.

        Parameters
        ----------
        X : array of shape (n, d)
            Rejected rows.
        models : iterable of models
            Retrained ones.
        taus : iterable of float, optional
            By default the deciles of `training_stability_` that are ½ or more.
        """
        rows, models = self._entered(X), list(models)
        if taus is None:
            deciles = np.quantile(self.training_stability_, np.arange(0.1, 1.0, 0.1)) if len(self.accepted_) else []
            taus = [tau for tau in deciles if tau >= ACCEPTED] or [self.tau_]
        points = []
        for tau in taus:
            found = [self._explained(row, float(tau)) for row in progress(rows, "curve", total=len(rows))]
            found = self._survived([each for each in found if each.status == "found"], models)
            means = [
                float(np.mean([getattr(each, what) for each in found])) if found else float("nan")
                for what in ("cost", "survival", "realism")
            ]
            points.append(CurvePoint(float(tau), len(found) / len(rows), *means))
        return points

    def _columns(self, features: Any, name: str) -> Ints:
        """Return the columns of features that are numbered or named."""
        names = list(getattr(self, "feature_names_in_", []))
        if isinstance(features, str) or not isinstance(features, Iterable):
            raise InputError(f"{name}={told(features)}: give a sequence of columns")
        columns = [names.index(feature) if feature in names else feature for feature in features]
        for column in columns:
            is_whole = isinstance(column, (int, np.integer)) and not isinstance(column, bool)
            if not is_whole or not 0 <= column < self.n_features_in_:
                raise InputError(f"{name} names {told(column)}: X_train has the columns 0 to {self.n_features_in_ - 1}")
        return np.array(columns, dtype=np.int64)

    def _limited(self, rows: Floats) -> tuple[Floats, Floats]:
        """Return the lowest and highest value allowed to each scaled feature."""
        low, high = rows.min(axis=0), rows.max(axis=0)
        for feature, ends in (self.limits or {}).items():
            [column] = self._columns([feature], "limits")
            if not isinstance(ends, (tuple, list)) or len(ends) != 2:
                raise InputError(f"limits: {told(feature)} has {told(ends)}, expected (low, high)")
            check_number(ends[1], "limits", low=-1e150, high=1e150)
            check_number(ends[0], "limits", low=-1e150, high=ends[1])
            low[column], high[column] = (np.array(ends) - self.low_[column]) / self.scale_[column]
        return low, high

    def _refuse_broken_groups(self, rows: Floats, name: str) -> None:
        broken = ~is_one_hot(rows, self._groups)
        if broken.any():
            row = int(np.argmax(broken))
            raise InputError(f"{name}: in row {row} a group of one_hot does not hold exactly one 1 and else 0")

    def _entered(self, x: Any) -> Floats:
        if not hasattr(self, "tau_"):
            self.prepare()
        rows = self._check_table([x] if np.ndim(x) == 1 else x, reset=False, name="x")
        self._refuse_broken_groups((rows - self.low_) / self.scale_, "x")
        return rows

    def _survived(self, found: list[Counterfactual], models: Iterable[Any]) -> list[Counterfactual]:
        """Return the answers with the share of models that accept them."""
        if not found:
            return found
        shares = survival(np.array([each.x_new for each in found]), models, self.target)
        return [
            each if each.status == "not found" else replace(each, survival=float(share))
            for each, share in zip(found, shares)
        ]

    def _explained(self, row: Floats, tau: float) -> Counterfactual:
        x = (row - self.low_) / self.scale_
        low, high = (end.copy() for end in self._limits)
        low[self._fixed] = high[self._fixed] = x[self._fixed]
        model, climb = self._scaled, (self.norm, self.step, self.max_steps, self.radius)
        search = Search(model, x, low, high, self._groups, self.accepted_, tau, *climb)
        if self.method == "latent":
            point = search.latent(self.vae_, self.iterations, self.trade_off)
        else:
            point = search.nearest() if self.method == "nearest" else search.iterative()
        gradient = "none" if self.method == "nearest" else "autograd" if model.ask.network else "finite differences"
        judgement = -np.inf if point is None else model.R(point)
        status = "not found" if point is None else "found" if judgement >= tau else "not robust"
        point = x if point is None else point
        x_new = np.where(point == x, row, self.low_ + point * self.scale_)
        m, near = model.around(point)
        gamma = sampled_lipschitz(m, near, self.steps_) if self.lipschitz is None else self.lipschitz
        strict = judged("given-lipschitz", m, near, self.steps_, gamma)
        return Counterfactual(
            status=status,
            x=row,
            x_new=x_new,
            delta=x_new - row,
            probability=m,
            stability=judged(self.kind, m, near, self.steps_, self.lipschitz),
            tau=tau,
            bound=survival_bound(self.k, self.sigma, strict - ACCEPTED, gamma),
            cost=float(search.cost(point)),
            realism=1 if self._lof is None else int(self._lof.predict(point[None])[0]),
            survival=None,
            gradient=gradient,
            names=tuple(map(str, getattr(self, "feature_names_in_", range(len(row))))),
        )

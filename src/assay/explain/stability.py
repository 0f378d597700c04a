"""How stable a model's verdict is around a point, and what that promises of the model after it is trained again.

In: a model m(x) = P(target), [0, 1], and rows x. Out: one number in (-1, 1] a row, higher = more stable.

    x_i = x + σ z_i,  z_i ~ N(0, 1),  i = 1 … k
    relaxed             R̂ = mean(m(x_i) - |m(x) - m(x_i)|) = 2 mean(min(m(x), m(x_i))) - m(x) ≤ m(x)
    given-lipschitz     R = mean(m(x_i) - γ ‖x - x_i‖), γ a Lipschitz constant of the new model around x
    sampled-lipschitz   the same with γ̂ = max |m_i - m_j| / ‖x_i - x_j‖ over pairs of the sample: an estimate
    mean-std            mean(m(x_i)) - std(m(x_i)): for trees (Dutta et al. 2022)

    bound: M(x) ≥ R - ε with probability ≥ 1 - exp(-k ε² / (8 (γ_m + γ_M)² σ²)), R with the Lipschitz constant γ_M of
    the new model M, for any ε > 2ε', where ε' bounds |E[Z | M] - E[Z]|, Z = mean(m(x_i) - M(x_i)): what averaging over
    the x_i leaves of the change. R̂ has no such bound.

`assay.explain.counterfactuals` searches with it.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from assay.core.progress import progress
from assay.core.random import as_generator
from assay.core.validation import (
    ANOMALY,
    NORMAL,
    Floats,
    InputError,
    as_matrix,
    check_number,
    check_option,
    told,
)

KINDS = ("relaxed", "sampled-lipschitz", "given-lipschitz", "mean-std")
#: A row is accepted at this probability.
ACCEPTED = 0.5
#: A bound that lets more than this share fail is called vacuous.
MAX_FAILURE = 0.2
#: Rows a model is asked at once; draws whose pairs are looked at for a Lipschitz constant.
PIECE, PAIRED = 65536, 1000


class SurvivalBound(NamedTuple):
    """What the theorem promises.

    Attributes
    ----------
    probability : float
        At least this likely M(x') ≥ R - ε; 0 where ε ≤ 0.
    epsilon : float
        ε.
    vacuous : bool
        Whether the promise is too weak to mean anything: more than a fifth may fail.
    """

    probability: float
    epsilon: float
    vacuous: bool


def survival_bound(k: int, sigma: float, epsilon: float, gamma: float, gamma_new: float | None = None) -> SurvivalBound:
    """Return how likely the new model keeps M(x) ≥ R - ε.

    Parameters
    ----------
    k, sigma : int and float
        Draws and their standard deviation.
    epsilon : float
        ε, which must exceed twice what averaging leaves of m - M. Where it is 0 or less nothing is promised.
    gamma : float
        Lipschitz constant of the model.
    gamma_new : float, optional
        That of the new model; by default the same.

    Examples
    --------
    >>> survival_bound(k=1000, sigma=0.05, epsilon=0.1, gamma=3.0)
    SurvivalBound(probability=0.999..., epsilon=0.1, vacuous=False)
    >>> survival_bound(k=10, sigma=0.05, epsilon=0.1, gamma=3.0).vacuous
    True
    """
    check_number(k, "k", low=1, integer=True)
    check_number(sigma, "sigma", low=0.0, strict_low=True)
    check_number(epsilon, "epsilon")
    gamma_new = gamma if gamma_new is None else gamma_new
    for name, value in (("gamma", gamma), ("gamma_new", gamma_new)):
        check_number(value, name, low=0.0, high=1e150)
    if epsilon <= 0:
        return SurvivalBound(0.0, float(epsilon), True)
    both = (gamma + gamma_new) * sigma
    failure = float(np.exp(-k * (epsilon / both) ** 2 / 8)) if both > 0 else 0.0
    return SurvivalBound(1.0 - failure, float(epsilon), failure > MAX_FAILURE)


class Probability:
    """P(target) of rows, whatever the model is.

    Parameters
    ----------
    model : callable, estimator or torch module
        A function rows -> P(target); a `Calibrated` whose calibrator has `probability`; a classifier with
        `predict_proba`; a torch module. One that gives a column a class is read at the column of `target`.
    target : int, default 0
        The class wanted; 0 is normal.

    Attributes
    ----------
    network : torch module or None
        A frozen copy in evaluation mode, which can be differentiated.
    """

    def __init__(self, model: Any, target: int = NORMAL) -> None:
        check_number(target, "target", low=0, integer=True)
        torch = sys.modules.get("torch")
        self.network = None
        self._column = target
        if torch is not None and isinstance(model, torch.nn.Module):
            self.network = copy.deepcopy(model).eval().requires_grad_(False)
            self._ask: Callable[[Floats], Any] = lambda rows: self.tensor(torch.from_numpy(rows)).cpu().numpy()
        elif hasattr(model, "predict_proba"):
            classes = list(getattr(model, "classes_", range(target + 1)))
            if target not in classes:
                raise InputError(f"target={target}: the model knows the classes {told(classes)}; choose one of them")
            self._column = classes.index(target)
            self._ask = model.predict_proba
        elif hasattr(model, "probability") and target in (NORMAL, ANOMALY):
            self._ask = lambda rows: model.probability(rows) if target else 1.0 - model.probability(rows)
        elif callable(model) and not isinstance(model, type):
            self._ask = model
        else:
            raise InputError(
                f"model={told(model)}: give a function rows -> P(normal), a classifier, a torch module, or a "
                "Calibrated whose calibrator has `probability` (as Squash)"
            )

    def __call__(self, rows: Floats) -> Floats:
        """Return P(target) of `rows` (n, d): (n,), in [0, 1]."""
        pieces = [self._checked(rows[start : start + PIECE]) for start in range(0, len(rows), PIECE)]
        return np.concatenate(pieces) if pieces else np.empty(0)

    def tensor(self, rows: Any) -> Any:
        """Return P(target) of a tensor of rows, differentiable; only where there is a `network`."""
        weight = next(self.network.parameters(), None)  # type: ignore[union-attr]
        return self._one_column(self.network(rows if weight is None else rows.to(weight)))  # type: ignore[misc]

    def _one_column(self, out: Any) -> Any:
        return out if out.ndim != 2 else out[:, 0 if out.shape[1] == 1 else self._column]

    def _checked(self, rows: Floats) -> Floats:
        with warnings.catch_warnings():  # the rows are those of X_train, whatever their names
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            values = self._one_column(np.asarray(self._ask(rows), dtype=np.float64))
        if values.shape != (len(rows),):
            raise InputError(f"model gives an array of shape {values.shape} for {len(rows)} rows: one number a row")
        if not ((values >= -1e-6) & (values <= 1 + 1e-6)).all():
            raise InputError("model gives values outside [0, 1]: it must give probabilities (end with a sigmoid)")
        return np.clip(values, 0.0, 1.0)


def summary(kind: str, m: Any, near: Any, minimum: Callable[[Any, Any], Any]) -> Any:
    """Return R̂, without a Lipschitz penalty, from m(x) and the m(x_i); arrays or tensors."""
    mean = near.mean()
    if kind == "relaxed":
        return 2.0 * minimum(m, near).mean() - m
    if kind == "mean-std":
        return mean - (((near - mean) ** 2).mean() + 1e-24) ** 0.5
    return mean


def judged(kind: str, m: float, near: Floats, steps: Floats, lipschitz: float | None) -> float:
    """Return R̂ of one point; `steps` are x_i - x."""
    value = float(summary(kind, m, near, np.minimum))
    if kind.endswith("lipschitz"):
        gamma = sampled_lipschitz(m, near, steps) if kind == "sampled-lipschitz" else float(lipschitz or 0.0)
        value -= gamma * float(np.linalg.norm(steps, axis=1).mean())
    return value


def sampled_lipschitz(m: float, near: Floats, steps: Floats) -> float:
    """Return the steepest slope between two of the points, x among them (of at most 1000 draws)."""
    near, steps = near[:PAIRED], steps[:PAIRED]
    points, values = np.vstack([np.zeros_like(steps[:1]), steps]), np.append(m, near)
    apart = cdist(points, points)
    rise = np.abs(values[:, None] - values)
    return float(np.divide(rise, apart, out=np.zeros_like(rise), where=apart > 0).max())


def stability(
    x: Any,
    model: Any,
    *,
    sigma: float = 0.05,
    k: int = 1000,
    kind: str = "relaxed",
    lipschitz: float | None = None,
    scale: Any = 1.0,
    target: int = NORMAL,
    random_state: Any = 0,
) -> Any:
    """Return how stable a model's verdict is at each row: one number in (-1, 1] a row, higher = more stable.

    Of any row, training rows and synthetic anomalies included: with ``target=1`` and a model of P(anomaly) the rows
    with a high value are those whose *anomalous* verdict would survive.

    Parameters
    ----------
    x : array of shape (d,) or (n, d)
        A row (a number is returned) or rows (an array).
    model : callable, estimator or torch module
        Gives P(target), see `Probability`.
    sigma : float, default .05
        Standard deviation σ of the draws, in units of `scale`.
    k : int, default 1000
        Draws; all rows share them.
    kind : {"relaxed", "sampled-lipschitz", "given-lipschitz", "mean-std"}, default "relaxed"
        See the module; the Lipschitz kinds have no lower limit.
    lipschitz : float, optional
        γ of ``"given-lipschitz"``, for rows divided by `scale`: e.g. the product of a network's spectral norms.
    scale : float or array of shape (d,), default 1
        Width of each feature; σ was made for features in [0, 1].
    target : int, default 0
        The class whose verdict is judged.
    random_state : None, int or numpy.random.Generator
        Seed of the draws.

    Examples
    --------
    >>> step = lambda rows: (rows[:, 0] >= 0).astype(float)
    >>> stability([[0.01], [0.2]], step).round(2).tolist()
    [0.11, 1.0]
    """
    alone = np.ndim(x) == 1
    rows = as_matrix([x] if alone else x, "x")
    check_number(sigma, "sigma", low=0.0)
    check_number(k, "k", low=1, integer=True)
    check_kind(kind, lipschitz)
    width = np.asarray(scale, dtype=np.float64)
    if width.shape not in ((), (rows.shape[1],)):
        raise InputError(f"scale has shape {width.shape}: give one number, or one for each of {rows.shape[1]} features")
    width = as_matrix(np.broadcast_to(width, rows.shape[1])[None], "scale")[0]
    if (width <= 0).any():
        raise InputError("scale holds a number <= 0: give the width of each feature, 1 where it is constant")
    ask = Probability(model, target)
    steps = sigma * as_generator(random_state).standard_normal((k, rows.shape[1]))
    values = np.empty(len(rows))
    for i, row in enumerate(progress(rows, "stability", total=len(rows))):
        m = ask(np.vstack([row, row + steps * width]))
        values[i] = judged(kind, m[0], m[1:], steps, lipschitz)
    return float(values[0]) if alone else values


def check_kind(kind: Any, lipschitz: Any) -> None:
    """Raise an `InputError` unless `kind` is one of `KINDS` and has what it needs."""
    check_option(kind, "kind", *KINDS)
    if lipschitz is not None:
        check_number(lipschitz, "lipschitz", low=0.0, high=1e150)
    elif kind == "given-lipschitz":
        raise InputError("lipschitz=None: kind='given-lipschitz' needs the Lipschitz constant of the model")


def survival(X: Any, models: Iterable[Any], target: int = NORMAL) -> Floats:
    """Return the share of `models` (see `Probability`) that accept each row of `X`: (n,)."""
    rows = as_matrix(X, "X", min_rows=0)
    votes = [Probability(model, target)(rows) >= ACCEPTED for model in models]
    if not votes:
        raise InputError("models is empty: give at least one retrained model")
    return np.mean(votes, axis=0)

"""The three searches for a robust counterfactual of one row, in features scaled to [0, 1].

`ScaledModel` is what they ask: m, whether rows are accepted, R̂ and its gradient. `Search` is one row's problem: the
row, its limits, what may move, τ. Its methods `nearest`, `iterative` and `latent` return x', the best there is if no
point reaches τ, or None where they meet nothing that is accepted. See `assay.explain.counterfactuals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core.extras import require
from assay.core.progress import progress
from assay.core.validation import Bools, Floats, Ints
from assay.explain.stability import ACCEPTED, PIECE, Probability, judged, summary

#: Beyond the threshold by this, so that a network's rounding in single precision does not undo the verdict.
MARGIN = 1e-6
#: How many training rows' R̂ are remembered.
REMEMBERED = 50_000
#: Draws of a finite difference; lines to the boundary; tries to come nearer along it, each winning at least so much.
DIFFERENCE_DRAWS, STARTS, TRIES, WORTH = 200, 10, 20, 1e-4
#: Neurons of the published VAE; weight of its divergence beside the squared error; rows a step; learning rate.
HIDDEN, CODE, DIVERGENCE, BATCH, VAE_RATE, CODE_RATE = 128, 8, 0.01, 64, 1e-3, 0.01


class ScaledModel:
    """A model on scaled rows.

    Parameters
    ----------
    ask : Probability
        The model.
    low, scale : arrays of shape (d,)
        A scaled row u is the row ``low + scale * u``.
    sigma : float
        Standard deviation of the draws, and step of finite differences.
    steps : array of shape (k, d)
        σ z_i, the same for every point.
    kind, lipschitz : str and float or None
        Of R̂, see `assay.explain.stability.stability`.
    """

    def __init__(
        self,
        ask: Probability,
        low: Floats,
        scale: Floats,
        sigma: float,
        steps: Floats,
        kind: str,
        lipschitz: float | None,
    ) -> None:
        self.ask, self.low, self.scale = ask, low, scale
        self.sigma, self.steps, self.kind, self.lipschitz = sigma, steps, kind, lipschitz
        self._of_training_rows: dict[bytes, float] = {}

    def m(self, rows: Floats) -> Floats:
        """Return m of scaled rows."""
        return self.ask(self.low + rows * self.scale)

    def accepts(self, rows: Floats) -> Bools:
        """Return which scaled rows are accepted, beyond rounding."""
        return self.m(rows) >= ACCEPTED + MARGIN

    def around(self, point: Floats) -> tuple[float, Floats]:
        """Return m(x) and the m(x_i)."""
        m = self.m(np.vstack([point, point + self.steps]))
        return float(m[0]), m[1:]

    def R(self, point: Floats) -> float:
        """Return R̂ of a scaled point; -inf where it is not accepted."""
        m, near = self.around(point)
        return judged(self.kind, m, near, self.steps, self.lipschitz) if m >= ACCEPTED else -np.inf

    def R_remembered(self, row: Floats) -> float:
        """Return the same of a training row, which many searches ask for."""
        key = row.tobytes()
        if key not in self._of_training_rows:
            if len(self._of_training_rows) >= REMEMBERED:  # rows with the features of many x that must not change
                self._of_training_rows.clear()
            self._of_training_rows[key] = self.R(row)
        return self._of_training_rows[key]

    def gradient(self, point: Floats, kind: str, draws: bool = True) -> tuple[float, Floats]:
        """Return R̂ of `kind` (without `draws`: m itself) and its gradient.

        A Lipschitz constant counts as one: it does not move the gradient.
        """
        if self.ask.network is not None:
            import torch

            x = torch.tensor(point, requires_grad=True)
            rows = torch.cat([x[None], x + torch.from_numpy(self.steps)]) if draws else x[None]
            m = self.ask.tensor(torch.from_numpy(self.low) + rows * torch.from_numpy(self.scale)).double()
            value = summary(kind, m[0], m[1:], torch.minimum) if draws else m[0]
            if value.requires_grad:  # else it is made of steps: differences see more
                return float(value.detach()), torch.autograd.grad(value, x)[0].numpy()
        steps = self.steps[: DIFFERENCE_DRAWS if draws else 0]
        moves = self.sigma * np.concatenate([np.zeros((1, len(point))), np.eye(len(point)), -np.eye(len(point))])
        values = []
        for some in np.array_split(moves, -(-len(moves) * (1 + len(steps)) // PIECE)):
            centres = (point + some)[:, None]
            m = self.m(np.concatenate([centres, centres + steps], axis=1).reshape(-1, len(point)))
            values += [
                summary(kind, own[0], own[1:], np.minimum) if draws else own[0] for own in np.split(m, len(some))
            ]
        up, down = np.array(values[1:]).reshape(2, -1)
        return float(values[0]), (up - down) / (2 * self.sigma)


@dataclass(frozen=True)
class Search:
    """One row's problem.

    Attributes
    ----------
    model : ScaledModel
        What must accept x'.
    x, low, high : arrays of shape (d,)
        The row, and the limits of x'; they are equal where a feature must not change.
    groups : list of arrays
        Columns of which exactly one is 1.
    accepted : array of shape (m, d)
        Training rows that the model accepts.
    tau : float
        What R̂ must reach.
    norm : int
        1 or 2: norm of the cost.
    step, max_steps, radius : float, int and float
        Of the climb.
    """

    model: ScaledModel
    x: Floats
    low: Floats
    high: Floats
    groups: list[Ints]
    accepted: Floats
    tau: float
    norm: int
    step: float
    max_steps: int
    radius: float

    def nearest(self) -> Floats | None:
        """T-Rex:NN: the nearest accepted training row (x itself before all) with R̂ >= τ, else the nearest one."""
        candidates = self._candidates()
        robust = self._robust(candidates)
        return robust if robust is not None else candidates[0] if len(candidates) else None

    def iterative(self) -> Floats | None:
        """T-Rex:I: a climb from the boundary; where numbers alone do not reach τ, single changes of category.

        Where the climb ends below τ (in a spike of the model, say), the way back from the nearest robust training row.
        """
        start = self.boundary()
        start = np.clip(self.x, self.low, self.high) if start is None else start
        if not is_one_hot(start[None], self.groups)[0]:  # x has a category that is not allowed, and nothing is accepted
            return None
        best, highest = self._climbed(start)
        for _ in self.groups:
            others = self._changed_category(best)
            rising = [self.model.R(other) for other in others]
            if highest >= self.tau or max(rising, default=-np.inf) <= highest:
                break
            best, highest = self._climbed(others[int(np.argmax(rising))])
        robust = self._robust(self._candidates()) if highest < self.tau else None
        if robust is not None:
            return self._drawn_back(robust)
        return best if highest > -np.inf else None

    def _robust(self, candidates: Floats) -> Floats | None:
        """Return the first candidate with R̂ >= τ."""
        return next((row for row in candidates if self.model.R_remembered(row) >= self.tau), None)

    def _drawn_back(self, point: Floats) -> Floats:
        """Return a point on the way from `point` to x, numbers only, as far on as R̂ >= τ holds."""
        back = np.where(self._movable, np.clip(self.x, self.low, self.high), point) - point
        near, far = 0.0, 1.0
        for _ in range(12):
            middle = (near + far) / 2
            near, far = (middle, far) if self.model.R(point + middle * back) >= self.tau else (near, middle)
        return point + near * back

    def boundary(self) -> Floats | None:
        """Return an accepted point next to the boundary, about the nearest to x: the base counterfactual."""
        starts = self._candidates()[: 10 * STARTS]
        starts = starts[self.model.accepts(starts)][:STARTS]
        if not len(starts):
            return None
        for group in self.groups:  # keep the row's own category wherever that is still accepted
            kept = starts.copy()
            kept[:, group] = self.x[group]
            fits = self.model.accepts(kept) & self._allowed(kept)
            starts = np.where(fits[:, None], kept, starts)
        points = self._halved(np.where(self._movable, np.clip(self.x, self.low, self.high), starts), starts)
        best = points[np.argmin(self.cost(points))]
        for _ in range(TRIES):
            nearer = self._nearer(best)
            if nearer is None:
                break
            best = nearer
        return best

    def cost(self, points: Floats) -> Any:
        """Return the norm of the change to each point."""
        return np.linalg.norm(points - self.x, ord=self.norm, axis=-1)

    @property
    def _movable(self) -> Bools:
        """Which features are numbers that may change."""
        movable = self.high > self.low
        for group in self.groups:
            movable[group] = False
        return movable

    def _allowed(self, points: Floats) -> Bools:
        return ((points >= self.low) & (points <= self.high)).all(axis=-1)

    def _candidates(self) -> Floats:
        """Return x and the accepted training rows, brought within the limits if still accepted, the nearest first."""
        given = np.vstack([self.x, self.accepted])
        rows = np.clip(given, self.low, self.high)
        unknown = (rows != given).any(axis=1)
        unknown[0] = True
        fits = is_one_hot(rows, self.groups)
        fits[unknown] &= self.model.m(rows[unknown]) >= ACCEPTED
        rows = rows[fits]
        return rows[np.argsort(np.linalg.norm(rows - self.x, axis=1), kind="stable")]

    def _halved(self, near: Floats, far: Floats) -> Floats:
        """Return, on each line from `near` to `far` (accepted), an accepted point with a rejected one just before."""
        low, high = np.zeros(len(far)), np.where(self.model.accepts(near), 0.0, 1.0)
        for _ in range(20):
            middle = (low + high) / 2
            good = self.model.accepts(near + middle[:, None] * (far - near))
            low, high = np.where(good, low, middle), np.where(good, middle, high)
        return near + high[:, None] * (far - near)

    def _nearer(self, b: Floats) -> Floats | None:
        """Return a boundary point nearer to x than `b`: the boundary is taken for a plane, then looked for."""
        gradient = np.where(self._movable, self.model.gradient(b, self.model.kind, draws=False)[1], 0.0)
        size = np.linalg.norm(gradient)
        if size == 0:
            return None
        origin = np.where(self._movable, np.clip(self.x, self.low, self.high), b)
        rise = float(gradient @ (b - origin) / size)
        aim = nearest_on_plane(origin, gradient / size, rise, self.low, self.high, self.norm)
        shares = np.array([1.0, 0.5, 0.25, 0.1])[:, None]
        ends = np.clip(origin + 1.25 * (b + shares * (aim - b) - origin), self.low, self.high)
        ends = ends[self.model.accepts(ends)]
        if not len(ends):
            return None
        points = self._halved(np.tile(origin, (len(ends), 1)), ends)
        costs = self.cost(points)
        return points[np.argmin(costs)] if costs.min() < self.cost(b) - WORTH else None

    def _climbed(self, start: Floats) -> tuple[Floats, float]:
        """Return the first point of the climb with R̂ >= τ, or that with the highest R̂; and R̂."""
        x = best = start
        highest = self.model.R(start)
        for _ in range(self.max_steps):
            if highest >= self.tau:
                break
            gradient = np.where(self._movable, self.model.gradient(x, self.model.kind)[1], 0.0)
            size = np.linalg.norm(gradient)
            if size == 0:
                break
            away = x + self.step * gradient / size - start
            x = np.clip(start + away * self.radius / max(self.radius, np.linalg.norm(away)), self.low, self.high)
            value = self.model.R(x)
            best, highest = (x, value) if value > highest else (best, highest)
        return best, highest

    def _changed_category(self, point: Floats) -> list[Floats]:
        """Return the point with each other category of each group, as far as these are allowed."""
        others = []
        for group in self.groups:
            for column in group[point[group] == 0]:
                other = point.copy()
                other[group] = 0.0
                other[column] = 1.0
                others.append(other)
        return [other for other in others if self._allowed(other)]

    def latent(self, vae: dict[str, Any], iterations: int, trade_off: float) -> Floats | None:
        """Search the code of a VAE (from `fitted_vae`); x' is decoded, within the limits, its categories whole."""
        torch = require("torch", "deep", "method='latent'")
        from assay.nn.state import with_arrays

        with torch.device("meta"):
            network = _vae(len(self.x))
        network = with_arrays(network, vae)
        own = torch.from_numpy(self.x)
        code = network["encoder"](own.float()[None])[:, :CODE].clone().requires_grad_(True)
        optimiser = torch.optim.Adam([code], lr=CODE_RATE)
        best, highest = None, -np.inf
        for i in range(iterations):
            decoded = network["decoder"](code)[0].double()
            point = np.clip(decoded.detach().numpy(), self.low, self.high)
            whole = self._whole(point)
            value = -np.inf if whole is None else self.model.R(whole)
            best, highest = (whole, value) if value > highest else (best, highest)
            if highest >= self.tau:
                break
            mean, gradient = self.model.gradient(point if whole is None else whole, "mean")
            uphill = torch.from_numpy(gradient / max(mean, 1e-12))
            far = torch.linalg.vector_norm(decoded - own, ord=self.norm)
            loss = trade_off * (1 - i / iterations) * far - uphill @ decoded
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return best

    def _whole(self, point: Floats) -> Floats | None:
        """Return the point with each group at its largest allowed category."""
        point = point.copy()
        for group in self.groups:
            allowed = np.where(self.high[group] >= 1, point[group] + self.low[group], -1.0)
            point[group] = 0.0
            point[group[np.argmax(allowed)]] = 1.0
        return point if self._allowed(point) else None


def is_one_hot(rows: Floats, groups: Sequence[Ints]) -> Bools:
    """Return in which rows every group holds exactly one 1 and else 0."""
    fits = np.ones(len(rows), dtype=bool)
    for group in groups:
        fits &= np.isin(rows[:, group], (0.0, 1.0)).all(axis=1) & (rows[:, group].sum(axis=1) == 1)
    return fits


def nearest_on_plane(x: Floats, g: Floats, rise: float, low: Floats, high: Floats, norm: int) -> Floats:
    """Return the point y of the plane g·(y - x) = rise within the limits that is (about) the nearest to x; |g| = 1."""
    if norm == 2:
        return np.clip(x + rise * g, low, high)
    # The L1 norm moves the steepest feature as far as it goes, then the next.
    y = x.copy()
    for j in np.argsort(-np.abs(g), kind="stable"):
        if g[j] == 0 or rise == 0:
            break
        y[j] = np.clip(x[j] + rise / g[j], low[j], high[j])
        rise -= g[j] * (y[j] - x[j])
    return y


def fitted_vae(rows: Floats, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the weights of a VAE of scaled rows: squared error, and a hundredth of the divergence."""
    torch = require("torch", "deep", "method='latent'")
    from assay.nn.state import arrays_of, seeded

    with seeded(rng):
        network = _vae(rows.shape[1])
        optimiser = torch.optim.Adam(network.parameters(), lr=VAE_RATE)
        data = torch.from_numpy(rows).float()
        for _ in progress(range(epochs), "training the VAE", total=epochs):
            for batch in data[torch.from_numpy(rng.permutation(len(data)))].split(BATCH):
                mean, log_variance = network["encoder"](batch).chunk(2, dim=1)
                code = mean + (log_variance / 2).exp() * torch.randn_like(mean)
                divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
                error = (network["decoder"](code) - batch).square().sum()
                loss = (error + DIVERGENCE * divergence) / len(batch)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return arrays_of(network)


def _vae(width: int) -> Any:
    """Return width-128-8-128-width; the encoder gives means, then log variances."""
    from torch import nn

    encoder = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * CODE))
    decoder = nn.Sequential(nn.Linear(CODE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width), nn.Sigmoid())
    return nn.ModuleDict({"encoder": encoder, "decoder": decoder})

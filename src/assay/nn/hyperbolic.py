"""The Poincaré ball of curvature -1: distance, the map onto it, its addition, a head that ends in it, and its Adam.

A point is a vector of norm < 1 in the last dimension; the border is infinitely far away. With λ(p) = 2 / (1 - ‖p‖²):

    distance     d(u, v) = arcosh(1 + 2 ‖u - v‖² / ((1 - ‖u‖²) (1 - ‖v‖²))),   d(0, x) = 2 artanh ‖x‖;
    exp_0        exp_0(v) = tanh(‖v‖) v / ‖v‖, from the tangent space at the origin onto the ball;
    addition     u ⊕ v = ((1 + 2⟨u, v⟩ + ‖v‖²) u + (1 - ‖u‖²) v) / (1 + 2⟨u, v⟩ + ‖u‖² ‖v‖²);
    projection   a point nearer to the border than `margin` goes back to it: rounding must not carry it over;
    head         H(x) = proj(exp_0(W x) ⊕ b), b itself a point of the ball.

Why a ball: what stays near the origin costs little distance to anything, so a network trained with d is meant to hedge,
to put what it cannot predict near the origin and what it can near the border. The norm of a vector that was trained
without d says nothing of the kind. Whether it hedges is to be measured (`assay.detectors.series.hypad`).

`BallAdam` is Riemannian Adam for points: the gradient is divided by λ², its squared length counts as one number, the
step x + u is projected each time, and the mean gradient is carried along by parallel transport,
gyr[y, -x] v · λ(x) / λ(y).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

#: Norms at least this large are told from zero.
_TINY = 1e-15
#: Added to the root of Adam's mean squared length.
_EPS = 1e-8


def distance(u: torch.Tensor, v: torch.Tensor, eps: float = 0.0) -> torch.Tensor:
    """Return the distance of points (..., d) of the ball, (...).

    Parameters
    ----------
    u, v : tensor of shape (..., d)
        Points, of norm < 1.
    eps : float, default 0
        Added to the argument of arcosh: keeps the gradient finite where u = v.
    """
    apart = (u - v).square().sum(dim=-1)
    t = 2 * apart / ((1 - u.square().sum(dim=-1)) * (1 - v.square().sum(dim=-1))) + eps
    # arcosh(1 + t), without the digits that 1 + t would lose.
    return torch.log1p(t + (t * (t + 2)).sqrt())


def exp_0(v: torch.Tensor) -> torch.Tensor:
    """Return the points (..., d) that tangent vectors at the origin lead to."""
    norm = v.norm(dim=-1, keepdim=True).clamp_min(_TINY)
    return torch.tanh(norm) * v / norm


def mobius_add(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return u ⊕ v for points (..., d)."""
    uv = (u * v).sum(dim=-1, keepdim=True)
    uu, vv = u.square().sum(dim=-1, keepdim=True), v.square().sum(dim=-1, keepdim=True)
    return ((1 + 2 * uv + vv) * u + (1 - uu) * v) / (1 + 2 * uv + uu * vv).clamp_min(_TINY)


def margin(dtype: torch.dtype) -> float:
    """Return how near to the border a point may come: what the type can tell from 1, squared, and some."""
    return 1e-5 if dtype == torch.float64 else 4e-3


def project(x: torch.Tensor) -> torch.Tensor:
    """Return the points (..., d) with none nearer to the border than `margin`."""
    norm = x.norm(dim=-1, keepdim=True).clamp_min(_TINY)
    limit = 1 - margin(x.dtype)
    return torch.where(norm > limit, x / norm * limit, x)


def transport(x: torch.Tensor, y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the tangent vectors v at x, carried to y along the shortest line: gyr[y, -x] v · λ(x) / λ(y)."""
    u, w = y, -x
    uu, ww = u.square().sum(dim=-1, keepdim=True), w.square().sum(dim=-1, keepdim=True)
    uw, uv, wv = ((a * b).sum(dim=-1, keepdim=True) for a, b in ((u, w), (u, v), (w, v)))
    along_u = -uv * ww + wv + 2 * uw * wv
    along_w = -wv * uu - uv
    gyrated = v + 2 * (along_u * u + along_w * w) / (1 + 2 * uw + uu * ww).clamp_min(_TINY)
    return gyrated * (1 - uu) / (1 - ww)


class HyperbolicHead(nn.Module):
    """H(x) = proj(exp_0(W x) ⊕ b), vectors (n, size) to points of the ball (n, size), in double precision.

    W begins with normal entries of deviation 1 / (100 √(2 · size²)), b at exp_0(g / 400), g standard normal: both far
    from the border. In single precision the first distances would be rounding.

    Parameters
    ----------
    size : int
        Entries of a vector.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, size, dtype=torch.float64) / (100 * math.sqrt(2) * size))
        self.bias = nn.Parameter(exp_0(torch.randn(size, dtype=torch.float64) / 400))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the points of vectors (n, size)."""
        return project(mobius_add(exp_0(F.linear(x.double(), self.weight)), self.bias))


class BallAdam(torch.optim.Optimizer):
    """Riemannian Adam (Bécigneul and Ganea) for parameters whose last dimension is a point of the ball.

    Parameters
    ----------
    params : iterable of tensors
        Points.
    lr : float, default 5e-4
        Learning rate.
    betas : tuple of float, default (0.9, 0.999)
        Decay of the mean gradient and of its mean squared length.
    weight_decay : float, default 0
        Times the point, added to the gradient.

    References
    ----------
    G. Bécigneul, O.-E. Ganea: Riemannian Adaptive Optimization Methods. ICLR 2019, arXiv 1810.00760.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float = 5e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every point by one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for point in group["params"]:
                if point.grad is not None:
                    self._move(point, self.state[point], group)
        return loss

    def _move(self, point: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state.update(step=0, mean=torch.zeros_like(point), square=torch.zeros_like(point[..., :1]))
        state["step"] += 1
        first, second = group["betas"]
        shrink = (1 - point.square().sum(dim=-1, keepdim=True)) / 2  # 1 / λ
        gradient = (point.grad + group["weight_decay"] * point) * shrink**2
        mean = first * state["mean"] + (1 - first) * gradient
        length = (gradient / shrink).square().sum(dim=-1, keepdim=True)
        state["square"] = second * state["square"] + (1 - second) * length
        root = (state["square"] / (1 - second ** state["step"])).sqrt() + _EPS
        moved = project(point - group["lr"] * mean / (1 - first ** state["step"]) / root)
        state["mean"] = transport(point, moved, mean)
        point.copy_(moved)

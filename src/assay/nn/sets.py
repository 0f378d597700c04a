"""Networks on sets: the order of the members does not matter, or moves the outputs along with the members.

In: members (B, N, d) and a mask (B, N), True where there is one; what stands elsewhere, NaN included, changes nothing.
Sets of different sizes share a batch, and a set may be empty. Out: one vector a set, (B, k), or one number a member.

Pools over the members, each 0 for an empty set: sum, mean, max. Two ways to build on them:

    invariant     f(X) = ρ(Σ_i φ(x_i)), with side information z: ρ(Σ_i φ(x_i, z));
    equivariant   y_i = Γ (x_i - pool(X)) + b          (variant 1 of the published code)
                  y_i = Γ x_i - Λ pool(X) + b          (variant 2)

A linear map of N numbers commutes with every permutation exactly if it is γI + λ11'; variant 2 with the sum is that,
for many channels. Layers stay equivariant however many are stacked; a pool at the end makes them invariant. A sum
knows the size of a set and a mean does not: what grows with the size (a count, a total) needs the sum, what does not
(a proportion, an entropy) is easier for the mean. ``"concat"`` is sum, max and the logarithm of the size together.

Set-wise dropout leaves out the same channels for all members of a set: else it would tell members apart by chance.

Source: the published code of Deep Sets for both variants, its pools and the margin of the ranking loss; dropout as in
the paper. The plus sign of the paper's λ is a minus in its code: the same family of maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from assay.core.progress import progress
from assay.core.sets import Sets, padded_sets
from assay.core.validation import Floats, InputError, Ints, check_number, check_option, told

ACTIVATIONS = {"elu": nn.ELU, "tanh": nn.Tanh, "relu": nn.ReLU}
POOLS = ("max", "mean", "sum")
POOLINGS = ("sum", "mean", "max", "concat")
LAYERS = ("dense", "equivariant")
#: Standardised members are cut off here: no float32 overflows, and no column that is almost constant rules.
FARTHEST = 10.0
#: Largest norm of a gradient (published code).
CLIP = 5.0
#: Padded members that are scored at a time: memory grows with them.
CELLS = 2**15


def _clean(X: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return X.masked_fill(~mask[..., None], 0.0)


def pooled(X: torch.Tensor, mask: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the max, mean or sum over the members, (B, N, d) -> (B, d); 0 for an empty set.

    The max gives its gradient to one member a channel, the others to all.
    """
    if X.shape[1] == 0:
        return X.new_zeros(X.shape[0], X.shape[2])
    if kind == "max":
        top = X.masked_fill(~mask[..., None], -torch.inf).max(dim=1).values
        return torch.where(mask.any(dim=1, keepdim=True), top, 0.0)
    total = _clean(X, mask).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1) if kind == "mean" else total


class Pointwise(nn.Module):
    """The same linear map for every member.

    Parameters
    ----------
    d_in, d_out : int
        Widths.
    bias : bool, default True
        Whether there is one.
    """

    def __init__(self, d_in: int, d_out: int, bias: bool = True) -> None:
        super().__init__()
        self.gamma = nn.Linear(d_in, d_out, bias=bias)

    def forward(self, X: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, N, d_out), 0 where there is no member."""
        return _clean(self.gamma(_clean(X, mask)), mask)


class Equivariant(nn.Module):
    """A linear map of each member and of the pool over all of them.

    Parameters
    ----------
    d_in, d_out : int
        Widths.
    pool : {"max", "mean", "sum"}, default "max"
        Over the members.
    variant : {1, 2}, default 1
        Γ (x - pool) or Γ x - Λ pool.
    bias : bool, default True
        Whether there is one; never of Λ.
    """

    def __init__(self, d_in: int, d_out: int, pool: str = "max", variant: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.pool = pool
        self.gamma = nn.Linear(d_in, d_out, bias=bias)
        self.lambda_ = nn.Linear(d_in, d_out, bias=False) if variant == 2 else None

    def forward(self, X: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, N, d_out), 0 where there is no member."""
        X = _clean(X, mask)
        shared = pooled(X, mask, self.pool)[:, None]
        if self.lambda_ is None:
            return _clean(self.gamma(X - shared), mask)
        return _clean(self.gamma(X) - self.lambda_(shared), mask)


class SetDropout(nn.Module):
    """Dropout of the same channels for all members of a set.

    Parameters
    ----------
    p : float
        Share of the channels that are left out in training.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return (B, N, d) with some channels 0 in a whole set, the others scaled up; in evaluation `X` itself."""
        return X * F.dropout(X.new_ones(X.shape[0], 1, X.shape[2]), self.p, self.training)


class Members(nn.Module):
    """Layers over the members, an activation and set-wise dropout after each.

    Parameters
    ----------
    d_in : int
        Width of a member.
    widths : sequence of int
        One a layer.
    layers : {"dense", "equivariant"}, default "dense"
        `Pointwise` or `Equivariant`.
    activation : {"elu", "tanh", "relu"}, default "elu"
        After each layer.
    dropout : float, default 0
        Of the channels after each layer.
    pool : {"max", "mean", "sum"}, default "max"
        Of equivariant layers.
    variant : {1, 2}, default 1
        Of equivariant layers.
    bias : bool, default True
        Of all layers.
    """

    def __init__(
        self,
        d_in: int,
        widths: Sequence[int],
        layers: str = "dense",
        activation: str = "elu",
        dropout: float = 0.0,
        pool: str = "max",
        variant: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        pairs = list(zip([d_in, *widths], widths))
        dense = layers == "dense"
        self.layers = nn.ModuleList(
            Pointwise(a, b, bias) if dense else Equivariant(a, b, pool, variant, bias) for a, b in pairs
        )
        self.activation = ACTIVATIONS[activation]()
        self.dropout = SetDropout(dropout)

    def forward(self, X: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return (B, N, last width)."""
        for layer in self.layers:
            X = self.dropout(self.activation(layer(X, mask)))
        return X


class SetEncoder(nn.Module):
    """ρ(pool φ(x)): one vector a set, whatever the order of its members.

    Parameters
    ----------
    d_in : int
        Width of a member.
    d_out : int, default 1
        Width of the output.
    phi : sequence of int, default (50, 100, 50)
        Widths of φ (published code for population statistics).
    rho : sequence of int, default (30, 30, 30, 10)
        Hidden widths of ρ (the same).
    pooling : {"sum", "mean", "max", "concat"}, default "sum"
        Over the members; ``"concat"`` is sum, max and the logarithm of the size.
    d_side : int, default 0
        Width of side information z, which every member is joined with.
    dropout : float, default 0
        Set-wise in φ, plain in ρ.
    bias : bool, default True
        Of all layers; without it and without members the output is 0.
    **options
        Of `Members`: layers, activation, pool, variant.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int = 1,
        phi: Sequence[int] = (50, 100, 50),
        rho: Sequence[int] = (30, 30, 30, 10),
        pooling: str = "sum",
        d_side: int = 0,
        dropout: float = 0.0,
        bias: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.phi = Members(d_in + d_side, phi, dropout=dropout, bias=bias, **options)
        self.pooling = pooling
        width = phi[-1] if phi else d_in + d_side
        widths = [2 * width + 1 if pooling == "concat" else width, *rho]
        hidden: list[nn.Module] = []
        for a, b in pairwise(widths):
            hidden += [nn.Linear(a, b, bias=bias), ACTIVATIONS[options.get("activation", "elu")](), nn.Dropout(dropout)]
        self.rho = nn.Sequential(*hidden, nn.Linear(widths[-1], d_out, bias=bias))

    def forward(self, X: torch.Tensor, mask: torch.Tensor, z: torch.Tensor | None = None) -> torch.Tensor:
        """Return (B, d_out) of members (B, N, d_in) and, if wanted, side information (B, d_side)."""
        if z is not None:
            X = torch.cat([X, z[:, None].expand(-1, X.shape[1], -1)], dim=2)
        return self.rho(self.pool(self.phi(X, mask), mask))

    def pool(self, H: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return what ρ is given of φ's outputs (B, N, width)."""
        if self.pooling != "concat":
            return pooled(H, mask, self.pooling)
        size = mask.sum(dim=1, keepdim=True).clamp(min=1).to(H.dtype)
        return torch.cat([pooled(H, mask, "sum"), pooled(H, mask, "max"), size.log()], dim=1)


class SetTagger(nn.Module):
    """One logit a member, in the light of all members: a dense encoder of members, then equivariant layers.

    Parameters
    ----------
    d_in : int
        Width of a member.
    encoder : sequence of int, default (256,)
        Widths of the dense layers over single members.
    context : sequence of int, default (256, 128)
        Hidden widths of the equivariant layers (paper); one of width 1 follows.
    pool : {"max", "mean", "sum"}, default "max"
        Of the equivariant layers.
    variant : {1, 2}, default 2
        Of the equivariant layers.
    activation : {"elu", "tanh", "relu"}, default "elu"
        After every layer but the last.
    encoder_dropout, dropout : float, default .2 and .5
        Set-wise, in the encoder and after the hidden equivariant layers (paper).
    """

    def __init__(
        self,
        d_in: int,
        encoder: Sequence[int] = (256,),
        context: Sequence[int] = (256, 128),
        pool: str = "max",
        variant: int = 2,
        activation: str = "elu",
        encoder_dropout: float = 0.2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = [d_in, *encoder, *context]
        self.encoder = Members(d_in, encoder, "dense", activation, encoder_dropout)
        self.context = Members(widths[len(encoder)], context, "equivariant", activation, dropout, pool, variant)
        self.last = Equivariant(widths[-1], 1, pool, variant)

    def forward(self, X: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return logits (B, N), -inf where there is no member."""
        z = self.last(self.context(self.encoder(X, mask), mask), mask)[..., 0]
        return z.masked_fill(~mask, -torch.inf)


def relative_log_probability(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return log(N p), p the softmax over a set's N members: 0 is chance; -inf where there is no member."""
    size = mask.sum(dim=1, keepdim=True).clamp(min=1).to(logits.dtype)
    # Padding of an empty set has no softmax; nothing of it is used.
    logits = torch.where(mask.any(dim=1, keepdim=True), logits, 0.0)
    return (F.log_softmax(logits, dim=1) + size.log()).masked_fill(~mask, -torch.inf)


class SetExpander(nn.Module):
    """How well a candidate would fit into a set: a small network on its embedding and the set's.

    Parameters
    ----------
    d_in : int
        Width of a member and of a candidate.
    embedding : int, default 50
        Width of the embedding that both share (published code).
    hidden : int, default 50
        Width of the layers that follow (ours).
    """

    def __init__(self, d_in: int, embedding: int = 50, hidden: int = 50) -> None:
        super().__init__()
        self.embed = Pointwise(d_in, embedding, bias=False)
        self.after = Members(embedding, (hidden,))
        self.judge = nn.Sequential(nn.Linear(embedding + hidden, hidden), nn.ELU(), nn.Linear(hidden, 1))

    def forward(self, candidates: torch.Tensor, X: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return scores (B, C) of candidates (B, C, d_in) for sets (B, N, d_in)."""
        whole = pooled(self.after(self.embed(X, mask), mask), mask, "sum")
        each = self.embed(candidates, torch.ones(candidates.shape[:2], dtype=torch.bool))
        both = torch.cat([each, whole[:, None].expand(-1, each.shape[1], -1)], dim=2)
        return self.judge(both)[..., 0]


def margin_ranking_loss(positive: torch.Tensor, negative: torch.Tensor, margin: float = 0.1) -> torch.Tensor:
    """Return the mean of max(0, margin - positive + negative), scores (B,) and (B, K)."""
    return F.relu(margin - positive[:, None] + negative).mean()


# -- from `Sets` to tensors and back, and a training loop -------------------------------------------------------------


def standardised(X: Sets, centre: Floats, scale: Floats) -> Sets:
    """Return the sets in units of training, cut off at `FARTHEST`."""
    return Sets(np.clip((X.flat - centre) / scale, -FARTHEST, FARTHEST), X.offsets)


def tensors(X: Sets, kind: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Return members (n, N, d), in float32 or float64, and their mask."""
    table, mask = padded_sets(X)
    return torch.from_numpy(table).to(kind), torch.from_numpy(mask)


def blocks(sizes: Ints, cells: int = CELLS) -> Iterator[Ints]:
    """Yield the numbers of sets of similar size, together at most `cells` padded members (or one set)."""
    order = np.argsort(sizes, kind="stable")
    first = 0
    for last in range(1, len(order) + 1):
        if last == len(order) or (last + 1 - first) * sizes[order[last]] > cells:
            yield order[first:last]
            first = last


def descend(
    network: nn.Module,
    n: int,
    loss_of: Callable[[Ints], torch.Tensor | None],
    rng: np.random.Generator,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    name: str = "a network on sets",
) -> None:
    """Train a network in place by Adam, gradients clipped.

    Parameters
    ----------
    network : nn.Module
        Left in evaluation mode.
    n : int
        Number of sets.
    loss_of : callable
        From the numbers of a batch's sets to its loss, or None where there is nothing to learn from.
    rng : numpy.random.Generator
        Shuffles the sets; torch's own randomness is the caller's.
    epochs : int
        Passes over the sets.
    batch_size : int
        Sets a step.
    learning_rate, weight_decay : float
        Of Adam.
    name : str
        For the progress bar.
    """
    step = torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    network.train()
    for _ in progress(range(epochs), f"training {name}", total=epochs):
        for rows in np.array_split(rng.permutation(n), -(-n // batch_size)):
            loss = loss_of(rows)
            if loss is None:
                continue
            step.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            step.step()
    network.eval()


def check_widths(value: Any, name: str, *, at_least: int = 0) -> None:
    """Raise an `InputError` unless `value` is a tuple or list of at least so many widths >= 1."""
    if not isinstance(value, (tuple, list)) or len(value) < at_least:
        raise InputError(f"{name}={told(value)}: give a tuple of at least {at_least} widths")
    for width in value:
        check_number(width, name, low=1, high=100_000, integer=True)


def check_training(model: Any) -> None:
    """Check the parameters of `descend` and the activation that a system of sets has."""
    check_number(model.epochs, "epochs", low=0, integer=True)
    check_number(model.batch_size, "batch_size", low=1, integer=True)
    for name in ("learning_rate", "weight_decay"):
        check_number(getattr(model, name), name, low=0.0, high=1e3)
    check_option(model.activation, "activation", *ACTIVATIONS)

"""A ball or a shell around normal embeddings that were made round first: the head of DOHSC and DO2HSC, for any encoder.

In: the embeddings Z (n, k) of normal items, by any network. Out: a distance an item to a centre, the radii of the
region that holds all but a share of the normal ones, and a score that is negative inside of it, positive outside. The
ball's radius is that of the trained network. A shell's radii are those after the warm-up, and stay: training moves
items into it, so that in the end fewer than the share 2 ν lie outside.

A ball fits a round cloud only, so the cloud is made round: with the singular value decomposition Z = U Λ Vᵀ,

    Z̃ = Z W,   W = V Λ^-1 of the k' largest singular values,   so that Z̃ᵀ Z̃ = I;
    ball:   loss = mean d²,   region d ≤ r,   r the (1-ν)-quantile,   score = d² - r²,   d = ‖z̃ - c‖;
    shell:  loss = mean max(d, r_max) - min(d, r_min),   r_min and r_max the ν- and (1-ν)-quantile,
            score = (d - r_max)(d - r_min).

In many dimensions normal embeddings lie on a thin shell and the middle of the ball is empty (a soap bubble): what falls
in there is an anomaly to the shell and the most normal item of all to the ball.

In training W comes from each batch, and no gradient runs through it; afterwards it is that of all training items, and
stays. What the published code leaves open or does otherwise:

- W is Λ^-1 as in the paper; the code has V Λ for tables and images, which squares the spread of the singular values
  instead of levelling it, and for graphs a plain linear layer. It also takes W of a batch from that batch at scoring.
- Z̃ is stretched by √n: each coordinate has mean square 1, whatever the number of items in the batch is.
- W being a constant, the plain gradient would above all shrink Z, in every direction in which the training items
  spread, and the next W would stretch it again: training so fits W to the training items and to nothing else (a third
  of fresh normal rows fell outside the ball, where 1 % should: `results/do2hsc.md`). `lasting` takes that part out of
  the gradient; what is left is the gradient through W itself, up to a rotation. A centred ball then has nothing left to
  learn: its mean squared distance is k' + ‖c‖² whatever Z is.
- The signs and the order of singular vectors are arbitrary, and a fixed centre means nothing between two of them. Z̃
  stays orthogonal if it is turned, so every W is turned to agree as well as it can with the one before on this batch.
- Singular values count as at least `FLOOR` times the largest: below, float32 has only noise to blow up.
- No more directions are kept than half of the items: with as many as items, all training items are equally far from the
  centre, and every other is much farther.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from assay.core.progress import progress
from assay.core.validation import Floats, InputError, Ints, check_number, check_option

REGIONS = ("ball", "shell")
#: Least singular value, as a share of the largest: directions below it are noise that would be blown up.
FLOOR = 1e-4
#: Distances whose spread falls to this share of what it was before training tell nothing.
COLLAPSED = 1e-3


def orthogonal_projection(
    Z: torch.Tensor, width: int, centred: bool = False, floor: float = FLOOR
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a shift (k,) and W (k, width) such that the columns of (Z - shift) W are orthogonal and of length one.

    Parameters
    ----------
    Z : Tensor of shape (n, k)
        Embeddings.
    width : int
        Directions that are kept, those of the largest singular values; at most k.
    centred : bool, default False
        Whether the mean is taken off, so that the columns are uncorrelated; else the shift is 0.
    floor : float
        Least singular value as a share of the largest. Columns of a smaller one are shorter than one.
    """
    shift = Z.mean(dim=0) if centred else Z.new_zeros(Z.shape[1])
    # Rows of zeros change nothing, and there are k directions however few items there are.
    rows = torch.cat([Z - shift, Z.new_zeros(max(0, Z.shape[1] - len(Z)), Z.shape[1])])
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    if not values[0] > 0:
        raise InputError("X: the network gives every training item the same vector; give items that differ")
    return shift, directions[:width].T / torch.clamp(values[:width], min=floor * float(values[0]))


def turning(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """Return the rotation or reflection R (k, k) that brings `new` R (n, k) nearest to `old` (n, k)."""
    left, _, right = torch.linalg.svd(new.T @ old)
    return left @ right


def lasting(gradient: torch.Tensor, Z: torch.Tensor, centred: bool = False) -> torch.Tensor:
    """Return the gradient with respect to projected items Z̃ (n, k'), without what the next projection would undo.

    Undone are all stretchings of Z̃, S symmetric in Z̃ -> Z̃ S, and where it is centred the shifts.
    """
    gradient = gradient - gradient.mean(dim=0) if centred else gradient
    stretching = Z.T @ gradient / len(Z)
    return gradient - Z @ (stretching + stretching.T) / 2


def guarded(centre: torch.Tensor, guard: float) -> torch.Tensor:
    """Return a centre whose coordinates are all at least `guard` away from 0, where zero weights would lead."""
    return torch.where(centre.abs() < guard, torch.where(centre < 0, -guard, guard), centre)


def ball_loss(d: torch.Tensor) -> torch.Tensor:
    """Return the mean squared distance."""
    return d.square().mean()


def shell_loss(d: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return mean max(d, high) - min(d, low): `high` - `low` for distances between, rising by 1 a unit outside."""
    return (torch.clamp(d, min=high) - torch.clamp(d, max=low)).mean()


def radii_of(d: Any, region: str, nu: float) -> tuple[float, float]:
    """Return (r_min, r_max) of distances; r_min of a ball is 0."""
    low = float(np.quantile(d, nu)) if region == "shell" else 0.0
    return low, float(np.quantile(d, 1.0 - nu))


def region_score(d: Any, region: str, radii: tuple[float, float]) -> Any:
    """Return d² - r² of a ball, (d - r_max)(d - r_min) of a shell: negative inside, 0 on the border."""
    low, high = radii
    return (d - high) * (d - low) if region == "shell" else d**2 - high**2


class Hypersphere(nn.Module):
    """Projection and centre.

    Parameters
    ----------
    inputs : int
        k, width of the embeddings.
    width : int
        k', directions that are kept.
    orthogonal : bool, default True
        Whether there is a projection; False leaves the embeddings as they are, all of them, which is Deep SVDD.
    centred : bool, default False
        Whether the mean is taken off before the projection.
    """

    shift: torch.Tensor
    weight: torch.Tensor
    centre: torch.Tensor

    def __init__(self, inputs: int, width: int, orthogonal: bool = True, centred: bool = False) -> None:
        super().__init__()
        width = min(inputs, width) if orthogonal else inputs
        self.orthogonal, self.centred = orthogonal, centred
        self.register_buffer("shift", torch.zeros(inputs))
        self.register_buffer("weight", torch.zeros(inputs, width) if orthogonal else torch.eye(inputs))
        self.register_buffer("centre", torch.zeros(width))

    def forward(self, Z: torch.Tensor) -> torch.Tensor:
        """Return z̃ of embeddings (n, k), (n, k'); in training with the W of these very embeddings, which is kept."""
        if not (self.training and self.orthogonal):
            return (Z - self.shift) @ self.weight
        self.adapt(Z)
        projected = (Z - self.shift) @ self.weight
        fixed = projected.detach()
        projected.register_hook(lambda gradient: lasting(gradient, fixed, self.centred))
        return projected

    def distances(self, Z: torch.Tensor) -> torch.Tensor:
        """Return the distances to the centre, (n,)."""
        return torch.linalg.vector_norm(self(Z) - self.centre, dim=1)

    @torch.no_grad()
    def adapt(self, Z: torch.Tensor) -> None:
        """Take the projection from embeddings (n, k), turned to agree with the one before."""
        if self.orthogonal:
            before = (Z - self.shift) @ self.weight
            self.shift, weight = orthogonal_projection(Z, self.weight.shape[1], self.centred)
            weight = weight * len(Z) ** 0.5
            weight[:, max(1, len(Z) // 2) :] = 0.0
            self.weight = weight @ turning((Z - self.shift) @ weight, before)


class Compressed(NamedTuple):
    """What training found.

    Attributes
    ----------
    distances : array of shape (n,)
        Distance of each training item to the centre, after training.
    radii : tuple of float
        r_min and r_max.
    collapsed : bool
        Whether the distances, or the radii of a shell, have lost their spread.
    losses : array of shape (epochs,)
        Mean loss of each epoch, whatever is added to the head's included.
    """

    distances: Floats
    radii: tuple[float, float]
    collapsed: bool
    losses: Floats


def compress(
    network: nn.Module,
    head: Hypersphere,
    encode: Callable[[Ints], tuple[torch.Tensor, Any]],
    n: int,
    rng: np.random.Generator,
    *,
    region: str,
    nu: float,
    guard: float,
    warm_up: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 0.0,
    slow_down: bool = False,
    what: str = "training",
) -> Compressed:
    """Train a network so that normal items lie in a ball or a shell; set the head's projection and centre.

    Both are trained in float32 and are of float64 afterwards: a score then has the same digits in every batch.

    Parameters
    ----------
    network : module
        What is trained.
    head : Hypersphere
        Its head.
    encode : callable
        Numbers of items (b,) -> their embeddings (b, k) by `network`, in the kind of numbers that it holds, and what is
        added to the loss.
    n : int
        How many items there are.
    rng : numpy.random.Generator
        Order of the items.
    region, nu, guard, warm_up, epochs, batch_size, learning_rate, weight_decay
        See the systems that use it. An epoch of a shell's warm-up is one of the ball, before the `epochs`.
    slow_down : bool, default False
        Whether the learning rate falls to a tenth after 80 % of the epochs, and to a hundredth after 90 %.
    what : str
        What the progress bar says.
    """
    parts = max(1, n // batch_size)  # no batch is smaller than `batch_size` if there are as many items

    def embed() -> torch.Tensor:
        return _embedded(network, encode, np.array_split(np.arange(n), parts))

    Z = embed()
    head.adapt(Z)
    head.eval()
    head.centre = guarded(head(Z).mean(dim=0), guard)
    before = float(head.distances(Z).std(correction=0))
    step = torch.optim.Adam(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    radii, first = (0.0, 0.0), warm_up if region == "shell" else 0
    losses = np.zeros(first + epochs)
    for epoch in progress(range(first + epochs), what, total=first + epochs):
        if region == "shell" and epoch == first:
            radii = radii_of(_frozen(head, embed()), region, nu)
        if slow_down:
            done = (epoch - first) / max(epochs, 1)
            step.param_groups[0]["lr"] = learning_rate * (0.01 if done >= 0.9 else 0.1 if done >= 0.8 else 1.0)
        network.train()
        head.train()
        for rows in np.array_split(rng.permutation(n), parts):
            Z, extra = encode(rows)
            d = head.distances(Z)
            loss = extra + (ball_loss(d) if epoch < first or region == "ball" else shell_loss(d, *radii))
            step.zero_grad()
            loss.backward()
            step.step()
            losses[epoch] += loss.item() * len(rows) / n
    network.double()
    head.double()
    d = _frozen(head, embed())
    radii = radii if region == "shell" and epochs else radii_of(d, region, nu)
    flat = region == "shell" and radii[1] - radii[0] <= COLLAPSED * radii[1]
    return Compressed(d, radii, bool(flat or d.std() <= COLLAPSED * before), losses)


def _frozen(head: Hypersphere, Z: torch.Tensor) -> Floats:
    """Take the projection from all training items and return their distances."""
    head.adapt(Z)
    head.eval()
    distances: Floats = head.distances(Z).numpy().astype(np.float64)
    return distances


def _embedded(network: nn.Module, encode: Callable[[Ints], tuple[torch.Tensor, Any]], parts: Any) -> torch.Tensor:
    """Return the embeddings of all items as the network gives them at scoring, its running statistics being set anew.

    Statistics that lag behind the weights would put the frozen projection beside what is scored with it.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        if norms:
            momenta = [norm.momentum for norm in norms]
            network.train()
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over batches
            for rows in parts:
                encode(rows)
            for norm, momentum in zip(norms, momenta):
                norm.momentum = momentum
        network.eval()
        return torch.cat([encode(rows)[0] for rows in parts])


def check_head(region: Any, nu: Any, guard: Any, warm_up: Any, epochs: Any, batch_size: Any) -> None:
    """Raise an `InputError` that names a parameter which makes no sense."""
    check_option(region, "region", *REGIONS)
    check_number(nu, "nu", low=0.0, high=0.5, strict_high=True)
    check_number(guard, "guard", low=0.0, high=1.0)
    check_number(warm_up, "warm_up", low=0, integer=True)
    check_number(epochs, "epochs", low=0, integer=True)
    check_number(batch_size, "batch_size", low=2, integer=True)

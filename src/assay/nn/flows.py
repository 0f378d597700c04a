"""A conditional density of continuous rows that can be evaluated and sampled: a masked autoregressive flow.

In: rows x (n, d) and one number m a row. Out: log p(x | m), latent rows z that are N(0, I) whatever m was, and new rows
x ~ p(· | m) for any m, also one that no training row had: the flow interpolates.

A block is autoregressive in the columns and affine in the one it transforms,

    z_i = (x_i - μ_i(x_1 … x_{i-1}, m)) · exp(-α_i(x_1 … x_{i-1}, m)),    log |dz / dx| = -Σ α_i,

with μ and α from one masked network (MADE: ReLU layers whose weights are cut so that output i sees only earlier
columns; m reaches every hidden unit). After a block comes a batch normalisation, itself an invertible map (after each
epoch it gets the statistics of all training rows, as in the published code), and the order of the columns is turned
round. Densities are one pass a block, samples d passes.

Columns are brought to [0, 1] by their range, through the logit, and to mean 0 and deviation 1 (`to_logits`); a constant
column is left out, and put back when sampled. m is standardised.

Defaults are those of the published CATHODE code: 15 blocks, hidden width 128, Adam at 1e-4 with weight decay 1e-6,
batches of 256, 100 epochs, the 10 epochs of least validation loss kept: samples come from all of them in equal parts,
densities are their mean. Departures: gradients are clipped to norm 10; α is kept within ±5 (5 tanh(α / 5)), so that a
row far outside gets a finite density; a fifth of the rows validates (the published code has a file of its own for it).
The logit of a column's ends is infinite: instead of leaving such rows out the range is widened by a hundredth, and
values beyond it are clipped, so that every row gets a score; samples stay within the range.

References: G. Papamakarios, T. Pavlakou, I. Murray: Masked Autoregressive Flow for Density Estimation. NeurIPS 2017,
arXiv 1705.07057. M. Germain et al.: MADE. ICML 2015, arXiv 1502.03509.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from assay.core.progress import progress
from assay.core.validation import Floats, InputError
from assay.nn.state import Arrays, arrays_of, seeded, with_arrays

#: Largest |α|.
MOST = 5.0
#: Rows that are scored or drawn at once: what bounds memory.
CHUNK = 8192
#: By which share of its range a column is widened at either end before the logit, which would be infinite there.
EDGE = 0.01


class MADE(nn.Module):
    """Gives μ and α of every column from the columns before it and from m."""

    def __init__(self, d: int, hidden: int) -> None:
        super().__init__()
        self.inputs, self.context = nn.Linear(d, hidden), nn.Linear(1, hidden, bias=False)
        self.between, self.outputs = nn.Linear(hidden, hidden), nn.Linear(hidden, 2 * d)
        # A hidden unit of degree k may see the first k columns; of degree 0 only m, so that d = 1 works too.
        degrees, columns = torch.arange(hidden) % d, torch.arange(1, d + 1)
        self.register_buffer("first", (degrees[:, None] >= columns).float(), persistent=False)
        self.register_buffer("second", (degrees[:, None] >= degrees).float(), persistent=False)
        self.register_buffer("last", (columns[:, None] > degrees).float().repeat(2, 1), persistent=False)

    def forward(self, x: torch.Tensor, m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return μ and α, (n, d) each, of rows x (n, d) at m (n, 1)."""
        hidden = F.relu(F.linear(x, self.inputs.weight * self.first, self.inputs.bias) + self.context(m))
        hidden = F.relu(F.linear(hidden, self.between.weight * self.second, self.between.bias))
        mu, alpha = F.linear(hidden, self.outputs.weight * self.last, self.outputs.bias).chunk(2, dim=1)
        return mu, MOST * torch.tanh(alpha / MOST)


class Normalisation(nn.Module):
    """Batch normalisation as an invertible map: the batch's own statistics in training, those last seen afterwards."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.log_scale, self.shift = nn.Parameter(torch.zeros(d)), nn.Parameter(torch.zeros(d))
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("variance", torch.ones(d))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows, and the logarithm of the map's determinant, one number for all."""
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = x.mean(dim=0), x.var(dim=0, correction=0) + 1e-5
            self.mean, self.variance = mean.detach(), variance.detach()
        z = (x - mean) / variance.sqrt() * self.log_scale.exp() + self.shift
        return z, (self.log_scale - variance.log() / 2).sum()

    def back(self, z: torch.Tensor) -> torch.Tensor:
        """Return the rows that are mapped to z by the statistics last seen."""
        return (z - self.shift) * (-self.log_scale).exp() * self.variance.sqrt() + self.mean


class Flow(nn.Module):
    """The conditional masked autoregressive flow: `log_prob(x, m)`, `latent(x, m)`, `back(z, m)`."""

    def __init__(self, d: int, blocks: int = 15, hidden: int = 128) -> None:
        super().__init__()
        self.d = d
        self.made = nn.ModuleList(MADE(d, hidden) for _ in range(blocks))
        self.norm = nn.ModuleList(Normalisation(d) for _ in range(blocks))

    def latent(self, x: torch.Tensor, m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return z (n, d) and log |dz / dx| (n,) of rows x (n, d) at m (n, 1)."""
        change = x.new_zeros(len(x))
        for made, norm in zip(self.made, self.norm):
            mu, alpha = made(x, m)
            x, scaled = norm((x - mu) * (-alpha).exp())
            x, change = x.flip(1), change - alpha.sum(dim=1) + scaled
        return x, change

    def log_prob(self, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        """Return log p(x | m), (n,)."""
        z, change = self.latent(x, m)
        return change - (z.square().sum(dim=1) + self.d * np.log(2 * np.pi)) / 2

    def back(self, z: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        """Return the rows x whose latent rows at m are z."""
        for made, norm in zip(reversed(self.made), reversed(self.norm)):
            u = norm.back(z.flip(1))
            z = torch.zeros_like(u)
            for column in range(self.d):
                mu, alpha = made(z, m)
                z[:, column] = u[:, column] * alpha[:, column].exp() + mu[:, column]
        return z


def fit_scale(m: Floats, x: Floats) -> Arrays:
    """Return what `to_logits` needs, learned from rows x (n, d) at m (n,)."""
    low, high = x.min(axis=0), x.max(axis=0)
    scale = {"low": low, "high": high, "varies": high > low}
    logits = _logits(scale, x)
    # Both go through the same steps, so that a column of one value but for rounding cannot divide by nothing.
    scale |= {"mean": logits.mean(axis=0), "deviation": np.maximum(logits.std(axis=0), 1e-9)}
    return scale | {"centre": np.array(m.mean()), "width": np.array(m.std() or 1.0)}


def to_logits(scale: Arrays, m: Floats, x: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows and m as the flow sees them, (n, k) and (n, 1), for the k columns that vary."""
    return torch.from_numpy((_logits(scale, x) - scale["mean"]) / scale["deviation"]), _context(scale, m)


def from_logits(scale: Arrays, seen: Floats) -> Floats:
    """Return rows (n, d) from what the flow sees, within the training range."""
    share = 1 / (1 + np.exp(-np.clip(seen * scale["deviation"] + scale["mean"], -40.0, 40.0)))
    share = np.clip(share * (1 + 2 * EDGE) - EDGE, 0.0, 1.0)
    x = np.tile(scale["low"], (len(seen), 1))
    x[:, scale["varies"]] += share * (scale["high"] - scale["low"])[scale["varies"]]
    return x


def _logits(scale: Arrays, x: Floats) -> Floats:
    varies, low, high = scale["varies"], scale["low"], scale["high"]
    with np.errstate(over="ignore"):  # what lies far outside is clipped
        share = (np.clip((x - low)[:, varies] / (high - low)[varies], 0.0, 1.0) + EDGE) / (1 + 2 * EDGE)
    return np.asarray(np.log(share) - np.log1p(-share))


def _context(scale: Arrays, m: Floats) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray((m - scale["centre"]) / scale["width"]))[:, None]


def train_flow(
    x: torch.Tensor,
    m: torch.Tensor,
    rng: np.random.Generator,
    *,
    blocks: int = 15,
    hidden: int = 128,
    epochs: int = 100,
    batch_size: int = 256,
    learning_rate: float = 1e-4,
    weight_decay: float = 1e-6,
    keep: int = 10,
    validation: float = 0.2,
    loss: Any = None,
) -> list[Arrays]:
    """Return the weights of the `keep` best epochs, best first.

    Parameters
    ----------
    x, m : tensor of shape (n, k) and (n, 1)
        What `to_logits` returned.
    rng : numpy.random.Generator
        Splits, weights, order.
    blocks, hidden : int, default 15 and 128
        Blocks, and width of their networks.
    epochs, batch_size : int, default 100 and 256
        Passes over the rows, and rows a step, about.
    learning_rate, weight_decay : float, default 1e-4 and 1e-6
        Of Adam; gradients are clipped to norm 10.
    keep : int, default 10
        Epochs of least validation loss that are returned.
    validation : float, default 0.2
        Share of the rows that validates; all do where there are too few.
    loss : callable, optional
        ``loss(flow, x, m, rows)``, a number for each of the rows x that have the numbers `rows`; -log p(x | m) by
        default.
    """
    order = torch.from_numpy(rng.permutation(len(x)))
    held = order[: int(validation * len(x))] if len(x) > 1 else order[:0]
    train = order[len(held) :]
    held = held if len(held) else train
    loss = loss or (lambda flow, x, m, rows: -flow.log_prob(x, m))
    best: list[tuple[float, int, Arrays]] = []
    x, m = x.float(), m.float()
    with seeded(rng):
        flow = Flow(x.shape[1], blocks, hidden)
        optimizer = torch.optim.Adam(flow.parameters(), lr=learning_rate, weight_decay=weight_decay)
        for epoch in progress(range(epochs), "training a flow", total=epochs):
            flow.train()
            for rows in train[torch.randperm(len(train))].tensor_split(max(1, round(len(train) / batch_size))):
                optimizer.zero_grad()
                loss(flow, x[rows], m[rows], rows).mean().backward()
                nn.utils.clip_grad_norm_(flow.parameters(), 10.0)
                optimizer.step()
            with torch.no_grad():
                # Statistics of a batch or of a few are too coarse: their errors add up over the blocks.
                flow.latent(x[train], m[train])
                flow.eval()
                found = float(loss(flow, x[held], m[held], held).mean())
            if not np.isfinite(found):
                raise InputError(f"X: a flow diverged in epoch {epoch + 1} of its training; lower learning_rate")
            best = sorted([*best, (found, epoch, arrays_of(flow))], key=lambda one: one[:2])[:keep]
    return [arrays for *_, arrays in best]


def flow_of(arrays: Arrays) -> Flow:
    """Return the flow of these weights, in double precision, ready to be asked."""
    blocks = sum(name.endswith("context.weight") for name in arrays)
    hidden, d = arrays["made.0.inputs.weight"].shape
    flow = Flow(d, blocks, hidden)
    return with_arrays(flow, arrays).double()  # type: ignore[return-value]


def latent_rows(arrays: Arrays, x: torch.Tensor, m: torch.Tensor) -> Floats:
    """Return the latent rows z(x, m), (n, k)."""
    flow = flow_of(arrays)
    with torch.inference_mode():
        return np.concatenate([flow.latent(*part)[0].numpy() for part in zip(x.split(CHUNK), m.split(CHUNK))])


def log_density(states: list[Arrays], x: torch.Tensor, m: torch.Tensor) -> Floats:
    """Return the log of the mean density over the kept epochs, (n,)."""
    flows, parts = [flow_of(arrays) for arrays in states], []
    with torch.inference_mode():
        for part in zip(x.split(CHUNK), m.split(CHUNK)):
            each = torch.stack([flow.log_prob(*part) for flow in flows])
            parts.append((each.logsumexp(dim=0) - np.log(len(states))).numpy())
    return np.concatenate(parts).astype(np.float64)


def draw(states: list[Arrays], scale: Arrays, m: Floats, rng: np.random.Generator) -> Floats:
    """Return one row x ~ p(· | m) for each m (n,), the kept epochs taking turns."""
    context, k = _context(scale, m), int(scale["varies"].sum())
    seen = torch.from_numpy(rng.normal(size=(len(m), k)))
    with torch.inference_mode():
        for turn, arrays in enumerate(states):
            flow = flow_of(arrays)
            for rows in torch.arange(turn, len(m), len(states)).split(CHUNK):
                seen[rows] = flow.back(seen[rows], context[rows])
    return from_logits(scale, seen.numpy())

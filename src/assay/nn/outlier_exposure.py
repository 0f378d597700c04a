"""Outlier exposure: while a network learns its task, also show it outliers and push its anomaly score up there.

In: any torch network, data of its task, and auxiliary outliers (real ones of another kind, or synthetic ones). Out: the
network tuned in place; `score` of its output, (b,), higher = more anomalous. Minimised is

    mean over the data of w L(f(x), y)  +  λ mean over the outliers of w' L_OE(f(x')),

where w and w' are weights of single items, 1 unless given (qualities of synthetic outliers, for instance; the means
divide by the number of items, so that an outlier of weight 0 counts for nothing). The kinds of network, by `loss`:

``uniform_ce``   output z (b, K), logits of K classes. L: cross-entropy. L_OE: the same to the uniform distribution,
                 log Σ exp z - mean z, which is log K where z is flat. Score: minus the largest softmax, or -L_OE.
``token_ce``     output z (b, T, V), logits of a language model; targets (b, T), -1 where there is no token. L and L_OE:
                 the mean over the tokens of the same. Score: -L_OE.
``confidence``   output (b, K + 1), K logits and that of a confidence b. L: cross-entropy where a network may pay
                 for hints (DeVries and Taylor, 2018, see `HintedCrossEntropy`). L_OE: log b, at least
                 log .01, for it has no lower end and training would follow it. Score: -log b.
``margin_nll``   output (b,), negative log-likelihoods, nats. L: the output. L_OE: max(0, m + nll(x) - nll(x')), mean
                 over the data x of the step, m the number of dimensions of an item. Score: the output.
``bce``          output (b,) or (b, 1), log odds of being an outlier. L and L_OE: log(1 + exp ±z). Score: the output.

A step joins a batch of the data and one of outliers, twice as large, in ONE forward pass: they share batch statistics.
Outliers may be more than memory holds: each epoch reads them in order from a random place on, and ends with the data.
``mode="tune"`` goes on from a trained network, ``mode="scratch"`` starts from a fresh one; they differ in the number of
epochs and the learning rate. SGD with Nesterov momentum .9, weight decay 5e-4, batches of 128 and 256, the learning
rate falling as a cosine, step by step, to 1e-6; tune: 10 epochs at .001, scratch: 100 at .1 (the official code for
CIFAR; on MNIST: tune 5, scratch 10 epochs at .01, batches of 50 and 100). λ = .5 for images, 1 for text.

λ = 0 shows no outlier at all and is training without them, bit for bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from assay.core.progress import progress
from assay.core.random import child_seeds
from assay.core.validation import InputError, Ints, check_number, check_option
from assay.nn.state import seeded

#: mode -> (epochs, learning rate)
MODES = {"tune": (10, 1e-3), "scratch": (100, 0.1)}
LAST_RATE = 1e-6
#: First price of hints in the confidence form, and what -log b should be on average.
HINT_PRICE, HINT_BUDGET = 0.1, 0.3
#: log b is pushed down to the logarithm of this, no further.
LEAST_CONFIDENCE = 0.01
UNKNOWN_WORD = 0


# -- losses: one number an item ---------------------------------------------------------------------------------------


def uniform_cross_entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy to the uniform distribution over the last axis, in nats, >= log K.

    Examples
    --------
    >>> import torch
    >>> from assay.nn.outlier_exposure import uniform_cross_entropy
    >>> uniform_cross_entropy(torch.zeros(1, 4)).item() == torch.log(torch.tensor(4.0)).item()
    True
    """
    return torch.logsumexp(logits, dim=-1) - logits.mean(dim=-1)


def max_softmax(logits: torch.Tensor) -> torch.Tensor:
    """Return minus the largest class probability of logits (b, K), the baseline of Hendrycks and Gimpel (2017)."""
    return -logits.double().softmax(dim=-1).amax(dim=-1)


def token_mean(values: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
    """Return the mean of `values` (b, T) over the tokens that are there (>= 0), (b,)."""
    there = torch.ones_like(values) if tokens is None else (tokens >= 0).to(values.dtype)
    return (values * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)


class HintedCrossEntropy:
    """The loss of the confidence form on data: a network may look an answer up, at a price.

    For a random half of the items p_y becomes b p_y + 1 - b; -log b is added, times a price that rises while
    hints cost more than their budget and falls otherwise.
    """

    def __init__(self) -> None:
        self.price = HINT_PRICE

    def __call__(self, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the loss (b,) of outputs (b, K + 1)."""
        log_b, log_rest = F.logsigmoid(out[:, -1]), F.logsigmoid(-out[:, -1])
        log_p = F.log_softmax(out[:, :-1], dim=1).gather(1, y[:, None])[:, 0]
        hinted = torch.rand(len(out), device=out.device) < 0.5
        loss = -torch.where(hinted, torch.logaddexp(log_b + log_p, log_rest), log_p) - self.price * log_b
        self.price /= 1.01 if -log_b.mean().item() < HINT_BUDGET else 0.99
        return loss


def margin(nll: torch.Tensor, nll_outliers: torch.Tensor, least: float) -> torch.Tensor:
    """Return max(0, least + nll - nll'), for each outlier the mean over the data."""
    return (least + nll[:, None] - nll_outliers[None, :]).clamp(min=0).mean(dim=0)


class Objective(NamedTuple):
    """What a kind of network minimises.

    Attributes
    ----------
    task : callable
        Output on data and targets -> (b,).
    exposure : callable
        Output on data, output on outliers, targets of the outliers (or None), number of dimensions -> (b',).
    score : callable
        Output, tokens (or None) -> (b,), higher = more anomalous.
    """

    task: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    exposure: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, int], torch.Tensor]
    score: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]


#: name of the loss -> a fresh objective
OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "uniform_ce": lambda: Objective(
        task=lambda out, y: F.cross_entropy(out, y, reduction="none"),
        exposure=lambda out, outliers, y, d: uniform_cross_entropy(outliers),
        score=lambda out, tokens: max_softmax(out),
    ),
    "token_ce": lambda: Objective(
        task=lambda out, y: token_mean(F.cross_entropy(out.transpose(1, 2), y, reduction="none", ignore_index=-1), y),
        exposure=lambda out, outliers, y, d: token_mean(uniform_cross_entropy(outliers), y),
        score=lambda out, tokens: -token_mean(uniform_cross_entropy(out), tokens),
    ),
    "confidence": lambda: Objective(
        task=HintedCrossEntropy(),
        exposure=lambda out, outliers, y, d: F.logsigmoid(outliers[:, -1]).clamp(min=math.log(LEAST_CONFIDENCE)),
        score=lambda out, tokens: -F.logsigmoid(out[:, -1]),
    ),
    "margin_nll": lambda: Objective(
        task=lambda out, y: out,
        exposure=lambda out, outliers, y, d: margin(out, outliers, d),
        score=lambda out, tokens: out,
    ),
    "bce": lambda: Objective(
        task=lambda out, y: F.softplus(out.flatten()),
        exposure=lambda out, outliers, y, d: F.softplus(-outliers.flatten()),
        score=lambda out, tokens: out.flatten(),
    ),
}


def score(
    out: torch.Tensor, loss: str = "uniform_ce", *, uniform: bool = False, tokens: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the anomaly scores (b,) of a network's output.

    Parameters
    ----------
    out : tensor
        As `loss` says; see the module.
    loss : str
        Name of the loss that the network was trained with.
    uniform : bool, default False
        For ``"uniform_ce"``: minus the cross-entropy to the uniform, in place of minus the largest softmax.
    tokens : tensor of int of shape (b, T), optional
        For ``"token_ce"``: where a text has tokens (>= 0); everywhere by default.
    """
    check_option(loss, "loss", *OBJECTIVES)
    if uniform:
        return -uniform_cross_entropy(out)
    return OBJECTIVES[loss]().score(out, tokens)


# -- training ---------------------------------------------------------------------------------------------------------


def windows(n: int, size: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Yield, for ever, `size` rows at a time of `n` in order, from a random place on, beginning anew at the end."""
    start = int(rng.integers(n))
    while True:
        yield (start + np.arange(size)) % n
        start = (start + size) % n


def as_tensor(batch: Any) -> torch.Tensor:
    """Return a batch as a tensor: whole numbers of 64 bits as they are (tokens), all else float32."""
    array = np.asarray(batch)
    return torch.from_numpy(array.copy() if array.dtype == np.int64 else array.astype(np.float32))


def expose(
    network: nn.Module,
    X: Any,
    y: Any,
    outliers: Any,
    rng: np.random.Generator,
    *,
    loss: str = "uniform_ce",
    lam: float = 0.5,
    mode: str = "tune",
    weights: Any = None,
    outlier_weights: Any = None,
    outlier_targets: Any = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int = 128,
    outlier_batch_size: int = 256,
    weight_decay: float = 5e-4,
    prepare: Callable[[Any], torch.Tensor] = as_tensor,
) -> list[dict[str, float]]:
    """Train a network in place, with outliers; return the mean losses of each epoch.

    Parameters
    ----------
    network : module
        Its output as `loss` says; see the module. It is left in evaluation mode.
    X : sequence of n items
        Data, indexed by an array of rows: an array, a memory map, `Images`, anything of that manner.
    y : array of int of shape (n,) or (n, T), or None
        Targets, where the task has some.
    outliers : sequence of m items
        As `X`; only the rows of a step are ever asked for. None of them may occur in the data that the scores are
        judged on: see `shared_items`.
    rng : numpy.random.Generator
        Order of the data, places in the outliers, and torch's own draws (dropout).
    loss : {"uniform_ce", "token_ce", "confidence", "margin_nll", "bce"}
        See the module.
    lam : float >= 0, default .5
        λ.
    mode : {"tune", "scratch"}
        Sets the defaults of epochs and learning rate.
    weights, outlier_weights : arrays of shape (n,) and (m,), optional
        How much each item counts, >= 0.
    outlier_targets : array of int of shape (m, T), optional
        Where the tokens of the outliers are (>= 0), for ``"token_ce"``.
    epochs, learning_rate : int and float, optional
        In place of the mode's.
    batch_size, outlier_batch_size : int, defaults 128 and 256
        Items a step.
    weight_decay : float, default 5e-4
        Of SGD.
    prepare : callable
        What `X[rows]` and `outliers[rows]` become before the network, the same for both: augmentation,
        normalisation, tensors.

    Returns
    -------
    list of dict
        One an epoch: ``task`` and ``exposure``, the latter without λ (NaN where no outlier was shown).
    """
    check_option(loss, "loss", *OBJECTIVES)
    check_option(mode, "mode", *MODES)
    check_number(lam, "lam", low=0.0)
    n, m = len(X), len(outliers)
    if n == 0 or m == 0:
        raise InputError(f"{'X' if n == 0 else 'outliers'} is empty: give at least one item")
    epochs = MODES[mode][0] if epochs is None else epochs
    learning_rate = MODES[mode][1] if learning_rate is None else learning_rate
    targets = torch.zeros(n, dtype=torch.int64) if y is None else torch.from_numpy(np.array(y, dtype=np.int64))
    held = None if outlier_targets is None else torch.from_numpy(np.array(outlier_targets, dtype=np.int64))
    counts, outlier_counts = _weights(weights, n, "weights"), _weights(outlier_weights, m, "outlier_weights")
    objective = OBJECTIVES[loss]()
    # The order of the data must not depend on whether outliers are shown.
    order_rng, place_rng, torch_rng = (np.random.default_rng(seed) for seed in child_seeds(rng, 3))
    optimiser = torch.optim.SGD(
        network.parameters(), lr=learning_rate, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )
    steps = max(1, epochs * -(-n // batch_size))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=min(LAST_RATE, learning_rate))
    history = []
    network.train()
    with seeded(torch_rng):
        for _ in progress(range(epochs), "training with outliers", total=epochs):
            order, places = order_rng.permutation(n), windows(m, outlier_batch_size, place_rng)
            sums = np.zeros(2)
            for start in range(0, n, batch_size):
                rows = order[start : start + batch_size]
                inside = prepare(X[rows])
                outside = inside[:0]
                if lam > 0:
                    shown = next(places)
                    outside = prepare(outliers[shown])
                out = network(torch.cat([inside, outside]))
                data = objective.task(out[: len(rows)], targets[rows])
                total = task = _mean(data, counts, rows)
                if lam > 0:
                    there = None if held is None else held[shown]
                    pushed = objective.exposure(out[: len(rows)], out[len(rows) :], there, inside[0].numel())
                    exposure = _mean(pushed, outlier_counts, shown)
                    total = task + lam * exposure
                    sums[1] += exposure.item() * len(rows) / n
                optimiser.zero_grad()
                total.backward()
                optimiser.step()
                schedule.step()
                sums[0] += task.item() * len(rows) / n
            history.append({"task": float(sums[0]), "exposure": float(sums[1]) if lam > 0 else float("nan")})
    network.eval()
    return history


def outputs(
    network: nn.Module, X: Any, batch_size: int = 256, prepare: Callable[[Any], torch.Tensor] = as_tensor
) -> torch.Tensor:
    """Return the outputs of a network on every item of `X`, in evaluation mode."""
    network.eval()
    with torch.inference_mode():
        rows = (np.arange(start, min(start + batch_size, len(X))) for start in range(0, len(X), batch_size))
        return torch.cat([network(prepare(X[part])) for part in rows])


def _weights(weights: Any, n: int, name: str) -> torch.Tensor | None:
    if weights is None:
        return None
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (n,) or not (values >= 0).all() or not np.isfinite(values).all():
        raise InputError(f"{name}: give one finite number >= 0 for each of {n} items, got shape {values.shape}")
    return torch.from_numpy(values.astype(np.float32))


def _mean(values: torch.Tensor, weights: torch.Tensor | None, rows: Ints) -> torch.Tensor:
    """Return the weighted sum of the values of `rows` over their number."""
    return (values if weights is None else values * weights[rows]).mean()


# -- what must not leak -----------------------------------------------------------------------------------------------


def shared_items(A: Iterable[Any], B: Iterable[Any]) -> Ints:
    """Return which items of `A` occur in `B`, byte for byte: training outliers among the test anomalies, say.

    Items are arrays, or names (the classes of two sets). Memory: 16 bytes an item of `B`; items go by one at a time.
    What differs by a single bit is not found.

    Examples
    --------
    >>> from assay.nn.outlier_exposure import shared_items
    >>> shared_items(["cat", "truck", "dog"], ["dog", "frog"])
    array([2])
    """
    seen = {_digest(item) for item in B}
    return np.array([i for i, item in enumerate(A) if _digest(item) in seen], dtype=np.int64)


def _digest(item: Any) -> bytes:
    array = np.asarray(item)
    kind = f"{array.dtype.str}{array.shape}".encode()
    return blake2b(kind + np.ascontiguousarray(array).tobytes(), digest_size=16).digest()


def vocabulary(texts: Iterable[Sequence[str]], size: int = 10_000) -> dict[str, int]:
    """Return the most frequent words of the *data* (lists of words), numbered from 1; 0 is every other word.

    The outliers must not add to it: words that only they hold would give them away.

    Examples
    --------
    >>> from assay.nn.outlier_exposure import encoded, vocabulary
    >>> words = vocabulary([["a", "b", "a"], ["a", "c"]], size=3)
    >>> encoded([["c", "zebra", "a"]], words, length=4)
    array([[ 3,  0,  1, -1]])
    """
    counts = Counter(word for text in texts for word in text)
    return {
        word: number for number, (word, _) in enumerate(sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:size], 1)
    }


def encoded(texts: Sequence[Sequence[str]], words: dict[str, int], length: int) -> Ints:
    """Return texts as numbers (n, length): cut off at `length`, -1 where a text is shorter."""
    numbers = np.full((len(texts), length), -1, dtype=np.int64)
    for row, text in enumerate(texts):
        known = [words.get(word, UNKNOWN_WORD) for word in text[:length]]
        numbers[row, : len(known)] = known
    return numbers

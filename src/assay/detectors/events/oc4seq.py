"""OC4Seq: recurrent networks pull whole sequences and all their windows to two fixed centres; what stays far is odd.

In: event sequences, ids or names, of any length. Out: one score a sequence, >= 0, unbounded above, and one local
distance an event (`OC4Seq.anomaly_map`); higher = more anomalous. Distances of normal sequences are small against 1.

An event x_t has a trained vector e(x_t) ∈ R^D that two branches share:

    global:  g = the output of a GRU of 2 layers over e(x_1) … e(x_N), at the last event;
    local:   l_t = the last output of another GRU, 1 layer, over the window e(x_{t-M+1}) … e(x_t) of M = 7 events, zero
             vectors before the first; t = 1 … N;
    centres: c_g = mean of g, c_l = mean over sequences of the mean of l_t over t, both of the untrained networks;
             coordinates nearer to 0 than .1 are moved to ±.1; then fixed;
    score = d_g + α · d_l,   d_g = ‖g - c_g‖²,   d_l = max_t ‖l_t - c_l‖²;     loss = the mean score.

The maximum stands in the loss too: a normal sequence has not one odd window. Where it is taken is the explanation.

Defaults of the published code: D = hidden width = 64, layers 2 and 1, M = 7, α = 1, Adam with learning rate 1e-3 and
weight decay 1e-6, batches of 64, 100 epochs, centre guard .1. (A dropout of .01 is declared there and never applied.)
``alpha=0`` leaves the global branch alone, a very large `alpha` the local one.

Departures from the published code:

- The vocabulary is that of the training set; there it is taken from all sets. Every event that training never saw has
  one and the same vector, drawn like the others and never trained.
- Padding touches nothing: the maximum runs over the sequence's own windows, g is taken at its own last event, and the
  vector of padding is 0. There the local maximum runs over padded places, whose vector is trained, so that a score
  depends on the longest sequence of the batch.
- The threshold is a calibrator's, `assay.calibration`; there it is the best on labelled sequences.
- In training the windows are scored without gradients first, and only each sequence's farthest goes through the network
  again: the maximum's gradient takes no other way. What windows begin with in common is computed once.
- Windows are cut by strides; the length of a sequence has no limit.

Not reproduced: the paper's log data but for a part of HDFS (`proofs/oc4seq.py`); a parser from raw lines to events.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from assay.base import Localizer, TakesSequences
from assay.core.progress import progress
from assay.core.sequences import FIRST, Sequences, Vocabulary, padded
from assay.core.validation import Floats, Ints, check_number, check_option
from assay.nn.state import arrays_of, seeded, with_arrays

RNN = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
#: Events whose windows are laid out, and sequences that go through the network, at a time: memory grows with them, the
#: scores do not depend on them.
BLOCK, SEQUENCES = 2**16, 256
#: A branch whose outputs for this many random sequences have a smaller standard deviation ignores what it reads.
RANDOM, COLLAPSED = 256, 1e-3


class Explanation(NamedTuple):
    """Why a sequence has its score.

    Attributes
    ----------
    window : tuple of int
        First event of the oddest window, and the one after its last.
    local : array of shape (length,)
        Distance of the window that ends at each event.
    global_share : float
        d_g / (d_g + α d_l): near 1 where the whole is odd, near 0 where a part is.
    """

    window: tuple[int, int]
    local: Floats
    global_share: float


class TwoScales(nn.Module):
    """The vectors of the events and both recurrent networks."""

    def __init__(self, n_numbers: int, embedding: int, hidden: int, rnn: str, global_layers: int, local_layers: int):
        super().__init__()
        self.events = nn.Parameter(torch.randn(n_numbers - FIRST, embedding))
        # Nothing, and an unknown event. No parameters: Adam's weight decay alone would draw the latter to 0.
        self.register_buffer("others", torch.randn(FIRST, embedding) * torch.tensor([[0.0], [1.0]]))
        self.whole = RNN[rnn](embedding, hidden, global_layers, batch_first=True)
        self.part = RNN[rnn](embedding, hidden, local_layers, batch_first=True)

    def embedded(self, numbers: Ints) -> torch.Tensor:
        """Return the vectors of events, (…, D)."""
        return F.embedding(torch.from_numpy(numbers), self.vectors())

    def vectors(self) -> torch.Tensor:
        """Return all vectors, by number."""
        return torch.cat([self.others, self.events])

    def prefixes(self, table: Ints) -> torch.Tensor:
        """Return g of every prefix of padded sequences (n, N): (n, N, H)."""
        return self.whole(self.embedded(table))[0]

    def sequences(self, X: Sequences) -> torch.Tensor:
        """Return g, (n, H): the output at each sequence's own last event."""
        return self.prefixes(padded(X))[torch.arange(len(X)), torch.from_numpy(X.lengths - 1)]

    def windows(self, windows: Ints) -> torch.Tensor:
        """Return l of windows (m, M): (m, H)."""
        return self.part(self.embedded(windows))[0][:, -1]


def trailing_windows(X: Sequences, length: int) -> Ints:
    """Return for every event the numbers of the last `length` events, (N, length), 0 before the first."""
    room = (length - 1) * (1 + np.repeat(np.arange(len(X)), X.lengths))
    line = np.zeros(len(X.flat) + (length - 1) * len(X), dtype=np.int64)
    ends = np.arange(len(X.flat)) + room
    line[ends] = X.flat
    return np.lib.stride_tricks.sliding_window_view(line, length)[ends - length + 1]


def shared(network: TwoScales, windows: Ints) -> tuple[Any, Ints]:
    """Return the l of the different windows, (m, H), and which of these each window has.

    The state after a window's first events is that of every window that begins with them, and is computed once.
    """
    places, state, out = np.zeros(len(windows), dtype=np.int64), None, None
    with torch.inference_mode():
        for column in windows.T:
            # A beginning is the number of the shorter one before it and the event that came to it.
            _, first, longer = np.unique(
                places * len(network.vectors()) + column, return_index=True, return_inverse=True
            )
            vectors = network.embedded(column[first])[:, None]
            out, state = network.part(vectors, _chosen(state, torch.from_numpy(places[first])))
            places = longer
    return out[:, 0].numpy(), places


def _chosen(state: Any, rows: torch.Tensor) -> Any:
    if state is None:
        return None
    if isinstance(state, tuple):  # an LSTM's
        return tuple(part[:, rows] for part in state)
    return state[:, rows]


def guarded(centre: Floats, guard: float) -> Floats:
    """Return a centre whose coordinates are all at least `guard` away from 0, where zero weights would lead."""
    return np.where(np.abs(centre) < guard, np.where(centre < 0, -guard, guard), centre)


class OC4Seq(TakesSequences, Localizer):
    """Distances of whole sequences and of their oddest windows to two centres.

    Parameters
    ----------
    window : int, default 7
        M, events of a local window.
    alpha : float, default 1.0
        α, weight of the local distance.
    embedding : int, default 64
        D, width of an event's vector.
    hidden : int, default 64
        Width of the recurrent networks.
    global_layers : int, default 2
        Layers of the network over whole sequences.
    local_layers : int, default 1
        Layers of the network over windows.
    rnn : {"gru", "lstm", "rnn"}, default "gru"
        Kind of both networks.
    centre_guard : float, default 0.1
        Least distance of the centres' coordinates from 0; 0 leaves the centres as they are.
    epochs : int, default 100
        Passes over the sequences; 0 leaves the networks untrained.
    batch_size : int, default 64
        Sequences a step.
    learning_rate : float, default 1e-3
        Of Adam.
    weight_decay : float, default 1e-6
        Of Adam.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    events_ : list
        The events of the training set, sorted.
    network_ : dict of arrays
        Vectors and weights.
    global_centre_, local_centre_ : array of shape (hidden,)
        c_g and c_l.
    collapsed_ : bool
        Whether a branch that counts gives almost the same output for whatever it reads, even random orders of known
        events: its distances tell nothing. Then lower `weight_decay` or `learning_rate`, or raise `centre_guard`.

    References
    ----------
    Z. Wang, Z. Chen, J. Ni, H. Liu, H. Chen, J. Tang: Multi-Scale One-Class Recurrent Neural Networks for Discrete
    Event Sequence Anomaly Detection. KDD 2021, arXiv 2008.13361.

    Examples
    --------
    >>> normal = [[1, 2, 3] * (2 + i % 3) for i in range(40)]
    >>> detector = OC4Seq(window=3, hidden=8, embedding=8, epochs=30, learning_rate=0.01, random_state=0).fit(normal)
    >>> good, bad = detector.anomaly_score([[1, 2, 3, 1, 2, 3], [1, 2, 3, 1, 3, 2]])
    >>> bool(bad > good), detector.explain([1, 2, 3, 1, 2, 3, 3, 1, 2]).window
    (True, (4, 7))
    """

    def __init__(
        self,
        window: int = 7,
        alpha: float = 1.0,
        embedding: int = 64,
        hidden: int = 64,
        global_layers: int = 2,
        local_layers: int = 1,
        rnn: str = "gru",
        centre_guard: float = 0.1,
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.window = window
        self.alpha = alpha
        self.embedding = embedding
        self.hidden = hidden
        self.global_layers = global_layers
        self.local_layers = local_layers
        self.rnn = rnn
        self.centre_guard = centre_guard
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _check_parameters(self) -> None:
        for name in ("window", "embedding", "hidden", "global_layers", "local_layers", "batch_size"):
            check_number(getattr(self, name), name, low=1, integer=True)
        check_number(self.epochs, "epochs", low=0, integer=True)
        check_number(self.alpha, "alpha", low=0.0, high=1e9)
        check_number(self.centre_guard, "centre_guard", low=0.0, high=1.0)
        for name in ("learning_rate", "weight_decay"):
            check_number(getattr(self, name), name, low=0.0, high=1e3)
        check_option(self.rnn, "rnn", *RNN)

    def explain(self, sequence: Any) -> Explanation:
        """Return which window of one sequence is oddest, the distances of all, and what share the whole has."""
        [whole], [local] = self._distances(self._one(sequence))
        last, odd = int(local.argmax()), self.alpha * float(local.max())
        share = float(whole) / (float(whole) + odd) if whole + odd > 0 else 0.0
        return Explanation((max(0, last + 1 - self.window), last + 1), local, share)

    def prefix_scores(self, sequence: Any) -> Floats:
        """Return the score of each prefix of one sequence, (length,): what a stream scores as its events arrive."""
        X = self._one(sequence)
        with torch.inference_mode():
            g = self._network().prefixes(padded(self._vocabulary().numbers(X, "sequence")))[0].numpy()
        [local] = self._distances(X)[1]
        return _squared(g, self.global_centre_) + self.alpha * np.maximum.accumulate(local)

    def _one(self, sequence: Any) -> Sequences:
        check_is_fitted(self)
        return self._check_table([sequence], reset=False, name="sequence")

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.events_)

    def _shape(self) -> TwoScales:
        layers = self.global_layers, self.local_layers
        return TwoScales(len(self._vocabulary()), self.embedding, self.hidden, self.rnn, *layers)

    def _network(self) -> TwoScales:
        with torch.device("meta"):
            network = self._shape()
        return with_arrays(network, self.network_)  # type: ignore[return-value]

    def _fit(self, X: Sequences, y: Ints | None, rng: np.random.Generator) -> None:
        vocabulary = Vocabulary.of(X)
        self.events_ = vocabulary.events
        numbers = vocabulary.numbers(X)
        with seeded(rng):
            network = self._shape()
        centres = (guarded(mean, self.centre_guard) for mean, _ in _moments(network, numbers, self.window))
        self.global_centre_, self.local_centre_ = centres
        self._train(network, numbers, rng)
        self.network_ = arrays_of(network)
        self.collapsed_ = self._has_collapsed(network, numbers[: min(len(numbers), RANDOM)], rng)

    def _has_collapsed(self, network: TwoScales, numbers: Sequences, rng: np.random.Generator) -> bool:
        """Tell whether a branch that counts gives random events, of these lengths, almost the same output."""
        drawn = rng.integers(FIRST, len(self._vocabulary()), size=len(numbers.flat))
        (_, whole), (_, part) = _moments(network, Sequences(drawn, numbers.offsets), self.window)
        return whole < COLLAPSED or (self.alpha > 0 and part < COLLAPSED)

    def _train(self, network: TwoScales, numbers: Sequences, rng: np.random.Generator) -> None:
        step = torch.optim.Adam(network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        for _ in progress(range(self.epochs), "training OC4Seq", total=self.epochs):
            for rows in np.array_split(rng.permutation(len(numbers)), -(-len(numbers) // self.batch_size)):
                step.zero_grad()
                self._loss(network, numbers[rows]).backward()
                step.step()

    def _loss(self, network: TwoScales, batch: Sequences) -> torch.Tensor:
        """Return the mean score; of the windows only each sequence's farthest is on the gradient's way."""
        c_g, c_l = (torch.from_numpy(centre.astype(np.float32)) for centre in (self.global_centre_, self.local_centre_))
        loss = (network.sequences(batch) - c_g).square().sum(dim=1).mean()
        if self.alpha == 0:
            return loss
        windows = trailing_windows(batch, self.window)
        odd = windows[_farthest(network, windows, batch.offsets, self.local_centre_)]
        return loss + self.alpha * (network.windows(odd) - c_l).square().sum(dim=1).mean()

    def _locate(self, X: Sequences) -> tuple[Floats, list[Floats]]:
        whole, local = self._distances(X)
        return whole + self.alpha * np.array([distances.max() for distances in local]), local

    def _distances(self, X: Sequences) -> tuple[Floats, list[Floats]]:
        """Return d_g, (n,), and the local distances of each sequence."""
        numbers = self._vocabulary().numbers(X)
        whole, local = [], []
        for rows, g, l, places in progress(_encoded(self._network(), numbers, self.window), "scoring"):
            whole.append(_squared(g, self.global_centre_))
            local += np.split(_squared(l, self.local_centre_)[places], rows.offsets[1:-1])
        return np.concatenate(whole), local


def _encoded(network: TwoScales, X: Sequences, length: int) -> Iterator[tuple[Sequences, Floats, Floats, Ints]]:
    """Yield blocks of sequences, their g (n, H), the l (m, H) of their different windows, and whose each event is."""
    for rows in _blocks(X):
        order = np.argsort(rows.lengths, kind="stable")  # neighbours of one length need little padding
        l, places = shared(network, trailing_windows(rows, length))
        with torch.inference_mode():
            parts = [network.sequences(rows[order[i : i + SEQUENCES]]) for i in range(0, len(rows), SEQUENCES)]
        g = torch.cat(parts).numpy()[np.argsort(order)]
        yield rows, g.astype(np.float64), l.astype(np.float64), places


def _blocks(X: Sequences) -> Iterator[Sequences]:
    """Yield `X` in pieces of not much more than `BLOCK` events."""
    first = 0
    while first < len(X):
        last = max(first + 1, int(np.searchsorted(X.offsets, X.offsets[first] + BLOCK, side="right")) - 1)
        yield X[first:last]
        first = last


def _farthest(network: TwoScales, windows: Ints, offsets: Ints, centre: Floats) -> Ints:
    """Return the number of each sequence's window with the largest distance."""
    l, places = shared(network, windows)
    distances = _squared(l, centre)[places]
    return np.array([first + distances[first:last].argmax() for first, last in pairwise(offsets)])


def _moments(network: TwoScales, X: Sequences, length: int) -> list[tuple[Floats, float]]:
    """Return mean and standard deviation of g over sequences, and of l over sequences and their events."""
    sums = [[0.0, 0.0], [0.0, 0.0]]
    for rows, g, l, places in _encoded(network, X, length):
        weights = np.bincount(places, weights=np.repeat(1 / rows.lengths, rows.lengths))
        for total, values, weight in zip(sums, (g, l), (np.ones(len(g)), weights)):
            total[0] = total[0] + weight @ values
            total[1] = total[1] + weight @ values**2
    means = [(total[0] / len(X), total[1] / len(X)) for total in sums]
    return [(mean, float(np.sqrt(np.maximum(squares - mean**2, 0).sum()))) for mean, squares in means]


def _squared(vectors: Any, centre: Floats) -> Floats:
    return ((vectors.astype(np.float64) - centre) ** 2).sum(axis=1)

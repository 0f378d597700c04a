"""NextEvent: a small LSTM predicts each event from those before it; what it did not expect is odd (after DeepLog).

In: event sequences, ids or names, of any length. Out: one score a sequence and one an event, higher = more anomalous;
the sequence's is the mean of its events'.

The LSTM reads x_1 … x_{t-1} and gives every known event a probability to be x_t. With the published score an event
counts 1 if it is not among the `top_k` likeliest, else 0, so that a sequence's score is its share of misses, 0 to 1;
with ``score="likelihood"`` it counts -log p(x_t). An event that training never saw is always a miss.

Defaults of the paper: 2 layers of 64 units, top_k = 9 (of the 29 kinds of its log). Adam with learning rate 1e-3 and
20 epochs are ours.

Departures from the paper: the LSTM reads the whole sequence before an event, not its last 10 events alone, so that an
event costs one step, not ten, and a phase that goes on for too long can be noticed. A session is odd there as soon as
it has one miss; that threshold, 0, is a calibrator's business. The paper's second model, of the values within log
lines, is not reproduced. A sequence that stops too early has no miss: whoever wants to see that ends every sequence
with an event of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from assay.base import Localizer, TakesSequences
from assay.core.progress import progress
from assay.core.sequences import FIRST, PAD, UNKNOWN_EVENT, Sequences, Vocabulary, padded
from assay.core.validation import Floats, InputError, Ints, check_number, check_option
from assay.nn.state import arrays_of, seeded, with_arrays

#: Sequences that go through the network at a time; the scores do not depend on it.
SEQUENCES = 256


class Predictor(nn.Module):
    """Events before each place -> a value for the unknown event and for each known one, (n, N, V - 1)."""

    def __init__(self, n_numbers: int, hidden: int, layers: int):
        super().__init__()
        self.vectors = nn.Embedding(n_numbers, hidden, padding_idx=PAD)
        self.lstm = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.values = nn.Linear(hidden, n_numbers - 1)

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        """Return the values for every place of padded sequences (n, N), from what stands before it."""
        return self.values(self.lstm(self.vectors(F.pad(table[:, :-1], (1, 0), value=PAD)))[0])


class NextEvent(TakesSequences, Localizer):
    """Share of events that a small LSTM did not expect.

    Parameters
    ----------
    top_k : int, default 9
        How many of the likeliest events are expected at each place; fewer than there are events.
    score : {"misses", "likelihood"}, default "misses"
        What an event counts: 1 if it was not expected, or -log of its probability.
    hidden : int, default 64
        Width of the vectors and of the LSTM.
    layers : int, default 2
        Of the LSTM.
    epochs : int, default 20
        Passes over the sequences; 0 leaves the network untrained.
    batch_size : int, default 64
        Sequences a step.
    learning_rate : float, default 1e-3
        Of Adam.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    events_ : array of shape (V,)
        The events of the training set, sorted.
    network_ : dict of arrays
        Vectors and weights.

    References
    ----------
    M. Du, F. Li, G. Zheng, V. Srikumar: DeepLog: Anomaly Detection and Diagnosis from System Logs through Deep
    Learning. CCS 2017.

    Examples
    --------
    >>> normal = [[1, 2, 3] * (2 + i % 3) for i in range(40)]
    >>> detector = NextEvent(top_k=1, hidden=8, epochs=30, learning_rate=0.02, random_state=0).fit(normal)
    >>> detector.anomaly_map([[1, 2, 3, 1, 3]])[0].tolist()
    [0.0, 0.0, 0.0, 0.0, 1.0]
    """

    def __init__(
        self,
        top_k: int = 9,
        score: str = "misses",
        hidden: int = 64,
        layers: int = 2,
        epochs: int = 20,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        random_state: Any = None,
    ) -> None:
        self.top_k = top_k
        self.score = score
        self.hidden = hidden
        self.layers = layers
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _check_parameters(self) -> None:
        for name in ("top_k", "hidden", "layers", "batch_size"):
            check_number(getattr(self, name), name, low=1, integer=True)
        check_number(self.epochs, "epochs", low=0, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=1e3)
        check_option(self.score, "score", "misses", "likelihood")

    def _fit(self, X: Sequences, y: Ints | None, rng: np.random.Generator) -> None:
        vocabulary = Vocabulary.of(X)
        self.events_ = vocabulary.events
        if self.score == "misses" and self.top_k >= len(self.events_):
            raise InputError(
                f"top_k={self.top_k}: X holds {len(self.events_)} kinds of events, so that none could be a miss; give "
                "a smaller top_k, or score='likelihood'"
            )
        numbers = vocabulary.numbers(X)
        with seeded(rng):
            network = self._shape()
        step = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        for _ in progress(range(self.epochs), "training NextEvent", total=self.epochs):
            for rows in np.array_split(rng.permutation(len(numbers)), -(-len(numbers) // self.batch_size)):
                table = torch.from_numpy(padded(numbers[rows]))
                # The first value is that of number 1; padding counts nothing.
                loss = F.cross_entropy(network(table).flatten(0, 1), table.flatten() - 1, ignore_index=PAD - 1)
                step.zero_grad()
                loss.backward()
                step.step()
        self.network_ = arrays_of(network)

    def _shape(self) -> Predictor:
        return Predictor(len(self.events_) + FIRST, self.hidden, self.layers)

    def _locate(self, X: Sequences) -> tuple[Floats, list[Floats]]:
        numbers = Vocabulary(self.events_).numbers(X)
        with torch.device("meta"):
            network = self._shape()
        network = with_arrays(network, self.network_)
        order = np.argsort(numbers.lengths, kind="stable")  # neighbours of one length need little padding
        maps: list[Floats] = [np.empty(0)] * len(numbers)
        starts = range(0, len(order), SEQUENCES)
        for start in progress(starts, "scoring", total=len(starts)):
            rows = order[start : start + SEQUENCES]
            table = padded(numbers[rows])
            with torch.inference_mode():
                counts = self._counts(network(torch.from_numpy(table)), torch.from_numpy(table))
            for row, values in zip(rows, counts):
                maps[row] = values[: numbers.lengths[row]]
        return np.array([values.mean() for values in maps]), maps

    def _counts(self, values: torch.Tensor, table: torch.Tensor) -> Floats:
        """Return what every event of padded sequences counts, (n, N)."""
        own = (table - 1).clamp(min=0)[..., None]
        if self.score == "likelihood":
            return -values.double().log_softmax(dim=-1).gather(-1, own)[..., 0].numpy()
        known = values[..., UNKNOWN_EVENT:]
        likelier = (known > values.gather(-1, own)).sum(dim=-1)
        return ((likelier >= self.top_k) | (table == UNKNOWN_EVENT)).double().numpy()

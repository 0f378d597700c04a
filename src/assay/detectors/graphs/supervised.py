"""What the graph classifiers share: a loss for rare anomalies, a validation split, two checkpoints, log odds.

In: graphs, labels 0 and 1 (unknown ones, -1, are left out), weights where some graphs deserve less trust. Out: one
score a graph, the log odds z₁ - z₀ of a network's two logits: unbounded, 0 where either class is as likely.
`predict_proba` gives their softmax, which is the same in fewer digits far from 0.

**Loss.** Graphs count by class, w_c ∝ (1 - β) / (1 - β^{n_c}), n_c the training graphs of class c; the two w_c add up
to 2. Each logit is a yes or no, p its sigmoid for yes, and what is easily right counts less (class-balanced focal
loss):

    loss = 1/n Σ_i w_{y_i} Σ_c (1 - p_t)^γ · (-log p_t),   p_t = p if c = y_i else 1 - p.

**Validation.** A share of each class is held out of training. After every epoch its ROC-AUC and its macro-F1 (an
anomaly is what has a score > 0) are taken; the best network by either is kept, of equals the later one. Training ends
when the macro-F1 has been below its best for more than `patience` epochs. The held-out graphs teach nothing else.

**Scale.** The numbers of the nodes are divided by their largest size in training, column by column: what is one-hot
stays as it is. Beyond a million times that size they are cut off.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import expit
from torch import nn
from torch.nn import functional as F

from assay.base import Detector, TakesGraphs
from assay.core.graphs import Graphs
from assay.core.progress import progress
from assay.core.validation import ANOMALY, NORMAL, UNKNOWN, Floats, InputError, Ints, check_number, check_option
from assay.metrics.ranking import roc_auc
from assay.nn.graphs import batches
from assay.nn.state import arrays_of, seeded, with_arrays

#: Scaled numbers beyond this are cut off: their squares must stay in single precision.
LARGEST = 1e6
#: Nodes that are scored at once: what bounds memory.
NODES_AT_ONCE = 20_000


def class_weights(counts: Any, beta: float) -> torch.Tensor:
    """Return the weight of each class by its number of graphs, both adding up to 2."""
    weights = (1.0 - beta) / (1.0 - np.power(beta, np.asarray(counts, dtype=np.float64)))
    return torch.from_numpy((2.0 * weights / weights.sum()).astype(np.float32))


def focal_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return the class-balanced focal loss of logits (b, 2); `weights` (b,) is one number a graph."""
    truth = F.one_hot(labels, 2).to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    # (1 - p_t)^γ by its logarithm, which does not overflow.
    easy = torch.exp(-gamma * (truth * logits + F.softplus(-logits)))
    return (weights[:, None] * easy * cross_entropy).sum() / len(logits)


def macro_f1(y: Any, flagged: Any) -> float:
    """Return the mean of both classes' F1; a class that neither occurs nor is named has 0."""
    y, flagged = np.asarray(y).astype(bool), np.asarray(flagged).astype(bool)
    right = np.array([(y & flagged).sum(), (~y & ~flagged).sum()])
    wrong = (y != flagged).sum()
    return float((2 * right / np.maximum(2 * right + wrong, 1)).mean())


def held_out(y: Ints, share: float, rng: np.random.Generator) -> Any:
    """Return which graphs validate: a share of each class, at least one of it and never all."""
    held = np.zeros(len(y), dtype=bool)
    for label in (NORMAL, ANOMALY):
        rows = rng.permutation(np.flatnonzero(y == label))
        held[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    return held


class GraphClassifier(TakesGraphs, Detector):
    """A network that tells normal from anomalous graphs; a system writes `_network` and `_inputs`.

    Attributes
    ----------
    scale_ : array of shape (d,)
        Largest size of each column of the nodes' numbers in training; 1 where it is 0.
    checkpoints_ : dict
        ``"auc"`` and ``"f1"``: the network's weights, name -> array, at its best validation ROC-AUC and macro-F1.
    epochs_ : dict
        The epoch of each checkpoint, from 1; 0 is the untrained network.
    history_ : list of dict
        Of each epoch the mean training ``loss``, and ``auc`` and ``f1`` of the validation graphs.
    """

    labels: ClassVar[str] = "required"
    takes_weights: ClassVar[bool] = True
    min_rows: ClassVar[int] = 4
    beta: Any
    gamma: Any
    dropout: Any
    validation: Any
    checkpoint: Any
    epochs: Any
    patience: Any
    batch_size: Any
    learning_rate: Any

    def _check_parameters(self) -> None:
        check_number(self.beta, "beta", low=0.0, high=1.0, strict_high=True)
        check_number(self.gamma, "gamma", low=0.0, high=100.0)
        check_number(self.dropout, "dropout", low=0.0, high=1.0, strict_high=True)
        check_number(self.validation, "validation", low=0.0, high=1.0, strict_low=True, strict_high=True)
        check_option(self.checkpoint, "checkpoint", "auc", "f1")
        check_number(self.epochs, "epochs", low=0, integer=True)
        check_number(self.patience, "patience", low=1, integer=True)
        check_number(self.batch_size, "batch_size", low=2, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=1e3, strict_low=True)

    def _network(self, width: int) -> nn.Module:
        """Return the untrained network for nodes of `width` numbers."""
        raise NotImplementedError

    def _inputs(self, X: Graphs) -> tuple[Any, ...]:
        """Return what the network's forward takes, of scaled graphs."""
        raise NotImplementedError

    def _fit(self, X: Graphs, y: Ints, rng: np.random.Generator) -> None:
        self._fit_weighted(X, y, np.ones(len(X)), rng)

    def _fit_weighted(self, X: Graphs, y: Ints, weights: Floats, rng: np.random.Generator) -> None:
        usable = (y != UNKNOWN) & (weights > 0)
        X, y, weights = X[usable], y[usable], weights[usable]
        for label, kind in ((NORMAL, "normal graphs (0)"), (ANOMALY, "anomalies (1)")):
            if (y == label).sum() < 2:
                raise InputError(
                    f"y holds {(y == label).sum()} {kind} that count: give at least 2, one to learn from and one to "
                    "validate with; synthetic ones will do"
                )
        held = held_out(y, self.validation, rng)
        size = np.abs(X.x[np.repeat(~held, X.sizes)]).max(axis=0)
        self.scale_ = np.where(size > 0, size, 1.0)
        X = self._scaled(X)
        with seeded(rng):
            network = self._network(X.x.shape[1])
            self._train(network, X[~held], y[~held], weights[~held], (X[held], y[held]), rng)

    def _train(
        self, network: nn.Module, X: Graphs, y: Ints, weights: Floats, validation: Any, rng: np.random.Generator
    ) -> None:
        labels = torch.from_numpy(y)
        counts = class_weights(np.bincount(y, minlength=2), self.beta)[labels]
        counts = counts * torch.from_numpy((weights / weights.mean()).astype(np.float32))
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        self.checkpoints_ = {name: arrays_of(network) for name in ("auc", "f1")}
        self.epochs_, self.history_, best = {"auc": 0, "f1": 0}, [], {"auc": -1.0, "f1": -1.0}
        for epoch in progress(range(1, self.epochs + 1), f"training {type(self).__name__}", total=self.epochs):
            losses = []
            network.train()
            for rows in batches(X, self.batch_size, rng.permutation(len(X))):
                loss = focal_loss(network(*self._inputs(X[rows])), labels[rows], counts[rows], self.gamma)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.item() * len(rows))
            odds = self._log_odds(network, validation[0])
            if not np.isfinite(odds).all():
                raise InputError(f"learning_rate={self.learning_rate} made the training diverge; give a smaller one")
            found = {"auc": roc_auc(validation[1], odds), "f1": macro_f1(validation[1], odds > 0)}
            self.history_.append({"loss": sum(losses) / len(X), **found})
            for name, value in found.items():
                if value >= best[name]:
                    best[name], self.epochs_[name], self.checkpoints_[name] = value, epoch, arrays_of(network)
            if epoch - self.epochs_["f1"] > self.patience:
                break

    def _scaled(self, X: Graphs) -> Graphs:
        return Graphs(np.clip(X.x / self.scale_, -LARGEST, LARGEST), X.nodes, X.edges, X.weights)

    def _fitted_network(self) -> nn.Module:
        # It may have been changed since the fit.
        check_option(self.checkpoint, "checkpoint", "auc", "f1")
        with torch.device("meta"):
            network = self._network(len(self.scale_))
        return with_arrays(network, self.checkpoints_[self.checkpoint])

    def _log_odds(self, network: nn.Module, X: Graphs) -> Floats:
        network.eval()
        parts = []
        with torch.inference_mode():
            for rows in few_nodes(X):
                logits = network(*self._inputs(X[rows])).double()
                parts.append((logits[:, 1] - logits[:, 0]).numpy())
        return np.concatenate(parts)

    def _score(self, X: Graphs) -> Floats:
        return self._log_odds(self._fitted_network(), self._scaled(X))

    def predict_proba(self, X: Any) -> Floats:
        """Return what the network takes for the probabilities of normal and anomalous, (n, 2).

        The loss makes anomalies count as much as normal graphs: where they are rare, these are too high for them, and
        a calibrator is the better judge.

        Parameters
        ----------
        X : graphs
            As for `anomaly_score`.
        """
        odds = self.anomaly_score(X)
        return np.stack([expit(-odds), expit(odds)], axis=1)


def few_nodes(X: Graphs) -> list[Ints]:
    """Return the numbers of consecutive graphs that have about `NODES_AT_ONCE` nodes together."""
    part = X.nodes[1:] // NODES_AT_ONCE
    return np.split(np.arange(len(X)), np.flatnonzero(np.diff(part)) + 1)

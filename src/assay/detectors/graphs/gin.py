"""GIN: a supervised graph classifier that adds up neighbours; the plain baseline of the graph classifiers.

In: graphs with the numbers of their nodes, and labels of which some are anomalies: **supervised**. Out: one score a
graph, log odds; see `assay.detectors.graphs.supervised`, which also holds loss, validation and checkpoints.

A layer of the graph isomorphism network takes each node to

    h_v ← norm(act(MLP(h_v + Σ_u a_vu h_u)))

over its neighbours u, with edge weights a_vu; the sums over a graph's nodes after each of l layers, next to each other,
go through dropout and one linear layer. Sums can count: a network of this kind tells apart whatever graphs the
Weisfeiler-Leman test does. What it cannot see easily is a contrast between a node and its neighbours, which RQGNN is
given: here a product of differences has to be learned.

Defaults: l = 3 layers of 64, and everything else as in RQGNN, so that both compare. Departures: published were 5 layers
of 16 to 64, a network of batch normalisation within the MLP, dropout .5, Adam at .01, halved every 50 of 350 epochs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from assay.core.graphs import Graphs
from assay.core.validation import check_number
from assay.detectors.graphs.supervised import LARGEST, GraphClassifier
from assay.nn.graphs import GIN, GraphBatch, batch_of


class GINNetwork(nn.Module):
    """The encoder, dropout, and one linear layer.

    Parameters
    ----------
    width : int
        Numbers a node.
    hidden, layers : int
        Of the encoder.
    dropout : float
        Share of the sums that is left out in training.
    """

    def __init__(self, width: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.encoder = GIN(width, hidden, layers)
        self.head = nn.Linear(hidden * layers, 2)
        self.dropout = dropout

    def forward(self, batch: GraphBatch) -> torch.Tensor:
        """Return the logits (b, 2)."""
        return self.head(F.dropout(self.encoder(batch)[1], self.dropout, self.training))


class GINClassifier(GraphClassifier):
    """A graph isomorphism network with sum pooling, trained on labelled graphs.

    Parameters
    ----------
    hidden : int, default 64
        Width of every layer.
    layers : int, default 3
        How many: a node sees that many steps away (published: 5).
    dropout : float in [0, 1), default 0.4
        Before the last layer (published: .5).
    beta, gamma : float, default .999 and 1.5
        Of the loss, see `assay.detectors.graphs.supervised`; γ = 0 and β = 0 are plain cross-entropy.
    validation : float in (0, 1), default 0.15
        Share of each class that picks the checkpoint.
    checkpoint : {"auc", "f1"}, default "auc"
        Which network scores: the best validation ROC-AUC, or macro-F1. May be changed after `fit`.
    epochs : int, default 100
        Passes over the graphs at most; 0 leaves the network untrained.
    patience : int, default 50
        Epochs below the best macro-F1 that end the training.
    batch_size : int, default 512
        Graphs a step.
    learning_rate : float, default 5e-3
        Of Adam.
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    K. Xu, W. Hu, J. Leskovec, S. Jegelka: How Powerful are Graph Neural Networks? ICLR 2019, arXiv 1810.00826.

    Examples
    --------
    >>> from assay.core.graphs import joined_graphs
    >>> from assay.datasets.simulators.graphs import random_graphs
    >>> kinds, size = ("watts_strogatz", "barabasi_albert"), {"low": 10, "high": 14, "random_state": 0}
    >>> graphs = joined_graphs([graph for kind in kinds for graph in random_graphs(kind, 20, **size)])
    >>> model = GINClassifier(hidden=8, epochs=20, batch_size=10, random_state=0).fit(graphs, np.repeat([0, 1], 20))
    >>> scores = model.anomaly_score(graphs)
    >>> bool(scores[20:].min() > scores[:20].max())
    True
    """

    def __init__(
        self,
        hidden: int = 64,
        layers: int = 3,
        dropout: float = 0.4,
        beta: float = 0.999,
        gamma: float = 1.5,
        validation: float = 0.15,
        checkpoint: str = "auc",
        epochs: int = 100,
        patience: int = 50,
        batch_size: int = 512,
        learning_rate: float = 5e-3,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.layers = layers
        self.dropout = dropout
        self.beta = beta
        self.gamma = gamma
        self.validation = validation
        self.checkpoint = checkpoint
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.hidden, "hidden", low=1, high=10_000, integer=True)
        check_number(self.layers, "layers", low=1, high=100, integer=True)

    def _network(self, width: int) -> GINNetwork:
        return GINNetwork(width, self.hidden, self.layers, self.dropout)

    def _inputs(self, X: Graphs) -> tuple[GraphBatch]:
        adjacency = X.adjacency()
        adjacency.data = np.minimum(adjacency.data, LARGEST)
        return (batch_of(X, adjacency),)

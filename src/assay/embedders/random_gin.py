"""Graphs as rows of numbers: the features of a network that never learned.

In: graphs, see `assay.core.graphs`. Out: one row a graph, (n, hidden · layers), from that graph alone.

A graph isomorphism network (`assay.nn.graphs.GIN`) with random weights adds up neighbours in every layer; the sums over
the nodes of all layers are the row. Its normalisations see the training graphs once, nothing else is learned. Whatever
the network could tell apart after training, it mostly does without: in judging generated graphs such features did as
well as trained ones.

Departures: sums grow with the graph and with its numbers, so the row holds ln(1 + |sum|) with the sum's sign; the
paper's network has orthogonal weights and no normalisation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from assay.base import Embedder, TakesGraphs
from assay.core.graphs import Graphs
from assay.core.validation import Floats, check_number
from assay.nn.graphs import GIN, batch_of, batches
from assay.nn.state import arrays_of, seeded, with_arrays

#: Graphs that go through the network at a time.
CHUNK = 512


class RandomGIN(TakesGraphs, Embedder):
    """What an untrained graph isomorphism network says of a graph.

    Parameters
    ----------
    hidden : int, default 32
        Width of a layer (paper: 5 to 40).
    layers : int, default 3
        Layers; c = hidden · layers (paper: 2 to 7).
    random_state : None, int or numpy.random.Generator
        Seed of the weights.

    Attributes
    ----------
    network_ : dict of arrays
        The weights, and the normalisations' statistics.
    center_, scale_ : arrays of shape (d,)
        Mean and standard deviation of the training nodes' numbers; 1 where they are constant.

    References
    ----------
    R. Thompson, B. Knyazev, E. Ghalebi, J. Kim, G. W. Taylor: On Evaluation Metrics for Graph Generative Models. ICLR
    2022.

    Examples
    --------
    >>> from assay.datasets.simulators.graphs import random_graphs
    >>> RandomGIN(random_state=0).fit_transform(random_graphs("erdos_renyi", 5, random_state=0)).shape
    (5, 96)
    """

    def __init__(self, hidden: int = 32, layers: int = 3, random_state: Any = None) -> None:
        self.hidden = hidden
        self.layers = layers
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.hidden, "hidden", low=1, integer=True)
        check_number(self.layers, "layers", low=1, integer=True)

    def _fit(self, X: Graphs, rng: np.random.Generator) -> None:
        self.center_ = X.x.mean(axis=0)
        self.scale_ = np.where(np.ptp(X.x, axis=0) > 0, X.x.std(axis=0), 1.0)
        with seeded(rng), torch.no_grad():
            network = GIN(X.x.shape[1], self.hidden, self.layers)
            for norm in network.norms:
                norm.momentum = None  # the plain mean over all batches
            # Of a single node there is no spread to learn.
            for rows in batches(X, CHUNK) if len(X.x) > 1 else ():
                self._through(network, X[rows])
        self.network_ = arrays_of(network)

    def _through(self, network: GIN, X: Graphs) -> torch.Tensor:
        X = Graphs((X.x - self.center_) / self.scale_, X.nodes, X.edges, X.weights)
        sums: torch.Tensor = network(batch_of(X, X.adjacency()))[1]
        return sums

    def _embed(self, X: Graphs) -> Floats:
        with torch.device("meta"):
            network = GIN(len(self.center_), self.hidden, self.layers)
        network = with_arrays(network, self.network_)
        with torch.no_grad():
            parts = [self._through(network, X[rows]).double().numpy() for rows in batches(X, CHUNK)]  # type: ignore[arg-type]
        sums = np.concatenate(parts)
        return np.sign(sums) * np.log1p(np.abs(sums))

"""RQGNN: how a graph's signals lie on its spectrum, read off by Rayleigh's quotient and by learned wavelets.

In: graphs with the numbers of their nodes, and labels: **supervised**, some anomalous graphs, real or synthetic, must
be among the training graphs. Out: one score a graph, log odds; see `assay.detectors.graphs.supervised`, which also
holds loss, validation and checkpoints.

L = I - D^-1/2 A D^-1/2 has eigenvalues λ from 0 to 2; a column x of the nodes' numbers has a share p_k of its energy at
λ_k. Rayleigh's quotient xᵀLx / xᵀx = Σ λ_k p_k is the area above the curve of accumulated energy: small where
neighbours have like numbers, large where they do not. One quotient a column, r (d,), is used twice:

    explicit   e = act(W₆ W₅ r)                                                    in R^h, act = LeakyReLU
    implicit   H₀ = act(W₂ act(W₁ x))                                              of each node, d numbers
               H  = act(W₄ act(W₃ [Σ_k T_k(L - I) H₀ Θ_jk, j = 1 … q]))            q filters of K terms, k < K
               α_v = ⟨h_v, act(W₉ act(W₈ r))⟩,   h_G = Σ_v α_v h_v                 Rayleigh pooling
    logits     W₇ dropout(batchnorm [h_G, e])

with Chebyshev's polynomials T_0 = 1, T_1 = z, T_k = 2 z T_{k-1} - T_{k-2} of z = L - I, whose eigenvalues lie in
[-1, 1]. All q filters see the same T_k H₀: these are worked out once, and the filters are one product.

An isolated node has a row of zeros in L, a graph without edges the quotient 0.

Explanation. In evaluation batchnorm and W₇ are affine and h_G is a sum: the score is exactly a sum of one number a
node, one of the explicit branch and a constant (`explain`).

Defaults of the official code: h = 64, q = 4, K = 6, dropout .4, Adam at 5e-3, batches of 512 graphs, 100 epochs,
patience 50, β = .999, γ = 1.5, 15 % to validate.

Departures:

- The official code keeps its filters in a plain list, so that they are never trained; here they are.
- The official code uses xᵀLx, which grows with the graph (``normalize=False``); the quotient is the paper's.
- Columns are divided by their largest size in training (a quotient does not mind).
- The validation graphs are taken from those given: 15 % of them, not of a set that also holds the test graphs.
- The paper's c_{j,k}, coefficients of wavelets at several scales, are free matrices Θ_jk, as in the code.

Not reproduced: the ten cancer-screen sets of the paper.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from assay.core.graphs import Graphs
from assay.core.validation import Floats, InputError, check_number, check_option, told
from assay.detectors.graphs.supervised import GraphClassifier, few_nodes
from assay.kernels.graphs import laplacian, rayleigh_quotients
from assay.nn.graphs import GraphBatch, batch_of, graph_sum


class ChebyshevFilters(nn.Module):
    """Polynomial filters of a graph's spectrum: (N, d) -> (N, q·d), the `operator` of the batch being L - I.

    Parameters
    ----------
    width : int
        Numbers a node, d, before and, of each filter, after.
    filters : int
        How many, q.
    terms : int
        Chebyshev polynomials of each, K.
    """

    def __init__(self, width: int, filters: int, terms: int) -> None:
        super().__init__()
        self.terms = terms
        #: All Θ_jk: K·d numbers in, q·d out.
        self.theta = nn.Linear(terms * width, filters * width)

    def forward(self, x: torch.Tensor, operator: torch.Tensor) -> torch.Tensor:
        """Return the filtered numbers of the nodes x (N, d)."""
        known = [x, operator @ x][: self.terms]
        while len(known) < self.terms:
            known.append(2.0 * (operator @ known[-1]) - known[-2])
        return self.theta(torch.cat(known, dim=1))


def _two_layers(*widths: int) -> nn.Sequential:
    first, hidden, last = widths
    return nn.Sequential(nn.Linear(first, hidden), nn.LeakyReLU(), nn.Linear(hidden, last), nn.LeakyReLU())


class RayleighNetwork(nn.Module):
    """The network of both branches.

    Parameters
    ----------
    width : int
        Numbers a node, d.
    hidden : int
        h.
    filters, terms : int
        q and K.
    dropout : float
        Share of [h_G, e] that is left out in training.
    explicit : bool
        Whether the quotients have a branch of their own.
    pooling : str
        ``"rayleigh"`` or ``"sum"``.
    """

    def __init__(
        self, width: int, hidden: int, filters: int, terms: int, dropout: float, explicit: bool, pooling: str
    ) -> None:
        super().__init__()
        self.enter = _two_layers(width, width, width)
        self.filters = ChebyshevFilters(width, filters, terms)
        self.leave = _two_layers(filters * width, hidden, hidden)
        self.attend = _two_layers(width, hidden, hidden) if pooling == "rayleigh" else None
        layers = nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.LeakyReLU()
        self.explicit = nn.Sequential(*layers) if explicit else None
        self.norm = nn.BatchNorm1d(hidden * (1 + explicit))
        self.head = nn.Linear(hidden * (1 + explicit), 2)
        self.dropout = dropout

    def parts(self, batch: GraphBatch, r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return h_v (N, h), α_v (N,) and e (b, h or 0) of a batch and its quotients (b, d)."""
        nodes = self.leave(self.filters(self.enter(batch.x), batch.operator))
        alpha = torch.ones(len(nodes))
        if self.attend is not None:
            alpha = (nodes * self.attend(r)[batch.graph]).sum(dim=1)
        return nodes, alpha, r[:, :0] if self.explicit is None else self.explicit(r)

    def forward(self, batch: GraphBatch, r: torch.Tensor) -> torch.Tensor:
        """Return the logits (b, 2)."""
        nodes, alpha, e = self.parts(batch, r)
        both = torch.cat([graph_sum(alpha[:, None] * nodes, batch), e], dim=1)
        return self.head(F.dropout(self.norm(both), self.dropout, self.training))

    def weights(self) -> tuple[torch.Tensor, float]:
        """Return what each of [h_G, e] weighs in the log odds z₁ - z₀ in evaluation, and the constant."""
        slope = self.norm.weight / torch.sqrt(self.norm.running_var + self.norm.eps)
        odds, bias = self.head.weight[1] - self.head.weight[0], self.head.bias[1] - self.head.bias[0]
        return odds * slope, float(bias + odds @ (self.norm.bias - slope * self.norm.running_mean))


class RayleighExplanation(NamedTuple):
    """What made the scores.

    Attributes
    ----------
    quotients : array of shape (n, d)
        Rayleigh's quotient of each column of the nodes' numbers (the form xᵀLx with ``normalize=False``).
    weights : list of arrays of shape (v,)
        α_v, how much each node of a graph counts in h_G.
    nodes : list of arrays of shape (v,)
        What each node adds to the score.
    explicit : array of shape (n,)
        What the explicit branch adds to it.
    constant : float
        What every score begins with: score = constant + explicit + sum of nodes.
    """

    quotients: Floats
    weights: list[Floats]
    nodes: list[Floats]
    explicit: Floats
    constant: float


class RQGNN(GraphClassifier):
    """Rayleigh quotients and learned spectral filters of labelled graphs.

    Parameters
    ----------
    hidden : int, default 64
        Width h (code).
    filters : int, default 4
        Chebyshev filters q (code: width).
    terms : int, default 6
        Polynomials K of a filter (code: depth).
    dropout : float in [0, 1), default 0.4
        Before the last layer (code).
    normalize : bool, default True
        Quotients, as in the paper; False: the form xᵀLx, as in the code.
    explicit : bool, default True
        False leaves out the explicit branch: an ablation.
    pooling : {"rayleigh", "sum"}, default "rayleigh"
        ``"sum"`` counts all nodes alike: an ablation.
    beta, gamma : float, default .999 and 1.5
        Of the loss (code): β in [0, 1), how much rare classes count; γ >= 0, how little easy graphs do.
    validation : float in (0, 1), default 0.15
        Share of each class that picks the checkpoint (code).
    checkpoint : {"auc", "f1"}, default "auc"
        Which network scores: the best validation ROC-AUC, or macro-F1. May be changed after `fit`.
    epochs : int, default 100
        Passes over the graphs at most (code); 0 leaves the network untrained.
    patience : int, default 50
        Epochs below the best macro-F1 that end the training (code).
    batch_size : int, default 512
        Graphs a step (code).
    learning_rate : float, default 5e-3
        Of Adam (code).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    X. Dong, X. Zhang, S. Wang: Rayleigh Quotient Graph Neural Networks for Graph-level Anomaly Detection. ICLR 2024,
    arXiv 2310.02861. Loss: Y. Cui et al.: Class-Balanced Loss Based on Effective Number of Samples. CVPR 2019.

    Examples
    --------
    >>> from assay.datasets.simulators.graphs import signals_on_graphs
    >>> graphs, labels = signals_on_graphs(80, share=0.25, random_state=0)
    >>> model = RQGNN(hidden=8, filters=2, terms=3, epochs=20, batch_size=16, random_state=0)
    >>> scores = model.fit(graphs[:50], labels[:50]).anomaly_score(graphs[50:])
    >>> bool(scores[labels[50:] == 1].min() > scores[labels[50:] == 0].max())
    True
    """

    def __init__(
        self,
        hidden: int = 64,
        filters: int = 4,
        terms: int = 6,
        dropout: float = 0.4,
        normalize: bool = True,
        explicit: bool = True,
        pooling: str = "rayleigh",
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
        self.filters = filters
        self.terms = terms
        self.dropout = dropout
        self.normalize = normalize
        self.explicit = explicit
        self.pooling = pooling
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
        for name, most in (("hidden", 10_000), ("filters", 1000), ("terms", 1000)):
            check_number(getattr(self, name), name, low=1, high=most, integer=True)
        check_option(self.pooling, "pooling", "rayleigh", "sum")
        for name in ("normalize", "explicit"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise InputError(f"{name}={told(getattr(self, name))}: give True or False")

    def _network(self, width: int) -> RayleighNetwork:
        return RayleighNetwork(
            width, self.hidden, self.filters, self.terms, self.dropout, bool(self.explicit), self.pooling
        )

    def _inputs(self, X: Graphs) -> tuple[GraphBatch, torch.Tensor]:
        batch = batch_of(X, sparse.csr_array(laplacian(X) - sparse.eye_array(len(X.x))))
        return batch, torch.from_numpy(rayleigh_quotients(X, self.normalize).astype(np.float32))

    def explain(self, X: Any) -> RayleighExplanation:
        """Return the quotients, the nodes' weights, and what each node and the explicit branch add to the score.

        Parameters
        ----------
        X : graphs
            As for `anomaly_score`, whose checkpoint is explained.

        Returns
        -------
        RayleighExplanation
        """
        check_is_fitted(self)
        X = self._scaled(self._check_table(X, reset=False))
        network = self._fitted_network()
        slope, constant = network.weights()
        alphas, added, explicit, quotients = [], [], [], []
        with torch.inference_mode():
            for rows in few_nodes(X):
                batch, r = self._inputs(X[rows])
                nodes, alpha, e = network.parts(batch, r)
                alphas.append(alpha.numpy())
                added.append((alpha * (nodes @ slope[: self.hidden])).numpy())
                explicit.append((e @ slope[self.hidden :]).numpy())
                quotients.append(r.numpy())
        flat = (np.concatenate(parts).astype(np.float64) for parts in (quotients, alphas, added, explicit))
        r, alpha, nodes, e = flat
        return RayleighExplanation(r, np.split(alpha, X.nodes[1:-1]), np.split(nodes, X.nodes[1:-1]), e, constant)

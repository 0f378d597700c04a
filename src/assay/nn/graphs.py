"""Networks on batches of graphs: sparse matrices, sums over graphs, the GIN encoder. No loop over nodes or graphs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import nn
from torch.nn import functional as F

from assay.core.graphs import Graphs
from assay.core.validation import Ints


class GraphBatch(NamedTuple):
    """A batch of graphs as tensors.

    Attributes
    ----------
    x : Tensor of shape (N, d)
        The numbers of the nodes, float32.
    operator : Tensor of shape (N, N)
        A sparse matrix that acts on nodes: adjacency, or a Laplacian.
    graph : Tensor of int of shape (N,)
        The graph of each node.
    size : int
        How many graphs.
    """

    x: torch.Tensor
    operator: torch.Tensor
    graph: torch.Tensor
    size: int


def sparse_tensor(matrix: sparse.csr_array) -> torch.Tensor:
    """Return a symmetric scipy matrix as a sparse float32 tensor that can be multiplied and differentiated."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    indices = torch.from_numpy(np.stack([rows, matrix.indices.astype(np.int64)]))
    values = torch.from_numpy(matrix.data.astype(np.float32))
    return torch.sparse_coo_tensor(indices, values, matrix.shape, is_coalesced=True, check_invariants=False)


def batch_of(graphs: Graphs, matrix: sparse.csr_array) -> GraphBatch:
    """Return graphs, with the matrix (N, N) that acts on their nodes, as tensors."""
    return GraphBatch(
        torch.from_numpy(graphs.x.astype(np.float32)),
        sparse_tensor(matrix),
        torch.from_numpy(graphs.graph_of_node),
        len(graphs),
    )


def graph_sum(values: torch.Tensor, batch: GraphBatch) -> torch.Tensor:
    """Return the sums over each graph's nodes, (b, h), of values (N, h)."""
    return values.new_zeros(batch.size, values.shape[1]).index_add(0, batch.graph, values)


def batches(graphs: Graphs, size: int, order: Ints | None = None) -> list[Ints]:
    """Return the numbers of the graphs of each batch of about `size`; a lone last graph joins those before it."""
    order = np.arange(len(graphs)) if order is None else order
    count = max(1, len(order) // size + (len(order) % size > 1))
    return [np.asarray(part) for part in np.array_split(order, [size * k for k in range(1, count)])]


class GIN(nn.Module):
    """Graph isomorphism network: every layer adds up the neighbours and puts the sum through two linear layers.

    Parameters
    ----------
    inputs : int
        Numbers a node, d.
    hidden : int
        Width h of every layer.
    layers : int
        How many, l: a node sees its neighbourhood up to that many steps away.
    centred : bool
        Whether the mean over the nodes' h numbers is taken off before the normalisation of the batch, as DO2HSC does.
    bias : bool
        Whether the linear layers have one; without, a network cannot learn to be constant.
    """

    def __init__(
        self, inputs: int, hidden: int = 16, layers: int = 3, centred: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * (layers - 1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden, bias=bias), nn.LeakyReLU(), nn.Linear(hidden, hidden, bias=bias))
            for width in widths
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(hidden, affine=bias) for _ in widths)
        self.centred = centred

    def forward(self, batch: GraphBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is known of each node (N, l·h), and its sum over each graph (b, l·h); `operator` is A."""
        x, known = batch.x, []
        for layer, norm in zip(self.layers, self.norms):
            x = F.leaky_relu(layer(x + batch.operator @ x))
            if self.centred:
                x = x - x.mean(dim=1, keepdim=True)
            x = norm(x)
            known.append(x)
        nodes = torch.cat(known, dim=1)
        return nodes, graph_sum(nodes, batch)

"""What a graph's matrices say of the numbers at its nodes: sparse products over a whole batch, no loop over nodes."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from assay.core.graphs import Graphs
from assay.core.validation import Floats


def laplacian(graphs: Graphs) -> sparse.csr_array:
    """Return L = I - D^-1/2 A D^-1/2 of all graphs, block-diagonal (N, N); rows of isolated nodes are zero."""
    degrees = graphs.degrees()
    root = np.where(degrees > 0, 1.0 / np.sqrt(np.where(degrees > 0, degrees, 1.0)), 0.0)
    scaled = graphs.adjacency()
    scaled.data = -scaled.data * root[graphs.edges[0]] * root[graphs.edges[1]]
    return sparse.csr_array(sparse.diags_array((degrees > 0).astype(np.float64)) + scaled)


def graph_sums(values: Floats, graphs: Graphs) -> Floats:
    """Return the sums over each graph's nodes, (n, …), of values (N, …); a graph has at least one node."""
    if len(graphs) == 0:
        return np.zeros((0, *values.shape[1:]))
    sums: Floats = np.add.reduceat(values, graphs.nodes[:-1], axis=0)
    return sums


def rayleigh_quotients(graphs: Graphs, normalize: bool = True) -> Floats:
    """Return xᵀLx / xᵀx of each column x of the nodes' numbers in each graph, (n, d), in [0, 2].

    Parameters
    ----------
    graphs : Graphs
        The graphs.
    normalize : bool, default True
        False gives xᵀLx alone, which grows with the graph and with the size of x.

    Returns
    -------
    array of shape (n, d)
        0 where x is 0 throughout the graph, or the graph has no edge.
    """
    form = graph_sums(graphs.x * (laplacian(graphs) @ graphs.x), graphs)
    if not normalize:
        return form
    power = graph_sums(graphs.x**2, graphs)
    # A quotient is at least 0; rounding may say -1e-17.
    return np.maximum(np.divide(form, power, out=np.zeros_like(form), where=power > 0), 0.0)


def spectral_energy_curve(graphs: Graphs, column: int = 0) -> tuple[Floats, Floats]:
    """Return the eigenvalues λ (v,) of the one graph's L and the share η (v,) of x's energy up to each.

    With p_k = (u_kᵀx)² / |x|² and η_k = Σ_{i ≤ k} p_i, Rayleigh's quotient is Σ λ_k p_k = Σ (λ_{k+1} - λ_k)(1 - η_k):
    the area above the curve. The decomposition is dense: for graphs of a few hundred nodes.
    """
    values, vectors = np.linalg.eigh(laplacian(graphs).toarray())
    energy = (vectors.T @ graphs.x[:, column]) ** 2
    total = energy.sum()
    return np.clip(values, 0.0, 2.0), np.cumsum(energy) / total if total > 0 else np.ones(len(values))

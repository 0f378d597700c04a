"""Speed on graphs: batches, training steps and quotients against torch_geometric and dense loops; growth with n.

    python benchmarks/graphs.py

CPU seconds of one thread, medians. The peer is torch_geometric with its own loader and layers at equal settings and
equal weights, whose outputs must be the same; its rows are left out where it is not installed.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from scipy.sparse import csgraph
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs")]

from assay.core.graphs import Graphs, as_graphs
from assay.datasets.simulators.graphs import random_graphs
from assay.detectors.graphs.gin import GINClassifier
from assay.detectors.graphs.rqgnn import RQGNN, ChebyshevFilters
from assay.kernels.graphs import laplacian, rayleigh_quotients
from assay.nn.graphs import GIN, batch_of
from tables import write

REPEATS, BATCH, HIDDEN, LAYERS, FILTERS, TERMS = 7, 512, 64, 3, 4, 6


def cpu(function, repeats=REPEATS):
    """Return the median CPU seconds and the last result, the first call aside."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return float(np.median(times)), result


def taught(network, given):
    """Return a training step: forward, backward, Adam."""
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-6)

    def step():
        optimiser.zero_grad()
        network(*given()).square().mean().backward()
        optimiser.step()

    return step


def shifted(graphs):
    return batch_of(graphs, sparse.csr_array(laplacian(graphs) - sparse.eye_array(len(graphs.x))))


class Ours(nn.Module):
    """The GIN's sums over graphs, or the filters' output."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, batch):
        return self.part(batch)[1] if isinstance(self.part, GIN) else self.part(batch.x, batch.operator)


def peer_networks(ours_gin, ours_filters, width):
    """Return torch_geometric's GIN and ChebConv bank with our weights."""
    from torch_geometric.nn import ChebConv, GINConv, global_add_pool

    class PeerGIN(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [width] + [HIDDEN] * (LAYERS - 1)
            self.convs = nn.ModuleList(
                GINConv(nn.Sequential(nn.Linear(w, HIDDEN), nn.LeakyReLU(), nn.Linear(HIDDEN, HIDDEN))) for w in widths
            )
            self.norms = nn.ModuleList(nn.BatchNorm1d(HIDDEN) for _ in widths)

        def forward(self, data):
            x, known = data.x, []
            for conv, norm in zip(self.convs, self.norms):
                x = norm(F.leaky_relu(conv(x, data.edge_index)))
                known.append(x)
            return global_add_pool(torch.cat(known, dim=1), data.batch, data.num_graphs)

    class PeerFilters(nn.Module):
        def __init__(self):
            super().__init__()
            self.bank = nn.ModuleList(ChebConv(width, width, TERMS) for _ in range(FILTERS))

        def forward(self, data):
            return torch.cat([conv(data.x, data.edge_index) for conv in self.bank], dim=1)

    gin, filters = PeerGIN(), PeerFilters()
    with torch.no_grad():
        for conv, layer in zip(gin.convs, ours_gin.layers):
            conv.nn.load_state_dict(layer.state_dict())
        theta = ours_filters.theta.weight.reshape(FILTERS, width, TERMS, width)
        for j, conv in enumerate(filters.bank):
            conv.bias.copy_(ours_filters.theta.bias[j * width : (j + 1) * width])
            for k, linear in enumerate(conv.lins):
                linear.weight.copy_(theta[j, :, k])
    return gin, filters


def against_the_peer(rows):
    graphs = random_graphs("watts_strogatz", BATCH, random_state=0)
    width, order = graphs.x.shape[1], np.random.default_rng(0).permutation(BATCH)
    torch.manual_seed(0)
    gin, filters = GIN(width, HIDDEN, LAYERS), ChebyshevFilters(width, FILTERS, TERMS)

    def batch():
        part = graphs[order]
        return batch_of(part, part.adjacency())

    fixed, fixed_shifted = batch(), shifted(graphs[order])
    ours = {
        f"a batch of {BATCH} graphs": batch,
        "the same with L - I": lambda: shifted(graphs[order]),
        "GIN: a step, the batch given": taught(Ours(gin), lambda: (fixed,)),
        "GIN: a step, batch included": taught(Ours(gin), lambda: (batch(),)),
        "filters: a step, the batch given": taught(Ours(filters), lambda: (fixed_shifted,)),
        "filters: a step, batch included": taught(Ours(filters), lambda: (shifted(graphs[order]),)),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch_geometric.data import Data
            from torch_geometric.loader import DataLoader
    except ModuleNotFoundError:
        for name, function in ours.items():
            rows.append([f"{name}: ours", milliseconds(cpu(function)[0]), "", ""])
        return
    items = [
        Data(x=torch.from_numpy(g.x.astype(np.float32)), edge_index=torch.from_numpy(np.ascontiguousarray(g.edges)))
        for g in graphs[order]
    ]
    loader = DataLoader(items, batch_size=BATCH)
    peer_gin, peer_filters = peer_networks(gin, filters, width)
    data = next(iter(loader))
    for mine, other, given in ((gin, peer_gin, fixed), (filters, peer_filters, fixed_shifted)):
        gap = (Ours(mine)(given) - other(data)).abs().max().item()
        assert gap < 1e-3 * other(data).abs().max().item(), gap
    peer = {
        f"a batch of {BATCH} graphs": lambda: next(iter(loader)),
        "GIN: a step, the batch given": taught(peer_gin, lambda: (data,)),
        "GIN: a step, batch included": taught(peer_gin, lambda: (next(iter(loader)),)),
        "filters: a step, the batch given": taught(peer_filters, lambda: (data,)),
        "filters: a step, batch included": taught(peer_filters, lambda: (next(iter(loader)),)),
    }
    for name, function in ours.items():
        seconds = cpu(function)[0]
        rows.append([f"{name}: ours", milliseconds(seconds), "", ""])
        if name in peer:
            theirs = cpu(peer[name])[0]
            rows.append([f"{name}: torch_geometric", milliseconds(theirs), f"{theirs / seconds:.1f} ×", ""])


def milliseconds(seconds):
    return f"{1000 * seconds:.1f} ms"


def dense_quotients(graphs):
    found = []
    for graph in graphs:
        A = np.zeros((len(graph.x),) * 2)
        A[tuple(graph.edges)] = graph.weights
        form = np.diag(graph.x.T @ csgraph.laplacian(A, normed=True) @ graph.x)
        power = (graph.x**2).sum(axis=0)
        found.append(np.divide(form, power, out=np.zeros_like(form), where=power > 0))
    return np.array(found)


def quotients(rows):
    for low, high in ((20, 40), (200, 400)):
        graphs = random_graphs("erdos_renyi", 1000 if low < 100 else 100, low=low, high=high, random_state=0)
        ours, found = cpu(partial(rayleigh_quotients, graphs))
        dense, expected = cpu(partial(dense_quotients, graphs), repeats=1)
        np.testing.assert_allclose(found, expected, atol=1e-10)
        what = f"quotients of {len(graphs)} graphs of {low} to {high} nodes"
        rows.append([f"{what}: one sparse product", milliseconds(ours), "", ""])
        rows.append([f"{what}: a dense matrix each", milliseconds(dense), f"{dense / ours:.1f} ×", ""])


def growth(rows):
    graphs = random_graphs("watts_strogatz", 10_000, random_state=0)
    labels = (np.arange(len(graphs)) % 10 == 0).astype(int)
    listed = list(graphs[:2500])
    for model in (RQGNN(epochs=1, random_state=0), GINClassifier(epochs=1, random_state=0)):
        name, base = type(model).__name__, {}
        for n in (2500, 5000, 10_000):
            part = graphs[:n]
            for work, function in (
                ("fit, one epoch", partial(model.fit, part, labels[:n])),
                ("scores", partial(model.anomaly_score, part)),
            ):
                seconds = cpu(function, repeats=3)[0]
                base.setdefault(work, seconds)
                rows.append(
                    [
                        f"{name}, {work} of {n} graphs",
                        f"{seconds:.2f} s",
                        f"{seconds / base[work]:.2f} × of 2500" if n > 2500 else "",
                        f"{60 * n / seconds:,.0f}",
                    ]
                )
    seconds = cpu(partial(as_graphs, listed), repeats=3)[0]
    rows.append(["reading 2500 graphs of arrays", f"{seconds:.2f} s", "", f"{60 * 2500 / seconds:,.0f}"])
    large = Graphs(graphs.x, graphs.nodes, graphs.edges, graphs.weights)
    seconds = cpu(lambda: large[np.arange(10_000)[::-1]], repeats=3)[0]
    rows.append(["10000 graphs in another order", f"{seconds:.2f} s", "", f"{60 * 10_000 / seconds:,.0f}"])


def main():
    torch.set_num_threads(1)
    rows = []
    against_the_peer(rows)
    quotients(rows)
    growth(rows)
    notes = f"""
Medians of {REPEATS} (growth: 3; dense loop: 1) after a call that does not count. Small-world graphs of 20 to 40 nodes,
two edges and 21 numbers a node. GIN of {LAYERS} layers of {HIDDEN}; {FILTERS} filters of {TERMS} Chebyshev polynomials
each: torch_geometric works out the polynomials once for each of its filters, ours once for all. A step is forward,
backward and Adam. Detectors of the growth rows are at their defaults. The bar is 10,000 small graphs a minute.
"""
    columns = ["what", "CPU time", "against ours, or growth", "graphs a minute"]
    write("benchmark_graphs", "Speed on graphs", columns, rows, notes, "simulated, seed 0")


if __name__ == "__main__":
    main()

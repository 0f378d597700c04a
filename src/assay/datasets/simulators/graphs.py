"""Random graphs of known kinds, and graphs on which a signal is smooth or is not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.graphs import Graph, Graphs, joined_graphs, with_degrees
from assay.core.random import as_generator
from assay.core.validation import Ints, check_number, check_option

#: Erdős and Rényi's, Barabási and Albert's, Watts and Strogatz's graphs.
FAMILIES = ("erdos_renyi", "barabasi_albert", "watts_strogatz")


class SignalSet(NamedTuple):
    """Random geometric graphs with one number a node.

    Attributes
    ----------
    graphs : Graphs
        n graphs; the number of a node is a smooth function of its place in the square.
    labels : array of int of shape (n,)
        1 where the same numbers were dealt out to the nodes at random.
    """

    graphs: Graphs
    labels: Ints


def random_graphs(
    family: str, n: int = 200, *, low: int = 20, high: int = 40, links: int = 2, random_state: Any = None
) -> Graphs:
    """Return graphs of one family with about ``links`` edges a node; nodes tell their degree.

    Parameters
    ----------
    family : str
        ``"erdos_renyi"``: every pair is linked with the same probability; ``"barabasi_albert"``: every new node links
        to `links` old ones, those with many edges first; ``"watts_strogatz"``: a ring where everyone knows the next
        `links` on either side, a tenth of the edges dealt out anew.
    n : int, default 200
        How many.
    low, high : int, default 20 and 40
        Fewest and most nodes.
    links : int, default 2
        Edges a node, of all families alike.
    random_state : None, int or numpy.random.Generator
        Seed.
    """
    check_option(family, "family", *FAMILIES)
    check_number(n, "n", low=1, integer=True)
    check_number(links, "links", low=1, integer=True)
    check_number(low, "low", low=2 * links + 1, integer=True)
    check_number(high, "high", low=low, integer=True)
    rng = as_generator(random_state)
    make = {"erdos_renyi": _erdos_renyi, "barabasi_albert": _barabasi_albert, "watts_strogatz": _watts_strogatz}[family]
    sizes = rng.integers(low, high + 1, n)
    return with_degrees(joined_graphs([Graph(np.empty((size, 0)), make(size, links, rng)) for size in sizes]))


def _erdos_renyi(size: int, links: int, rng: np.random.Generator) -> Ints:
    ends = np.stack(np.triu_indices(size, 1))
    # As many edges on average as the other families have.
    return ends[:, rng.random(ends.shape[1]) < links * (size - links) / ends.shape[1]]


def _barabasi_albert(size: int, links: int, rng: np.random.Generator) -> Ints:
    edges: list[tuple[int, int]] = []
    # A node stands in the urn once for each of its edges.
    urn = list(range(links))
    for node in range(links, size):
        chosen: set[int] = set()
        while len(chosen) < links:
            chosen.add(urn[rng.integers(len(urn))])
        edges += [(node, other) for other in sorted(chosen)]
        urn += [*sorted(chosen), *[node] * links]
    return np.array(edges, dtype=np.int64).T


def _watts_strogatz(size: int, links: int, rng: np.random.Generator) -> Ints:
    source = np.repeat(np.arange(size), links)
    target = (source + np.tile(np.arange(1, links + 1), size)) % size
    moved = rng.random(len(target)) < 0.1
    target[moved] = (source[moved] + rng.integers(links + 1, size - links, moved.sum())) % size
    return np.stack([source, target])


def signals_on_graphs(
    n: int = 400, share: float = 0.05, *, low: int = 20, high: int = 40, random_state: Any = None
) -> SignalSet:
    """Return random geometric graphs whose signal follows their nodes' places, or is dealt out anew in a share of them.

    Places are uniform in the unit square and linked below a distance of .3; the signal is a sum of two waves with
    random direction and phase, standardised. Its mean, its spread, and every count of the graph say nothing of the
    anomaly: only where the numbers stand does.

    Parameters
    ----------
    n : int, default 400
        How many graphs.
    share : float in [0, 1], default .05
        Share of anomalies, rounded.
    low, high : int, default 20 and 40
        Fewest and most nodes.
    random_state : None, int or numpy.random.Generator
        Seed.
    """
    check_number(n, "n", low=1, integer=True)
    check_number(share, "share", low=0.0, high=1.0)
    check_number(low, "low", low=2, integer=True)
    check_number(high, "high", low=low, integer=True)
    rng = as_generator(random_state)
    labels = np.zeros(n, dtype=np.int64)
    labels[rng.permutation(n)[: round(share * n)]] = 1
    graphs = []
    for anomalous in labels:
        places = rng.random((rng.integers(low, high + 1), 2))
        ends = np.stack(np.triu_indices(len(places), 1))
        near = ((places[ends[0]] - places[ends[1]]) ** 2).sum(axis=1) < 0.3**2
        waves = rng.normal(size=(2, 2)) * 2.0
        signal = np.sin(places @ waves + rng.uniform(0, 2 * np.pi, 2)).sum(axis=1)
        signal = (signal - signal.mean()) / max(signal.std(), 1e-12)
        if anomalous:
            signal = rng.permutation(signal)
        graphs.append(Graph(signal[:, None], ends[:, near]))
    return SignalSet(joined_graphs(graphs), labels)

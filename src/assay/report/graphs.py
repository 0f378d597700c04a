"""Graphs as pictures: nodes and links, the nodes that matter filled.

The layout is the same every time. Places x are those whose distances come near the lengths d of the shortest paths,
by stress majorisation with weights d^-2 from a fixed start: every step solves V x = B(x) x, which never makes the
stress larger. Of a large graph only the surroundings of the marked nodes are drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components, dijkstra

from assay.core.validation import Floats, Ints
from assay.report.svg import WIDTH, _Chart

#: Nodes that are drawn at most, and steps of the layout.
MOST, STEPS = 120, 200
#: Height of a picture at most, and room for a node at its border.
HEIGHT, BORDER = 260.0, 9.0


def picture_of_graph(graph: Any, title: str, marked: Any = None) -> str:
    """Draw a graph as nodes and links.

    Parameters
    ----------
    graph : Graph
        With its edges in any direction.
    title : str
        Above it.
    marked : array of bool of shape (v,), optional
        Which nodes to fill.

    Returns
    -------
    str
        The SVG.
    """
    chart = _Chart(title)
    size = len(graph.x)
    marked = np.zeros(size, dtype=bool) if marked is None else np.asarray(marked, dtype=bool)
    links = sparse.csr_array((np.ones(graph.edges.shape[1]), (graph.edges[0], graph.edges[1])), shape=(size, size))
    links = sparse.csr_array(links + links.T)
    drawn = _drawn(links, marked)
    places = _fitted(layout(links[drawn][:, drawn]))
    places[:, 1] += chart.y
    position = np.full(size, -1)
    position[drawn] = np.arange(len(drawn))
    a, b = position[graph.edges]
    once = np.unique(np.sort(np.stack([a, b])[:, (a >= 0) & (b >= 0) & (a != b)], axis=0), axis=1)
    routes = "".join(f"M{x:.1f} {y:.1f}L{p:.1f} {q:.1f}" for (x, y), (p, q) in zip(places[once[0]], places[once[1]]))
    chart.add(f'<path class="link" d="{routes}"/>')
    radius = float(np.clip(40.0 / np.sqrt(len(drawn)), 2.5, 6.0))
    # What is filled lies on top.
    for node in np.argsort(marked[drawn], kind="stable"):
        css = "node marked" if marked[drawn[node]] else "node"
        chart.add(f'<circle class="{css}" cx="{places[node, 0]:.1f}" cy="{places[node, 1]:.1f}" r="{radius:.1f}"/>')
    chart.y = float(places[:, 1].max()) + BORDER
    edges = len(np.unique(np.sort(graph.edges, axis=0), axis=1).T)
    note = f"{size:,} node{'s' if size != 1 else ''}, {edges:,} edge{'s' if edges != 1 else ''}"
    if len(drawn) < size:
        note += f"; {size - len(drawn):,} nodes are not drawn"
    chart.note(note)
    return chart.svg([note, f"{int(marked.sum()):,} marked"] if marked.any() else [note])


def _drawn(links: sparse.csr_array, marked: Any) -> Ints:
    """Return the nodes to draw: all, or those nearest to the marked ones."""
    size = links.shape[0]
    if size <= MOST:
        return np.arange(size)
    start = np.flatnonzero(marked)[:1] if marked.any() else np.array([0])
    steps = dijkstra(links, indices=start, unweighted=True)[0]
    return np.sort(np.lexsort((np.arange(size), ~np.asarray(marked), steps))[:MOST])


def layout(links: sparse.csr_array) -> Floats:
    """Return a place (v, 2) for each node of a graph of some hundred nodes."""
    links, size = links.copy(), links.shape[0]
    if size == 1:
        return np.zeros((1, 2))
    length = dijkstra(links, unweighted=True)
    _, component = connected_components(links, directed=False)
    # Parts stand beside each other: their nodes are half as far apart as both are wide, and a little more.
    reach = np.zeros(int(component.max()) + 1)
    np.maximum.at(reach, component, np.where(np.isfinite(length), length, 0.0).max(axis=1))
    far = reach[component]
    length = np.where(np.isfinite(length), length, (far[:, None] + far) / 2 + 1.5)
    weight = np.where(length > 0, 1.0 / np.maximum(length, 1.0) ** 2, 0.0)
    inverse = np.linalg.pinv(np.diag(weight.sum(axis=1)) - weight)
    angle = np.arange(size) * np.pi * (3 - np.sqrt(5))
    places = np.sqrt(np.arange(size) + 0.5)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    for _ in range(STEPS):
        apart = np.sqrt(((places[:, None] - places) ** 2).sum(axis=2))
        pull = weight * length / np.maximum(apart, 1e-9)
        before, places = places, inverse @ (pull.sum(axis=1)[:, None] * places - pull @ places)
        if np.abs(places - before).max() < 1e-3:
            break
    return places


def _fitted(places: Floats) -> Floats:
    """Return the places turned so that the picture is wide, and scaled into the frame."""
    centred = places - places.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2] if len(places) > 1 else np.eye(2)
    # The sign of a direction is arbitrary: its largest part is positive.
    turned = centred @ (axes * np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]).T
    low, span = turned.min(axis=0), np.ptp(turned, axis=0)
    # No link is drawn longer than a tenth of the width, however few there are.
    scale = min((WIDTH - 2 * BORDER) / max(span[0], 1e-9), (HEIGHT - 2 * BORDER) / max(span[1], 1e-9), 0.1 * WIDTH)
    shift = np.array([(WIDTH - scale * span[0]) / 2, BORDER])
    return shift + scale * (turned - low)

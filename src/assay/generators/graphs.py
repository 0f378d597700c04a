"""Auxiliary anomalies for graphs: outlying nodes, views, rewired edges, motifs, shuffled numbers.

In: normal graphs, see `assay.core.graphs`. Out: `Auxiliary` whose X is `Graphs`, and whose mask and touched are (N,),
along ``X.x``: they mark nodes whose numbers or edges changed, new ones among them. Where nodes left that had no edge to
what stayed, there is nobody to mark: all that stayed is marked. ``meta`` of each graph: kind, seed, ``kept`` (for every
node its number in the parent, -1 for a new one), ``added`` (edges in the graph's numbers) and ``removed`` (edges in the
parent's numbers).

Of v nodes (or e edges) k = max(1, round(share · strength · v)) are changed, as far as there are so many; strength 0 is
the parent. Nothing is blended: an edge is there or not. Every graph is drawn from a seed of its own, which its
parameters hold: parent and seed reproduce it. New edges get the weight of a random old one.

`NodeOutliers` (G1)

    structural    k random nodes become a clique; many of them, several cliques of about 15
    contextual    k random nodes get the numbers of that one of 50 random others that is farthest from them

`GraphViews` (G2), GraphCL's augmentations at full length, taken for anomalies

    drop_nodes    k nodes leave, with their edges            drop_edges      k edges are gone
    subgraph      a connected part of .2^strength · v stays  mask_features   k nodes' numbers are drawn from N(.5, .5²)

`GraphRewiring` (ours, and G3)

    swap          k edges, two by two: a-b and c-d become a-d and c-b, with their weights; degrees stay
    random_edges  k new edges between random nodes           bridges         k new edges between different communities
    merge         two communities become one: at strength 1 they are as closely linked with each other as inside

`GraphMotifs` (ours): max(4, k) new nodes, a ``clique``, ``cycle`` or ``star``, hang on a random node by one edge; their
numbers are those of random nodes of the graph. `FeatureShuffle` (ours) deals the numbers of k nodes out among them
anew: the same numbers in other places.

Communities are spectral clusters: k-means on the first eigenvectors of L, rows of length 1. The eigenvectors are exact
up to 500 nodes; beyond, 300 steps of subspace iteration come near them.

Where the nodes' numbers of the normals tell their degree (as `assay.core.graphs.with_degrees` writes them), they are
told anew for nodes whose edges changed; otherwise a number that contradicts the edges would give every anomaly away.

Departures. GraphCL's code for TU sets keeps the edges *among* the dropped nodes, and in `subgraph` those among the
nodes left out, and never looks beyond the first node's neighbours, against its paper; here nodes leave and the part
grows, over a random edge of its rim at a time. Its edge view adds edges in the paper alone; here too it only drops them
(``random_edges`` adds). PyGOD adds edges of a clique a second time, ignores seed 0, and never copies from another
outlier; here the numbers copied are the parent's, whoever they belong to. Cliques with edges dropped are left out.

Traps. The contextual outliers can be told by the size of their numbers alone where these differ in size: compare with
that baseline. ``mask_features`` writes numbers that no real node has where these are ones and zeros. A motif has at
least four nodes, a subgraph far fewer than its parent: where graphs are alike in size, that alone tells them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

from assay.base import Auxiliary, Generator, TakesGraphs
from assay.core.graphs import Graph, Graphs, joined_graphs, with_degrees
from assay.core.progress import progress
from assay.core.random import child_seeds
from assay.core.validation import Bools, Floats, Ints, check_number, check_option
from assay.kernels.graphs import laplacian

Meta = dict[str, Any]
#: Nodes up to which eigenvectors are found by a dense decomposition.
DENSE = 500
#: Steps of subspace iteration beyond.
STEPS = 300
#: Nodes of a motif at least: of three, clique and cycle are the same.
MOTIF = 4


class Draft(NamedTuple):
    """A graph in the making, in the parent's numbers; new nodes follow the old ones.

    Attributes
    ----------
    x : array of shape (v', d)
        The numbers of the parent's v nodes, and of new ones.
    pairs : array of int of shape (2, e)
        Every edge once, its smaller end first.
    weights : array of shape (e,)
        Their weights.
    gone : array of int
        Nodes that leave.
    meant : array of int
        Nodes whose numbers were meant to change; those of changed edges need not be named.
    """

    x: Floats
    pairs: Ints
    weights: Floats
    gone: Ints = np.empty(0, dtype=np.int64)
    meant: Ints = np.empty(0, dtype=np.int64)


class GraphGenerator(TakesGraphs, Generator):
    """Edits normal graphs; a generator lists its `KINDS` and writes a method ``_<kind>`` for each.

    Attributes
    ----------
    x_ : array of shape (N, d)
        The numbers of the normals' nodes, one graph after another.
    nodes_ : array of int of shape (n + 1,)
        Where the nodes of each begin.
    edges_, weights_ : arrays of shape (2, E) and (E,)
        Their edges in both directions, as in `assay.core.graphs.Graphs`, and the weights of these.
    degrees_ : bool
        Whether the numbers tell the nodes' degrees, which are then told anew where edges change.
    """

    KINDS: ClassVar[tuple[str, ...]] = ()
    min_rows: ClassVar[int] = 1
    kind: Any
    share: Any

    def _check_parameters(self) -> None:
        check_option(self.kind, "kind", None, *self.KINDS)
        check_number(self.share, "share", low=0.0, high=1.0, strict_low=True)

    @property
    def parents_(self) -> Graphs:
        """The normal graphs."""
        return Graphs(self.x_, self.nodes_, self.edges_, self.weights_)

    def _keep_parents(self, X: Graphs) -> None:
        self.x_, self.nodes_, self.edges_, self.weights_ = (
            part.copy() for part in (X.x, np.asarray(X.nodes, dtype=np.int64), X.edges, X.weights)
        )
        self.degrees_ = bool(np.array_equal(X.x, with_degrees(X, X.x.shape[1] - 1).x))

    def _drawn(self, n: int, strength: float, rng: np.random.Generator) -> Auxiliary:
        parents = self.parents_
        seeds = progress(child_seeds(rng, n), type(self).__name__, n)
        graphs, touched, mask, rows, meta = zip(*[self._one(parents, seed, strength) for seed in seeds])
        return Auxiliary(
            X=joined_graphs(graphs),  # type: ignore[arg-type]
            mask=np.concatenate(mask),
            touched=np.concatenate(touched),
            parents=np.array(rows, dtype=np.int64),
            meta=list(meta),
        )

    def _one(self, parents: Graphs, seed: int, strength: float) -> tuple[Graph, Bools, Bools, int, Meta]:
        """Draw one graph; draw again, up to 20 times, what changed nothing."""
        rng = np.random.default_rng(seed)
        for attempt in range(21):
            if attempt:
                seed = child_seeds(rng, 1)[0]
                rng = np.random.default_rng(seed)
            row = int(rng.integers(len(parents)))
            x, edges, weights = parents[row]
            half = edges[0] < edges[1]
            origin, drawn = Draft(x, edges[:, half], weights[half]), {}
            draft = origin
            if strength > 0:
                drawn["kind"] = self.kind or str(rng.choice(self.KINDS))
                edit: Callable[..., Draft] = getattr(self, f"_{drawn['kind']}")
                draft = edit(origin, strength, rng)
            graph, touched, mask, changes = self._finished(origin, draft)
            if mask.any() or strength == 0:
                break
        told = {"generator": type(self).__name__, "strength": strength, "noop": not mask.any(), "seed": seed}
        return graph, touched, mask, row, told | drawn | changes

    def _finished(self, origin: Draft, draft: Draft) -> tuple[Graph, Bools, Bools, Meta]:
        """Return the graph without the nodes that leave, which nodes were touched and which changed, and the edges."""
        size, total = len(origin.x), len(draft.x)
        stays = np.ones(total, dtype=bool)
        stays[draft.gone] = False
        kept, place = np.flatnonzero(stays), np.cumsum(stays) - 1
        whole = stays[draft.pairs].all(axis=0)
        pairs = draft.pairs[:, whole]
        before, after = (ends[0] * total + ends[1] for ends in (origin.pairs, pairs))
        added, removed = pairs[:, ~np.isin(after, before)], origin.pairs[:, ~np.isin(before, after)]
        rewired = np.zeros(total, dtype=bool)
        rewired[size:] = True
        rewired[added.ravel()] = rewired[removed.ravel()] = True
        x = draft.x.copy()
        if self.degrees_:
            degrees = np.minimum(np.bincount(pairs.ravel(), minlength=total), x.shape[1] - 1)
            x[rewired] = np.eye(x.shape[1])[degrees[rewired]]
        changed = rewired.copy()
        changed[:size] |= (x[:size] != origin.x).any(axis=1)
        mask = changed[kept]
        if len(draft.gone) and not mask.any():
            mask[:] = True
        touched = mask.copy()
        touched[np.isin(kept, draft.meant)] = True
        changes = {
            "kept": np.where(kept < size, kept, -1).tolist(),
            "added": place[added].T.tolist(),
            "removed": removed.T.tolist(),
        }
        return Graph(x[kept], place[pairs], draft.weights[whole]), touched, mask, changes

    def _count(self, size: int, strength: float, least: int = 1) -> int:
        """Return how many of `size` are changed, at most all."""
        return min(size, max(least, round(self.share * strength * size)))


def _with_edges(draft: Draft, new: Ints, rng: np.random.Generator) -> Draft:
    """Return the draft with edges (2, k) more, of which none is there yet."""
    old = draft.weights if len(draft.weights) else np.ones(1)
    pairs = np.concatenate([draft.pairs, np.sort(new, axis=0)], axis=1)
    return draft._replace(pairs=pairs, weights=np.concatenate([draft.weights, rng.choice(old, new.shape[1])]))


def non_edges(
    draft: Draft, count: int, rng: np.random.Generator, sides: tuple[Ints, Ints], groups: Ints | None = None
) -> Ints:
    """Return up to `count` random pairs (2, k) without an edge, one end of either side, of different groups."""
    size = len(draft.x)
    taken = draft.pairs[0] * size + draft.pairs[1]
    found = np.empty(0, dtype=np.int64)
    # A graph that lacks few edges may not yield all of them: then there are fewer.
    for _ in range(20):
        ends = np.sort([rng.choice(side, 4 * count + 16) for side in sides], axis=0)
        fit = ends[0] != ends[1] if groups is None else groups[ends[0]] != groups[ends[1]]
        codes = np.concatenate([found, (ends[0] * size + ends[1])[fit]])
        codes = codes[~np.isin(codes, taken)]
        found = codes[np.sort(np.unique(codes, return_index=True)[1])]
        if len(found) >= count:
            break
    return np.stack(np.divmod(found[:count], size))


def communities(draft: Draft, count: int) -> Ints:
    """Return the community of each node, at most `count`: spectral clusters."""
    size, count = len(draft.x), min(count, len(draft.x))
    if count < 2:
        return np.zeros(size, dtype=np.int64)
    matrix = laplacian(joined_graphs([Graph(draft.x, draft.pairs, draft.weights)]))
    if size <= DENSE:
        vectors = np.linalg.eigh(matrix.toarray())[1][:, :count]
    else:
        # The smallest eigenvalues of L are the largest of 2 - L; how near its vectors come matters little to clusters.
        vectors = np.cos(np.outer(np.arange(1, size + 1), np.arange(1, count + 1)))
        for step in range(STEPS):
            vectors = 2.0 * vectors - matrix @ vectors
            if step % 10 == 9:
                vectors = np.linalg.qr(vectors)[0]
    rows = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return _grouped(rows, count)


def _grouped(rows: Floats, count: int) -> Ints:
    """Return k-means clusters of rows; it starts at rows that are far from each other."""
    centres = rows[:1]
    while len(centres) < count:
        nearest = ((rows[:, None] - centres) ** 2).sum(axis=2).min(axis=1)
        centres = np.vstack([centres, rows[nearest.argmax()]])
    groups = np.zeros(len(rows), dtype=np.int64)
    for _ in range(20):
        groups = ((rows[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
        members = np.bincount(groups, minlength=count)[:, None]
        sums = np.stack([np.bincount(groups, column, minlength=count) for column in rows.T], axis=1)
        centres = np.where(members > 0, sums / np.maximum(members, 1), centres)
    return groups


class NodeOutliers(GraphGenerator):
    """Nodes that become a clique, or get the numbers of a node that is unlike them (G1).

    Parameters
    ----------
    kind : str, optional
        ``"structural"`` or ``"contextual"``; by default drawn for each graph.
    share : float in (0, 1], default .1
        Share of a graph's nodes at strength 1 (ours; the papers take 75 to 300 nodes of one large graph). At least 3
        nodes make a clique.
    clique : int, default 15
        Nodes of a clique where there are so many (CoLA).
    candidates : int, default 50
        Random nodes among which the farthest is looked for (papers).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    K. Ding, J. Li, R. Bhanushali, H. Liu: Deep Anomaly Detection on Attributed Networks. SDM 2019.

    Examples
    --------
    >>> from assay.datasets.simulators.graphs import random_graphs
    >>> X = random_graphs("watts_strogatz", 5, random_state=0)
    >>> made = NodeOutliers("structural", random_state=0).fit(X).sample(1)
    >>> int(made.mask.sum()), len(made.meta[0]["added"]), made.meta[0]["removed"]
    (3, 3, [])
    """

    KINDS: ClassVar[tuple[str, ...]] = ("structural", "contextual")

    def __init__(
        self,
        kind: str | None = None,
        share: float = 0.1,
        clique: int = 15,
        candidates: int = 50,
        *,
        random_state: Any = None,
    ) -> None:
        self.kind = kind
        self.share = share
        self.clique = clique
        self.candidates = candidates
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.clique, "clique", low=3, integer=True)
        check_number(self.candidates, "candidates", low=1, integer=True)

    def _structural(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        size = len(origin.x)
        chosen = rng.permutation(size)[: self._count(size, strength, least=3)]
        parts = np.array_split(chosen, max(1, round(len(chosen) / self.clique)))
        ends = np.concatenate([part[np.stack(np.triu_indices(len(part), 1))] for part in parts], axis=1)
        ends = np.sort(ends, axis=0)
        new = ~np.isin(ends[0] * size + ends[1], origin.pairs[0] * size + origin.pairs[1])
        return _with_edges(origin, ends[:, new], rng)

    def _contextual(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        size = len(origin.x)
        chosen = rng.permutation(size)[: self._count(size, strength)]
        x = origin.x.copy()
        for node in chosen:
            others = np.delete(np.arange(size), node)
            others = rng.permutation(others)[: self.candidates]
            if len(others):
                # From the numbers as they were: an outlier's are not handed on.
                distances = ((origin.x[others] - origin.x[node]) ** 2).sum(axis=1)
                x[node] = origin.x[others[distances.argmax()]]
        return origin._replace(x=x, meant=chosen)


class GraphViews(GraphGenerator):
    """GraphCL's four augmentations of graphs, taken for anomalies (G2).

    Parameters
    ----------
    kind : str, optional
        ``"drop_nodes"``, ``"drop_edges"``, ``"subgraph"`` or ``"mask_features"``; by default drawn for each graph.
    share : float in (0, 1], default .1
        Share of nodes or edges at strength 1 (code).
    kept : float in (0, 1), default .2
        Share of the nodes that a subgraph keeps at strength 1 (code); at strength s it is ``kept ** s``.
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    Y. You, T. Chen, Y. Sui, T. Chen, Z. Wang, Y. Shen: Graph Contrastive Learning with Augmentations. NeurIPS 2020.

    Examples
    --------
    >>> from assay.datasets.simulators.graphs import random_graphs
    >>> X = random_graphs("watts_strogatz", 5, random_state=0)
    >>> generator = GraphViews("subgraph", random_state=0).fit(X)
    >>> [generator.sample(1, strength=strength).X.sizes.tolist() for strength in (0, 0.5, 1)]
    [[33], [15], [7]]
    """

    KINDS: ClassVar[tuple[str, ...]] = ("drop_nodes", "drop_edges", "subgraph", "mask_features")

    def __init__(
        self, kind: str | None = None, share: float = 0.1, kept: float = 0.2, *, random_state: Any = None
    ) -> None:
        self.kind = kind
        self.share = share
        self.kept = kept
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.kept, "kept", low=0.0, high=1.0, strict_low=True, strict_high=True)

    def _drop_nodes(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        size = len(origin.x)
        return origin._replace(gone=rng.permutation(size)[: min(self._count(size, strength), size - 1)])

    def _drop_edges(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        count = len(origin.weights)
        kept = np.sort(rng.permutation(count)[self._count(count, strength) :])
        return origin._replace(pairs=origin.pairs[:, kept], weights=origin.weights[kept])

    def _subgraph(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        size = len(origin.x)
        kept = max(1, min(round(size * self.kept**strength), size - 1))
        # Growing over a random edge of the rim at a time is the order in which news arrives from the first node, where
        # every edge takes a time of its own, exponentially distributed.
        times = np.maximum(rng.exponential(size=len(origin.weights)), 1e-300)
        graph = sparse.csr_array((times, (origin.pairs[0], origin.pairs[1])), shape=(size, size))
        arrival = dijkstra(graph, directed=False, indices=int(rng.integers(size)))
        order = np.argsort(arrival, kind="stable")
        reached = int(np.isfinite(arrival).sum())
        return origin._replace(gone=order[min(kept, reached) :])

    def _mask_features(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        size = len(origin.x)
        chosen = rng.permutation(size)[: self._count(size, strength)]
        x = origin.x.copy()
        x[chosen] = rng.normal(0.5, 0.5, size=(len(chosen), x.shape[1]))
        return origin._replace(x=x, meant=chosen)


class GraphRewiring(GraphGenerator):
    """Edges in other places: swapped, random, between communities, or two communities made one.

    Parameters
    ----------
    kind : str, optional
        ``"swap"``, ``"random_edges"``, ``"bridges"`` or ``"merge"``; by default drawn for each graph.
    share : float in (0, 1], default .1
        Edges swapped or added at strength 1, as a share of those there are (ours; papers on edges: .01 to .1); `merge`
        has a measure of its own.
    n_communities : int, default 4
        Communities of a graph, at most (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> from assay.datasets.simulators.graphs import random_graphs
    >>> X = random_graphs("watts_strogatz", 5, random_state=0)
    >>> made = GraphRewiring("swap", random_state=0).fit(X).sample(1)
    >>> parent = X[int(made.parents[0])]
    >>> bool((np.bincount(made.X[0].edges[0]) == np.bincount(parent.edges[0])).all()), len(made.meta[0]["added"])
    (True, 6)
    """

    KINDS: ClassVar[tuple[str, ...]] = ("swap", "random_edges", "bridges", "merge")

    def __init__(
        self, kind: str | None = None, share: float = 0.1, n_communities: int = 4, *, random_state: Any = None
    ) -> None:
        self.kind = kind
        self.share = share
        self.n_communities = n_communities
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.n_communities, "n_communities", low=2, high=100, integer=True)

    def _swap(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        size, count = len(origin.x), len(origin.weights)
        wanted = max(1, self._count(count, strength) // 2) if count > 1 else 0
        pairs, old = origin.pairs.copy(), origin.pairs[0] * size + origin.pairs[1]
        moved = np.zeros(count, dtype=bool)
        for _ in range(20):
            free = rng.permutation(np.flatnonzero(~moved))
            first, second = free[: len(free) // 2], free[len(free) // 2 : 2 * (len(free) // 2)]
            a, b = pairs[:, first]
            c, d = np.where(rng.random(len(second)) < 0.5, pairs[:, second], pairs[::-1, second])
            one, other = np.sort([a, d], axis=0), np.sort([c, b], axis=0)
            codes = np.concatenate([one[0] * size + one[1], other[0] * size + other[1]])
            # No loop, no edge that is there or was, none that another swap of this round makes.
            taken = np.isin(codes, np.concatenate([old, pairs[0] * size + pairs[1]]))
            _, place, times = np.unique(codes, return_inverse=True, return_counts=True)
            bad = (taken | (times[place] > 1)).reshape(2, -1).any(axis=0) | (a == d) | (c == b)
            done = np.flatnonzero(~bad)[: wanted - int(moved.sum()) // 2]
            pairs[:, first[done]], pairs[:, second[done]] = one[:, done], other[:, done]
            moved[first[done]] = moved[second[done]] = True
            if moved.sum() >= 2 * wanted:
                break
        return origin._replace(pairs=pairs)

    def _random_edges(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        everyone = np.arange(len(origin.x))
        return _with_edges(origin, non_edges(origin, self._wanted(origin, strength), rng, (everyone, everyone)), rng)

    def _bridges(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        everyone, groups = np.arange(len(origin.x)), communities(origin, self.n_communities)
        count = self._wanted(origin, strength)
        return _with_edges(origin, non_edges(origin, count, rng, (everyone, everyone), groups), rng)

    def _merge(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        groups = communities(origin, self.n_communities)
        present = rng.permutation(np.unique(groups))[:2]
        if len(present) < 2:
            return origin
        sides = np.flatnonzero(groups == present[0]), np.flatnonzero(groups == present[1])
        a, b = len(sides[0]), len(sides[1])
        ends = np.sort(groups[origin.pairs], axis=0)
        inside = int(((ends[0] == ends[1]) & np.isin(ends[0], present)).sum())
        across = int(((ends[0] == present.min()) & (ends[1] == present.max())).sum())
        density = inside / max(1.0, (a * (a - 1) + b * (b - 1)) / 2)
        count = max(1, round(strength * (density * a * b - across)))
        return _with_edges(origin, non_edges(origin, min(count, a * b - across), rng, sides), rng)

    def _wanted(self, origin: Draft, strength: float) -> int:
        """Return how many edges to add: no more than are missing."""
        size, there = len(origin.x), len(origin.weights)
        return min(max(1, round(self.share * strength * there)), size * (size - 1) // 2 - there)


class GraphMotifs(GraphGenerator):
    """A clique, a cycle or a star of new nodes hangs on the graph.

    Parameters
    ----------
    kind : str, optional
        ``"clique"``, ``"cycle"`` or ``"star"``; by default drawn for each graph.
    share : float in (0, 1], default .1
        New nodes at strength 1, as a share of those there are; at least 4 (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> from assay.datasets.simulators.graphs import random_graphs
    >>> X = random_graphs("watts_strogatz", 5, random_state=0)
    >>> made = GraphMotifs("star", random_state=0).fit(X).sample(1)
    >>> made.meta[0]["added"]
    [[33, 34], [33, 35], [33, 36], [6, 33]]
    """

    KINDS: ClassVar[tuple[str, ...]] = ("clique", "cycle", "star")

    def __init__(self, kind: str | None = None, share: float = 0.1, *, random_state: Any = None) -> None:
        self.kind = kind
        self.share = share
        self.random_state = random_state

    def _clique(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        return self._grown(origin, strength, rng, lambda count: np.stack(np.triu_indices(count, 1)))

    def _cycle(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        return self._grown(
            origin, strength, rng, lambda count: np.stack([np.arange(count), np.roll(np.arange(count), -1)])
        )

    def _star(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        return self._grown(
            origin, strength, rng, lambda count: np.stack([np.zeros(count - 1, np.int64), np.arange(1, count)])
        )

    def _grown(self, origin: Draft, strength: float, rng: np.random.Generator, shape: Callable[[int], Ints]) -> Draft:
        size = len(origin.x)
        count = max(MOTIF, round(self.share * strength * size))
        x = np.concatenate([origin.x, origin.x[rng.integers(size, size=count)]])
        link = np.array([[rng.integers(size)], [size]])
        return _with_edges(origin._replace(x=x), np.concatenate([shape(count) + size, link], axis=1), rng)


class FeatureShuffle(GraphGenerator):
    """The numbers of some nodes, dealt out among them anew.

    Parameters
    ----------
    share : float in (0, 1], default .5
        Share of a graph's nodes at strength 1, at least 2 nodes (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> X = [(np.eye(4)[::-1], np.arange(4.0)[:, None])] * 2
    >>> FeatureShuffle(random_state=0).fit(X).sample(1).X.x.ravel()
    array([3., 1., 2., 0.])
    """

    KINDS: ClassVar[tuple[str, ...]] = ("shuffle",)
    kind = "shuffle"

    def __init__(self, share: float = 0.5, *, random_state: Any = None) -> None:
        self.share = share
        self.random_state = random_state

    def _shuffle(self, origin: Draft, strength: float, rng: np.random.Generator) -> Draft:
        size = len(origin.x)
        chosen = rng.permutation(size)[: self._count(size, strength, least=2)]
        x = origin.x.copy()
        x[chosen] = origin.x[rng.permutation(chosen)]
        return origin._replace(x=x, meant=chosen)

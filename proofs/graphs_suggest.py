"""Do generators of graphs that EAP ranks first train better detectors than a random, or the worst, choice?

For each real set and seed: one class is normal. Half of at most `MOST` normal graphs and `KNOWN` random graphs of the
other class are known, the rest (as many of the other class as of the normal one) is the test. `suggest` ranks every
kind of generator x strength on the known graphs alone, as `assay suggest --graphs` does. Then a classifier on the
graphs' embedding is trained once with each batch of synthetic graphs, on the known normals, the known anomalies and
the batch ("with known"), or on the known normals and the batch ("synthetic only"), and its AUROC on the test graphs is
taken. The choices are those of `image_suggest`.

`graphs_fingerprints` looks for fingerprints of every kind at strength 1. "Outside": what is left of a graph when the
touched nodes are taken away, of synthetic graphs and, with the nodes that a draw from them touches, of other real ones;
a forest on the embedding of these remains must not tell the two apart. "Off the grid": share of the changed nodes with
numbers that no real node has. "Largest node": AUROC of the norm of the largest node's numbers alone, which tells
contextual outliers in some data; "size" that of the number of nodes alone.

    python proofs/graphs_suggest.py
"""

import numpy as np
from scipy.stats import spearmanr

from assay import KNN, ExpectedAnomalyPosterior, GraphStatistics, WeisfeilerLehman, suggest
from assay.catalogue import find, load_class
from assay.core.graphs import Graph, joined_graphs
from assay.datasets.graphs import load_graphs
from assay.metrics.ranking import roc_auc
from assay.training.auxiliary import named_learner
from assay.training.probe import _told_apart
from assay.training.suggest import every_kind
from tables import need_data, resumed, write

#: Those that served to choose judge, ranking and embedding, and those that are reported: name -> normal class.
DEVELOPMENT = {"MUTAG": 2, "DHFR": 1, "ENZYMES": 1, "BZR": -1}
SETS = {"AIDS": 1, "PROTEINS": 0, "NCI1": 0}
SEEDS = range(5)
KNOWN, MOST, COUNT, STRENGTHS = 10, 400, 30, (0.25, 0.5, 1.0, 2.0, 4.0)
#: Graphs of each kind that are looked at for fingerprints.
LOOKED_AT = 100
#: Seeds of these.
FEW = range(3)


def split(name, seed):
    """Return known normal and anomalous graphs, test graphs and their labels."""
    data, rng = load_graphs(name), np.random.default_rng(seed)
    is_normal = data.classes == (SETS | DEVELOPMENT)[name]
    normal, other = rng.permutation(np.flatnonzero(is_normal))[:MOST], rng.permutation(np.flatnonzero(~is_normal))
    half = len(normal) // 2
    test = np.concatenate([normal[half:], other[KNOWN:][: len(normal) - half]])
    return data.graphs[normal[:half]], data.graphs[other[:KNOWN]], data.graphs[test], (~is_normal[test]).astype(int)


def measure(name, seed):
    """Return the figures of one split."""
    normal, bad, test, y_test = split(name, seed)
    known, y = joined_graphs([*normal, *bad]), np.repeat([0, 1], [len(normal), len(bad)])
    embedder = WeisfeilerLehman().fit(normal)
    judge = ExpectedAnomalyPosterior(n_subsets=50)
    how = {"strengths": STRENGTHS, "n": COUNT, "embedder": embedder, "rank": "coverage", "random_state": seed}
    ranked = suggest(known, y, generators=every_kind("graphs"), judge=judge, **how)
    Z, Z_test = embedder.transform(known), embedder.transform(test)

    def auc(rows, with_known=True):
        real = np.ones(len(y), dtype=bool) if with_known else y == 0
        labels = np.concatenate([y[real], np.ones(len(rows), dtype=int)])
        return roc_auc(y_test, named_learner("svc").fit(np.vstack([Z[real], rows]), labels).anomaly_score(Z_test))

    figures = {"known graphs alone": auc(np.empty((0, Z.shape[1])))}
    figures["nearest normal graphs, no anomalies"] = roc_auc(y_test, _nearest(Z[y == 0], Z_test))
    for label, with_known in (("with known", True), ("synthetic only", False)):
        gains = np.array([auc(one.rows, with_known) for one in ranked])
        plain = [one.generator == "graph_rewiring:random_edges" and one.strength == 1 for one in ranked]
        figures |= {
            f"{label}: suggested": gains[0],
            f"{label}: random": gains.mean(),
            f"{label}: worst": gains[-1],
            f"{label}: oracle": gains.max(),
            f"{label}: random edges at 1": gains[plain.index(True)],
            f"{label}: rank correlation": spearmanr(-np.arange(len(gains)), gains).statistic,
        }
    return {"figures": figures, "first": f"{ranked[0].generator} at {ranked[0].strength:g}"}


def _nearest(Z, Z_test):
    spread = np.where(Z.std(axis=0) > 0, Z.std(axis=0), 1.0)
    return KNN().fit((Z - Z.mean(axis=0)) / spread).anomaly_score((Z_test - Z.mean(axis=0)) / spread)


def fingerprints(name, kind, seed):
    """Return the signs by which synthetic graphs of a kind give themselves away."""
    normal = split(name, seed)[0]
    generator, _, own = kind.partition(":")
    cls = load_class(find(generator))
    made = (cls(kind=own) if own else cls()).fit(normal).sample(2 * LOOKED_AT, random_state=seed)
    synthetic, real, family = [], [], []
    for row, told in enumerate(made.meta):
        touched = made.touched[made.X.nodes[row] : made.X.nodes[row + 1]]
        if touched.all() or told["noop"]:
            continue
        if row % 2:
            synthetic.append(_without(made.X[row], ~touched))
        else:
            # The same draw, laid over the parent: what it touched, new or gone is taken away from the real graph.
            parent = normal[int(made.parents[row])]
            kept = np.array(told["kept"])
            stays = np.zeros(len(parent.x), dtype=bool)
            stays[kept[~touched]] = True
            real.append(_without(parent, stays))
        family.append((row % 2, made.parents[row]))
    n = min(len(synthetic), len(real))
    parents = [[p for side, p in family if side == wanted][:n] for wanted in (0, 1)]
    outside = p_value = float("nan")
    if n >= 40:
        rows = GraphStatistics().fit_transform(joined_graphs([*real[:n], *synthetic[:n]]))
        outside, p_value = _told_apart(rows, np.concatenate(parents).astype(int), np.random.default_rng(seed))
    known = {row.tobytes() for row in normal.x + 0.0}
    off = np.mean([row.tobytes() not in known for row in made.X.x[made.mask] + 0.0])
    y = np.repeat([0, 1], [len(normal), len(made)])
    largest = [_largest(graphs) for graphs in (normal, made.X)]
    return {
        "outside": outside,
        "p": p_value,
        "off": float(off),
        "largest": roc_auc(y, np.concatenate(largest)),
        "size": roc_auc(y, np.concatenate([normal.sizes, made.X.sizes])),
    }


def _without(graph, stays):
    """Return the part of a graph on the nodes that stay."""
    place = np.cumsum(stays) - 1
    whole = stays[graph.edges].all(axis=0)
    return Graph(graph.x[stays], place[graph.edges[:, whole]], graph.weights[whole])


def _largest(graphs):
    return np.maximum.reduceat(np.linalg.norm(graphs.x, axis=1), graphs.nodes[:-1])


def main():
    need_data("graphs")
    runs = {name: [resumed(f"graphs_suggest/{name}-{seed}", measure, name, seed) for seed in SEEDS] for name in SETS}
    rows = []
    for label in next(iter(runs.values()))[0]["figures"]:
        row = [label]
        for name in SETS:
            values = np.array([run["figures"][label] for run in runs[name]])
            row.append(f"{values.mean():.3f} ± {values.std(ddof=1):.3f}")
        rows.append(row)
    rows.append(["differences of the same seeds"] + [""] * len(SETS))
    for label in ("with known", "synthetic only"):
        for other in ("random", "worst", "random edges at 1"):
            row = [f"{label}: suggested − {other}"]
            for name in SETS:
                gain = np.array(
                    [run["figures"][f"{label}: suggested"] - run["figures"][f"{label}: {other}"] for run in runs[name]]
                )
                row.append(f"{gain.mean():+.3f} ± {gain.std(ddof=1):.3f}, {int((gain > 0).sum())} of {len(gain)} won")
            rows.append(row)
    firsts = "; ".join(f"{name}: {', '.join(run['first'] for run in runs[name])}" for name in SETS)
    write(
        "graphs_suggest",
        "Generators of graphs that EAP ranks first, against a random and the worst choice, on real sets",
        ["AUROC on test graphs", *SETS],
        rows,
        notes=f"""
Mean ± standard deviation over {len(SEEDS)} seeds; the normal class: {", ".join(f"{k} {v}" for k, v in SETS.items())};
{KNOWN} known graphs of the other class, at most {MOST // 2} normal ones known and as many in the test; {COUNT}
synthetic graphs a batch, strengths {STRENGTHS}, every kind of every generator; embedding: `WeisfeilerLehman`; judge:
EAP with its defaults, ranking by lift times coverage: of two judges, three rankings and three embeddings the best on
other sets ({", ".join(DEVELOPMENT)}; two seeds), where it beat a random choice in most runs. Classifier:
`named_learner("svc")`. "Random" is the mean over all batches, "worst" the last of the ranking, "oracle" the best batch
in hindsight, "random edges" the floor `graph_rewiring:random_edges` at strength 1, "nearest normal graphs" the distance
to the 5th nearest, without any anomaly. First of the ranking: {firsts}.
""",
    )
    signs = []
    for kind in every_kind("graphs"):
        cells = []
        for name in SETS:
            stem = f"graphs_suggest/signs-{name}-{kind}".replace(":", "-")
            found = [resumed(f"{stem}-{seed}", fingerprints, name, kind, seed) for seed in FEW]
            mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
            low = sum(one["p"] < 0.01 for one in found)
            outside = "too few" if np.isnan(mean["outside"]) else f"{mean['outside']:.2f} ({low})"
            cells += [outside, f"{mean['off']:.0%}", f"{mean['largest']:.2f}", f"{mean['size']:.2f}"]
        signs.append([kind, *cells])
    write(
        "graphs_fingerprints",
        "By what do synthetic graphs give themselves away?",
        ["kind", *(f"{name}: {what}" for name in SETS for what in ("outside", "off the grid", "largest node", "size"))],
        signs,
        notes=f"""
Strength 1, mean over {len(FEW)} seeds, {LOOKED_AT} graphs of either side. "Outside": AUROC of telling synthetic from
real graphs by what is left when the touched nodes are taken away, which must be ½ up to chance; in brackets the seeds
of {len(FEW)} in which p < .01; "too few" where fewer than 40 graphs of either side leave anything. "Off the grid":
share of the changed nodes whose numbers no real node has. "Largest node": AUROC of the norm of the largest node's
numbers alone; "size": of the number of nodes alone.
""",
    )


if __name__ == "__main__":
    main()

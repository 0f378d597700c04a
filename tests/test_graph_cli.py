"""`assay fit`, `assay score` and `assay suggest` on graphs, and how graphs are written and drawn."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from assay import load
from assay.core.graphs import Graph, joined_graphs
from assay.core.validation import InputError
from assay.datasets.graphs import load_graphs, write_graphs
from assay.datasets.simulators.graphs import random_graphs
from assay.report.graphs import MOST, layout, picture_of_graph
from assay.training.suggest import every_kind, suggest
from commands import run as assay


def mixed(seed, n_normal=60, n_anomalous=20):
    """Return small worlds and graphs with hubs whose nodes are of two kinds, and their classes, 3 and 7."""
    rng = np.random.default_rng(seed)
    parts = [("watts_strogatz", n_normal), ("barabasi_albert", n_anomalous)]
    made = [graph for family, n in parts for graph in random_graphs(family, n, low=10, high=18, random_state=rng)]
    graphs = [Graph(np.eye(2)[rng.integers(0, 2, len(graph.x))], graph.edges) for graph in made]
    return joined_graphs(graphs), np.repeat([3, 7], [n_normal, n_anomalous])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    write_graphs(folder / "train", *mixed(0))
    write_graphs(folder / "test", *mixed(1))
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(folder)
    yield folder
    monkeypatch.undo()


def test_what_is_written_is_read_again(work):
    graphs, classes = mixed(0)
    graphs.x[0] = [1 / 3, 1e-17]
    write_graphs(work / "again", graphs, classes)
    again = load_graphs(work / "again")
    assert (again.classes == classes).all() and (again.graphs.x == graphs.x).all()
    assert np.array_equal(again.graphs.edges, graphs.edges) and np.array_equal(again.graphs.nodes, graphs.nodes)
    graphs.weights[0] = 2.0
    with pytest.raises(InputError, match="weights"):
        write_graphs(work / "other", graphs, classes)
    lonely = joined_graphs([Graph(np.ones((2, 1)), np.empty((2, 0), int))])
    write_graphs(work / "lonely", lonely, np.array([0]))
    assert load_graphs(work / "lonely").graphs.sizes.tolist() == [2]


def test_fit_and_score(work):
    done = assay("fit", "graphs", "--train", "train", "--normal", "3", "--out", "model", "--rate", "0.1")
    assert done.code == 0 and "80 graphs" in done.out, done.err
    model = load(work / "model")
    assert len(model.detector_.detector_.reference_) == 60, "anomalies that are known teach nothing"
    done = assay("score", "model", "--data", "test", "--normal", "3", "--out", "found")
    assert done.code == 0 and "80 graphs" in done.out, done.err
    scores = pd.read_csv(work / "found" / "scores.csv")
    graphs, classes = mixed(1)
    np.testing.assert_allclose(scores["anomaly_score"], model.anomaly_score(graphs), rtol=1e-9)
    assert scores["nodes"].tolist() == graphs.sizes.tolist() and scores["class"].tolist() == classes.tolist()
    assert (scores["edges"] == np.diff(graphs.starts) // 2).all()
    assert scores["is_anomaly"][60:].mean() > 0.8 > 0.3 > scores["is_anomaly"][:60].mean()
    run = json.loads((work / "found" / "run.json").read_text())
    assert run["measures"]["AUROC"] > 0.9
    page = (work / "found" / "report.html").read_text()
    assert page.count('class="chart"') == 13 and 'class="node"' in page and "<script" not in page
    done = assay("score", "model", "--data", "test", "--out", "unlabelled", "--json")
    assert done.code == 0 and json.loads(done.out)["measures"] == {}


def test_node_labels_are_those_of_training(work):
    """Another folder may lack a node label: the numbers of a node must not move."""

    def labelled(name, labels):
        folder = work / name
        write_graphs(folder, mixed(2)[0][:30], np.zeros(30, dtype=int))
        nodes = len((folder / f"{name}_node_attributes.txt").read_text().splitlines())
        (folder / f"{name}_node_attributes.txt").unlink()
        (folder / f"{name}_node_labels.txt").write_text("\n".join(str(labels[i % len(labels)]) for i in range(nodes)))

    labelled("three", [5, 6, 9])
    labelled("two", [9, 5])
    assert assay("fit", "graphs", "--train", "three", "--out", "kinds").code == 0
    assert load(work / "kinds").kinds_ == [5, 6, 9]
    done = assay("score", "kinds", "--data", "two", "--out", "scored_two")
    assert done.code == 0, done.err
    expected = load(work / "kinds").anomaly_score(load_graphs(work / "two", kinds=[5, 6, 9]).graphs)
    np.testing.assert_allclose(pd.read_csv(work / "scored_two" / "scores.csv")["anomaly_score"], expected, rtol=1e-9)


def test_suggest(work):
    arguments = ("--count", "6", "--subsets", "5", "--strength", "1", "--normal", "3", "--known", "8")
    done = assay("suggest", "--graphs", "test", "--out", "ranked", *arguments)
    assert done.code == 0 and "of its graphs are realistic" in done.out, done.err
    table = pd.read_csv(work / "ranked" / "suggestions.csv")
    assert sorted(table["generator"]) == sorted(every_kind("graphs")) and len(table) == 14
    assert (table["score"].to_numpy()[:-1] >= table["score"].to_numpy()[1:]).all()
    best = load_graphs(work / "ranked" / "best") if (work / "ranked" / "best" / "best_A.txt").stat().st_size else None
    assert best is None or (best.graphs.x.shape[1] == 2 and set(best.classes) == {1})
    run = json.loads((work / "ranked" / "run.json").read_text())
    assert run["parameters"]["known"] == 8 and run["parameters"]["normal"] == 3
    page = (work / "ranked" / "report.html").read_text()
    assert "node marked" in page and "Anomalous graphs" in page
    assert re.search(r"60 normal and 8 known anomalous\s+graphs", page)
    # The class of most graphs is normal where none is named; one kind of a generator, another embedder.
    arguments = ("--count", "4", "--subsets", "5", "--strength", "1", "--generator", "graph_motifs:star", "--json")
    done = assay("suggest", "--graphs", "test", "--embedder", "weisfeiler_lehman", "--out", "one", *arguments)
    assert done.code == 0, done.err
    assert [row["generator"] for row in json.loads(done.out)["suggestions"]] == ["graph_motifs:star"]


def test_a_kind_alone_is_a_kind_alone():
    from assay import EventCounts, GraphStatistics

    graphs, classes = mixed(3, 30, 5)
    ranked = suggest(
        graphs, classes == 7, generators=["graph_views:subgraph", "graph_views"], strengths=[1.0], n=20,
        embedder=GraphStatistics(), random_state=0,
    )  # fmt: skip
    kinds = {one.generator: {told["kind"] for told in one.auxiliary.meta} for one in ranked}
    assert kinds["graph_views:subgraph"] == {"subgraph"} and len(kinds["graph_views"]) > 1
    for wrong in ("graph_views:cycle", "feature_shuffle:shuffle", "graph_views:"):
        with pytest.raises(InputError, match=f"generators: {wrong.split(':')[0]} has no kind"):
            suggest(graphs, classes == 7, generators=[wrong], embedder=GraphStatistics())
    with pytest.raises(InputError, match="these are events"):
        suggest([[1, 2]] * 20, [0] * 15 + [1] * 5, generators=["graph_views"], embedder=EventCounts())


def test_one_clear_line(work):
    (work / "broken").mkdir()
    (work / "broken" / "broken_A.txt").write_text("1, 2\n")
    for arguments, message in [
        (("fit", "graphs", "--train", "absent"), "does not exist"),
        (("fit", "graphs", "--train", "broken"), "broken_graph_indicator.txt is missing"),
        (("fit", "graphs", "--train", "train", "--normal", "9"), "--normal 9 is no class"),
        (("fit", "rqgnn", "--train", "train"), "--normal is missing"),
        (("suggest", "--graphs", "absent"), "does not exist"),
        (("suggest", "--graphs", "train", "--normal", "7"), "they must be the minority"),
        (("suggest", "--graphs", "train", "--train", "x.csv"), "--train and --graphs: give one of them"),
        (("suggest", "--graphs", "train", "--embedder", "event_counts"), "takes events"),
        (("suggest", "--graphs", "train", "--generator", "graph_views:no"), "has no kind 'no'"),
        (("suggest", "--graphs", "train", "--generator", "local"), "makes anomalies among tables"),
        (("suggest",), "--train (a table), --images, --series, --events or --graphs is missing"),
    ]:
        if arguments == ("suggest", "--graphs", "train", "--normal", "7"):
            arguments = (*arguments, "--known", "60")
        done = assay(*arguments, "--out", "never")
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, (arguments, done.err)
        assert not (work / "never").exists()


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_a_layout_keeps_paths_in_mind():
    ring = joined_graphs([Graph(np.ones((10, 1)), np.stack([np.arange(10), np.roll(np.arange(10), -1)]))])
    places = layout(ring.adjacency())
    radius = np.linalg.norm(places - places.mean(axis=0), axis=1)
    assert radius.std() < 0.01 * radius.mean(), "a ring is round"
    assert np.array_equal(places, layout(ring.adjacency()))
    path = joined_graphs([Graph(np.ones((6, 1)), np.stack([np.arange(5), np.arange(1, 6)]))])
    places = layout(path.adjacency())
    assert np.allclose(np.linalg.norm(places[0] - places[5]), 5, atol=0.2), "a path is straight"
    two = joined_graphs([Graph(np.ones((6, 1)), np.array([[0, 1, 3, 4], [1, 2, 4, 5]]))])
    places = layout(two.adjacency())
    assert np.linalg.norm(places[:3, None] - places[None, 3:], axis=2).min() > 0.9, "parts do not overlap"
    assert layout(joined_graphs([Graph(np.ones((1, 1)), np.empty((2, 0), int))]).adjacency()).tolist() == [[0, 0]]


def test_a_picture_shows_nodes_links_and_marks():
    [graph] = random_graphs("watts_strogatz", 1, low=20, high=20, random_state=0)
    marked = np.zeros(20, dtype=bool)
    marked[[3, 5]] = True
    drawn = picture_of_graph(graph, "A <title>", marked)
    edges = graph.edges.shape[1] // 2
    assert drawn.count("<circle") == 20 and drawn.count("node marked") == 2
    assert re.search(r'class="link" d="([^"]*)"', drawn)[1].count("M") == edges
    assert f"20 nodes, {edges} edges" in drawn and "A &lt;title&gt;" in drawn and "2 marked" in drawn
    numbers = np.array([float(one) for one in re.findall(r'c[xy]="([^"]*)"', drawn)]).reshape(-1, 2)
    assert (numbers[:, 0] > 0).all() and (numbers[:, 0] < 400).all() and (numbers[:, 1] < 330).all()
    half = graph.edges[:, graph.edges[0] < graph.edges[1]]
    assert picture_of_graph(Graph(graph.x, half), "A <title>", marked) == drawn, "in one direction or both"


def test_odd_and_large_graphs_are_drawn():
    for graph in (
        Graph(np.ones((1, 1)), np.empty((2, 0), int)),
        Graph(np.ones((5, 1)), np.empty((2, 0), int)),
        Graph(np.ones((2, 1)), np.array([[0], [1]])),
    ):
        drawn = picture_of_graph(graph, "odd")
        assert drawn.count("<circle") == len(graph.x) and "nan" not in drawn
    assert "1 node, 0 edges" in picture_of_graph(Graph(np.ones((1, 1)), np.empty((2, 0), int)), "one")
    [large] = random_graphs("watts_strogatz", 1, low=600, high=600, random_state=0)
    marked = np.arange(600) == 400
    drawn = picture_of_graph(large, "large", marked)
    assert drawn.count("<circle") == MOST and drawn.count("node marked") == 1 and "480 nodes are not drawn" in drawn

"""`assay explain`: the page, its numbers, and what it refuses."""

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from assay.explain.counterfactuals import RobustCounterfactual
from assay.report.explain import Explained, explanation_page
from commands import run

NAMES = ("pressure", "<b>flow</b>", "speed")


def write(path, X, **columns):
    csv.write_csv(pa.table(dict(zip(NAMES, X.T)) | columns), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    write(folder / "train.csv", rng.normal(size=(300, 3)), label=np.r_[np.zeros(299, int), 1])
    strange = rng.normal(size=(40, 3)) * 0.5
    strange[7] = [0.0, 9.0, 0.0]
    strange[8] = [-8.0, 0.0, 0.0]
    write(folder / "new.csv", strange)
    write(folder / "usual.csv", np.zeros((5, 3)))
    done = run(
        "fit", "mahalanobis", "--train", folder / "train.csv", "--label", "label", "--out", folder / "model", "-q"
    )
    assert done.code == 0, done.err
    return folder


def explain(folder, out, *words):
    common = ("--train", folder / "train.csv", "--label", "label")
    return run("explain", folder / "model", "--data", folder / "new.csv", *common, "--out", out, *words)


def test_each_flagged_row_is_explained(folder, tmp_path):
    done = explain(folder, tmp_path / "why.html", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    rows = {row["row"]: row for row in told["explained"]}
    assert {"7", "8"} <= set(rows) and told["flagged"] == len(rows)
    for name, column in (("7", "<b>flow</b>"), ("8", "pressure")):
        row = rows[name]
        assert max(row["columns"], key=row["columns"].get) == column
        assert row["status"] == "found" and abs(row["ordinary"][column]) < 4 and row["survival"] >= 0.9
    page = (tmp_path / "why.html").read_text()
    assert "&lt;b&gt;flow&lt;/b&gt;" in page and "<b>flow" not in page and "trained again agree" in page
    again = explain(folder, tmp_path / "again.html", "--json")
    assert json.loads(again.out)["explained"] == told["explained"]


def test_a_fixed_column_stays(folder, tmp_path):
    done = explain(folder, tmp_path / "why.html", "--fixed", "pressure", "--top", 50, "--json")
    rows = {row["row"]: row for row in json.loads(done.out)["explained"]}
    # Row 8 is strange in its pressure alone: without it there is nothing that lasts.
    told = rows["8"]
    assert told["status"] != "found" and (told["ordinary"] is None or told["ordinary"]["pressure"] == -8.0)
    assert rows["7"]["status"] == "found"


def test_a_real_row_with_method_nearest(folder, tmp_path):
    done = explain(folder, tmp_path / "why.html", "--method", "nearest", "--json")
    train = csv.read_csv(folder / "train.csv").to_pandas()[list(NAMES)].to_numpy()
    for row in json.loads(done.out)["explained"]:
        if row["status"] == "found":
            assert np.isclose(train, list(row["ordinary"].values())).all(axis=1).any()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--fixed", "presure"), "pressure"),
        (("--method", "magic"), "--method"),
        (("--out", "why.txt"), ".html"),
        (("--data", "nowhere.csv"), "--data"),
    ],
)
def test_what_makes_no_sense_is_named(folder, tmp_path, monkeypatch, words, named):
    monkeypatch.chdir(tmp_path)
    done = explain(folder, tmp_path / "why.html", *words)
    assert done.code == 2 and named in done.err and len(done.err.splitlines()) == 1
    assert not (tmp_path / "why.html").exists()


def test_nothing_flagged_and_other_models_are_refused(folder, tmp_path):
    common = ("--train", folder / "train.csv", "--label", "label", "--out", tmp_path / "why.html")
    done = run("explain", folder / "model", "--data", folder / "usual.csv", *common)
    assert done.code == 2 and "none of its 5 rows is flagged" in done.err
    from assay import ECOD, save

    save(ECOD().fit(np.random.default_rng(0).normal(size=(50, 3))), tmp_path / "bare")
    done = run("explain", tmp_path / "bare", "--data", folder / "new.csv", *common)
    assert done.code == 2 and "assay fit" in done.err


def test_names_that_are_not_unique_and_many_columns(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"x{j}" for j in range(40)]

    def table(X, **columns):
        return pa.table(columns | dict(zip(names, X.T)))

    csv.write_csv(table(rng.normal(size=(300, 40))), tmp_path / "train.csv")
    strange = rng.normal(size=(2, 40)) * 3
    csv.write_csv(table(strange, id=["a", "a"]), tmp_path / "new.csv")
    done = run("fit", "mahalanobis", "--train", tmp_path / "train.csv", "--out", tmp_path / "model", "-q")
    assert done.code == 0, done.err
    out = tmp_path / "why.html"
    words = ("--data", tmp_path / "new.csv", "--train", tmp_path / "train.csv", "--drop", "id", "--out", out)
    done = run("explain", tmp_path / "model", *words, "--twins", 2, "--json")
    # The training rows have no column id to leave out.
    assert done.code == 2 and "id" in done.err
    words = ("--data", tmp_path / "new.csv", "--train", tmp_path / "train2.csv", "--index", "id", "--out", out)
    csv.write_csv(table(rng.normal(size=(300, 40)), id=list(range(300))), tmp_path / "train2.csv")
    done = run("explain", tmp_path / "model", *words, "--twins", 2, "--json")
    assert done.code == 0, done.err
    page = out.read_text()
    assert "1. Row" in page and "2. Row" in page
    changed = [sum(told != 0 for told in row["ordinary"].values()) for row in json.loads(done.out)["explained"]]
    assert min(changed) > 30 and "10 more columns change, by less" in page


def test_detectors_that_learn_from_anomalies_are_trained_again_with_them(folder, tmp_path):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(150, 3)), rng.normal(size=(15, 3)) + 5])
    write(tmp_path / "train.csv", X, label=np.repeat([0, 1], [150, 15]))
    train = ("--train", tmp_path / "train.csv", "--label", "label")
    assert run("fit", "ssdo", *train, "--out", tmp_path / "model", "-q").code == 0
    words = ("--data", folder / "new.csv", *train, "--out", tmp_path / "w.html", "--json")
    done = run("explain", tmp_path / "model", *words)
    assert done.code == 0, done.err
    assert all(row["survival"] is None or row["survival"] > 0.5 for row in json.loads(done.out)["explained"])
    write(tmp_path / "bad.csv", X[:3], label=np.ones(3, int))
    words = ("--train", tmp_path / "bad.csv", "--label", "label", "--out", tmp_path / "v.html")
    done = run("explain", folder / "model", "--data", folder / "new.csv", *words)
    assert done.code == 2 and "not anomalies" in done.err


def test_the_page_lists_what_changes_most_and_keeps_rows_of_one_name_apart():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 40)) * np.geomspace(1, 1e4, 40)
    spread = np.ptp(X, axis=0)

    def model(rows):
        return np.exp2(-np.square(rows / spread).sum(axis=1))

    answer = RobustCounterfactual(model, X, k=50, random_state=0).explain(spread * rng.uniform(0.3, 1.0, 40))
    row = Explained("a", 1.0, np.zeros(40), spread, rng.normal(size=40), answer)
    page = explanation_page([row, row], title="", lead=(), tiles={}, run={})
    assert len(page.tables) == 2
    change = np.abs(answer.delta) / spread
    assert (answer.delta != 0).all()
    for heading, listed in page.tables.items():
        assert "10 more columns change, by less" in heading
        assert [one["column"] for one in listed] == [str(j) for j in np.argsort(-change)[:30]]

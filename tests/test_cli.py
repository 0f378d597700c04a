"""The command line: every command, what it writes, what it says, and that bad input leaves nothing behind."""

import fcntl
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import assay
from assay.catalogue import SYSTEMS
from assay.core.files import sha256_of
from assay.core.store import load
from assay.core.tables import read_table
from commands import contents, run

FOLDER = {"quality.parquet", "quality.csv", "selected.parquet", "report.html", "run.json"}
RESULT = [
    *("row", "quality", "quality_std", "quality_p05", "quality_p95", "density", "pseudo_count", "zero_density_share"),
    *("probability", "epistemic", "aleatoric", "verdict", "nearest_normal", "nearest_normal_distance"),
    *("nearest_anomaly", "nearest_anomaly_distance", "ball_centre", "ball_radius", "reason", "selected"),
]
RANK = ("rank", "--train", "train.csv", "--label", "label", "--subsets", "5")
QUICK = (*RANK, "--auxiliary", "aux.csv", "--no-gain", "--out", "out")


def real_rows(n=60, m=6, seed=0):
    rng = np.random.default_rng(seed)
    X = np.vstack([rng.normal(size=(n, 3)), rng.normal(3.0, 0.5, size=(m, 3))])
    return pd.DataFrame(X, columns=["a", "b", "c"]).assign(label=np.repeat([0, 1], [n, m]))


def auxiliary_rows():
    """Return ten rows each that are realistic, normal in disguise, and far away."""
    rng = np.random.default_rng(1)
    X = np.vstack([rng.normal(3.0, 0.5, size=(10, 3)), rng.normal(size=(10, 3)), rng.normal(30.0, 1.0, size=(10, 3))])
    return pd.DataFrame(X, columns=["a", "b", "c"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Go to a folder that holds train.csv and aux.csv."""
    monkeypatch.chdir(tmp_path)
    real_rows().to_csv("train.csv", index=False)
    auxiliary_rows().to_csv("aux.csv", index=False)
    return tmp_path


def good(*line):
    """Run a command that must work, and complain about nothing."""
    done = run(*line)
    assert (done.code, done.err) == (0, "")
    return done.out


def refused(*line):
    """Run a command that must fail in one line and leave everything as it was; return that line."""
    before = contents(".")
    done = run(*line)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("assay: ") and done.err.count("\n") == 1 and done.err.endswith("\n")
    assert contents(".") == before
    return done.err


# -- rank: what it writes --------------------------------------------------------------------------------------------


def check_ranking(folder, row, names=("a", "b", "c")):
    """Check the files of a ranking against each other; return the table of qualities."""
    assert set(os.listdir(folder)) == FOLDER
    quality = pd.read_parquet(folder / "quality.parquet")
    assert list(quality.columns) == RESULT
    assert quality["row"].tolist() == list(row)
    assert quality["quality"].between(0, 1).all() and quality["selected"].dtype == bool
    text = pd.read_csv(folder / "quality.csv")
    assert list(text.columns) == RESULT and len(text) == len(quality)
    np.testing.assert_array_equal(text["quality"], quality["quality"])
    selected = pd.read_parquet(folder / "selected.parquet")
    assert list(selected.columns) == ["row", *names, "quality"]
    kept = quality[quality["selected"]]
    assert selected["row"].tolist() == kept["row"].tolist()
    np.testing.assert_array_equal(selected["quality"], kept["quality"])
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>") and "realistic" in page
    record = json.loads((folder / "run.json").read_text(), parse_constant=pytest.fail)
    assert record["summary"]["kept"] == len(selected) and record["summary"]["auxiliary"] == len(quality)
    return quality


def test_rank_judges_every_row_in_its_order(here):
    out = good(*RANK, "--auxiliary", "aux.csv", "--out", "new/folder")
    quality = check_ranking(here / "new" / "folder", range(30))
    assert quality["quality"][:10].median() > quality["quality"][10:].max()
    assert (quality["verdict"][20:] == "unrealistic").all()
    selected = pd.read_parquet("new/folder/selected.parquet")
    chosen = auxiliary_rows()[quality["selected"].to_numpy()]
    np.testing.assert_array_equal(selected[["a", "b", "c"]], chosen)
    assert "30 auxiliary anomalies" in out and "the kept ones added" in out and "new/folder/report.html" in out
    assert "\x1b" not in out


def test_rank_says_what_is_needed_to_run_it_again(here):
    good(*QUICK, "--seed", "7", "--rule", "top", "--drop", "c")
    record = json.loads((here / "out" / "run.json").read_text())
    assert record["command"] == shlex.join(["assay", *QUICK, "--seed", "7", "--rule", "top", "--drop", "c"])
    expected = {"seed": 7, "subsets": 5, "rule": "top", "gain": False, "label": "label", "index": None, "drop": ["c"]}
    assert expected.items() <= record["parameters"].items()
    assert record["data"] == {
        "train": {"path": "train.csv", "sha256": sha256_of("train.csv")},
        "auxiliary": {"path": "aux.csv", "sha256": sha256_of("aux.csv")},
    }
    assert record["versions"]["assay"] == assay.__version__ and record["versions"]["numpy"] == np.__version__


def test_rank_measures_the_gain_as_often_as_it_says(here):
    good(*RANK, "--auxiliary", "aux.csv", "--out", "out", "--quiet")
    gain = json.loads((here / "out" / "run.json").read_text())["summary"]["gain"]
    assert {row["rounds"] for row in gain} == {5}
    assert "5 random halvings of the real rows" in (here / "out" / "report.html").read_text()
    real_rows(seed=3).to_csv("test.csv", index=False)
    good(*RANK, "--auxiliary", "aux.csv", "--test", "test.csv", "--out", "tested", "--learner", "logistic", "--quiet")
    assert "5 seeds, judged on the test rows given" in (here / "tested" / "report.html").read_text()


@pytest.mark.parametrize(("normals", "anomalies", "why"), [(15, 3, "20 normal rows"), (40, 1, "2 real anomalies")])
def test_rank_goes_without_the_gain_where_it_cannot_be_measured(here, normals, anomalies, why):
    real_rows(normals, anomalies).to_csv("train.csv", index=False)
    out = good(*RANK, "--auxiliary", "aux.csv", "--out", "out")
    assert "the gain was not measured" in out and why in out
    check_ranking(here / "out", range(30))


def write(frame, name):
    if name.endswith(".csv"):
        frame.to_csv(name, index=False)
    elif name.endswith(".parquet"):
        frame.to_parquet(name, index=False)
    else:
        labels = {"y": frame["label"]} if "label" in frame else {}
        np.savez(name, X=frame[["a", "b", "c"]], **labels)


@pytest.mark.parametrize("train", ["train.csv", "train.parquet", "train.npz"])
@pytest.mark.parametrize("auxiliary", ["aux.csv", "aux.parquet", "aux.npz"])
def test_every_kind_of_file_gives_the_same_qualities(here, train, auxiliary):
    good(*QUICK)
    write(real_rows(), train)
    write(auxiliary_rows(), auxiliary)
    label = "y" if train.endswith(".npz") else "label"
    line = ("--label", label, "--subsets", "5", "--no-gain", "--out", "other")
    good("rank", "--train", train, "--auxiliary", auxiliary, *line)
    expected, found = (parquet.read_table(f"{folder}/quality.parquet")["quality"] for folder in ("out", "other"))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_index_column_identifies_the_rows(here):
    names = [f"case {row}" for row in range(30)][::-1]
    real_rows().assign(id=range(66)).to_csv("train.csv", index=False)
    auxiliary_rows().assign(id=names)[["a", "id", "b", "c"]].to_csv("aux.csv", index=False)
    good(*QUICK, "--index", "id")
    check_ranking(here / "out", names)
    assert "case 29" in (here / "out" / "report.html").read_text()


INDICES = {
    "named": pd.Index(range(500, 530), name="number"),
    "texts": pd.Index([f"r{row}" for row in range(30)]),
    "range": pd.RangeIndex(100, 160, 2),
    "times": pd.date_range("2024-01-01", periods=30, freq="D", name="when"),
}


@pytest.mark.parametrize("kind", INDICES)
def test_the_index_pandas_stored_identifies_the_rows(here, kind):
    auxiliary_rows().set_index(INDICES[kind]).to_parquet("aux.parquet")
    good(*QUICK, "--auxiliary", "aux.parquet")
    quality = check_ranking(here / "out", INDICES[kind])
    assert quality["quality"][:10].median() > quality["quality"][10:].max()


def test_an_index_of_several_columns_must_be_chosen_from(here):
    pairs = pd.MultiIndex.from_product([range(3), range(10)], names=["group", "case"])
    auxiliary_rows().set_index(pairs).to_parquet("aux.parquet")
    assert "--index" in refused(*QUICK, "--auxiliary", "aux.parquet")
    real_rows().assign(case=range(66)).to_csv("train.csv", index=False)
    good(*QUICK, "--auxiliary", "aux.parquet", "--index", "case")
    check_ranking(here / "out", [*range(10)] * 3)


def test_features_called_row_or_quality_survive(here):
    new = {"a": "row", "b": "quality"}
    real_rows().rename(columns=new).to_csv("train.csv", index=False)
    auxiliary_rows().rename(columns=new).to_csv("aux.csv", index=False)
    good(*QUICK)
    selected = pd.read_parquet("out/selected.parquet")
    assert list(selected.columns) == ["row_", "row", "quality", "c", "quality_"]
    np.testing.assert_array_equal(selected["quality"], auxiliary_rows()["b"][selected["row_"]])
    good("suggest", *RANK[1:], "--count", "5", "--generator", "smote", "--strength", "1", "--out", "best")
    assert list(pd.read_parquet("best/best.parquet").columns) == ["row", "quality", "c", "quality_"]


def test_labels_in_the_auxiliary_file_are_no_feature(here):
    auxiliary_rows().assign(label=1).to_csv("aux.csv", index=False)
    good(*QUICK)
    check_ranking(here / "out", range(30))


def test_columns_may_be_left_out_of_the_file_that_has_them(here):
    auxiliary_rows().assign(note="synthetic").to_csv("aux.csv", index=False)
    assert "--drop" in refused(*QUICK)
    good(*QUICK, "--drop", "note")
    assert "--drop nothing" in refused(*QUICK, "--drop", "note", "--drop", "nothing", "--overwrite")


def test_texts_as_labels(here):
    real_rows().replace({"label": {0: "fine", 1: "odd"}}).to_csv("train.csv", index=False)
    assert "--anomalous" in refused(*QUICK)
    assert "'strange'; column 'label' holds fine, odd" in refused(*QUICK, "--anomalous", "strange")
    good(*QUICK, "--anomalous", "odd")
    check_ranking(here / "out", range(30))


def test_rank_generates_what_it_is_not_given(here):
    good(*RANK, "--generate", "local", "--count", "12", "--strength", "2", "--no-gain", "--out", "out")
    check_ranking(here / "out", range(12))
    parameters = json.loads((here / "out" / "run.json").read_text())["parameters"]
    assert {"generate": "local", "count": 12, "strength": 2.0}.items() <= parameters.items()


# -- the same again --------------------------------------------------------------------------------------------------


def test_same_seed_same_bytes_whatever_the_number_of_jobs(here):
    lines = {"one": (), "two": (), "three": ("--jobs", "2"), "other": ("--seed", "1")}
    for name, extra in lines.items():
        good(*RANK, "--auxiliary", "aux.csv", "--out", name, "--quiet", *extra)
    for file in ("quality.parquet", "quality.csv", "selected.parquet"):
        one, two, three, other = ((here / name / file).read_bytes() for name in lines)
        assert one == two == three != other


def in_a_shell(command, cwd):
    """Run a command line as a person would, in a fresh process."""
    python = f'assay() {{ {shlex.quote(sys.executable)} -m assay "$@"; }}; '
    done = subprocess.run(
        ["bash", "-c", python + command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("extra", [("--auxiliary", "aux.csv"), ("--generate", "mixup", "--count", "9")])
def test_the_record_of_a_run_is_enough_to_run_it_again(here, extra):
    good(*RANK, *extra, "--seed", "3", "--no-gain", "--out", "out")
    record = json.loads((here / "out" / "run.json").read_text())
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    for entry in record["data"].values():
        shutil.copy(entry["path"], elsewhere / entry["path"])
        assert sha256_of(elsewhere / entry["path"]) == entry["sha256"]
    code, _, err = in_a_shell(record["command"], elsewhere)
    assert (code, err) == (0, "")
    for file in FOLDER - {"report.html"}:  # which says how long it took
        assert (elsewhere / "out" / file).read_bytes() == (here / "out" / file).read_bytes()


# -- the other commands ----------------------------------------------------------------------------------------------


def test_suggest_ranks_generators_and_strengths(here):
    line = ("--generator", "smote", "--generator", "permutation", "--strength", "1", "--strength", "2", "--count", "8")
    out = good("suggest", *RANK[1:], *line, "--out", "out")
    assert set(os.listdir("out")) == {"suggestions.csv", "best.parquet", "report.html", "run.json"}
    table = pd.read_csv("out/suggestions.csv")
    assert len(table) == 4 and table["score"].is_monotonic_decreasing
    assert set(table["generator"]) == {"smote", "permutation"}
    best = pd.read_parquet("out/best.parquet")
    assert list(best.columns) == ["a", "b", "c", "quality"] and 0 < len(best) <= 8
    record = json.loads((here / "out" / "run.json").read_text(), parse_constant=pytest.fail)
    assert record["parameters"]["generators"] == ["smote", "permutation"]
    assert "smote" in out and "out/report.html" in out
    good("suggest", *RANK[1:], *line, "--out", "again", "--quiet")
    for file in ("suggestions.csv", "best.parquet"):
        assert (here / "out" / file).read_bytes() == (here / "again" / file).read_bytes()


@pytest.mark.parametrize("out", ["new.csv", "new.parquet", "deep/new.npz"])
def test_generate_writes_rows_that_can_be_ranked(here, out):
    said = good("generate", "mixup", "--train", "train.csv", "--label", "label", "--count", "7", "--out", out)
    assert "7 rows by mixup" in said
    table = read_table(out)
    assert table.X.shape == (7, 3)
    if out.endswith(".npz"):
        with np.load(out) as archive:
            assert set(archive) == {"X", "y", "mask", "parents"} and (archive["y"] == 1).all()
    else:
        assert table.names == ["a", "b", "c"]
    good(*RANK, "--auxiliary", out, "--no-gain", "--out", "out")


def test_generate_says_what_it_did_as_json(here):
    out = good(
        "generate", "global", "--train", "train.csv", "--drop", "label", "--strength", "0", "--out", "x.csv", "--json"
    )
    assert json.loads(out) == {
        "generator": "global", "rows": 500, "strength": 0.0, "changed": 0.0, "noop": 500, "out": "x.csv"
    }  # fmt: skip


@pytest.mark.parametrize("out", ["scores.csv", "scores.parquet"])
def test_fit_and_score_are_what_they_are_in_memory(here, out):
    said = good("fit", "knn", "--train", "train.csv", "--label", "label", "--out", "model", "--param", "n_neighbors=3")
    assert "knn fitted on 66 rows × 3 columns" in said
    said = good("score", "model", "--data", "aux.csv", "--out", out)
    table = pd.read_csv(out) if out.endswith(".csv") else pd.read_parquet(out)
    assert list(table.columns) == ["row", "anomaly_score", "is_anomaly"]
    model = load("model")
    assert model.detector_.n_neighbors == 3
    np.testing.assert_array_equal(table["row"], np.arange(30))
    np.testing.assert_allclose(table["anomaly_score"], model.anomaly_score(auxiliary_rows()), rtol=1e-12)
    np.testing.assert_array_equal(table["is_anomaly"] == 1, model.predict(auxiliary_rows()) == -1)
    assert f"30 rows scored, {table['is_anomaly'].sum()} anomalies" in said


def test_fit_keeps_its_promise_or_says_what_it_can_promise(here):
    done = run(
        "fit", "isolation_forest", "--train", "train.csv", "--drop", "label", "--rate", "0.001", "--out", "model"
    )
    assert done.code == 0 and done.err.startswith("note: ") and "cannot promise" in done.err
    done = run("fit", "hbos", "--train", "train.csv", "--drop", "label", "--rate", "0.001", "--out", "other", "--json")
    assert done.err == ""
    summary = json.loads(done.out)
    assert (
        summary["rows"] == 66 and summary["promised_rate"] == pytest.approx(1 / 67) and "cannot" in summary["notes"][0]
    )


def test_score_names_its_rows(here):
    good("fit", "ecod", "--train", "train.csv", "--label", "label", "--out", "model")
    names = [f"r{row}" for row in range(30)]
    auxiliary_rows().assign(id=names, note="x").to_csv("data.csv", index=False)
    good("score", "model", "--data", "data.csv", "--index", "id", "--drop", "note", "--out", "scores.csv")
    assert pd.read_csv("scores.csv")["row"].tolist() == names
    auxiliary_rows().set_index(pd.Index(names)).to_parquet("data.parquet")
    good("score", "model", "--data", "data.parquet", "--out", "scores.parquet")
    assert pd.read_parquet("scores.parquet")["row"].tolist() == names
    np.save("data.npy", auxiliary_rows())
    good("score", "model", "--data", "data.npy", "--out", "scores.parquet", "--overwrite")


def test_a_model_fitted_on_numbered_columns_takes_any_names_but_not_any_number(here):
    write(real_rows(), "train.npz")
    good("fit", "ecod", "--train", "train.npz", "--label", "y", "--out", "model")
    good("score", "model", "--data", "aux.csv", "--out", "scores.csv")
    auxiliary_rows()[["a", "b"]].to_csv("narrow.csv", index=False)
    assert "2 feature columns" in refused("score", "model", "--data", "narrow.csv", "--out", "x.csv")


def test_list_is_the_catalogue(here):
    lines = good("list").splitlines()
    assert [line.split()[0] for line in lines[2:]] == [entry.name for entry in SYSTEMS]  # one line a system
    found = json.loads(good("list", "--json", "--role", "quality"))
    assert [entry["name"] for entry in found] == [entry.name for entry in SYSTEMS if entry.role == "quality"]


@pytest.mark.parametrize("name", [entry.name for entry in SYSTEMS])
def test_info_explains_every_system(here, name):
    assert "Parameters" in good("info", name) or name in (
        "ecod",
        "mahalanobis",
        "median_deviation",
        "raw_windows",
        "graph_size",
        "graph_statistics",
        "mean_member_distance",
    )
    page = json.loads(good("info", name, "--json"))
    assert page["name"] == name and page["signature"].startswith("(")


def test_demo_ranks_and_tells_the_truth(here):
    out = good("demo", "--data", "vertebral", "--subsets", "5", "--out", "out")
    assert set(os.listdir("out")) == FOLDER
    assert "The truth" in out
    found = json.loads(good("demo", "--data", "vertebral", "--subsets", "5", "--out", "again", "--json"))
    assert set(found["truth"]) == {"all", "indistinguishable", "unrealistic"}
    assert (here / "out" / "quality.csv").read_bytes() == (here / "again" / "quality.csv").read_bytes()


def test_version_and_help(here):
    assert good("--version") == f"assay {assay.__version__}\n"
    assert "rank" in good("--help") and "rank" in good()
    assert "--auxiliary" in good("rank", "--help")


# -- quiet, JSON -----------------------------------------------------------------------------------------------------

COMMANDS = {
    "rank": (*RANK, "--auxiliary", "aux.csv", "--out", "out"),
    "suggest": ("suggest", *RANK[1:], "--count", "5", "--generator", "smote", "--strength", "1", "--out", "out"),
    "generate": ("generate", "cluster", "--train", "train.csv", "--label", "label", "--out", "out.csv"),
    "fit": ("fit", "lof", "--train", "train.csv", "--label", "label", "--rate", "0.001", "--out", "out"),
    "score": ("score", "model", "--data", "aux.csv", "--out", "out.csv"),
    "demo": ("demo", "--data", "vertebral", "--subsets", "3", "--out", "out"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_json_is_json_alone_and_quiet_is_quiet(here, command):
    good("fit", "knn", "--train", "train.csv", "--label", "label", "--out", "model")
    out = good(*COMMANDS[command], "--json")
    assert out.count("\n") == 1
    assert isinstance(json.loads(out, parse_constant=pytest.fail), dict)
    assert good(*COMMANDS[command], "--quiet", "--overwrite") == ""


# -- bad input -------------------------------------------------------------------------------------------------------


def changed(**columns):
    return lambda: real_rows().assign(**columns).to_csv("train.csv", index=False)


def cell(value, row=4, column="b", name="train.csv"):
    def spoil():
        frame = (real_rows() if name == "train.csv" else auxiliary_rows()).astype({column: object})
        frame.loc[row, column] = value
        frame.to_csv(name, index=False)

    return spoil


def rows(n, m):
    return lambda: real_rows(n, m).to_csv("train.csv", index=False)


def aux(change):
    return lambda: change(auxiliary_rows()).to_csv("aux.csv", index=False)


def content(name, data):
    def spoil():
        with open(name, "wb") as file:
            file.write(data)

    return spoil


def broken_parquet():
    auxiliary_rows().to_parquet("aux.parquet")
    with open("aux.parquet", "r+b") as file:
        file.seek(40)
        file.write(b"\xff" * 400)


def truncated_parquet():
    auxiliary_rows().to_parquet("aux.parquet")
    os.truncate("aux.parquet", 900)


def pickled():
    np.savez("aux.npz", X=np.array([[{"a": 1}]], dtype=object))


def twice():
    with open("train.csv", "w") as file:
        file.write("a,b,b,label\n" + "1,2,3,0\n" * 30 + "9,9,9,1\n")


def filled():
    os.mkdir("out")
    content("out/run.json", b"{}")()


def strangers():
    os.mkdir("out")
    content("out/letter.txt", b"dear me")()


def nothing():
    pass


AUX_PARQUET, AUX_NPZ = ("--auxiliary", "aux.parquet"), ("--auxiliary", "aux.npz")
#: What is wrong -> how it comes about, what is added to the command, what the line must say.
BAD = {
    "missing label column": (changed(), ("--label", "lable"), ["--train train.csv", "'lable'", "label"]),
    "no anomaly": (changed(label=0), (), ["--train train.csv", "0 anomalies", "add"]),
    "anomalies only": (changed(label=1), (), ["--train train.csv", "0 normal rows", "add"]),
    "unknown labels": (changed(label=-1), (), ["--train train.csv", "unknown", "drop"]),
    "other labels": (changed(label=2), (), ["--train train.csv", "'label'", "holds 2", "--anomalous"]),
    "labels missing": (changed(label=[None, *[0] * 59, *[1] * 6]), (), ["--train train.csv", "'label'", "nan"]),
    "too few normals": (rows(6, 2), (), ["--train train.csv", "6 normal rows", "at least 7"]),
    "anomalies in the majority": (rows(20, 20), (), ["--train train.csv", "minority"]),
    "NaN": (cell(np.nan), (), ["--train train.csv", "'b'", "row 4", "missing"]),
    "inf": (cell("inf"), (), ["--train train.csv", "'b'", "row 4", "inf", "drop"]),
    "too large": (cell("1e200"), (), ["--train train.csv", "'b'", "row 4", "too large"]),
    "text": (cell("x"), (), ["--train train.csv", "'b'", "text", "--drop b"]),
    "text column": (changed(b="x"), (), ["--train train.csv", "'b'", "text", "--drop b"]),
    "empty column": (changed(b=None), (), ["--train train.csv", "'b'", "missing"]),
    "two columns of one name": (twice, (), ["--train train.csv", "'b'", "rename"]),
    "labels alone": (lambda: real_rows()[["label"]].to_csv("train.csv", index=False), (), ["--train", "no feature"]),
    "constant rows": (changed(a=1.0, b=2.0, c=3.0), (), None),
    "constant column": (changed(b=7.1), (), None),
    "duplicate rows": (lambda: pd.concat([real_rows()] * 2).to_csv("train.csv", index=False), (), None),
    "one kind of row twice": (changed(a=[0.0] * 60 + [5.0] * 6, b=0.0, c=0.0), (), None),
    "file missing": (nothing, ("--train", "nowhere.csv"), ["--train nowhere.csv", "does not exist"]),
    "file is a folder": (nothing, ("--train", "."), ["--train .", "is a folder"]),
    "strange ending": (nothing, ("--train", "train.xls"), ["--train train.xls", "does not exist"]),
    "unknown ending": (content("train.xls", b"x"), ("--train", "train.xls"), ["--train train.xls", ".csv"]),
    "empty file": (content("train.csv", b""), (), ["--train train.csv", "empty"]),
    "no rows": (content("train.csv", b"a,b,c,label\n"), (), ["--train train.csv", "no rows"]),
    "ragged file": (content("train.csv", b"a,b,label\n1,2,0\n1,2\n"), (), ["train.csv", "cannot be read as csv"]),
    "not text": (content("train.csv", bytes(range(256))), (), ["--train train.csv"]),
    "column missing": (aux(lambda rows: rows.drop(columns="b")), (), ["--auxiliary aux.csv", "lacks b"]),
    "column too many": (aux(lambda rows: rows.assign(d=1.0)), (), ["--auxiliary aux.csv", "has d besides", "--drop"]),
    "other name": (aux(lambda rows: rows.rename(columns={"b": "B"})), (), ["--auxiliary aux.csv", "lacks b", "has B"]),
    "other order": (aux(lambda rows: rows[["b", "a", "c"]]), (), ["--auxiliary aux.csv", "order", "reorder"]),
    "NaN in the auxiliary rows": (cell(np.nan, name="aux.csv"), (), ["--auxiliary aux.csv", "'b'", "row 4"]),
    "no auxiliary rows": (content("aux.csv", b"a,b,c\n"), (), ["--auxiliary aux.csv", "no rows"]),
    "auxiliary file empty": (content("aux.csv", b""), (), ["--auxiliary aux.csv", "empty"]),
    "broken Parquet": (broken_parquet, AUX_PARQUET, ["--auxiliary aux.parquet", "cannot be read as parquet"]),
    "truncated Parquet": (truncated_parquet, AUX_PARQUET, ["--auxiliary aux.parquet", "cannot be read as parquet"]),
    "no Parquet": (content("aux.parquet", b"a,b,c\n1,2,3\n"), AUX_PARQUET, ["aux.parquet", "cannot be read"]),
    "no archive": (content("aux.npz", b"PK\x03\x04 and no more"), AUX_NPZ, ["aux.npz", "cannot be read as npz"]),
    "pickled objects": (pickled, AUX_NPZ, ["--auxiliary aux.npz"]),
    "other width": (lambda: np.savez("aux.npz", X=np.ones((5, 4))), AUX_NPZ, ["aux.npz", "4 feature columns", "has 3"]),
    "no X": (lambda: np.savez("aux.npz", Z=np.ones((5, 3))), AUX_NPZ, ["aux.npz", "holds Z", "array X"]),
    "no auxiliary file": (nothing, ("--auxiliary", "no.csv"), ["--auxiliary no.csv", "does not exist"]),
    "index missing": (nothing, ("--index", "id"), ["--train train.csv", "'id'", "a, b, c"]),
    "no column to leave out": (nothing, ("--drop", "id"), ["--drop id"]),
    "test without anomalies": (lambda: write(real_rows(9, 0), "t.csv"), ("--test", "t.csv"), ["--test t.csv"]),
    "folder in the way": (filled, (), ["--out out", "not empty", "--overwrite"]),
    "strangers in the folder": (strangers, ("--overwrite",), ["--out out", "letter.txt", "another"]),
    "input in the folder": (nothing, ("--out", ".", "--overwrite"), ["--out .", "train.csv", "another"]),
    "file in the way": (content("out", b""), (), ["--out out", "is a file"]),
    "file in the way above": (content("file", b""), ("--out", "file/out"), ["--out", "cannot be written"]),
    "unwritable": (nothing, ("--out", "/proc/nowhere/out"), ["--out /proc/nowhere/out", "cannot be written"]),
    "both sources": (nothing, ("--generate", "local"), ["--auxiliary", "--generate"]),
    "unknown rule": (nothing, ("--rule", "pior"), ["--rule 'pior'", "prior"]),
    "unknown learner": (nothing, ("--learner", "forrest"), ["--learner 'forrest'", "forest"]),
    "no jobs": (nothing, ("--jobs", "0"), ["--jobs", "1 or more"]),
    "no subsets": (nothing, ("--subsets", "0"), ["--subsets", "1"]),
    "seed below 0": (nothing, ("--seed", "-1"), ["--seed", "0"]),
    "no number": (nothing, ("--seed", "x"), ["--seed", "integer"]),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(here, what):
    spoil, extra, expected = BAD[what]
    spoil()
    line = QUICK if "--out" in extra else (*QUICK[:-1], "out" if (here / "out").exists() else "new/deep/out")
    if expected is None:  # odd, but usable
        good(*line, *extra)
        assert np.isfinite(pd.read_parquet("new/deep/out/quality.parquet")["quality"]).all()
        return
    told = refused(*line, *extra)
    assert all(word in told for word in expected), told
    assert len(told) < 300


FIT = ("fit", "knn", "--train", "train.csv", "--out", "new/m")
ZERO, ONE = ("--label", "zero", "--drop", "label"), ("--label", "one", "--drop", "label")
GENERATE = ("generate", "local", "--train", "train.csv", "--out", "new/x.csv")
SCORE = ("score", "m", "--data", "aux.csv")
FITTED = ("score", "fitted", "--data", "aux.csv")
SUGGEST = ("suggest", "--train", "train.csv", "--out", "new/x")
OTHERS = {
    "no source": ((*RANK, "--out", "out"), ["--auxiliary", "--generate"]),
    "unknown generator": ((*RANK, "--generate", "permutaton", "--out", "out"), ["'permutaton'", "permutation"]),
    "unknown command": (("rnk",), ["'rnk'", "rank", "assay --help"]),
    "unknown option": (("rank", "--trian", "x"), ["--trian", "--train", "assay rank --help"]),
    "option missing": (("rank", "--train", "train.csv"), ["--label", "assay rank --help"]),
    "unknown system": (("info", "isolation_forrest"), ["isolation_forest"]),
    "unknown role": (("list", "--role", "detectr"), ["--role", "detector"]),
    "unknown data": (("demo", "--data", "cardiotocografi"), ["'cardiotocografi'", "cardiotocography"]),
    "unknown detector": (("fit", "knnn", *FIT[2:]), ["'knnn'", "knn"]),
    "a detector that generates": (("generate", "knn", *GENERATE[2:]), ["no generator", "'knn'"]),
    "unknown parameter": ((*FIT, "--param", "n_neighbours=3"), ["n_neighbours", "n_neighbors"]),
    "parameter without value": ((*FIT, "--param", "method"), ["--param", "NAME=VALUE"]),
    "senseless parameter": ((*FIT, "--param", "n_neighbors=0"), ["n_neighbors=0"]),
    "rate": ((*FIT, "--rate", "2"), ["--rate=2"]),
    "labels missing": (("fit", "classifier", *FIT[2:]), ["--label"]),
    "one class for the classifier": (("fit", "classifier", *FIT[2:], *ZERO), ["--train train.csv", "0 anomalies"]),
    "anomalies alone for a detector": ((*FIT, *ONE), ["--train train.csv"]),
    "model over something else": ((*FIT[:-1], ".", "--overwrite"), ["--out ."]),
    "no detector there": ((*SCORE, "--out", "new/x.csv"), ["no such folder"]),
    "score into a strange file": ((*FITTED, "--out", "x.xls"), ["--out x.xls", ".csv"]),
    "score over its input": ((*FITTED, "--out", "aux.csv", "--overwrite"), ["--out aux.csv", "another"]),
    "generate over its input": ((*GENERATE[:-1], "train.csv", "--overwrite"), ["--out train.csv", "another"]),
    "generate over a file": ((*GENERATE[:-1], "aux.csv"), ["--out aux.csv", "--overwrite"]),
    "generate from text": ((*GENERATE, "--train", "text.csv"), ["--train text.csv", "'b'"]),
    "generate from equal rows": ((*GENERATE, "--train", "equal.csv"), ["--train equal.csv", "equal"]),
    "generate without anomalies": (("generate", "smote", *GENERATE[2:]), ["X_anomalous"]),
    "generate with an odd strength": ((*GENERATE, "--strength", "nan"), ["--strength"]),
    "suggest without anomalies": ((*SUGGEST, *ZERO), ["--train train.csv", "0 anomalies"]),
    "suggest an unknown generator": ((*SUGGEST, "--label", "label", "--generator", "smoke"), ["'smoke'", "smote"]),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_other_commands_cannot_do_is_told_in_one_line(here, what):
    real_rows().assign(zero=0, one=1).to_csv("train.csv", index=False)
    real_rows().assign(b="x").to_csv("text.csv", index=False)
    real_rows().assign(a=1.0, b=1.0, c=1.0, label=0).to_csv("equal.csv", index=False)
    line, expected = OTHERS[what]
    if "fitted" in line:  # only the model knows whether its scores are a file or a folder
        good("fit", "ecod", "--train", "train.csv", "--label", "label", "--out", "fitted")
    told = refused(*line)
    assert all(word in told for word in expected), told


def test_what_is_there_stays_until_it_may_be_replaced(here):
    good(*QUICK)
    before = contents("out")
    refused(*QUICK, "--seed", "1")
    assert contents("out") == before
    changed(label=0)()
    refused(*QUICK, "--seed", "1", "--overwrite")
    assert contents("out") == before
    real_rows().to_csv("train.csv", index=False)
    good(*QUICK, "--seed", "1", "--overwrite")
    assert contents("out")["quality.csv"] != before["quality.csv"]
    assert set(os.listdir(".")) == {"train.csv", "aux.csv", "out"}


def test_a_defect_is_no_input_error(here, monkeypatch):
    monkeypatch.setattr("assay.core.tables.read_table", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["assay", *QUICK])
    with pytest.raises(ZeroDivisionError):
        run(*QUICK)
    assert set(os.listdir(".")) == {"train.csv", "aux.csv"}


# -- files larger than memory ----------------------------------------------------------------------------------------


@pytest.fixture
def model(here):
    good("fit", "ecod", "--train", "train.csv", "--label", "label", "--out", "model")
    return load("model")


def many_rows(n):
    return pd.DataFrame(np.random.default_rng(2).normal(size=(n, 3)), columns=["a", "b", "c"])


def test_score_in_pieces_is_score_in_memory(here, model):
    frame = many_rows(120_000)
    frame.to_parquet("data.parquet", row_group_size=17_000)
    good("score", "model", "--data", "data.parquet", "--out", "scores.parquet")
    table = pd.read_parquet("scores.parquet")
    np.testing.assert_array_equal(table["row"], np.arange(len(frame)))
    np.testing.assert_array_equal(table["anomaly_score"], model.anomaly_score(frame))


def test_a_csv_column_may_begin_with_whole_numbers(here, model):
    head, tail = "123456,234567,345678\n" * 300_000, "1.5,2.5,3.5\n" * 3  # the type is guessed from the first block
    (here / "data.csv").write_text("a,b,c\n" + head + tail)
    good("score", "model", "--data", "data.csv", "--out", "scores.parquet")
    table = pd.read_parquet("scores.parquet")
    assert len(table) == 300_003
    assert table["anomaly_score"].iloc[-1] == model.anomaly_score([[1.5, 2.5, 3.5]])[0]


@pytest.mark.parametrize("there", [False, True])
def test_a_bad_row_deep_in_the_file_leaves_nothing(here, model, there):
    frame = many_rows(120_000)
    frame.loc[110_007, "b"] = np.inf
    frame.to_parquet("data.parquet")
    if there:
        (here / "scores.parquet").write_text("precious")
    extra = ("--overwrite",) if there else ()
    told = refused("score", "model", "--data", "data.parquet", "--out", "scores.parquet", *extra)
    assert "--data data.parquet" in told and "row 110007" in told and "'b'" in told


def test_a_missing_value_deep_in_the_file_is_named_by_its_row(here, model):
    frame = many_rows(60_000)
    table = pa.table({name: pa.array(frame[name]) for name in frame})
    column = pa.array([None if row == 55_001 else 1.0 for row in range(60_000)])
    parquet.write_table(table.set_column(1, "b", column), "data.parquet")
    assert "row 55001" in refused("score", "model", "--data", "data.parquet", "--out", "deep/scores.csv")


PEAK = """
import re, sys
from assay.cli import main
sys.argv = ["assay", "score", "model", "--data", sys.argv[1], "--out", "scores.parquet", "--overwrite", "--quiet"]
try:
    main()
except SystemExit as ended:
    assert ended.code == 0
with open("/proc/self/status") as status:  # not getrusage, which counts what the parent held before the child began
    print(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak is read from /proc")
@pytest.mark.parametrize("group", [50_000, 600_000])
def test_peak_memory_does_not_grow_with_the_file(here, group):
    rng = np.random.default_rng(0)
    names = [f"x{f}" for f in range(20)]
    pd.DataFrame(rng.normal(size=(300, 20)), columns=names).to_csv("train.csv", index=False)
    good("fit", "mahalanobis", "--train", "train.csv", "--out", "model")
    peaks = []
    for rows in (100_000, 600_000):
        frame = pd.DataFrame(rng.normal(size=(rows, 20)), columns=names)
        frame.to_parquet("data.parquet", row_group_size=group)
        command = [sys.executable, "-c", PEAK, "data.parquet"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout) / 1024)
        assert parquet.ParquetFile("scores.parquet").metadata.num_rows == rows
    assert peaks[1] - peaks[0] < 60, peaks  # the rows alone are 80 MB more


# -- processes, signals, pipes ---------------------------------------------------------------------------------------

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
#: Whoever starts the tests in the background makes their children deaf to Ctrl-C.
LISTENING = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from assay.cli import main; main()"
)


def start(*line):
    command = [sys.executable, "-c", LISTENING, *line]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


def test_exit_codes_of_the_process(here):
    code, out, err = in_a_shell("assay list --json | head -c 1", here)
    assert (code, out, err) == (0, "[", "")
    code, out, err = in_a_shell("assay rank --train nowhere.csv --label y --auxiliary aux.csv --out out", here)
    assert (code, out) == (2, "")
    assert err == "assay: --train nowhere.csv does not exist\n"
    code, out, err = in_a_shell("assay rank", here)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_help_is_quick(here):
    before = os.times()
    in_a_shell("assay --help", here)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 0.7


@pytest.mark.parametrize("line", [("list",), ("info", "eap"), ("list", "--json")])
def test_a_reader_that_goes_away_is_no_error(here, line):
    process = start(*line)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0
    process.stderr.close()
    code, _, err = in_a_shell(f"set -o pipefail; assay {shlex.join(line)} | head -1", here)
    assert (code, err) == (0, "")


@pytest.mark.parametrize("there", [False, True])
def test_ctrl_c_leaves_nothing(here, there):
    if there:
        good(*QUICK)
    before = contents(here)
    extra = ("--overwrite",) if there else ()
    interrupted(here, *QUICK, "--subsets", "200000", *extra)
    assert contents(here) == before


def test_ctrl_c_while_files_are_written(here):
    good("fit", "isolation_forest", "--train", "train.csv", "--label", "label", "--out", "model")
    many_rows(2_000_000).to_parquet("data.parquet")
    before = set(contents(here))
    interrupted(here, "score", "model", "--data", "data.parquet", "--out", "deep/scores.csv", work="deep/.scores.*.csv")
    assert set(contents(here)) == before


def interrupted(here, *line, work=".out.*"):
    """Press Ctrl-C some time after the command began to work."""
    process = start(*line)
    deadline = time.monotonic() + 60
    while not list(here.glob(work)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "assay: stopped by Ctrl-C; nothing half-written was left\n"


# -- terminals -------------------------------------------------------------------------------------------------------


def on_a_terminal(*line, keys=None, prompt=None, code=LISTENING, **environment):
    """Run a command on a terminal, press `keys` when `prompt` appears; return its exit code and what was shown."""
    child, terminal = pty.fork()
    if child == 0:
        command = [sys.executable, "-c", code, *line]
        os.execve(sys.executable, command, ENVIRONMENT | {"TERM": "xterm"} | environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    shown, deadline = b"", time.monotonic() + 100
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
            if keys is not None and prompt in shown:
                os.write(terminal, keys)
                keys = None
    finally:
        os.close(terminal)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), shown.decode().replace("\r\n", "\n")


QUESTION = b"Replace it?"


def test_a_filled_folder_is_asked_about(here):
    good(*QUICK)
    before = contents(here)
    code, shown = on_a_terminal(*QUICK, "--seed", "1", keys=b"n\n", prompt=QUESTION)
    assert code == 2 and "--out out exists" in shown and "Traceback" not in shown
    assert contents(here) == before
    code, shown = on_a_terminal(*QUICK, "--seed", "1", keys=b"y\n", prompt=QUESTION)
    assert code == 0 and "30 auxiliary anomalies" in shown
    assert contents(here)["out/quality.csv"] != before["out/quality.csv"]
    assert set(os.listdir(here)) == {"train.csv", "aux.csv", "out"}


@pytest.mark.parametrize(("key", "expected"), [(b"\x03", 130), (b"\x04", 2)])
def test_ctrl_c_and_ctrl_d_at_the_question(here, key, expected):
    line = ("generate", "local", "--train", "train.csv", "--label", "label", "--out", "aux.csv")
    before = contents(here)
    code, shown = on_a_terminal(*line, keys=key, prompt=QUESTION)
    assert code == expected
    assert "assay: stopped; nothing was written" in shown and "Traceback" not in shown
    assert contents(here) == before


def test_colours_are_for_terminals_that_want_them(here):
    assert "\x1b[" in on_a_terminal("list")[1]
    code, shown = on_a_terminal("list", NO_COLOR="1")
    assert code == 0 and "\x1b" not in shown and "isolation_forest" in shown
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|4[0-7]|9[0-7])", on_a_terminal("--help", NO_COLOR="1")[1])
    assert "\x1b" not in in_a_shell("assay --help; assay list", here)[1]


IMPATIENT = """
from assay.core import progress
progress.PATIENCE_SECONDS = 0.0
"""


def test_progress_is_shown_where_it_takes_long_and_not_when_quiet(here):
    line = (*QUICK, "--subsets", "100", "--overwrite")
    code, shown = on_a_terminal(*line, code=IMPATIENT + LISTENING)
    assert code == 0 and "fitting detectors" in shown and "judging rows" in shown
    code, shown = on_a_terminal(*line, "--quiet", code=IMPATIENT + LISTENING)
    assert (code, shown.replace("\x1b[0m", "")) == (0, "")  # colorama, where it is installed, resets every terminal
    code, shown = on_a_terminal(*QUICK, "--overwrite")
    assert code == 0 and "30 auxiliary anomalies" in shown and "fitting detectors" not in shown

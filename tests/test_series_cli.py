"""`assay fit`, `assay score` and `assay watch` on series, as a person would use them."""

import io
import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from assay import load
from assay.metrics.series import evaluate_series
from commands import run as assay


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Return a folder with a series to train on, one to test on with a hole and events, and a fitted model."""
    folder, rng = tmp_path_factory.mktemp("series"), np.random.default_rng(0)
    times = pd.date_range("2024-01-01", periods=3000, freq="10min", tz="UTC")
    values = np.sin(np.arange(3000)[:, None] / 7 + [0, 1]) + rng.normal(scale=0.05, size=(3000, 2))
    labels = np.zeros(3000, dtype=int)
    for start in (1700, 2200, 2700):
        values[start : start + 15] += rng.choice([-2, 2], (15, 1))
        labels[start : start + 15] = 1
    frame = pd.DataFrame({"at": times, "load": values[:, 0], "heat, °C": values[:, 1], "bad": labels})
    frame.loc[2400:2405, ["load", "heat, °C"]] = np.nan
    frame[:1500].drop(columns="bad").to_csv(folder / "train.csv", index=False)
    frame[1500:].to_csv(folder / "test.csv", index=False)
    frame[1500:].to_parquet(folder / "test.parquet", index=False)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(folder)
    done = assay("fit", "series", "--train", "train.csv", "--out", "model", "--param", "window=15", "--rate", "0.01")
    assert done.code == 0, done.err
    yield folder
    monkeypatch.undo()


def test_scores_alarms_and_a_page(work):
    done = assay("score", "model", "--data", "test.csv", "--label", "bad", "--out", "found", "--hold", "5")
    assert done.code == 0, done.err
    assert "1,500 steps" in done.out and "steps a second" in done.out
    scores = pd.read_csv(work / "found" / "scores.csv")
    test = pd.read_csv(work / "test.csv")
    model = load(work / "model")
    expected = model.anomaly_score(test[["load", "heat, °C"]])
    np.testing.assert_allclose(scores["anomaly_score"], expected, rtol=1e-9)
    assert scores["anomaly_score"].isna().sum() == 6 and (scores["step"] == np.arange(1500)).all()
    assert scores["time"][0].startswith("2024-01-11 10:00")
    alarms = pd.read_csv(work / "found" / "alarms.csv")
    flags = np.zeros(1500, dtype=int)
    for alarm in alarms.itertuples():
        flags[alarm.start : alarm.end + 1] = 1
        assert scores["anomaly_score"][alarm.peak] == pytest.approx(alarm.score)
        assert scores["anomaly_score"][alarm.start : alarm.end + 1].max() == pytest.approx(alarm.score)
    assert (flags == scores["alarm"]).all()
    run = json.loads((work / "found" / "run.json").read_text())
    measures = evaluate_series(test["bad"], expected, predictions=flags)
    assert run["measures"]["vus_pr"] == pytest.approx(measures["vus_pr"]) and run["measures"]["event_recall"] == 1
    page = (work / "found" / "report.html").read_text()
    assert "heat, °C" in page and page.count('<svg class="chart"') == 1 + min(8, len(alarms))
    assert 'class="known"' in page and "<script" not in page


def test_parquet_gives_the_same_and_json_is_json(work):
    done = assay("score", "model", "--data", "test.parquet", "--drop", "bad", "--out", "again", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["steps"] == 1500
    first, second = (pd.read_csv(work / name / "scores.csv") for name in ("found", "again"))
    np.testing.assert_array_equal(first["anomaly_score"], second["anomaly_score"])


def test_what_drove_the_events_of_telemetry(work):
    pytest.importorskip("xgboost", reason="the telemetry monitor needs XGBoost")
    small = ("--param", "trees=30", "--param", "explainer_trees=10", "--param", "separation=3600", "--folds", "2")
    done = assay(
        "fit", "telemetry_monitor", "--train", "train.csv", "--out", "t", "--param", 'targets=["load"]', *small
    )
    assert done.code == 0, done.err
    done = assay("score", "t", "--data", "test.csv", "--drop", "bad", "--out", "driven")
    assert done.code == 0 and "drivers.html" in done.out, done.err
    page = (work / "driven" / "drivers.html").read_text()
    assert "heat, °C" in page and "trustworthy" in page and "<script" not in page


def test_one_clear_line(work):
    (work / "text.csv").write_text("at,load\n2024-01-01,high\n")
    (work / "wrong.csv").write_text("load\n1\n2\n")
    for arguments, message in [
        (("score", "model", "--data", "text.csv"), "column 'load' holds string, not numbers or times"),
        (("score", "model", "--data", "wrong.csv"), "columns differ from those at fit"),
        (("score", "model", "--data", "absent.csv"), "absent.csv is not a file"),
        (("score", "model", "--data", "test.csv", "--label", "good"), "no label column 'good'"),
        (("score", "model", "--data", "test.csv"), "columns differ from those at fit"),
        (("fit", "sub_pca", "--train", "train.csv", "--param", "window=2000"), "windows of 2000 steps"),
    ]:
        done = assay(*arguments, "--out", "never")
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
        assert not (work / "never").exists()


def watch(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return assay("watch", "model")


def test_watching_standard_input_and_a_growing_file(work, monkeypatch):
    test = pd.read_csv(work / "test.csv")[["load", "heat, °C"]]
    lines = test.to_csv(index=False, na_rep="")
    done = watch(monkeypatch, lines)
    assert done.code == 0, done.err
    watched = pd.read_csv(io.StringIO(done.out), names=["step", "score", "alarm"])
    expected = pd.read_csv(work / "found" / "scores.csv")["anomaly_score"]
    np.testing.assert_allclose(watched["score"], expected, rtol=1e-5)
    growing = work / "growing.csv"
    rows = lines.splitlines(keepends=True)
    growing.write_text("".join(rows[:200]) + rows[200][:3])
    command = [sys.executable, "-m", "assay", "watch", str(work / "model"), "--data", str(growing), "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        first = [process.stdout.readline() for _ in range(150)]
        with open(growing, "a") as file:
            file.write(rows[200][3:] + "".join(rows[201:400]))
        more = [process.stdout.readline() for _ in range(200)]
        time.sleep(0.1)
        process.terminate()
    steps = [int(line.split(",")[0]) for line in first + more]
    assert steps == list(range(350))
    values = [float(line.split(",")[1]) for line in first + more]
    np.testing.assert_allclose(values, expected[:350], rtol=1e-5)
    done = watch(monkeypatch, "1,2\n1,2,3\n")
    assert done.code == 2 and "line 2 holds 3 numbers" in done.err

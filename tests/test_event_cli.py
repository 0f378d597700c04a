"""`assay fit`, `assay score` and `assay suggest` on event sequences and on windows of series."""

import json

import numpy as np
import pandas as pd
import pytest

from commands import run as assay
from test_event_contracts import spoiled, walks


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("events"), np.random.default_rng(0)
    train, fresh = walks(200, rng), walks(60, rng)
    bad, _ = spoiled(walks(20, rng), rng)
    (folder / "train.txt").write_text("\n".join(" ".join(map(str, one)) for one in train))
    lines = [{"events": one.tolist(), "label": label} for part, label in ((fresh, 0), (bad, 1)) for one in part]
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, lines)))
    values = np.sin(np.arange(2000)[:, None] / 5 + [0, 1]) + rng.normal(scale=0.05, size=(2000, 2))
    labels = np.zeros(2000, dtype=int)
    for start in (500, 1000, 1500):
        values[start : start + 10] += 2
        labels[start : start + 10] = 1
    pd.DataFrame({"a": values[:, 0], "b": values[:, 1], "bad": labels}).to_csv(folder / "series.csv", index=False)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(folder)
    yield folder
    monkeypatch.undo()


def test_fit_and_score_sequences(work):
    done = assay("fit", "transitions", "--train", "train.txt", "--out", "model", "--rate", "0.1")
    assert done.code == 0 and "200 sequences" in done.out, done.err
    done = assay("score", "model", "--data", "test.jsonl", "--out", "found")
    assert done.code == 0 and "80 sequences" in done.out, done.err
    scores = pd.read_csv(work / "found" / "scores.csv")
    assert len(scores) == 80 and scores["is_anomaly"][60:].mean() > 0.8 > 0.3 > scores["is_anomaly"][:60].mean()
    run = json.loads((work / "found" / "run.json").read_text())
    assert run["measures"]["AUROC"] > 0.9
    page = (work / "found" / "report.html").read_text()
    assert page.count('class="chart"') == 13 and "<script" not in page


def test_suggest_for_sequences(work):
    arguments = ("--count", "10", "--subsets", "5", "--strength", "1", "--strength", "2")
    done = assay("suggest", "--events", "test.jsonl", "--out", "ranked", *arguments)
    assert done.code == 0 and "of its sequences are realistic" in done.out, done.err
    table = pd.read_csv(work / "ranked" / "suggestions.csv")
    assert set(table["generator"]) == {"event_edits", "unlikely_events"} and len(table) == 4
    assert (table["score"].to_numpy()[:-1] >= table["score"].to_numpy()[1:]).all()
    kept = [json.loads(line) for line in (work / "ranked" / "best.jsonl").read_text().splitlines()]
    assert all(entry["label"] == 1 and len(entry["events"]) for entry in kept)
    assert "box marked" in (work / "ranked" / "report.html").read_text()


def test_suggest_for_windows(work):
    arguments = ("--label", "bad", "--window", "40", "--count", "10", "--subsets", "5", "--strength", "1")
    done = assay("suggest", "--series", "series.csv", "--out", "windows", *arguments, "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["suggestions"]
    assert len({row["generator"] for row in rows}) == len(rows) >= 8
    with np.load(work / "windows" / "best.npz") as best:
        assert best["X"].shape[1:] == (40, 2) and best["mask"].any(axis=(1, 2)).all()
    page = (work / "windows" / "report.html").read_text()
    assert 'class="span"' in page and "Anomalous windows" in page


def test_one_clear_line(work):
    (work / "empty.jsonl").write_text('{"events": [1]}\n{"events": []}\n')
    (work / "half.jsonl").write_text('{"events": [1], "label": 0}\n{"events": [2]}\n')
    (work / "broken.jsonl").write_text('{"events": [1]}\n{"events": [2]\n')
    for arguments, message in [
        (("fit", "transitions", "--train", "empty.jsonl"), "sequence 1 is empty"),
        (("fit", "transitions", "--train", "broken.jsonl"), "line 2 is no object with events"),
        (("fit", "transitions", "--train", "absent.txt"), "is not a file"),
        (("suggest", "--events", "half.jsonl"), "a label is 0, 1 or -1, in all lines or in none"),
        (("suggest", "--events", "empty.txt"), "is not a file"),
        (("suggest", "--series", "series.csv"), "--label is missing"),
        (("suggest", "--series", "series.csv", "--label", "bad", "--window", "5000"), "--window 5000"),
        (("suggest", "--series", "series.csv", "--train", "x.csv"), "--train and --series: give one of them"),
        (("suggest", "--series", "series.csv", "--label", "bad", "--embedder", "event_counts"), "takes events"),
    ]:
        done = assay(*arguments, "--out", "never")
        assert done.code == 2 and message in done.err and done.err.count("\n") == 1, done.err
        assert not (work / "never").exists()

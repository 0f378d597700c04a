"""Series and event sequences: what comes in at the door, and the field's layouts."""

import csv
import gzip
import io
import json
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from assay.core.sequences import Vocabulary, as_sequences, padded
from assay.core.series import Series, as_series, regular, windows_of
from assay.core.validation import InputError
from assay.datasets.events import load_events, read_events
from assay.datasets.logs import TemplateMiner, sessions, sliding
from assay.datasets.series import load_series, read_series

SHARED = Path(os.environ.get("ASSAY_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_data = pytest.mark.skipif(
    not (SHARED / "timeseries").is_dir(),
    reason="needs real series: let ASSAY_DATA name a folder that holds timeseries/",
)
needs_logs = pytest.mark.skipif(
    not (SHARED / "logs").is_dir(), reason="needs real logs: let ASSAY_DATA name a folder that holds logs/"
)


# -- series at the door ----------------------------------------------------------------------------------------------


def test_a_zone_becomes_utc_and_gaps_are_seen():
    times = pd.to_datetime(["2024-03-01 00:00", "2024-03-01 01:00", "2024-03-01 05:00", "2024-03-01 06:00"])
    frame = pd.DataFrame({"t": times.tz_localize("Europe/Berlin"), "a": [1.0, None, 3, 4], "b": [1, 2, 3, 4]})
    for same in (frame, pl.from_pandas(frame), frame.set_index("t")):
        series = as_series(same)
        assert series.names == ["a", "b"] and str(series.time[0]) == "2024-02-29T23:00:00.000000000"
        assert series.gaps.tolist() == [False, False, True, False] and series.seconds == 3600
        assert series.observed.all()
        assert series.filled(np.zeros(2))[:, 0].tolist() == [1, 1, 3, 4]
    assert series.whole(2).tolist() == [0, 2]


def test_filling_looks_back_only():
    values = np.array([[np.nan, 1], [2, np.nan], [np.nan, np.nan], [5, 6.0]])
    filled = Series(values).filled(np.array([-1.0, -2.0]))
    assert filled.tolist() == [[-1, 1], [2, 1], [2, 1], [5, 6]]
    assert Series(values).observed.tolist() == [True, True, False, True]
    assert Series(values).whole(2).tolist() == [0]


def test_a_regular_grid_sorts_averages_and_counts():
    times = np.array([30.0, 0.0, 10.0, 11.0, 60.0])
    series, counts = regular(np.array([3.0, 1, 2, 4, 9]), 10, time=times)
    np.testing.assert_array_equal(series.values[:, 0], [1, 3, np.nan, 3, np.nan, np.nan, 9])
    assert counts.tolist() == [1, 2, 0, 1, 0, 0, 1] and counts.sum() == 5
    assert regular(np.array([3.0, 1, 2, 4, 9]), 10, time=times, how="last")[0].values[1, 0] == 4
    assert regular(np.array([3.0, 1, 2, 4, 9]), 10, time=times, how="max")[0].values[1, 0] == 4
    assert as_series(series) is series
    for wrong, message in [
        ({"every": -1.0}, "every"),
        ({"every": 1e-6}, "every"),
        ({"how": "median"}, "how"),
        ({"time": times[:3]}, "time has shape"),
        ({"time": None}, "has no times"),
        ({"time": np.zeros(5)}, "one time only"),
    ]:
        with pytest.raises(InputError, match=message):
            regular(np.arange(5.0), **{"time": times, **wrong})


def test_windows_are_views():
    series = np.arange(12.0).reshape(6, 2)
    views = windows_of(series, 3)
    assert views.shape == (4, 3, 2) and np.shares_memory(views, series)
    assert (views[1] == series[1:4]).all() and (windows_of(series, 3, 2)[1] == series[2:5]).all()
    with pytest.raises(InputError, match="fewer than a window of 7"):
        windows_of(series, 7)


# -- sequences at the door -------------------------------------------------------------------------------------------


def test_sequences_of_any_kind():
    for events in ([[3, 1], [2]], [np.array([3, 1]), (2,)], np.array([[3, 1], [2, 2]])[:, :2]):
        assert as_sequences(events)[0].tolist() == [3, 1]
    named = as_sequences([["up", "down"], ["up"]])
    assert len(named) == 2 and named.lengths.tolist() == [2, 1] and named[[1, 0]][1].tolist() == ["up", "down"]
    known = Vocabulary.of(named)
    assert len(known) == 4
    assert known.numbers(as_sequences([["down", "what", "up"]])).flat.tolist() == [2, 1, 3]
    assert padded(known.numbers(named)).tolist() == [[3, 2], [3, 0]]
    with pytest.raises(InputError, match="fitted on names"):
        known.numbers(as_sequences([[1]]))
    numbers = Vocabulary.of(as_sequences([[5, 9]]))
    assert numbers.numbers(as_sequences([[9, 10, 4]])).flat.tolist() == [3, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("abc", "give a list of sequences"),
        (7, "give a list of sequences"),
        (["ab"], "sequence 0 is 'ab'"),
        ([[1], []], "sequence 1 is empty"),
        ([[1], ["a"]], "sequence 1 holds another kind"),
        ([[1.5]], "sequence 0 holds float64"),
        ([[1, "a", None]], "sequence 0"),
        ([], "0 sequences"),
    ],
)
def test_what_is_no_sequence_is_named(wrong, message):
    with pytest.raises(InputError, match=message):
        as_sequences(wrong)


# -- layouts ---------------------------------------------------------------------------------------------------------


def test_bundled_series():
    taxi, server = load_series("nyc_taxi"), load_series("application_server")
    assert taxi.train.time is not None and taxi.train.seconds == 1800 and (taxi.labels == 1).sum() == 1035
    assert server.train.values.shape == (8640, 19) and server.labels.sum() == 297
    as_series(taxi.train), as_series(server.test)
    with pytest.raises(InputError, match="are bundled"):
        load_series("nowhere")


def test_layouts_written_by_hand(tmp_path):
    def write(path, text):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return path

    ucr = read_series(write("001_UCR_Anomaly_made_3_5_6.txt.gz", "\n".join(map(str, range(8)))))
    assert (len(ucr.train), ucr.labels.tolist()) == (3, [0, 1, 1, 0, 0])
    write("nab/labels/combined_windows.json", json.dumps({"c/n.csv": [["2024-01-01 00:04:00", "2024-01-01 00:05:00"]]}))
    lines = [f"2024-01-01 00:0{i}:00,{i}" for i in range(8)]
    nab = read_series(write("nab/c/n.csv", "\n".join(["timestamp,value", *lines])))
    assert (len(nab.train), nab.labels.tolist()) == (1, [0, 0, 0, 1, 1, 0, 0])
    assert str(nab.test.time[0]).startswith("2024-01-01T00:01")
    doubled = read_series(write("nab/c/n.csv", "\n".join(["timestamp,value", lines[0], *lines])))
    assert doubled.test.time is None and doubled.note.startswith("1 times do not rise")
    for part, text in (("train", "1,2\n3,4"), ("test", "5,6\n7,8\n9,10"), ("test_label", "0\n1\n0")):
        path = write(f"smd/{part}/m.txt", text)
    smd = read_series(path.parent.parent / "test" / "m.txt")
    assert smd.layout == "smd" and smd.test.values.shape == (3, 2) and smd.labels.tolist() == [0, 1, 0]
    for part in ("train", "test"):
        (tmp_path / "nasa" / part).mkdir(parents=True)
        np.save(tmp_path / "nasa" / part / "A-1.npy", np.arange(10.0).reshape(5, 2))
    write("nasa/labeled_anomalies.csv", 'chan_id,spacecraft,anomaly_sequences,class,num_values\nA-1,S,"[[1, 2]]",p,5')
    assert read_series(tmp_path / "nasa" / "test" / "A-1.npy").labels.tolist() == [0, 1, 1, 0, 0]
    tsb = read_series(write("009_X_id_1_Y_tr_2_1st_3.csv", "a,b,Label\n1,2,0\n3,4,0\n5,6,1\n7,8,0"))
    assert tsb.layout == "tsb" and len(tsb.train) == 2 and tsb.labels.tolist() == [1, 0]
    own = read_series(write("own.csv", "when,a,bad\n2024-01-01,1,0\n2024-01-02,2,1"), label="bad", train_share=0.5)
    assert own.labels.tolist() == [1] and own.train.time is not None and own.test.names == ["a"]
    for path, message in [
        (write("x.csv", "a,b\n1,2"), "no column of labels"),
        (write("y.csv", "a,label\nword,0"), "column 'a' holds string, not numbers or times"),
        (write("z.csv", "a,label\n1,7"), "labels are 0 and 1"),
        (write("cut.csv.gz", "a,label\n1,0").with_suffix(".zip"), "is not a file"),
        (write("w.bin", "?"), "no known layout"),
    ]:
        with pytest.raises(InputError, match=message):
            read_series(path)
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(gzip.compress(b"a,label\n1,0\n")[:-9])
    with pytest.raises(InputError, match=r"broken.csv.gz cannot be read"):
        read_series(broken)


@needs_data
def test_every_real_series_is_read(monkeypatch):
    from assay.datasets.series import available_series

    monkeypatch.setenv("ASSAY_DATA", str(SHARED))
    records = [read_series(path) for path in available_series()]
    layouts = defaultdict(int)
    for record in records:
        layouts[record.layout] += 1
        assert len(record.train) and len(record.test) == len(record.labels)
        as_series(record.train), as_series(record.test)
    assert dict(layouts) == {"nab": 58, "nasa": 16, "smd": 8, "ucr": 4, "tsb": 2}
    assert load_series("smd/machine-2-1").labels.sum() == 1170


# -- logs ------------------------------------------------------------------------------------------------------------


def grouping_accuracy(found, true):
    """Return the share of lines whose group is exactly a true group."""
    groups, truth = defaultdict(set), defaultdict(set)
    for line, (a, b) in enumerate(zip(found, true)):
        groups[a].add(line)
        truth[b].add(line)
    exact = {frozenset(lines) for lines in truth.values()}
    return sum(len(lines) for lines in groups.values() if frozenset(lines) in exact) / len(found)


#: What Zhu et al. (ICSE-SEIP 2019) report for Drain on these 2,000 lines, with masks and settings of their own.
OPENSTACK = (r"((\d+\.){3}\d+,?)+", r"/.+?\s", r"\d+")


@needs_logs
@pytest.mark.parametrize(
    ("name", "published", "settings"),
    [
        ("HDFS", 0.998, {}),
        ("BGL", 0.963, {}),
        ("Thunderbird", 0.955, {}),
        ("OpenStack", 0.733, {"depth": 5, "masks": OPENSTACK}),
    ],
)
def test_templates_are_as_good_as_published(name, published, settings):
    text = gzip.decompress((SHARED / "logs" / "loghub_2k" / f"{name}_2k.log_structured.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    found = TemplateMiner(**settings).parse(row["Content"] for row in rows)
    assert grouping_accuracy(found, [row["EventId"] for row in rows]) > published - 0.01


def test_templates_of_a_small_log():
    miner = TemplateMiner()
    lines = ["open file a.txt now", "open file b.txt now", "close", "open file c.txt later", "", "read 0xff of 3"]
    assert miner.parse(lines) == [0, 0, 1, 0, 2, 3]
    assert miner.text(0) == "open file <*> <*>" and miner.text(3) == "read <*> of <*>"
    assert miner.parse(["close", "open file d.txt now"]) == [1, 0]
    few = TemplateMiner(max_children=2)
    few.parse([f"{word} goes" for word in ("a", "b", "c", "d")])
    assert len(few._root[2]) == 2
    with pytest.raises(InputError, match="masks"):
        TemplateMiner(masks=["("])


def test_sessions_and_windows():
    grouped, keys = sessions([1, 2, 3, 4], ["x", "y", "x", "x"])
    assert keys == ["x", "y"] and grouped[0].tolist() == [1, 3, 4]
    windows, starts = sliding(list(range(7)), 3)
    assert starts.tolist() == [0, 3, 6] and windows[2].tolist() == [6]
    windows, starts = sliding(list(range(5)), 3, 1)
    assert starts.tolist()[:3] == [0, 1, 2] and windows[0].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="keys"):
        sessions([1], [])


def test_event_layouts_written_by_hand(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "hdfs_train").write_text("1 2 3\n1 2\n1\n")
    (tmp_path / "deep" / "hdfs_test_abnormal").write_text("9 9\n")
    deep = read_events(tmp_path / "deep")
    assert (len(deep.train), deep.labels.tolist()) == (2, [0, 1]) and deep.test[1].tolist() == [9, 9]
    (tmp_path / "BGL_structured.csv").write_text(
        "LineId,Label,Content,EventId\n" + "\n".join(f"{i},{'-' if i != 5 else 'FATAL'},x,E{i % 2}" for i in range(8))
    )
    bgl = read_events(tmp_path / "BGL_structured.csv", length=2)
    assert bgl.labels.tolist() == [1, 0] and bgl.test[0].tolist() == ["E0", "E1"] and len(bgl.train) == 2
    (tmp_path / "app.log").write_text("up 1\nup 2\ndown now\n")
    raw = read_events(tmp_path / "app.log", length=2)
    assert raw.labels.tolist() == [-1] and raw.train[0].tolist() == [0, 0]
    with pytest.raises(InputError, match="no known layout"):
        read_events(tmp_path)
    (tmp_path / "deep" / "hdfs_train").write_text("1 b\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_events(tmp_path / "deep")


@needs_logs
def test_real_event_sets(monkeypatch):
    monkeypatch.setenv("ASSAY_DATA", str(SHARED))
    sets = [load_events("hdfs_sessions"), load_events("hdfs_100k")]
    assert [int(record.labels.sum()) for record in sets] == [16838, 57]
    assert [len(record.train) for record in sets] == [3236, 6096]

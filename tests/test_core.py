"""The foundations: validation, randomness, progress, parallel work, files, tables, extras."""

import io
import os
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay.core import files
from assay.core import progress as progress_module
from assay.core.clone import seeded_clone
from assay.core.extras import MissingExtra, require
from assay.core.files import new_file, new_folder, sha256_of
from assay.core.parallel import run
from assay.core.progress import progress, silence
from assay.core.random import as_generator, child_seeds
from assay.core.tables import iter_tables, like_input, read_table, write_table
from assay.core.validation import (
    InputError,
    as_labels,
    as_matrix,
    as_table,
    check_methods,
    check_number,
    normals_and_anomalies,
    refuse_non_finite,
)
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.ssdo import SSDO

# -- validation ------------------------------------------------------------------------------------------------------


def test_as_matrix_keeps_what_is_right_and_copies_nothing():
    X = np.arange(6.0).reshape(3, 2)
    assert as_matrix(X) is X
    assert as_matrix(X.T).flags.c_contiguous
    assert as_matrix([[1, 2], [3, 4]]).dtype == np.float64
    assert as_matrix(np.zeros((0, 2)), min_rows=0).shape == (0, 2)
    X.setflags(write=False)
    assert np.shares_memory(as_matrix(X), X)


@pytest.mark.parametrize(
    ("X", "said"),
    [
        ([[1.0, np.nan]], r"^rows holds NaN in row 0, column 1 \(1 such cells in all\)"),
        ([[np.inf, 2.0], [3.0, -np.inf]], r"^rows holds infinity \(inf\) in row 0, column 0 \(2 such cells"),
        ([[1e151]], r"^rows holds 1e\+151, too large"),
        ([1.0, 2.0], "^rows has 1 dimensions, expected 2"),
        (np.zeros((1, 2, 3)), "^rows has 3 dimensions"),
        (3.0, "^rows has . dimensions"),
        ([["a"]], "^rows cannot be read as a table of numbers"),
        ([[1.0], [1.0, 2.0]], "^rows cannot be read as a table of numbers"),
        ([[{}]], "^rows cannot be read as a table of numbers"),
        ([[1j]], "^rows holds complex numbers"),
        (np.zeros((3, 0)), "^rows has no columns"),
        (np.zeros((1, 3)), "^rows has 1 rows, at least 2 needed"),
        (pd.DataFrame({"a": [1.0, np.inf]}), "^rows holds infinity .* column 'a'"),
        (pl.DataFrame({"a": [1.0, None]}), "^rows: column 'a' holds 1 missing values"),
        (pd.DataFrame({"a": ["x", "y"]}), "^rows: column 'a' holds .*, not numbers"),
        (pd.DataFrame({3: ["x", "y"]}), "^rows: column '3' holds .*, not numbers"),
        (pl.DataFrame({"a": [1.0]}).lazy(), "^rows cannot be read as a dataframe"),
        (pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]), "^rows cannot be read as a dataframe: .*unique"),
    ],
)
def test_as_matrix_refuses_in_one_line(X, said):
    with pytest.raises(InputError, match=said) as error:
        as_matrix(X, "rows", min_rows=2 if "at least 2" in said else 1)
    assert "\n" not in str(error.value)


def test_values_just_small_enough_pass():
    refuse_non_finite(np.array([[9e149, -9e149]]))
    refuse_non_finite(np.array([[1, 2]]))
    refuse_non_finite(np.empty((0, 3)))
    with pytest.raises(InputError):
        refuse_non_finite(np.array([[1e150]]))


def test_as_table_reads_every_dataframe():
    columns = {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns), pa.table(columns)):
        X, names = as_table(frame)
        assert names == ["a", "b"] and X.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert as_table(pl.DataFrame({"t": [True, False]}))[0].tolist() == [[1.0], [0.0]]
    assert as_table(pd.DataFrame([[1.0, 2.0]]))[1] is None
    assert as_table(pd.DataFrame({"a": pd.array([1, 2], dtype="Int64")}))[0].tolist() == [[1.0], [2.0]]
    given = [[1.0]]
    assert as_table(given) == (given, None)
    assert as_table(pd.DataFrame(index=range(3)))[0].shape == (3, 0)


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, -1],
        [0.0, 1.0, -1.0],
        np.array([0, 1, -1], dtype=np.int8),
        np.array([[0], [1], [-1]]),
        np.array([0, 1, -1], dtype=object),
        pd.Series([0, 1, -1], dtype="Int64"),
        pl.Series([0, 1, -1]),
        pa.array([0, 1, -1]),
    ],
    ids=str,
)
def test_as_labels_reads(y):
    labels = as_labels(y, 3)
    assert labels.dtype == np.int64 and labels.tolist() == [0, 1, -1]


def test_as_labels_reads_booleans():
    assert as_labels([True, False], 2).tolist() == [1, 0]
    assert as_labels(np.array([True, False], dtype=object), 2).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([0, 1], r"labels has shape \(2,\), expected \(3,\)"),
        (0, r"labels has shape \(\)"),
        ([[0, 1], [0, 1], [0, 1]], r"labels has shape \(3, 2\)"),
        ([0, 1, 2], "labels holds 2: labels are 0"),
        ([0, 1, 0.5], "labels holds 0.5"),
        ([0, 1, np.nan], "labels holds nan"),
        ([0, 1, None], "labels holds 0, 1, None"),
        (["0", "1", "0"], "labels holds 0, 1:"),
        (np.array(["0", "1", "0"], dtype=object), "labels holds 0, 1:"),
        ([0, [1], [2, 3]], "labels cannot be read"),
        (pd.Series([0, 1, None], dtype="Int64"), "labels holds"),
        (np.arange(3) + 5, "labels holds 5, 6, 7"),
    ],
    ids=str,
)
def test_as_labels_refuses_in_one_line(y, said):
    with pytest.raises(InputError, match=said) as error:
        as_labels(y, 3, "labels")
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


def test_normals_and_anomalies():
    y = np.array([0, 1, 0, 1, 0])
    normals, anomalies = normals_and_anomalies(y, min_normals=3, min_anomalies=2)
    assert normals.tolist() == [0, 2, 4] and anomalies.tolist() == [1, 3]
    for bounds, said in [((4, 2), "3 normal rows"), ((3, 3), "2 anomalies")]:
        with pytest.raises(InputError, match=f"^labels holds {said}"):
            normals_and_anomalies(y, min_normals=bounds[0], min_anomalies=bounds[1], name="labels")
    with pytest.raises(InputError, match="2 unknown labels"):
        normals_and_anomalies(np.array([-1, 0, 1, -1]), min_normals=1, min_anomalies=1)


def test_check_number():
    for value in (1, 1.0, np.float32(0.5), np.int8(1), 0.0):
        check_number(value, "share", low=0.0, high=1.0)
    for value in (-0.1, 1.1, np.nan, np.inf, "1", None, True, 1j, [1]):
        with pytest.raises(InputError, match=r"^share=.*give a number in \[0, 1\]$"):
            check_number(value, "share", low=0.0, high=1.0)
    for value in (0.0, 1.0):
        with pytest.raises(InputError, match=r"\(0, 1\)$"):
            check_number(value, "share", low=0.0, high=1.0, strict_low=True, strict_high=True)
    check_number(np.int64(3), "n", low=1, integer=True)
    for value in (3.0, True, 0, "3"):
        with pytest.raises(InputError, match=r"^n=.*give an integer in \[1, 2147483647\]$"):
            check_number(value, "n", low=1, integer=True)


def test_check_methods():
    check_methods(IsolationForest(), "detector", "fit", "anomaly_score")
    for value in ("knn", 3, IsolationForest, StandardScaler(), make_pipeline(*[StandardScaler()] * 30)):
        with pytest.raises(
            InputError, match=r"^detector=.*give an unfitted estimator with fit and anomaly_score"
        ) as error:
            check_methods(value, "detector", "fit", "anomaly_score")
        assert "\n" not in str(error.value) and len(str(error.value)) < 200


# -- randomness ------------------------------------------------------------------------------------------------------


def test_every_kind_of_seed():
    def draw(seed):
        return as_generator(seed).random()

    assert draw(3) == draw(np.int64(3)) != draw(4)
    assert draw(np.random.SeedSequence(3)) == draw(3)
    assert draw(np.random.RandomState(3)) == draw(np.random.RandomState(3))
    assert draw(None) != draw(None)
    rng = np.random.default_rng(0)
    assert as_generator(rng) is rng
    for wrong in (-1, 1.5, "3", True, [1], np.random):
        with pytest.raises(InputError, match=r"^random_state=.") as error:
            as_generator(wrong)
        assert "\n" not in str(error.value)


def test_the_global_state_is_neither_read_nor_written():
    before = joblib.hash(np.random.get_state())
    as_generator(None).random()
    child_seeds(as_generator(3), 5)
    assert joblib.hash(np.random.get_state()) == before
    np.random.seed(0)
    first = as_generator(None).random()
    np.random.seed(0)
    assert as_generator(None).random() != first


def test_child_seeds():
    seeds = child_seeds(np.random.default_rng(0), 1000)
    assert seeds == child_seeds(np.random.default_rng(0), 1000)
    assert seeds[:10] == child_seeds(np.random.default_rng(0), 10)
    assert len(set(seeds)) == 1000
    assert all(type(seed) is int and 0 <= seed < 2**31 - 1 for seed in seeds)


def test_seeded_clone_seeds_every_random_state_inside():
    template = make_pipeline(StandardScaler(), SSDO(IsolationForest()))
    copy, again, other = seeded_clone(template, 1), seeded_clone(template, 1), seeded_clone(template, 2)
    seeds = [copy[-1].random_state, copy[-1].detector.random_state]
    assert len(set(seeds)) == 2 and None not in seeds
    assert copy.get_params()["ssdo__random_state"] == again.get_params()["ssdo__random_state"]
    assert other[-1].random_state != copy[-1].random_state
    assert template[-1].random_state is None and template[-1].detector.random_state is None
    assert seeded_clone(StandardScaler(), 1).get_params() == StandardScaler().get_params()
    fixed = seeded_clone(RandomForestClassifier(random_state=7), 1)
    assert fixed.random_state not in (7, None)


# -- progress --------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Return a function that makes standard error a terminal, and the clock run by a second an item."""

    def make():
        fake, ticks = Terminal(), iter(range(10**6))
        monkeypatch.setattr(sys, "stderr", fake)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
        return fake

    return make


def test_progress_draws_on_a_terminal_once_two_seconds_have_passed(terminal):
    screen = terminal()
    written = []
    for item in progress(range(6), "fitting forests", total=6):
        written.append(len(screen.getvalue()))
        assert item == len(written) - 1
    assert written[:3] == [0, 0, 0]  # one, then two seconds: not yet
    assert written[3] > 0
    assert "fitting forests" in screen.getvalue()
    assert "/6" in screen.getvalue()


def test_progress_of_quick_work_draws_nothing(terminal, monkeypatch):
    screen = terminal()
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: 0.0))
    assert list(progress(range(100), "working")) == list(range(100))
    assert screen.getvalue() == ""


def test_only_the_outermost_progress_draws(terminal):
    screen = terminal()
    for _ in progress(range(5), "outer", total=5):
        assert list(progress(range(50), "inner", total=50)) == list(range(50))
    assert "outer" in screen.getvalue() and "inner" not in screen.getvalue()
    screen.truncate(0)
    list(progress(range(5), "later", total=5))  # and the next one may draw again
    assert "later" in screen.getvalue()


def test_silence(terminal):
    screen = terminal()
    with silence():
        list(progress(range(10), "hidden", total=10))
        with silence(False):
            list(progress(range(10), "shown", total=10))
        list(progress(range(10), "hidden", total=10))
    assert "shown" in screen.getvalue() and "hidden" not in screen.getvalue()


def test_progress_ends_cleanly_when_interrupted(terminal):
    screen = terminal()
    with pytest.raises(KeyboardInterrupt):
        for item in progress(range(10), "first", total=10):
            if item == 5:
                raise KeyboardInterrupt
    screen.truncate(0)
    list(progress(range(5), "second", total=5))
    assert "second" in screen.getvalue()


def test_progress_is_quiet_away_from_a_terminal(capfd, monkeypatch):
    monkeypatch.setattr(progress_module, "PATIENCE_SECONDS", -1.0)
    assert list(progress(iter("abc"), "working")) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")


# -- parallel --------------------------------------------------------------------------------------------------------


def _where(x):
    return x**2, os.getpid(), threading.get_ident()


def test_results_come_in_order_from_threads_and_processes():
    tasks = [(x,) for x in range(20)]
    here = [x**2 for x in range(20)]
    for jobs in (None, 1, 2):
        results = run(_where, iter(tasks), n_jobs=jobs)
        assert [square for square, _, _ in results] == here
        assert {pid for _, pid, _ in results} == {os.getpid()}
    with joblib.parallel_config("loky", n_jobs=2):
        results = run(_where, tasks)
    assert [square for square, _, _ in results] == here
    assert os.getpid() not in {pid for _, pid, _ in results}
    assert run(_where, []) == []


def test_detectors_fitted_in_processes_are_those_fitted_in_threads():
    from assay.quality.eap import ExpectedAnomalyPosterior

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.repeat([0, 1], [72, 8])
    threads = ExpectedAnomalyPosterior(n_subsets=4, n_jobs=2, random_state=0).fit(X, y).quality(X)
    with joblib.parallel_config("loky", n_jobs=2):
        processes = ExpectedAnomalyPosterior(n_subsets=4, random_state=0).fit(X, y).quality(X)
    assert processes.tobytes() == threads.tobytes()


def test_detectors_fitted_on_a_dask_cluster_are_those_fitted_here():
    from distributed import Client, LocalCluster

    from assay.quality.eap import ExpectedAnomalyPosterior

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.repeat([0, 1], [72, 8])
    here = ExpectedAnomalyPosterior(n_subsets=4, random_state=0).fit(X, y).quality(X)
    workers = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with workers as cluster, Client(cluster), joblib.parallel_config("dask"):
        there = ExpectedAnomalyPosterior(n_subsets=4, random_state=0).fit(X, y).quality(X)
    assert there.tobytes() == here.tobytes()


def _fail(x):
    if x == 3:
        raise InputError(f"task {x} went wrong")
    return x


def test_an_error_in_a_task_is_the_callers():
    for jobs in (1, 2):
        with pytest.raises(InputError, match="task 3 went wrong"):
            run(_fail, [(x,) for x in range(6)], n_jobs=jobs)


# -- extras ----------------------------------------------------------------------------------------------------------


def test_a_missing_extra_is_named():
    assert require("json", "skops", "Reading").__name__ == "json"
    with pytest.raises(MissingExtra) as error:
        require("no_such_library.io", "deep", "Training a network")
    assert str(error.value) == (
        "Training a network needs no_such_library, which the extra 'deep' brings: pip install no_such_library"
    )
    assert isinstance(error.value, ImportError)


def test_importing_assay_is_light(run_python):
    heavy = ("torch", "pandas", "polars", "pyarrow", "sklearn", "numba")
    loaded = run_python(f"import sys, assay; print([name for name in {heavy} if name in sys.modules])")
    assert loaded.strip() == "[]"
    assert run_python("import sys; from assay import KNN; print('torch' in sys.modules)").strip() == "False"


# -- files -----------------------------------------------------------------------------------------------------------


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def test_sha256_of(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "long").write_bytes(b"x" * (2**20 + 7))
    assert sha256_of(tmp_path / "long") != sha256_of(tmp_path / "abc")


def test_a_new_folder_appears_whole(tmp_path):
    with new_folder(tmp_path / "a" / "b") as work:
        assert not (tmp_path / "a" / "b").exists()
        assert work.parent == tmp_path / "a"
        (work / "sub").mkdir()
        (work / "sub" / "file").write_text("text")
    assert listing(tmp_path) == ["a", "a/b", "a/b/sub", "a/b/sub/file"]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_crash_leaves_neither_folder_nor_file(tmp_path, error):
    with pytest.raises(error), new_folder(tmp_path / "folder") as work:
        (work / "half").write_text("half")
        raise error
    with pytest.raises(error), new_file(tmp_path / "file.csv") as part:
        part.write_text("half")
        raise error
    assert listing(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_crash_while_overwriting_keeps_the_old(tmp_path, error):
    with new_folder(tmp_path / "folder") as work:
        (work / "old").write_text("old")
    with new_file(tmp_path / "file") as part:
        part.write_text("old")
    with pytest.raises(error), new_folder(tmp_path / "folder", overwrite=True) as work:
        (work / "new").write_text("new")
        raise error
    with pytest.raises(error), new_file(tmp_path / "file", overwrite=True) as part:
        part.write_text("new")
        raise error
    assert listing(tmp_path) == ["file", "folder", "folder/old"]
    assert (tmp_path / "file").read_text() == "old"


def test_overwriting_replaces_everything(tmp_path):
    for content in ("old", "new"):
        with new_folder(tmp_path / "folder", overwrite=True) as work:
            (work / content).write_text(content)
        with new_file(tmp_path / "file", overwrite=True) as part:
            part.write_text(content)
    assert listing(tmp_path) == ["file", "folder", "folder/new"]
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    with new_folder(tmp_path / "folder") as work:
        (work / "old").write_text("old")
    replace = os.replace

    def failing(source, target):
        if Path(target) == tmp_path / "folder" and ".assay-old" not in str(source):
            raise OSError("disk went away")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", failing)
    with pytest.raises(OSError, match="went away"), new_folder(tmp_path / "folder", overwrite=True) as work:
        (work / "new").write_text("new")
    assert (tmp_path / "folder" / "old").read_text() == "old"
    assert [name for name in listing(tmp_path) if name.endswith("new")] == []


def test_everything_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: calls.append(os.readlink(f"/proc/self/fd/{handle}")))
    rename, replace = os.rename, os.replace
    monkeypatch.setattr(files.os, "rename", lambda *names: calls.append("rename") or rename(*names))
    monkeypatch.setattr(files.os, "replace", lambda *names: calls.append("rename") or replace(*names))
    with new_folder(tmp_path / "folder") as work:
        (work / "content").write_text("text")
    assert calls[0].endswith("/content")
    assert calls.index("rename") == 2 and calls[-1] == str(tmp_path)
    calls.clear()
    with new_file(tmp_path / "file.txt") as part:
        part.write_text("text")
    assert calls.index("rename") >= 1
    assert calls[0].endswith(".txt")


def test_what_exists_is_refused(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "content").write_text("text")
    (tmp_path / "empty").mkdir()
    cases = [
        (new_folder, "file", False, "out .*file is a file: name a folder"),
        (new_folder, "file", True, "out .*file is a file: name a folder"),
        (new_folder, "full", False, "out .*full exists and is not empty"),
        (new_folder, "file/below", False, "out .*below cannot be written"),
        (new_file, "file", False, "out .*file exists"),
        (new_file, "full", True, "out .*full is a folder: name a file"),
        (new_file, "file/below", False, "out .*below cannot be written"),
    ]
    for function, name, overwrite, said in cases:
        with (
            pytest.raises(InputError, match=said) as error,
            function(tmp_path / name, overwrite=overwrite, name="out"),
        ):
            pytest.fail("entered")
        assert "\n" not in str(error.value)
    with new_folder(tmp_path / "empty") as work:
        (work / "content").write_text("text")
    assert listing(tmp_path) == ["empty", "empty/content", "file", "full", "full/content"]


# -- tables ----------------------------------------------------------------------------------------------------------

COLUMNS = {
    "a": [1.0, 2.5, -3.0],
    "b": [4, 5, 6],
    "kind": ["good", "bad", "good"],
    "id": ["x", "y", "z"],
    "y": [0, 1, -1],
}


@pytest.fixture(params=[".csv", ".parquet"])
def stored(request, tmp_path):
    path = tmp_path / f"table{request.param}"
    write_table(COLUMNS, path)
    return path


def test_reading_columns(stored):
    table = read_table(stored, label="y", index="id", drop=["kind"])
    assert table.path == stored
    assert table.names == ["a", "b"]
    assert table.X.tolist() == [[1.0, 4.0], [2.5, 5.0], [-3.0, 6.0]]
    assert table.X.dtype == np.float64 and table.X.flags.c_contiguous
    assert table.y.tolist() == [0, 1, -1]
    assert list(table.index) == ["x", "y", "z"]


def test_reading_without_label_or_index(stored):
    table = read_table(str(stored), drop=["kind", "id"])
    assert table.names == ["a", "b", "y"]
    assert table.y is None
    assert table.index.tolist() == [0, 1, 2]


def test_naming_the_anomalous_value(stored):
    assert read_table(stored, label="kind", anomalous="bad", drop=["id"]).y.tolist() == [0, 1, 0]
    assert read_table(stored, label="y", anomalous="-1", drop=["id", "kind"]).y.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "column 'kind' holds text, not numbers; .*--drop kind"),
        ({"label": "nope"}, "has no label column 'nope'; it has a, b, kind, id, y"),
        ({"index": "nope"}, "has no index column 'nope'"),
        ({"drop": ["nope"]}, "has no dropped column 'nope'"),
        ({"label": "kind", "drop": ["id"]}, r"label column 'kind' holds bad, good.*--anomalous VALUE"),
        ({"label": "kind", "anomalous": "ugly", "drop": ["id"]}, "no label is 'ugly'; column 'kind' holds bad, good"),
        ({"label": "b", "drop": ["kind", "id"]}, "label column 'b' holds 4, 5, 6"),
        ({"drop": list(COLUMNS)}, "has no feature columns"),
    ],
    ids=str,
)
def test_tables_that_cannot_be_understood_name_the_column(stored, options, said):
    with pytest.raises(InputError, match=said) as error:
        read_table(stored, argument="--train", **options)
    assert str(error.value).startswith(f"--train {stored}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "missing.csv does not exist|missing.csv"),
        ("empty.csv", b"", "is empty"),
        ("empty.parquet", b"", "is empty"),
        ("empty.npz", b"", "is empty"),
        ("header.csv", b"a,b\n", "holds no rows"),
        ("ragged.csv", b"a,b\n1,2\n3\n", "cannot be read as csv"),
        ("twice.csv", b"a,a\n1,2\n", "two columns called 'a'"),
        ("gap.csv", b"a,b\n1,2\n,3\n", "column 'a' holds .*missing values"),
        ("nothing.csv", b"a,b\n,1\n,2\n", "column 'a' holds (nothing, not numbers|missing values)"),
        ("nan.csv", b"a,b\n1,2\nnan,3\n", "NaN in row 1, column 'a'|missing values"),
        ("inf.csv", b"a,b\n1,2\n3,inf\n", r"infinity \(inf\) in row 1, column 'b'"),
        ("words.csv", b"a,b\n1,x\n", "column 'b' holds text"),
        ("dates.csv", b"a,b\n1,2024-01-01\n", "column 'b' holds date32"),
        ("bytes.csv", b"a,b\n1,\xff\xfe\n", "column 'b' holds|cannot be read as csv"),
        ("broken.parquet", b"PAR1 and then nothing", "cannot be read as parquet"),
        ("broken.npz", b"PK and then nothing", "cannot be read as npz"),
        ("broken.npy", b"\x93NUMPY and then nothing", "cannot be read as npy"),
        ("table.xlsx", b"PK", r"ends in '\.xlsx': give a \.csv, \.parquet, \.npz, \.npy file"),
        ("table", b"a,b\n1,2\n", r"(ends in 'nothing'|has no ending): give a \.csv"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, said):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as error:
        read_table(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(path))


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder\.csv") as error:
        read_table(tmp_path / "folder.csv")
    assert "\n" not in str(error.value)


def test_numpy_files(tmp_path):
    X, y = np.arange(6).reshape(3, 2), np.array([0, 1, 0])
    np.savez(tmp_path / "both.npz", X=X, y=y)
    np.savez(tmp_path / "alone.npz", X=X)
    np.save(tmp_path / "alone.npy", X)
    table = read_table(tmp_path / "both.npz", label="y")
    assert table.names == ["x0", "x1"] and table.y.tolist() == [0, 1, 0]
    assert table.X.dtype == np.float64 and np.array_equal(table.X, X)
    for name in ("alone.npz", "alone.npy"):
        table = read_table(tmp_path / name)
        assert np.array_equal(table.X, X) and table.y is None and table.index.tolist() == [0, 1, 2]
        with pytest.raises(InputError, match="has no label 'y'"):
            read_table(tmp_path / name, label="y")
    with pytest.raises(InputError, match="has no label 'kind'"):
        read_table(tmp_path / "both.npz", label="kind")
    assert read_table(tmp_path / "both.npz", drop=["x0"]).names == ["x1"]
    assert read_table(tmp_path / "both.npz", drop=["x0"]).X.tolist() == [[1.0], [3.0], [5.0]]
    for names, said in [
        ({"index": "x0"}, "no index column 'x0'"),
        ({"drop": ["id"]}, "no dropped column 'id'"),
        ({"drop": ["x0", "x1"]}, "no feature columns"),
    ]:
        with pytest.raises(InputError, match=said):
            read_table(tmp_path / "both.npz", **names)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"Z": np.ones((2, 2))}, "holds Z: it must hold an array X"),
        ({"X": np.ones(3)}, r"X has shape \(3,\)"),
        ({"X": np.array([["a", "b"]])}, "give a two-dimensional array of numbers"),
        ({"X": np.ones((3, 2)) * 1j}, "complex128; give a two-dimensional array of numbers"),
        ({"X": np.array([[1.0, np.nan]])}, "NaN in row 0, column 'x1'"),
        ({"X": np.ones((0, 2))}, "holds no rows"),
        ({"X": np.ones((3, 0))}, r"X has shape \(3, 0\)|has no (feature )?columns"),
        ({"X": np.ones((3, 2)), "y": np.zeros(2)}, r"y has \(2,\) rows, X has \(3,\)"),
        ({"X": np.ones((3, 2)), "y": np.array([0, 1, 2])}, "holds 2"),
        ({"X": np.array([[{}]], dtype=object)}, "cannot be read as npz|two-dimensional array of numbers"),
    ],
)
def test_numpy_files_that_cannot_be_used_are_named(tmp_path, arrays, said):
    path = tmp_path / "table.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(InputError, match=said) as error:
        read_table(path, label="y" if "y" in arrays else None)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_nothing_is_unpickled(tmp_path):
    for name in ("table.npy", "table.npz"):
        bomb = np.array([[Boom()]], dtype=object)
        if name == "table.npy":
            np.save(tmp_path / name, bomb, allow_pickle=True)
        else:
            np.savez(tmp_path / name, X=bomb)
        with pytest.raises(InputError):
            read_table(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "member.npz", "w") as archive:
        archive.writestr("X.pkl", b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError):
        read_table(tmp_path / "member.npz")


@pytest.mark.parametrize("kind", ["int8", "uint16", "float32", "bool"])
def test_parquet_number_types(tmp_path, kind):
    values = np.array([0, 1, 1]).astype(kind)
    parquet.write_table(pa.table({"a": values}), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").X[:, 0].tolist() == [0.0, 1.0, 1.0]


def test_parquet_decimals_and_a_stored_pandas_index(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0]}, index=pd.Index(["p", "q"], name="name"))
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.names == ["a"] and list(table.index) == ["p", "q"]
    parquet.write_table(pa.table({"a": pa.array([1, 2]).cast(pa.decimal128(21, 2))}), tmp_path / "d.parquet")
    assert read_table(tmp_path / "d.parquet").X[:, 0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("suffix", [".parquet", ".npy", ".npz", ".csv"])
def test_pieces_are_the_whole(tmp_path, suffix):
    X = np.random.default_rng(0).normal(size=(1050, 3))
    path = tmp_path / f"big{suffix}"
    if suffix == ".npy":
        np.save(path, X)
    else:
        write_table({"X": X} if suffix == ".npz" else dict(zip("abc", X.T)), path)
    pieces = list(iter_tables(path, rows=100))
    np.testing.assert_array_equal(np.concatenate([piece.X for piece in pieces]), X)
    np.testing.assert_array_equal(np.concatenate([piece.index for piece in pieces]), np.arange(1050))
    if suffix != ".csv":
        assert max(len(piece.X) for piece in pieces) == 100
    np.testing.assert_array_equal(read_table(path).X, X)


def test_a_csv_in_several_blocks(tmp_path):
    n, path = 700_000, tmp_path / "big.csv"
    columns = {name: np.arange(n) * step for name, step in [("a", 1.5), ("b", 2.5), ("c", 3.5)]}
    csv.write_csv(pa.table({**columns, "y": np.arange(n) % 2}), path)
    pieces = list(iter_tables(path, label="y"))
    assert len(pieces) > 1
    table = read_table(path, label="y")
    assert table.names == ["a", "b", "c"] and table.X.shape == (n, 3)
    np.testing.assert_array_equal(table.X, np.column_stack(list(columns.values())))
    np.testing.assert_array_equal(table.index, np.arange(n))
    np.testing.assert_array_equal(table.y, np.arange(n) % 2)


def test_written_tables_come_back(tmp_path):
    for name in ("t.csv", "t.parquet"):
        write_table({"score": np.array([0.1, 1 / 3]), "row": np.array([0, 1])}, tmp_path / name)
        assert read_table(tmp_path / name).X.tolist() == [[0.1, 0.0], [1 / 3, 1.0]]
        write_table(pa.table({"a": [1.0]}), tmp_path / name)
        assert read_table(tmp_path / name).names == ["a"]
    write_table({"X": np.ones((2, 2))}, tmp_path / "t.npz")
    assert read_table(tmp_path / "t.npz").X.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    with pytest.raises(InputError, match=r"give \.csv, \.parquet or \.npz"):
        write_table({"a": [1.0]}, tmp_path / "t.xlsx")


def test_answers_come_in_the_library_of_the_question():
    columns = {"score": np.array([1.0, 2.0]), "verdict": np.array(["good", "bad"])}
    answer = like_input(columns, pd.DataFrame({"a": [5, 6]}, index=["p", "q"]))
    assert isinstance(answer, pd.DataFrame) and list(answer.index) == ["p", "q"]
    assert answer["verdict"].tolist() == ["good", "bad"]
    assert isinstance(like_input(columns, pl.DataFrame({"a": [5, 6]})), pl.DataFrame)
    assert isinstance(like_input(columns, pa.table({"a": [5, 6]})), pa.Table)
    for like in (np.ones((2, 2)), [[1], [2]]):
        assert isinstance(like_input(columns, like), pa.Table)

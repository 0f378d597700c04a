"""The benchmark engine: what may be configured, that nothing is lost and nothing is done twice, however it ends."""

import errno
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

import bench_measures
from assay.benchmark import config, engine, results
from assay.benchmark.config import Cell, Method, read_config
from assay.core.extras import MissingExtra
from assay.core.progress import silence
from assay.core.validation import InputError
from bench_measures import measure
from commands import run as command

PROCESSES = engine._processes
DATASETS = ("breastw", "vertebral", "ionosphere")
TOML = """
name = "tiny"
seeds = [0, 1]
datasets = ["breastw", "vertebral", "ionosphere"]
[methods.eap]
[methods.eap_one]
system = "eap"
n_subsets = 1
[options]
"""


def written(path, text=TOML, **options):
    values = {key: f"'{value}'" if isinstance(value, (str, Path)) else value for key, value in options.items()}
    path.write_text(text + "".join(f"{key} = {value}\n" for key, value in values.items()))
    return path


@pytest.fixture
def trial(tmp_path):
    """Return a function that makes the tiny trial, with options of the measure."""
    return lambda text=TOML, **options: read_config(written(tmp_path / "trial.toml", text, **options), measure)


@contextmanager
def here(_size):
    """Run cells within this process, at once: for what does not depend on where they run."""

    def submit(function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future

    yield submit


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.setattr(engine, "_processes", here)


def cells_of(folder):
    return sorted(path.name for path in (folder / "cells").iterdir())


def go(trial, folder, **options):
    return engine.run(trial, folder, measure=options.pop("measure", measure), **options)


def counts(summary):
    return summary.done, summary.failed, summary.skipped, summary.resumed


# -- the configuration


def test_a_configuration_is_read(tmp_path):
    text = TOML.replace('"vertebral", "ionosphere"', '"cv_by_vit/mvtec-ad_c*", "BREASTW"')
    trial = read_config(written(tmp_path / "a.toml", text, pause=1), measure)
    assert trial.datasets == ("breastw", "cv_by_vit/mvtec-ad_capsule", "cv_by_vit/mvtec-ad_carpet")
    assert trial.methods == {"eap": Method("eap", {}), "eap_one": Method("eap", {"n_subsets": 1})}
    assert trial.options == bench_measures.OPTIONS | {"pause": 1}
    assert trial.seeds == (0, 1)
    # By seed, then data set, then method.
    first = [Cell("breastw", 0, "eap"), Cell("breastw", 0, "eap_one"), Cell("cv_by_vit/mvtec-ad_capsule", 0, "eap")]
    assert trial.cells()[:3] == first
    assert trial.cells()[6] == Cell("breastw", 1, "eap")
    assert len(set(trial.cells())) == len(trial.cells()) == 12
    assert read_config(tmp_path / "a.toml", measure).digest == trial.digest
    assert read_config(written(tmp_path / "a.toml", text, pause=2), measure).digest != trial.digest


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "tiny"', "", "name is missing"),
        ('name = "tiny"', 'name = "../tiny"', "as of a folder"),
        ('name = "tiny"', 'name = "tiny"\nseed = 1', "key 'seed' is unknown; did you mean seeds"),
        ("[0, 1]", "[]", "give a list of different integers"),
        ("[0, 1]", "[0, 0]", "give a list of different integers"),
        ("[0, 1]", "[0, true]", "give a list of different integers"),
        ("[0, 1]", "[0, -1]", "give a list of different integers"),
        ("[0, 1]", "0", "give a list of different integers"),
        ('["breastw"', '["breast"', "no data set is called 'breast'; did you mean breastw"),
        ('["breastw"', '["cv_by_vit/mvtec-ad-*"', "no data set is called 'cv_by_vit/mvtec-ad-\\*'; did you mean"),
        ('["breastw", ', "[1, ", "give a list of names or patterns"),
        ('"eap"', '"eep"', "methods.eap_one: no quality is called 'eep'; did you mean eap"),
        ('"eap"', '"knn"', "methods.eap_one: no quality is called 'knn'"),
        ('"eap"', "3", "methods.eap_one: system=3"),
        ("[methods.eap]", "[methods.eapp]", "no quality is called 'eapp'; did you mean eap"),
        ("n_subsets = 1", "n_subset = 1", "methods.eap_one: parameter 'n_subset' is unknown; did you mean n_subsets"),
        ("n_subsets = 1", "n_subsets = 'many'", "methods.eap_one: n_subsets='many' is of the wrong kind: give int"),
        ("n_subsets = 1", "n_subsets = 1.5", "methods.eap_one: n_subsets=1.5 is of the wrong kind: give int"),
        ("n_subsets = 1", "n_subsets = 0", "methods.eap_one: n_subsets=0: give an integer in"),
        ("n_subsets = 1", "prior = 'low'", "methods.eap_one: prior='low' is of the wrong kind: give float"),
        ("n_subsets = 1", "random_state = 1", "random_state is the cell's seed: give seeds"),
        ("[options]", "[options]\npauze = 1", "option 'pauze' is unknown; did you mean pause"),
        ("[options]", "[options]\npause = 'long'", "options.pause='long' is of the wrong kind: give float"),
        ("[options]", "[options]\nbad = 'long'", "options.bad='long' is of the wrong kind: give list"),
        ("[options]", "[options]\nnothing = 2020-01-01", "options.nothing=.*give a number, a text"),
        ("[options]", "[options", "is no TOML"),
        ("[options]", "[[options]]", "give a table"),
        ("[methods.eap]", "[methods]\neap = 3", "methods.eap=3: give a table"),
    ],
)
def test_a_wrong_configuration_is_refused_with_the_remedy(tmp_path, old, new, complaint):
    assert old in TOML
    with pytest.raises(InputError, match=complaint):
        read_config(written(tmp_path / "a.toml", TOML.replace(old, new, 1)), measure)


def test_a_configuration_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no.toml cannot be read: No such file"):
        read_config(tmp_path / "no.toml", measure)
    (tmp_path / "a.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(InputError, match="is no TOML"):
        read_config(tmp_path / "a.toml", measure)
    with pytest.raises(InputError, match="methods is empty"):
        read_config(written(tmp_path / "b.toml", "name='a'\nseeds=[0]\ndatasets=['breastw']\n[methods]\n"), measure)
    monkeypatch.setitem(sys.modules, "tomllib", None)
    with pytest.raises(InputError, match=r"from version 3.11 on: use a newer Python"):
        read_config(written(tmp_path / "a.toml"), measure)


def test_only_the_classes_that_are_named_are_imported(tmp_path, run_python):
    written(tmp_path / "a.toml")
    code = (
        "import sys; from types import ModuleType; from assay.benchmark.config import read_config\n"
        "def measure(): pass\n"
        f"read_config({str(tmp_path / 'a.toml')!r}, measure)\n"
        "print([name for name in sys.modules if name in ('torch', 'assay.quality.lava', 'assay.benchmark.trial')])"
    )
    assert run_python(code).strip() == "[]"


# -- rows and tables


def test_every_cell_is_measured_in_silence_in_other_processes(trial, tmp_path, capfd):
    trial = trial(log=tmp_path / "log")
    summary = go(trial, tmp_path / "run", n_jobs=2)
    assert counts(summary) == (12, 0, 0, 0)
    assert capfd.readouterr() == ("", "")
    assert str(os.getpid()) not in {line.split()[-1] for line in (tmp_path / "log").read_text().splitlines()}
    table = results.table(tmp_path / "run")
    rows = table.to_pylist()
    # By data set in the order of the configuration, seed, method in that order.
    order = [(d, s, m) for d in DATASETS for s in (0, 1) for m in ("eap", "eap_one")]
    assert [(row["dataset"], row["seed"], row["method"]) for row in rows] == order
    for row in rows:
        expected = measure(trial, Cell(row["dataset"], row["seed"], row["method"]))
        assert (row["status"], row["reason"]) == ("done", None)
        assert row["curve"] == expected["curve"].tolist()
        for name in ("auc", "rows", "found", "data_hash", "mixed"):
            assert row[name] == expected[name], name
    kinds = {"auc": pa.float64(), "rows": pa.int64(), "found": pa.bool_(), "mixed": pa.float64()}
    assert {name: table.schema.field(name).type for name in kinds} == kinds
    costs = results.costs(tmp_path / "run")
    assert costs["dataset"] == table["dataset"]
    assert all(0 <= row["cpu_seconds"] < 10 and 0 < row["seconds"] < 60 for row in costs.to_pylist())
    assert set(costs["version_numpy"].to_pylist()) == {np.__version__}
    # What differs from run to run is a cost, whoever measured it.
    assert "own_seconds" in costs.column_names
    assert not set(costs.column_names) & set(table.column_names) - {"dataset", "seed", "method", "status"}
    assert (tmp_path / "run" / "trial.toml").read_text() == trial.text
    capfd.readouterr()


def test_failures_and_skips_are_rows_with_their_reason(trial, tmp_path, inline):
    folder = tmp_path / "run"
    options = {"bad": ["vertebral"], "log": tmp_path / "log"}
    assert counts(go(trial(**options), folder)) == (8, 4, 0, 0)
    failed = [row for row in results.table(folder).to_pylist() if row["dataset"] == "vertebral"]
    assert {row["status"] for row in failed} == {"failed"}
    [reason] = {row["reason"] for row in failed}
    assert re.fullmatch(r"ValueError: bad luck, in two lines \(bench_measures.py:\d+ in disaster\)", reason)
    assert {row["auc"] for row in failed} == {None}
    # A failed cell is not run again, unless asked.
    assert counts(go(trial(**options), folder)) == (0, 0, 0, 12)
    assert counts(go(trial(**options), folder, retry_failed=True)) == (0, 4, 0, 8)
    assert len((tmp_path / "log").read_text().splitlines()) == 16
    assert counts(go(trial(bad=["vertebral"], how="skip"), folder, retry_failed=True)) == (8, 0, 4, 0)
    assert counts(go(trial(bad=["vertebral"], how="skip"), folder, retry_failed=True)) == (0, 0, 0, 12)
    skipped = Counter((row["status"], row["reason"]) for row in results.table(folder).to_pylist())
    assert skipped == {("done", None): 8, ("skipped", "too few anomalies"): 4}


def test_what_fails_once_succeeds_when_it_is_retried(trial, tmp_path, inline):
    folder, trial = tmp_path / "run", trial(bad=["vertebral"], marker=tmp_path / "marker")
    assert counts(go(trial, folder)) == (11, 1, 0, 0)
    assert counts(go(trial, folder, retry_failed=True)) == (1, 0, 0, 11)
    assert results.table(folder)["status"].to_pylist() == ["done"] * 12


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_dict", "TypeError: the measure returned float, not a dict"),
        ("strange_value", "TypeError: the measure returned auc=object: give a number, text, or list"),
        ("taken_name", "TypeError: the measure returned a column 'seconds': every row has one"),
    ],
)
def test_a_measure_that_returns_nonsense_fails(trial, tmp_path, inline, name, reason):
    go(trial(), tmp_path, measure=getattr(bench_measures, name))
    rows = results.table(tmp_path).to_pylist()
    assert len(rows) == 12
    assert all(row["status"] == "failed" and row["reason"].startswith(reason) for row in rows)


@pytest.mark.parametrize("how", ["exit", "interrupt"])
def test_a_measure_that_wants_to_end_the_process_fails(trial, tmp_path, inline, how):
    assert counts(go(trial(bad=["breastw"], how=how), tmp_path / "run")) == (8, 4, 0, 0)
    name = {"exit": "SystemExit: 3", "interrupt": "KeyboardInterrupt:"}[how]
    assert results.table(tmp_path / "run")["reason"][0].as_py().startswith(name)


def test_a_column_that_changes_its_kind_is_refused(trial, tmp_path, inline):
    go(trial(), tmp_path, measure=bench_measures.changes_kind)
    with pytest.raises(InputError, match=r"changes its kind between cells.*auc"):
        results.table(tmp_path)


# -- going on


def test_only_what_is_missing_is_measured(trial, tmp_path, inline):
    folder, trial = tmp_path / "run", trial(log=tmp_path / "log")
    go(trial, folder)
    before = results.table(folder)
    gone = [Cell("breastw", 1, "eap"), Cell("ionosphere", 0, "eap_one")]
    for cell in gone:
        (folder / "cells" / f"{results.digest(trial, cell, measure)}.parquet").unlink()
    assert results.table(folder).num_rows == 10
    for half in ("cells/.half.parquet", ".plan.half.json", ".trial.half.toml", ".table.half.csv"):
        (folder / half).touch()  # as killed runs leave them
    (tmp_path / "log").unlink()
    assert counts(go(trial, folder)) == (2, 0, 0, 10)
    log = [line.split()[:3] for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(log) == sorted([cell.dataset, str(cell.seed), cell.method] for cell in gone)
    assert results.table(folder).equals(before)
    assert len(cells_of(folder)) == 12
    assert not list(folder.glob(".plan*"))


def test_a_changed_configuration_runs_what_changed(trial, tmp_path, inline, monkeypatch):
    folder = tmp_path / "run"
    go(trial(), folder)
    changed = TOML.replace("n_subsets = 1", "n_subsets = 2")
    assert counts(go(trial(changed), folder)) == (6, 0, 0, 6)
    table = results.table(folder)
    assert table.num_rows == 12
    eap, two = (table.filter(pa.compute.equal(table["method"], name))["auc"].to_numpy() for name in ("eap", "eap_one"))
    np.testing.assert_allclose(two / eap, 0.02)
    # What was measured before is still there, and a table made on its own has the same rows.
    assert counts(go(trial(), folder)) == (0, 0, 0, 12)
    assert counts(go(trial(TOML.replace("[0, 1]", "[2, 1, 0]")), folder)) == (6, 0, 0, 12)
    assert results.table(folder)["seed"].to_pylist()[:6] == [0, 0, 1, 1, 2, 2]
    assert counts(go(trial(weight=0.25), folder)) == (12, 0, 0, 0)
    monkeypatch.setattr(bench_measures, "VERSION", 2)
    assert counts(go(trial(weight=0.25), folder)) == (12, 0, 0, 0)


def test_a_file_that_cannot_be_read_is_kept_aside_and_its_cell_run_again(trial, tmp_path, inline, capsys):
    folder, trial = tmp_path / "run", trial()
    go(trial, folder)
    before = results.table(folder)
    cut, empty, flipped, foreign, good = (folder / "cells" / name for name in cells_of(folder)[:5])
    cut.write_bytes(cut.read_bytes()[:-20])
    empty.write_bytes(b"")
    content = bytearray(flipped.read_bytes())
    content[content.index(b"breastw" if b"breastw" in content else b"done") + 2] ^= 1
    flipped.write_bytes(content)
    foreign.write_bytes(good.read_bytes())
    broken = [cut, empty, flipped, foreign]
    for _ in range(2):
        with pytest.raises(InputError, match="run the benchmark again"):
            results.table(folder)
        contents = [path.read_bytes() for path in broken]
        capsys.readouterr()
        assert counts(go(trial, folder)) == (len(broken), 0, 0, 12 - len(broken))
        err = capsys.readouterr().err.splitlines()
        assert len(err) == len(broken)
        assert all("was moved to" in line and "run again" in line for line in err)
        assert results.table(folder).equals(before)
        kept = [path.read_bytes() for path in (folder / "aside").iterdir()]
        assert all(content in kept for content in contents)
        cut.write_bytes(b"again, under a name that is taken there")
        broken = [cut]


def test_a_full_disk_stops_the_run_and_keeps_what_is_there(trial, tmp_path, inline, monkeypatch):
    whole, folder, trial = tmp_path / "whole", tmp_path / "run", trial()
    go(trial, whole)
    write, calls = Path.write_bytes, []

    def full(path, content):
        calls.append(path)
        if len(calls) > 3:
            write(path, content[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device; the 3 cells measured so far are kept: make room"):
        go(trial, folder)
    monkeypatch.undo()
    monkeypatch.setattr(engine, "_processes", here)
    assert len(calls) == 4
    kept = cells_of(folder)
    assert len(kept) == 3
    assert set(kept) < set(cells_of(whole))
    assert results.table(folder).num_rows == 3
    assert counts(go(trial, folder)) == (9, 0, 0, 3)
    assert results.table(folder).equals(results.table(whole))


def test_a_folder_of_someone_else_is_left_alone(trial, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"holds 'thesis.tex', which no benchmark wrote"):
        go(trial(), tmp_path / "run")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        go(trial(), tmp_path / "file")
    for wrong in ("run", "nowhere"):
        with pytest.raises(InputError, match="holds no benchmark"):
            results.table(tmp_path / wrong)


def test_places_that_do_not_exist(trial, tmp_path, monkeypatch):
    for options, complaint in [
        ({"n_jobs": 0}, "n_jobs=0: give 1 or more"),
        ({"n_jobs": 1.5}, "n_jobs=1.5"),
        ({"n_jobs": 1, "cluster": "local:2"}, "not both"),
        ({"cluster": "local:0"}, "give HOST:PORT"),
        ({"cluster": "somewhere"}, "give HOST:PORT"),
    ]:
        with pytest.raises(InputError, match=complaint):
            go(trial(), tmp_path / "run", **options)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtra, match="the extra 'cluster'"):
        go(trial(), tmp_path / "run", cluster="local:2")
    assert not (tmp_path / "run").exists()


def test_a_cluster_that_is_lost_ends_the_run(trial, tmp_path, monkeypatch):
    @contextmanager
    def lost(_size):
        def submit(function, *arguments):
            future = Future()
            future.cancel()
            return future

        yield submit

    monkeypatch.setattr(engine, "_processes", lost)
    with pytest.raises(InputError, match="the cluster was lost: what was measured is kept"):
        go(trial(), tmp_path / "run")


def test_progress_without_a_terminal(trial, tmp_path, inline, monkeypatch, capsys):
    monkeypatch.setattr(engine, "SECONDS_A_LINE", 0.0)
    with silence():
        go(trial(weight=0.1), tmp_path / "run")
    assert "cells" not in capsys.readouterr().err
    go(trial(bad=["breastw"]), tmp_path / "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("assay: ")]
    assert len(lines) == 12
    assert re.fullmatch(r"assay: 1 of 12 cells, 1 failed, 0:\d\d:\d\d left", lines[0])
    assert lines[-1] == "assay: 12 of 12 cells, 4 failed, 0:00:00 left"
    monkeypatch.setattr(engine, "SECONDS_A_LINE", 1000.0)
    go(trial(), tmp_path / "run")
    assert "cells" not in capsys.readouterr().err


# -- death

#: Runs the command line with the measure of the tests.
SCRIPT = """
import sys
import bench_measures
from assay.benchmark import config
config.default_measure = lambda: bench_measures.measure
from assay.cli import main
sys.argv = ["assay", "bench", "run", *sys.argv[1:]]
main()
"""


def start(toml, folder, *options):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    line = [sys.executable, "-c", SCRIPT, str(toml), "--folder", str(folder), *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=environment, start_new_session=True, **pipes)


def files_in(folder):
    """Return how many finished cells a running benchmark has."""
    return len(list((folder / "cells").glob("[!.]*"))) if folder.is_dir() else 0


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


#: A system that is quick to import, as these tests start many processes.
QUICK = TOML.replace("[methods.eap]", "[methods.random_quality]").replace('"eap"\nn_subsets = 1', '"random_quality"')


def test_killed_at_ten_random_moments_the_table_is_the_same_to_the_last_bit(tmp_path):
    toml, folder, rng = (
        written(tmp_path / "a.toml", QUICK.replace("[0, 1]", str(list(range(12)))), pause=0.02),
        tmp_path / "killed",
        random.Random(0),
    )
    for kill in range(10):
        process, before = start(toml, folder, "--jobs", "2"), files_in(folder)
        more = rng.randrange(5) if kill else 0  # the first is killed before it has anything
        wait_until(lambda: files_in(folder) >= before + more)  # noqa: B023
        time.sleep(rng.random() * 0.1)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    survived = files_in(folder)
    assert 0 < survived < 72
    process = start(toml, folder, "--jobs", "2")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert re.search(rf"{72 - survived} done, 0 failed, 0 skipped in \d+ s; {survived} were there already", out)
    assert sorted(os.listdir(folder)) == [".lock", "cells", "plan.json", "trial.toml"]
    assert not list((folder / "cells").glob(".*"))
    go(read_config(toml, measure), tmp_path / "whole", n_jobs=2)
    for run in ("killed", "whole"):
        assert command("bench", "table", tmp_path / run).code == 0
    for name in ("table.parquet", "table.csv", "plan.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(csv.read_csv(folder / "table.csv")) == 72


def started(tmp_path):
    """Start a run of four quick cells, and return it in the midst of two slow ones, with its workers' process ids."""
    log = tmp_path / "log"
    toml = written(tmp_path / "a.toml", QUICK.replace("[0, 1]", "[0]"), slow=["ionosphere"], log=log)
    process = start(toml, tmp_path / "run", "--jobs", "2")
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == 6)
    wait_until(lambda: files_in(tmp_path / "run") == 4)
    return process, {int(line.split()[-1]) for line in log.read_text().splitlines()}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ctrl_c_stops_at_once_and_what_is_there_counts(tmp_path):
    process, workers = started(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines() == ["assay: stopped by Ctrl-C; nothing half-written was left"]
    assert not list((tmp_path / "run" / "cells").glob(".*"))
    assert results.table(tmp_path / "run")["status"].to_pylist() == ["done"] * 4
    wait_until(lambda: not any(map(alive, workers)), 10)


def test_workers_do_not_outlive_their_driver(tmp_path):
    process, workers = started(tmp_path)
    assert all(map(alive, workers))
    process.kill()
    process.communicate()
    wait_until(lambda: not any(map(alive, workers)), 10)


def test_two_runs_do_not_share_a_folder(tmp_path, trial):
    toml, folder = written(tmp_path / "a.toml", QUICK, pause=1.0), tmp_path / "run"
    process = start(toml, folder)
    wait_until((folder / "plan.json").exists)
    with pytest.raises(InputError, match=rf"is in use by process {process.pid} on .*: wait for it"):
        go(trial(), folder)
    assert "in use by process" in start(toml, folder).communicate(timeout=20)[1]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    # The lock file is still there, and says so; who held it is not.
    assert (folder / ".lock").read_text().startswith(f"process {process.pid} ")
    assert go(trial(), folder, n_jobs=2).done == 12


@pytest.mark.parametrize("place", [{"n_jobs": 1}, {"n_jobs": 2}, {"cluster": "local:2"}], ids=str)
def test_a_cell_that_kills_its_workers_is_a_failed_row_and_the_others_are_done(trial, tmp_path, place):
    one_seed = TOML.replace("[0, 1]", "[0]")
    assert counts(go(trial(one_seed, bad=["vertebral"], how="die"), tmp_path / "run", **place)) == (4, 2, 0, 0)
    ended = Counter((row["dataset"], row["status"]) for row in results.table(tmp_path / "run").to_pylist())
    assert ended == {("breastw", "done"): 2, ("vertebral", "failed"): 2, ("ionosphere", "done"): 2}
    [reason] = set(results.table(tmp_path / "run")["reason"].drop_null().to_pylist())
    assert reason.startswith("WorkerDied")


@pytest.mark.parametrize("place", [{"n_jobs": 2}, {"cluster": "local:2"}], ids=str)
def test_a_worker_killed_while_it_runs_changes_nothing(trial, tmp_path, place, capfd, inline, monkeypatch):
    marker = tmp_path / "marker"
    trial = trial(bad=["vertebral"], how="die", marker=marker, log=tmp_path / "log")
    marker.touch()  # nobody dies
    go(trial, tmp_path / "whole")
    marker.unlink()
    capfd.readouterr()
    monkeypatch.setattr(engine, "_processes", PROCESSES)
    assert counts(go(trial, tmp_path / "run", **place)) == (12, 0, 0, 0)
    assert marker.exists()
    assert len((tmp_path / "log").read_text().splitlines()) > 24  # what died was begun again
    assert capfd.readouterr().err == ""
    for run in ("run", "whole"):
        assert command("bench", "table", tmp_path / run).code == 0
    for name in ("table.parquet", "table.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# -- the command line


@pytest.fixture
def tiny(tmp_path, monkeypatch, inline):
    """Go to a folder that holds trial.toml; the measure is the one of the tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "default_measure", lambda: measure)
    return written(tmp_path / "trial.toml", bad=["vertebral"])


def test_the_command_line_runs_makes_the_table_and_the_report(tiny):
    done = command("bench", "run", "trial.toml")
    assert (done.code, done.err) == (0, "")
    assert "8 done, 4 failed, 0 skipped" in done.out
    assert "ValueError: bad luck" in done.out
    assert "0 done, 0 failed, 0 skipped" in command("bench", "run", "trial.toml").out
    assert "0 done, 4 failed, 0 skipped" in command("bench", "run", "trial.toml", "--retry").out
    folder = Path("runs/bench/tiny")
    shown = command("bench", "table", folder)
    assert shown.code == 0
    # On both data sets that are done the label with 100 subsets is ahead a hundredfold.
    assert re.search(r"^eap +1 .* 2 *$", shown.out, re.MULTILINE)
    assert re.search(r"^eap_one +2 .* 2 *$", shown.out, re.MULTILINE)
    mean = np.mean(results.table(folder).filter(pa.compute.field("method") == "eap")["auc"].drop_null().to_numpy())
    assert re.search(rf"^eap +1 +{mean:.3g} ", shown.out, re.MULTILINE)
    assert "\nmixed" not in shown.out  # it is the same for all methods
    assert parquet.read_table(folder / "table.parquet").equals(results.table(folder))
    assert csv.read_csv(folder / "table.csv").column_names == [
        name for name in results.table(folder).column_names if name != "curve"
    ]
    only = command("bench", "table", folder, "--measure", "mixed")
    assert "mixed" in only.out
    assert "auc" not in only.out
    assert command("bench", "report", folder).code == 0
    page = (folder / "report.html").read_text()
    assert "eap_one" in page
    assert command("bench", "report", folder).code == 0
    assert command("bench", "report", folder, "-o", "page.html").code == 0
    assert Path("page.html").read_text() == page
    assert "choose another, or overwrite it" in command("bench", "report", folder, "-o", "page.html").err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (("run", "no.toml"), "no.toml cannot be read"),
        (("run", "trial.toml", "--jobs", "0"), "n_jobs=0"),
        (("run", "trial.toml", "--cluster", "here"), "give HOST:PORT"),
        (("table", "."), "holds no benchmark"),
        (("report", "nowhere"), "holds no benchmark"),
    ],
)
def test_what_the_command_line_refuses(tiny, line, complaint):
    done = command("bench", *line)
    assert done.code == 2
    [said] = done.err.splitlines()
    assert complaint in said


def test_where_nothing_is_done_the_command_line_says_so(tiny):
    written(tiny, bad=list(DATASETS))
    assert "0 done, 12 failed" in command("bench", "run", "trial.toml", "--folder", "run").out
    assert "bad luck" in command("bench", "table", "run").out
    assert "no cell is done" in command("bench", "report", "run").err
    written(tiny)
    command("bench", "run", "trial.toml", "--folder", "run")
    assert "did you mean auc" in command("bench", "table", "run", "--measure", "aux").err

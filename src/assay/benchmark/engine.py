"""The engine: runs every cell of a trial, on this machine or a cluster, and goes on where it was stopped.

A cell that raises gives a row of status "failed" with the reason, one that raises `Skip` a row of status "skipped":
there are no holes. `assay.benchmark.results` says how rows are kept.

**Where cells run.** Always in other processes, so that one that crashes takes nobody along: in joblib's own process
pool (loky; BLAS, OpenMP and Numba get one thread each, there is no output), or on the workers of a Dask cluster.
Both are driven as executors, by one loop that knows which cells are under way. joblib's generators do not tell that
when a worker dies; over Dask they even end without the lost cell and without an error, and with one job they work
in the driving process.

**When a worker dies** (killed, out of memory, crashed), a local pool is lost with all that was under way in it, and
Dask gives a cell up after several deaths around it. Who was under way is run again alone, in the end; a cell whose
worker dies then too is to blame, and becomes a failed row.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import joblib
from joblib.externals.loky import ProcessPoolExecutor

from assay.benchmark import results
from assay.benchmark.config import Cell, Trial, default_measure
from assay.core.extras import require
from assay.core.progress import _silent, progress
from assay.core.validation import InputError, check_number, told

Measure = Callable[[Trial, Cell], dict[str, Any]]
#: A cell and the name of its file.
Job = tuple[Cell, str]
#: How a cell ended, and the content of its file.
Row = tuple[str, bytes]
Submit = Callable[..., "Future[Row]"]

#: On a cluster this many cells are handed over at a time: more than it has threads, less than floods its scheduler.
CLUSTER_WINDOW = 1000
#: Where nobody watches a terminal, a line of progress at most this often.
SECONDS_A_LINE = 30.0
_ONE_THREAD = dict.fromkeys(
    (
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
        *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS"),
    ),
    "1",
)


class Skip(Exception):
    """Raised by a measure where a cell makes no sense; its message is the reason."""


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    done, failed, skipped : int
        Cells that this run measured, by how they ended.
    resumed : int
        Cells that were there already.
    seconds : float
        How long it took.
    """

    done: int
    failed: int
    skipped: int
    resumed: int
    seconds: float


def run(
    trial: Trial,
    folder: str | Path,
    *,
    measure: Measure | None = None,
    n_jobs: int | None = None,
    cluster: str | None = None,
    retry_failed: bool = False,
) -> Summary:
    """Measure every cell of a trial that the folder does not hold yet.

    Parameters
    ----------
    trial : Trial
        What to measure.
    folder : path
        Where the rows go, and where those of an earlier run are.
    measure : function, optional
        ``measure(trial, cell)`` returns what it measured: name -> number, text, or list of numbers. It must be
        importable by name. By default `assay.benchmark.trial.measure`.
    n_jobs : int, optional
        Processes on this machine, -1 for all cores; by default what `joblib.parallel_config` says, else 1.
    cluster : str, optional
        Address of a Dask scheduler, or ``"local:2"`` for two worker processes of Dask on this machine.
    retry_failed : bool, default False
        Whether cells that failed are run again.

    Raises
    ------
    InputError
        If the folder is no benchmark's, is in use or cannot be written (a full disk; what was measured is kept),
        or the cluster does not answer.
    """
    start = time.perf_counter()
    folder, measure = Path(folder), measure or default_measure()
    place, window = _place(n_jobs, cluster)
    with results.opened(folder, trial, measure):
        jobs = [(cell, results.digest(trial, cell, measure)) for cell in trial.cells()]
        waiting = [job for job in jobs if not _is_there(folder, job[1], retry_failed)]
        counts: Counter[str] = Counter()
        with closing(_measured(place, window, partial(_work, measure, trial), waiting)) as stream:
            for name, (status, content) in _watched(stream, len(waiting)):
                try:
                    results.store(folder, name, content)
                except OSError as error:
                    kept = f"the {counts.total()} cells measured so far are kept: make room and start again"
                    raise InputError(f"folder {folder} cannot be written: {error.strerror or error}; {kept}") from error
                counts[status] += 1
    resumed, seconds = len(jobs) - len(waiting), time.perf_counter() - start
    return Summary(counts["done"], counts["failed"], counts["skipped"], resumed, seconds)


def _is_there(folder: Path, name: str, retry_failed: bool) -> bool:
    row = results.find_row(folder, name)
    return row is not None and not (retry_failed and row["status"][0].as_py() == "failed")


# -- in a worker


def _work(measure: Measure, trial: Trial, cell: Cell, name: str) -> Row:
    """Measure a cell, come what may; return how it ended and the content of its file."""
    start, cpu = time.perf_counter(), time.process_time()
    status, reason, columns = "done", None, {}
    try:
        columns = results.columns_of(measure(trial, cell))
    except Skip as skip:
        status, reason = "skipped", str(skip)
    except BaseException as error:  # a failed cell is a result, even one that wants to end the process
        status, reason = "failed", _complaint(error)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return status, results.encode(cell, name, status, reason, columns, seconds, cpu_seconds)


def _complaint(error: BaseException) -> str:
    """Return an exception's type, message and place in one line, the same on every machine."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    last = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name})" if frames else ""
    return line + last


def _settle_in(driver: int) -> None:
    """Make a local worker process silent, deaf to Ctrl-C (the driver ends it) and mortal with its driver."""
    _hush()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with, args=(driver,), daemon=True).start()


def _hush() -> None:
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)


def _die_with(driver: int) -> None:
    while os.getppid() == driver:
        time.sleep(1.0)
    os._exit(1)


# -- in the driver


def _measured(
    place: Callable[[int], AbstractContextManager[Submit]], window: int, work: Callable[..., Row], jobs: list[Job]
) -> Generator[tuple[str, Row], None, None]:
    """Yield every cell's file name and row as it is finished."""
    suspects = []
    for job, future in _stream(place, window, work, deque(jobs)):
        if _died(future.exception()):
            suspects.append(job)
        else:
            yield job[1], _row(job, future)
    for job, future in _stream(place, 1, work, deque(suspects)):
        yield job[1], _row(job, future)


def _stream(
    place: Callable[[int], AbstractContextManager[Submit]], window: int, work: Callable[..., Row], waiting: deque[Job]
) -> Iterator[tuple[Job, Future[Row]]]:
    """Yield jobs as they are finished, at most `window` of them under way; a pool that broke is replaced."""
    while waiting:
        with place(window) as submit:
            running: dict[Future[Row], Job] = {}
            finished: SimpleQueue[Future[Row]] = SimpleQueue()
            last, whole = None, True
            while True:
                while waiting and whole and len(running) < window:
                    try:
                        future = submit(work, *waiting[0])
                    except BrokenExecutor:
                        whole = False
                    else:
                        running[future] = waiting.popleft()
                        future.add_done_callback(finished.put)
                if last:  # only now: while its row is written the worker has its next job
                    yield last
                if not running:
                    break
                future = finished.get()
                if future.cancelled():
                    raise InputError("the cluster was lost: what was measured is kept, start again when it is back")
                last = running.pop(future), future


def _row(job: Job, future: Future[Row]) -> Row:
    """Return what a worker sent; a failed row where it could not send any."""
    error = future.exception()
    if error is None:
        return future.result()
    reason = "WorkerDied: killed, out of memory or crashed, alone and before" if _died(error) else _complaint(error)
    return "failed", results.encode(*job, "failed", reason, {}, 0.0, 0.0)


def _died(error: BaseException | None) -> bool:
    # Dask's error is known by its name: Dask need not be installed.
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"


def _place(n_jobs: int | None, cluster: str | None) -> tuple[Callable[[int], AbstractContextManager[Submit]], int]:
    """Return where cells run, and how many are under way there at a time."""
    if cluster is None:
        if n_jobs is not None:
            check_number(n_jobs, "n_jobs", integer=True)
        if n_jobs == 0:
            raise InputError("n_jobs=0: give 1 or more, or -1 for all cores")
        return _processes, joblib.effective_n_jobs(n_jobs)
    if n_jobs is not None:
        raise InputError("give either n_jobs (processes of this machine) or cluster, not both")
    if not re.fullmatch(r"local:[1-9]\d{0,3}|(?!local:)(\w+://)?[^/]+:\d+", cluster):
        raise InputError(
            f"cluster={told(cluster)}: give HOST:PORT of a Dask scheduler, or local:N for N processes here"
        )
    require("distributed", "cluster", "a benchmark on a cluster")
    return partial(_cluster, cluster), CLUSTER_WINDOW


@contextmanager
def _processes(size: int) -> Iterator[Submit]:
    pool = ProcessPoolExecutor(size, initializer=_settle_in, initargs=(os.getpid(),), env=_ONE_THREAD)
    try:
        yield pool.submit
    finally:
        pool.shutdown(kill_workers=True)


@contextmanager
def _cluster(address: str, _size: int) -> Iterator[Submit]:
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        place: Any = address
        local = re.fullmatch(r"local:(\d+)", address)
        if local:
            settings = {"distributed.scheduler.allowed-failures": 1, "distributed.nanny.environ": _ONE_THREAD}
            stack.enter_context(dask.config.set(settings))
            workers = LocalCluster(
                n_workers=int(local[1]), threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
            )
            place = stack.enter_context(workers)
        try:
            client = stack.enter_context(Client(place, set_as_default=False))
        except (OSError, ValueError) as error:
            raise InputError(f"cluster {address} does not answer ({error}): start it, or give local:N") from error
        if local:
            client.register_worker_callbacks(_hush)
        yield partial(_submitted, client)
        if local:  # Dask cannot close while it replaces a worker that died
            with suppress(TimeoutError):
                client.wait_for_workers(int(local[1]), timeout=30)


def _submitted(client: Any, work: Callable[..., Row], *arguments: Any) -> Future[Row]:
    """Submit to Dask; unlike its own executor's, the future ends even if the result was lost with its worker."""
    future: Future[Row] = Future()

    def hand_over(remote: Any) -> None:
        try:
            future.set_result(remote.result())
        except CancelledError:
            future.cancel()
        except BaseException as error:
            future.set_exception(error)

    client.submit(work, *arguments, pure=False).add_done_callback(hand_over)
    return future


def _watched(rows: Iterator[tuple[str, Row]], total: int) -> Iterator[tuple[str, Row]]:
    """Pass the rows on; draw a bar on a terminal, elsewhere say now and then how far it is."""
    if _silent.get() or sys.stderr.isatty():
        yield from progress(rows, "cells", total=total)
        return
    start = last = time.monotonic()
    failed = 0
    for done, row in enumerate(rows, 1):
        yield row
        failed += row[1][0] == "failed"
        now = time.monotonic()
        if now - last >= SECONDS_A_LINE:
            last, left = now, timedelta(seconds=round((now - start) / done * (total - done)))
            print(f"assay: {done} of {total} cells, {failed} failed, {left} left", file=sys.stderr, flush=True)

"""The one way to run independent tasks: joblib, so that the caller's `joblib.parallel_config` decides where."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from joblib import Parallel, delayed

from assay.core.progress import progress

Result = TypeVar("Result")


def run(
    function: Callable[..., Result],
    tasks: Iterable[tuple[Any, ...]],
    *,
    n_jobs: int | None = None,
    description: str = "working",
) -> list[Result]:
    """Call `function(*task)` for every task and return the results in the order of the tasks.

    Threads are only a preference (the hot kernels release the GIL): ``joblib.parallel_config("loky")`` or
    ``joblib.parallel_config("dask")`` around the call moves the work to processes or to a cluster.
    """
    tasks = list(tasks)
    results = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator")(
        delayed(function)(*task) for task in tasks
    )
    return list(progress(results, description, total=len(tasks)))

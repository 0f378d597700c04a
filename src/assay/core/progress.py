"""Progress for whatever takes longer than two seconds, on a terminal only, and never when silenced."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")

_silent: ContextVar[bool] = ContextVar("assay_silent", default=False)
_active: ContextVar[bool] = ContextVar("assay_progress_active", default=False)

#: Work that ends sooner than this draws nothing.
PATIENCE_SECONDS = 2.0


@contextmanager
def silence(on: bool = True) -> Iterator[None]:
    """Show no progress inside this context.

    Examples
    --------
    >>> from assay.core.progress import silence
    >>> with silence():
    ...     pass
    """
    token = _silent.set(on)
    try:
        yield
    finally:
        _silent.reset(token)


def progress(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items`; draw a bar with the time left once two seconds have passed.

    Only the outermost loop draws: a progress inside a progress stays quiet.
    """
    if _silent.get() or _active.get() or not sys.stderr.isatty():
        yield from items
        return
    token = _active.set(True)
    start, done, bar, task = time.monotonic(), 0, None, None
    try:
        for item in items:
            yield item
            done += 1
            if bar is None and time.monotonic() - start > PATIENCE_SECONDS:
                bar = _bar()
                bar.start()
                task = bar.add_task(description, total=total, completed=done)
            elif bar is not None and task is not None:
                bar.update(task, completed=done)
    finally:
        if bar is not None:
            bar.stop()
        _active.reset(token)


def _bar():  # type: ignore[no-untyped-def]  # rich is imported only when there is something to draw
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)

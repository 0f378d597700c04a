"""Series at the door: arrays and dataframes become one table of time steps, and what cannot be used is refused by name.

In: an array (T,) or (T, C), or a dataframe of any library whose columns are channels and at most one of which (or its
index) holds times. Out: `Series`, values (T, C) float64, NaN where nothing was measured, and times in UTC where there
were some. Times must rise strictly; `regular` sorts and averages what does not, on an even grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.validation import Bools, Floats, InputError, Ints, refuse_non_finite

Times = npt.NDArray[np.datetime64]

#: A step longer than this many median steps is a gap.
GAP = 1.5


class Series:
    """One series: an item is a time step.

    Parameters
    ----------
    values : array of shape (T, C)
        Measurements, NaN where there is none.
    time : array of datetime64 of shape (T,), optional
        When each step was, UTC, rising.
    names : list of str, optional
        Names of the channels.
    """

    def __init__(self, values: Floats, time: Times | None = None, names: Sequence[str] | None = None) -> None:
        self.values = values
        self.time = time
        self.names = None if names is None else list(names)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> Series:
        """Return the steps of a slice, numbers or booleans."""
        return Series(self.values[rows], None if self.time is None else self.time[rows], self.names)

    @property
    def observed(self) -> Bools:
        """Which steps hold at least one measurement, (T,)."""
        measured: Bools = np.asarray((~np.isnan(self.values)).any(axis=1))
        return measured

    @property
    def seconds(self) -> float | None:
        """Median step in seconds; None without times."""
        if self.time is None or len(self) < 2:
            return None
        return float(np.median(np.diff(self.time) / np.timedelta64(1, "ns"))) * 1e-9

    @property
    def gaps(self) -> Bools:
        """Before which steps time has jumped by more than 1.5 median steps, (T,)."""
        jumped = np.zeros(len(self), dtype=bool)
        if self.time is not None and len(self) > 1:
            steps = np.diff(self.time) / np.timedelta64(1, "ns")
            jumped[1:] = steps > GAP * np.median(steps)
        return jumped

    def filled(self, start: Floats) -> Floats:
        """Return the values with the last measurement of the channel where there is none, `start` (C,) before any.

        Causal: what is filled in depends on nothing that comes later.
        """
        missing = np.isnan(self.values)
        if not missing.any():
            return self.values
        rows = np.where(missing, -1, np.arange(len(self))[:, None])
        last = np.maximum.accumulate(rows, axis=0)
        carried = np.take_along_axis(self.values, np.maximum(last, 0), axis=0)
        return np.where(last < 0, start, carried)

    def whole(self, length: int) -> Ints:
        """Return the starts of the windows of `length` steps without a missing step or a gap inside."""
        n = len(self) - length + 1
        if n <= 0:
            return np.empty(0, dtype=np.int64)
        bad = np.concatenate([[0], np.cumsum(~self.observed)])
        jumps = np.concatenate([[0], np.cumsum(self.gaps)])
        starts = np.arange(n)
        # A gap before a window's first step is outside of it.
        inside = (bad[starts + length] - bad[starts]) + (jumps[starts + length] - jumps[starts + 1])
        return starts[inside == 0]


def as_series(X: Any, name: str = "X", *, min_steps: int = 1) -> Series:
    """Return `X` as a `Series`.

    Raises
    ------
    InputError
        If it holds infinity, text, a second column of times or too few steps, or if its times do not rise strictly.
    """
    series = X if isinstance(X, Series) else _from_array(X, name) if _is_array(X) else _from_frame(X, name)
    if len(series) < min_steps:
        raise InputError(f"{name} has {len(series)} time steps, at least {min_steps} needed")
    if series.values.shape[1] == 0:
        raise InputError(f"{name} has no channels")
    measured = np.where(np.isnan(series.values), 0.0, series.values)
    refuse_non_finite(measured, name, series.names)
    if series.time is not None:
        _check_times(series.time, name)
    return series


def regular(
    X: Any, every: float | None = None, *, time: Any = None, how: str = "mean", name: str = "X"
) -> tuple[Series, Ints]:
    """Return a series on an even grid, and how many measurements fell into each of its steps.

    Unsorted and doubled times are welcome here: each step holds the mean of what was measured from its time on and
    before the next one's, NaN where nothing was.

    Parameters
    ----------
    X : array of shape (T,) or (T, C), or dataframe with a column of times
        The measurements.
    every : float, optional
        Length of a step in seconds; by default the median difference of the sorted times.
    time : array of datetime64 or of seconds, of shape (T,), optional
        When each row was measured, where `X` does not say.
    how : {"mean", "last", "max"}, default "mean"
        What becomes of several measurements in a step.
    name : str, default "X"
        What messages call `X`.

    Returns
    -------
    series : Series
        On the grid.
    counts : array of int of shape (steps,)
        Rows of `X` in each step.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.core.series import regular
    >>> series, counts = regular(np.array([3.0, 1.0, 5.0]), 10, time=np.array([20.0, 0.0, 21.0]))
    >>> series.values[:, 0].tolist(), counts.tolist()
    ([1.0, nan, 4.0], [1, 0, 2])
    """
    if how not in ("mean", "last", "max"):
        raise InputError(f"how={how!r}: give 'mean', 'last' or 'max'")
    series = _from_array(X, name) if _is_array(X) else _from_frame(X, name)
    times = series.time if time is None else as_times(time, "time")
    if times is None:
        raise InputError(f"{name} has no times: give a column of times, or time=")
    if times.shape != (len(series),):
        raise InputError(f"time has shape {times.shape}, expected ({len(series)},)")
    if np.isnat(times).any():
        raise InputError(f"{name}: {int(np.isnat(times).sum())} times are missing; drop these rows")
    if len(series) == 0:
        raise InputError(f"{name} is empty")
    order = np.argsort(times, kind="stable")
    values, times = series.values[order], times[order]
    if every is None:
        steps = np.diff(times).astype("timedelta64[ns]").astype(np.int64)
        steps = steps[steps > 0]
        if len(steps) == 0:
            raise InputError(f"every: {name} has one time only; say how long a step is, in seconds")
        width = int(np.median(steps))
    else:
        if not 0 < every < 1e9:
            raise InputError(f"every={every!r}: give a number of seconds > 0")
        width = max(1, round(every * 1e9))
    since = (times - times[0]).astype("timedelta64[ns]").astype(np.int64)
    slots = since // width
    n = int(slots[-1]) + 1
    if n > 50 * len(series) + 1000:
        raise InputError(f"every: {n} steps for {len(series)} measurements; give a longer step than {width * 1e-9:g} s")
    grid = np.full((n, values.shape[1]), np.nan)
    for channel in range(values.shape[1]):
        measured = ~np.isnan(values[:, channel])
        where, column = slots[measured], values[measured, channel]
        if how == "mean":
            count = np.bincount(where, minlength=n)
            with np.errstate(invalid="ignore"):
                grid[:, channel] = np.bincount(where, weights=column, minlength=n) / np.where(count, count, np.nan)
        elif how == "last":
            grid[where, channel] = column  # sorted: the last assignment stays
        else:
            np.fmax.at(grid[:, channel], where, column)
    stamps = times[0].astype("datetime64[ns]") + (np.arange(n) * width).astype("timedelta64[ns]")
    return Series(grid, stamps, series.names), np.bincount(slots, minlength=n).astype(np.int64)


def windows_of(X: Any, length: int, stride: int = 1, name: str = "X") -> Floats:
    """Return the windows of a series, (n, length, C): a read-only view where `stride` permits, nothing is copied.

    Raises
    ------
    InputError
        If the series is shorter than a window.
    """
    values = as_series(X, name).values
    if len(values) < length:
        raise InputError(f"{name} has {len(values)} time steps, fewer than a window of {length}")
    views = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)[::stride]
    return views.transpose(0, 2, 1)


def _is_array(X: Any) -> bool:
    return isinstance(X, (np.ndarray, list, tuple))


def _from_array(X: Any, name: str) -> Series:
    try:
        values = np.asarray(X)
        values = values.astype(np.float64, copy=False) if values.dtype.kind in "biufO" else values
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read as a series of numbers: {error}") from error
    if values.dtype.kind != "f":
        raise InputError(f"{name} holds {values.dtype}, not numbers")
    if values.ndim not in (1, 2):
        raise InputError(f"{name} has {values.ndim} dimensions, expected (T,) or (T, C): steps, channels")
    return Series(values[:, None] if values.ndim == 1 else values)


def _from_frame(X: Any, name: str) -> Series:
    import narwhals.stable.v1 as nw

    try:
        native = nw.from_native(X, eager_only=True, allow_series=True)
    except TypeError as error:
        raise InputError(f"{name} is a {type(X).__name__}: give an array (T,) or (T, C), or a dataframe") from error
    frame = native.to_frame() if isinstance(native, nw.Series) else native
    time, columns, names = None, [], []
    for column in frame.iter_columns():
        if column.dtype == nw.Datetime or column.dtype == nw.Date:
            if time is not None:
                raise InputError(f"{name} has two columns of times; leave {column.name!r} out")
            time = in_utc(column, nw)
        elif column.dtype.is_numeric() or column.dtype == nw.Boolean:
            names.append(str(column.name))
            columns.append(np.asarray(column.cast(nw.Float64).to_numpy(), dtype=np.float64))
        else:
            raise InputError(
                f"{name}: column {column.name!r} holds {column.dtype}, not numbers; encode it as numbers or times, or "
                "leave it out"
            )
    index: Any = getattr(X, "index", None)
    if time is None and getattr(getattr(index, "dtype", None), "kind", "") == "M":
        # A pandas index is no column; numbers in it are row numbers, times are times.
        index = index.tz_convert("UTC").tz_localize(None) if getattr(index, "tz", None) is not None else index
        time = index.to_numpy().astype("datetime64[ns]")
    values = np.column_stack(columns) if columns else np.empty((len(frame), 0))
    return Series(values, time, names)


def in_utc(column: Any, nw: Any) -> Times:
    """Return a narwhals column of times as datetime64 in UTC; `nw` is the narwhals namespace."""
    if column.dtype == nw.Datetime and column.dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return np.asarray(column.to_numpy()).astype("datetime64[ns]")


def as_times(time: Any, name: str) -> Times:
    """Return datetime64, or seconds, as datetime64[ns]."""
    times = np.asarray(time)
    if times.dtype.kind == "M":
        return times.astype("datetime64[ns]")
    if times.dtype.kind not in "iuf" or not np.isfinite(times).all():
        raise InputError(f"{name} holds {times.dtype}: give datetime64 or seconds")
    return (times * 1e9).astype("datetime64[ns]")


def _check_times(time: Times, name: str) -> None:
    remedy = "sort and average them with assay.core.series.regular"
    if np.isnat(time).any():
        raise InputError(f"{name}: {int(np.isnat(time).sum())} times are missing; drop these rows")
    steps = np.diff(time).astype(np.int64)
    if (steps < 0).any():
        raise InputError(f"{name}: times go backwards after row {int(np.argmax(steps < 0))}; {remedy}")
    if (steps == 0).any():
        raise InputError(f"{name}: the time of row {int(np.argmax(steps == 0))} occurs twice; {remedy}")

"""Fleet: a detector of series for each machine, trained together; thresholds, retraining, and who is to blame.

In: one table of many machines, any dataframe: a column that names the machine, one of times, all others sensors, in any
order, holes and doubled times welcome. Out: one score a row of the table, an alarm (1 or 0), and the sensors with the
largest errors. A machine's score does not depend on the others.

What happens to each machine's rows:

- They are averaged on a grid of `every` seconds; a step holds what was measured within half of it, so that sensors
  whose clocks differ by a second meet. A clock that is known to be late is set right first (`late`).
- A sensor's last value stands in for up to `max_gap` missing steps in which others were measured. After that its error
  counts no more. A sensor that a machine does not have is no input of that machine's network.
- Only rows marked healthy, outside maintenance windows, teach. Every so many days (a share `holdout`) are kept out of
  training: neighbouring rows are alike, so held-out rows drawn at random would be too easy, and thresholds too low.
- The threshold is the `percentile` of the scores of the held-out rows. They are kept, for any other calibrator of
  `assay.calibration`: `FalseAlarmRate` promises a rate, `Quantile` is the percentile itself.

The published study takes the percentile that is best on the test set; here no anomaly is looked at. A machine without a
threshold is never guessed for: unknown machines are refused, `refit` adds them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from assay.core.clone import seeded_clone
from assay.core.progress import progress
from assay.core.random import as_generator
from assay.core.series import Series, Times, as_times, in_utc, regular
from assay.core.validation import (
    ANOMALY,
    NORMAL,
    Bools,
    Floats,
    InputError,
    Ints,
    check_number,
    refuse_non_finite,
    told,
)
from assay.detectors.series.common import SeriesDetector
from assay.detectors.series.hpc_autoencoder import HPCAutoencoder, fit_together, power_mean

DAY = 86_400 * 10**9
#: With fewer days than these, what is held out are parts of the rows: this many parts.
FEW_DAYS, PARTS = 4, 10


class Explanation(NamedTuple):
    """The sensors with the largest errors.

    Attributes
    ----------
    sensors : array of str of shape (n, top)
        Names, the largest error first; empty where there is none.
    errors : array of shape (n, top)
        Their errors, NaN where there is none.
    """

    sensors: npt.NDArray[np.str_]
    errors: Floats


class _Rows(NamedTuple):
    """A table: machine and time of each row, measurements (n, C) and their names."""

    machine: npt.NDArray[Any]
    time: Times
    values: Floats
    names: list[str]

    def of(self, rows: Any) -> _Rows:
        return _Rows(self.machine[rows], self.time[rows], self.values[rows], self.names)

    def machines(self) -> list[tuple[str | int, Ints]]:
        """Return each machine with the numbers of its rows."""
        keys, codes = np.unique(self.machine, return_inverse=True)
        rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
        return list(zip(keys.tolist(), rows))


class Fleet(BaseEstimator):
    """One detector a machine.

    Parameters
    ----------
    base : SeriesDetector, optional
        What each machine gets a copy of; an `HPCAutoencoder` if None. Autoencoders of one width train as one stack.
    every : float, default 300
        Seconds of a step, as published.
    percentile : float, default 99
        Of the held-out healthy scores: the threshold. The published study scans 70 to 100 on the test set.
    holdout : float in (0, 1), default 0.3
        Share of the healthy days that set the threshold, as published (there of the rows, at random).
    max_gap : int, default 3
        Steps that a sensor's last value stands in for: ours.
    late : dict of float, optional
        Sensor -> seconds by which its clock is late.
    random_state : None, int or numpy.random.Generator
        Seed; what a machine gets of it depends on its name alone.

    Attributes
    ----------
    entity_, time_ : str
        The columns that name the machine and the time.
    columns_ : list of str
        All sensors.
    sensors_ : dict of list
        Machine -> its sensors.
    detectors_ : dict of SeriesDetector
        Machine -> its detector.
    held_out_ : dict of array
        Machine -> scores of its held-out healthy rows, in the order of time.
    thresholds_ : dict of float
        Machine -> threshold.
    root_ : int
        What the machines' seeds follow from.

    References
    ----------
    A. Borghesi, A. Bartolini, M. Lombardi, M. Milano, L. Benini: Anomaly Detection using Autoencoders in High
    Performance Computing Systems. IAAI 2019, arXiv 1811.05269.

    Examples
    --------
    >>> import polars as pl
    >>> from assay.datasets.simulators.fleet import fleet
    >>> drawn = fleet(n_nodes=2, n_days=10, n_sensors=6, random_state=0)
    >>> table = pl.DataFrame(drawn.columns())
    >>> base = HPCAutoencoder(epochs=3, utilisation=["util_0"])
    >>> model = Fleet(base, random_state=0).fit(table, entity="node", time="ts", healthy=~drawn.test)
    >>> model.score(table).shape, sorted(model.thresholds_), model.explain(table, top=2).sensors.shape
    ((5760,), ['node_00', 'node_01'], (5760, 2))
    """

    def __init__(
        self,
        base: SeriesDetector | None = None,
        every: float = 300.0,
        percentile: float = 99.0,
        holdout: float = 0.3,
        max_gap: int = 3,
        late: dict[str, float] | None = None,
        random_state: Any = None,
    ) -> None:
        self.base = base
        self.every = every
        self.percentile = percentile
        self.holdout = holdout
        self.max_gap = max_gap
        self.late = late
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if self.base is not None and not isinstance(self.base, SeriesDetector):
            raise InputError(f"base={told(self.base)}: give an unfitted detector of series")
        check_number(self.every, "every", low=0.0, high=1e9, strict_low=True)
        check_number(self.percentile, "percentile", low=0.0, high=100.0)
        check_number(self.holdout, "holdout", low=0.0, high=1.0, strict_low=True, strict_high=True)
        check_number(self.max_gap, "max_gap", low=0, integer=True)
        if self.late is not None and not isinstance(self.late, dict):
            raise InputError(f"late={told(self.late)}: give a dictionary, sensor -> seconds, or None")
        for sensor, seconds in (self.late or {}).items():
            check_number(seconds, f"late[{sensor!r}]", low=-1e9, high=1e9)

    def fit(
        self, df: Any, entity: str = "node", time: str = "ts", healthy: Any = None, maintenance: Any = None
    ) -> Fleet:
        """Fit a detector to each machine and set its threshold.

        Parameters
        ----------
        df : dataframe
            One row a machine and time; a missing value is a hole.
        entity : str, default "node"
            The column that names the machine, by text or integer.
        time : str, default "ts"
            The column of times, or of seconds.
        healthy : array of bool of shape (n,), optional
            Which rows are known to be healthy; all if None.
        maintenance : list of (machine or None, start, end), optional
            Windows that teach nothing; None stands for every machine.

        Raises
        ------
        InputError
            If a column, a row or a parameter cannot be used, or a machine has too few healthy rows.
        """
        self._check_parameters()
        rows = _read(df, entity, time)
        usable = _usable(rows, healthy, maintenance)
        root = int(as_generator(self.random_state).integers(2**62))
        learned = self._learned(rows, usable, root)
        self.entity_, self.time_, self.root_ = entity, time, root
        self.columns_ = list(rows.names)
        self.sensors_, self.detectors_, self.held_out_, self.thresholds_ = learned
        return self

    def refit(self, entity: str | int, df: Any, healthy: Any = None, maintenance: Any = None) -> Fleet:
        """Train one machine anew, or add it; the others stay as they are.

        Parameters
        ----------
        entity : str or int
            The machine.
        df : dataframe
            As for `fit`; rows of other machines are left out, and without a column that names them all rows count.
        healthy : array of bool of shape (n,), optional
            As for `fit`.
        maintenance : list, optional
            As for `fit`.
        """
        check_is_fitted(self)
        self._check_parameters()
        rows = _read(df, self.entity_, self.time_, alone=entity)
        chosen = np.flatnonzero(rows.machine == entity)
        if len(chosen) == 0:
            raise InputError(f"df holds no row of {entity!r}")
        usable = _usable(rows, healthy, maintenance)
        learned = self._learned(rows.of(chosen), usable[chosen], self.root_)
        for mine, new in zip((self.sensors_, self.detectors_, self.held_out_, self.thresholds_), learned):
            mine.update(new)
        self.columns_ += [name for name in rows.names if name not in self.columns_]
        return self

    def score(self, df: Any) -> Floats:
        """Return one score a row of `df`, (n,), higher = more anomalous; NaN where a row is idle or not measured.

        Rows in one step have the same score. What a hole is filled with depends on `max_gap` steps before.
        """
        return self._judged(df)[0]

    def predict(self, df: Any) -> Ints:
        """Return 1 where a row's score lies above its machine's threshold, else 0: (n,)."""
        rows, scores = self._known(df), self.score(df)
        with np.errstate(invalid="ignore"):
            return (scores > np.array([self.thresholds_[machine] for machine in rows.machine.tolist()])).astype(
                np.int64
            )

    def explain(self, df: Any, top: int = 3) -> Explanation:
        """Return the sensors with the largest errors in each row of `df`.

        Parameters
        ----------
        df : dataframe
            As for `score`.
        top : int, default 3
            How many.
        """
        check_number(top, "top", low=1, integer=True)
        return self._judged(df, int(top))[1]

    def _judged(self, df: Any, top: int = 0) -> tuple[Floats, Explanation]:
        rows = self._known(df)
        scores, n = np.full(len(rows.time), np.nan), len(rows.time)
        sensors: Any = np.full((n, top), "", dtype=object)
        errors = np.full((n, top), np.nan)
        machines = rows.machines()
        for machine, mine in progress(machines, "scoring the fleet", total=len(machines)):
            series, step, _ = self._steps(rows.of(mine), self.sensors_[machine])
            found, at = _scored(self.detectors_[machine], series)
            scores[mine] = found[step]
            if top and at is None:
                raise InputError(f"base: {type(self.detectors_[machine]).__name__} does not tell which sensors are odd")
            if top:
                order = np.argsort(-np.nan_to_num(at, nan=-1.0), axis=1, kind="stable")[:, :top]
                largest = np.take_along_axis(at, order, axis=1)[step]
                errors[mine, : order.shape[1]] = largest
                sensors[mine, : order.shape[1]] = np.where(
                    np.isnan(largest), "", np.array(self.sensors_[machine])[order[step]]
                )
        return scores, Explanation(sensors.astype(str), errors)

    def _known(self, df: Any) -> _Rows:
        """Return the rows of a table whose machines and sensors have been fitted."""
        check_is_fitted(self)
        rows = _read(df, self.entity_, self.time_)
        strange = [name for name in rows.names if name not in self.columns_]
        if strange:
            raise InputError(f"df: columns {strange[:5]} were not there at fit; leave them out")
        for machine in np.unique(rows.machine).tolist():
            if machine not in self.detectors_:
                raise InputError(f"df: {self.entity_} {machine!r} was not fitted; add it with refit")
            missing = [name for name in self.sensors_[machine] if name not in rows.names]
            if missing:
                raise InputError(f"df: columns {missing[:5]} are missing; add them, empty where nothing was measured")
        return rows

    def _learned(self, rows: _Rows, usable: Bools, root: int) -> tuple[dict[Any, Any], ...]:
        """Return sensors, detectors, held-out scores and thresholds of the machines of a table."""
        base = HPCAutoencoder() if self.base is None else self.base
        names, tables, labels, apart, detectors = [], [], [], [], []
        for machine, mine in rows.machines():
            series, step, counts = self._steps(rows.of(mine), rows.names)
            # A step is healthy if all rows in it are.
            healthy = (counts > 0) & (np.bincount(step, weights=~usable[mine], minlength=len(series)) == 0)
            held = _held_out(series, healthy, float(self.holdout))
            own = np.flatnonzero(~np.isnan(series.values[healthy & ~held]).all(axis=0))
            if len(own) == 0:
                raise InputError(f"df: {machine!r} has no healthy measurement to learn from")
            names.append(machine)
            tables.append(Series(series.values[:, own], series.time, [rows.names[number] for number in own]))
            apart.append(held)
            labels.append(np.where(healthy & ~held, NORMAL, ANOMALY))
            detectors.append(seeded_clone(base, zlib.crc32(repr((root, machine)).encode())))
        _fit_all(detectors, tables, labels)
        scores = []
        for machine, detector, series, held in zip(names, detectors, tables, apart):
            found = _scored(detector, series)[0][held]
            scores.append(found[~np.isnan(found)])
            if len(scores[-1]) == 0:
                raise InputError(f"df: no held-out row of {machine!r} could be judged; give more healthy rows")
        marks = [float(np.quantile(found, self.percentile / 100, method="higher")) for found in scores]
        sensors = [series.names for series in tables]
        return tuple(dict(zip(names, values)) for values in (sensors, detectors, scores, marks))

    def _steps(self, rows: _Rows, sensors: list[str]) -> tuple[Series, Ints, Ints]:
        """Return one machine's rows on the grid, the step of each row, and the number of rows of each step."""
        values = rows.values[:, [rows.names.index(name) for name in sensors]]
        width = max(1, round(self.every * 1e9))
        late = np.array([(self.late or {}).get(name, 0.0) for name in sensors])
        # Each clock's sensors are rows of their own, for they were measured at another time.
        clocks = np.unique(late)
        parts = [np.where(late == seconds, values, np.nan) for seconds in clocks]
        times = [_slots(rows.time - np.timedelta64(round(seconds * 1e9), "ns"), width) for seconds in clocks]
        own = _slots(rows.time, width)
        ends = [min(slots.min() for slots in [*times, own]), max(slots.max() for slots in [*times, own])]
        # An empty row at either end: so the grid begins at a multiple of its step, and holds every row.
        stamps = (np.concatenate([ends, *times]) * width).astype("datetime64[ns]")
        table = np.concatenate([np.full((2, len(sensors)), np.nan), *parts])
        grid, _ = regular(table, self.every, time=stamps, name="df")
        step = own - ends[0]
        counts = np.bincount(step, minlength=len(grid)).astype(np.int64)
        return Series(_carried(grid.values, int(self.max_gap)), grid.time, sensors), step, counts


def _slots(time: Times, width: int) -> Ints:
    """Return the numbers of the steps of `width` nanoseconds whose middles are nearest to some times."""
    slots: Ints = (time.astype("datetime64[ns]").astype(np.int64) + width // 2) // width
    return slots


def _carried(values: Floats, limit: int) -> Floats:
    """Return a series in which a sensor's last value stands for up to `limit` steps where others were measured."""
    missing, steps = np.isnan(values), np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(missing, -1, steps), axis=0)
    known = missing & (last >= 0) & (steps - last <= limit) & ~missing.all(axis=1)[:, None]
    return np.where(known, np.take_along_axis(values, np.maximum(last, 0), axis=0), values)


def _held_out(series: Series, healthy: Bools, share: float) -> Bools:
    """Return which healthy steps set the threshold: whole days, evenly spread, or parts of the rows if days are few."""
    there = np.flatnonzero(healthy & series.observed)
    days = np.unique(series.time[there].astype(np.int64) // DAY, return_inverse=True)[1]  # type: ignore[index]
    if len(days) and days.max() + 1 < FEW_DAYS:
        days = np.arange(len(there)) * PARTS // len(there)
    # The epsilon: .3 of 10 days are 3 whatever the last bit says.
    chosen = np.floor((days + 1) * share + 1e-9) > np.floor(days * share + 1e-9)
    held = np.zeros(len(series), dtype=bool)
    held[there[chosen]] = True
    return held


def _fit_all(detectors: list[Any], tables: list[Series], labels: list[Ints]) -> None:
    if isinstance(detectors[0], HPCAutoencoder):
        fit_together(detectors, tables, labels)
        return
    for i in progress(range(len(detectors)), "training the fleet", total=len(detectors)):
        detectors[i].fit(tables[i], labels[i])


def _scored(detector: Any, series: Series) -> tuple[Floats, Floats | None]:
    """Return scores, and errors by sensor where the detector has them; what was not measured counts for nothing."""
    if not isinstance(detector, HPCAutoencoder):
        return detector.anomaly_score(series), None
    errors = detector.anomaly_map(series)
    return power_mean(errors, float(detector.p)), errors


def _usable(rows: _Rows, healthy: Any, maintenance: Any) -> Bools:
    """Return which rows may teach."""
    usable = np.ones(len(rows.time), dtype=bool)
    if healthy is not None:
        healthy = np.asarray(healthy)
        if healthy.dtype.kind != "b" or healthy.shape != usable.shape:
            raise InputError(
                f"healthy is {healthy.dtype} of shape {healthy.shape}: give {len(usable)} times True or False"
            )
        usable &= healthy
    for window in maintenance if maintenance is not None else ():
        if not isinstance(window, Sequence) or isinstance(window, str) or len(window) != 3:
            raise InputError(f"maintenance holds {told(window)}: give (machine or None, start, end)")
        machine, start, end = window
        try:
            ends = [
                as_times(one if isinstance(one, (int, float)) else np.datetime64(one), "time") for one in (start, end)
            ]
        except (ValueError, TypeError) as error:
            raise InputError(f"maintenance holds {told(window)}: {error}") from error
        inside = (rows.time >= ends[0]) & (rows.time <= ends[1])
        usable &= ~(inside if machine is None else inside & (rows.machine == machine))
    return usable


def _read(df: Any, entity: str, time: str, alone: Any = None) -> _Rows:
    """Return a dataframe's rows; `alone` names the machine of a table that does not."""
    import narwhals.stable.v1 as nw

    try:
        frame = nw.from_native(df, eager_only=True)
    except TypeError as error:
        raise InputError(f"df is a {type(df).__name__}: give a dataframe with columns of machines and times") from error
    if len(frame) == 0:
        raise InputError("df has no rows")
    for argument, column in (("entity", entity), ("time", time)):
        if column not in frame.columns and (argument == "time" or alone is None):
            raise InputError(f"{argument}: df has no column {column!r}; it has {told(list(frame.columns))}")
    if entity in frame.columns:
        machines = np.array(frame[entity].to_list())
        if machines.dtype.kind not in "Uiu":
            raise InputError(f"entity: column {entity!r} holds {frame[entity].dtype}; name machines by text or integer")
    else:
        machines = np.full(len(frame), alone)
    names = [name for name in frame.columns if name not in (entity, time)]
    for name in names:
        if not (frame[name].dtype.is_numeric() or frame[name].dtype == nw.Boolean):
            raise InputError(f"df: column {name!r} holds {frame[name].dtype}, not numbers; leave it out")
    if not names:
        raise InputError("df has no sensors: no column beside entity and time")
    clock = frame[time]
    is_time = clock.dtype in (nw.Datetime, nw.Date)
    times = in_utc(clock, nw) if is_time else as_times(clock.to_numpy(), "time")
    if np.isnat(times).any():
        raise InputError(f"df: {int(np.isnat(times).sum())} times are missing; drop these rows")
    values = np.column_stack([np.asarray(frame[name].cast(nw.Float64).to_numpy(), dtype=np.float64) for name in names])
    refuse_non_finite(np.where(np.isnan(values), 0.0, values), "df", names)
    return _Rows(machines, times, values, names)

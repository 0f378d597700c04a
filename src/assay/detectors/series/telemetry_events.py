"""Telemetry, the parts: columns, lags in seconds, blocks of time, events, what moved in one, and boosters as bytes.

Pure functions; `assay.detectors.series.telemetry` joins them.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.extras import require
from assay.core.series import GAP, Series
from assay.core.validation import Bools, Floats, InputError, Ints, told

#: A run that goes the other way belongs to an event if it is at least this share of the event's peak.
STEP_BACK = 0.5
#: Correlation beyond which covariates count as one cause.
SAME = 0.9
#: Share of the drivers' mean |φ|, and excursion in robust deviations, from which on a driver's timing is compared.
HEARD, MOVED = 0.1, 3.0
#: Most bytes of a saved booster.
MOST_BYTES = 2**28

Bytes = npt.NDArray[np.uint8]


def roles(targets: Any, covariates: Any, names: list[str]) -> tuple[list[int], list[int]]:
    """Return the columns of targets and covariates, given as names or numbers or left to the other.

    Raises
    ------
    InputError
        If a column is not there, is named twice, or if nothing is left to forecast.
    """
    first, second = _chosen("targets", targets, names), _chosen("covariates", covariates, names)
    if first is None:
        first = [column for column in range(len(names)) if column not in (second or [])]
    elif second is None:
        second = [column for column in range(len(names)) if column not in first]
    both = sorted(set(first) & set(second or []))
    if both:
        raise InputError(f"covariates: {names[both[0]]!r} is a target too; name it once")
    if not first:
        raise InputError("targets: no column is left to forecast")
    return first, second or []


def _chosen(parameter: str, given: Any, names: list[str]) -> list[int] | None:
    if given is None:
        return None
    if not isinstance(given, (list, tuple, np.ndarray)):
        raise InputError(f"{parameter}={told(given)}: give a list of names or column numbers")
    columns = []
    for one in given:
        number = names.index(one) if isinstance(one, str) and one in names else one
        fits = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
        if not fits or not 0 <= number < len(names):
            raise InputError(f"{parameter}: there is no column {told(one)}; the columns are {names[:8]}")
        columns.append(int(number))
    if len(set(columns)) < len(columns):
        raise InputError(f"{parameter} names a column twice")
    return columns


def grid_of(X: Series, grid: float) -> float:
    """Return the seconds of a step: the median of the times, `grid` where there are none.

    Raises
    ------
    InputError
        If over 5 % of the steps are no multiple of the median, within a quarter.
    """
    step = X.seconds
    if X.time is None or step is None:
        return float(grid)
    ratio = np.diff(X.time) / np.timedelta64(1, "ns") * 1e-9 / step
    if (np.abs(ratio - np.rint(ratio)) > 0.25).mean() > 0.05:
        raise InputError(f"X: times are uneven; put them on a grid with assay.core.series.regular(X, {step:g})")
    return step


def steps_of(seconds: float, step: float) -> int:
    """Return a duration in steps, at least one."""
    return max(1, round(seconds / step))


def slots(X: Series, step: float) -> Ints:
    """Return the number of each step on the even grid: where time jumps, so do these."""
    if X.time is None:
        return np.arange(len(X))
    since = (X.time - X.time[0]) / np.timedelta64(1, "ns") * 1e-9
    return np.rint(since / step).astype(np.int64)


def lagged_rows(slot: Ints, lags: tuple[int, ...]) -> tuple[Ints, Bools]:
    """Return for each step and lag the row `lag` slots before, (T, L), and whether there is one."""
    wanted = slot[:, None] - np.array(lags)
    rows = np.maximum(np.searchsorted(slot, wanted, side="right") - 1, 0)
    return rows, slot[rows] == wanted


def stuck_steps(column: Floats, slot: Ints, least: int) -> Bools:
    """Return the steps (T,) of all stretches in which one value repeats exactly for `least` steps or more."""
    same = np.zeros(len(column), dtype=bool)
    same[1:] = (column[1:] == column[:-1]) & (np.diff(slot) == 1)
    starts = np.flatnonzero(~same)
    lengths = np.diff(np.append(starts, len(column)))
    return np.repeat(lengths >= least, lengths)


def stretches(mask: Bools) -> list[tuple[int, int]]:
    """Return first and last step of each stretch of true ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2])]


def time_blocks(n: int, folds: int, whole: list[tuple[int, int]]) -> Ints:
    """Return the fold of each of n steps: contiguous blocks of time, each stretch of `whole` in one of them.

    There is no way to ask for a random split.
    """
    block = np.arange(n) * folds // n
    for first, last in whole:
        block[first : last + 1] = block[(first + last) // 2]
    return block


def training_rows(block: Ints, fold: int, slot: Ints, margin: int) -> Bools:
    """Return the steps that may teach the model of `fold`: those more than `margin` slots away from its own."""
    held = slot[block == fold]
    if len(held) == 0:  # an event has swallowed the block
        return np.ones(len(slot), dtype=bool)
    after = np.searchsorted(held, slot)
    near = np.minimum(
        np.abs(slot - held[np.minimum(after, len(held) - 1)]), np.abs(slot - held[np.maximum(after - 1, 0)])
    )
    return near > margin


def top_events(
    z: Floats, threshold: float, measured: Bools, slot: Ints, *, k: int, separation: int, merge: int
) -> list[tuple[int, int, int]]:
    """Return onset, end and peak of the `k` largest events of one target, largest first.

    Parameters
    ----------
    z : array of shape (T,)
        Signed anomaly signal; NaN where there is none.
    threshold : float
        |z| of the steps of an event.
    measured : array of bool of shape (T,)
        Steps that are no gap: an event ends before one.
    slot : array of int of shape (T,)
        Number of each step on the even grid.
    k : int
        How many at most.
    separation : int
        Slots between the peaks of two events, at least.
    merge : int
        Slots below the threshold that do not end an event.
    """
    size = np.nan_to_num(np.abs(z), nan=-1.0)
    walls = np.cumsum(~measured) + np.cumsum(np.concatenate([[False], np.diff(slot) > GAP]))
    runs: list[tuple[int, int]] = []
    for first, last in _parted(stretches(size > threshold), walls):
        near = runs and slot[first] - slot[runs[-1][1]] - 1 <= merge and walls[first] == walls[runs[-1][1]]
        runs = [*runs[:-1], (runs[-1][0], last)] if near else [*runs, (first, last)]
    peaks = [first + int(np.argmax(size[first : last + 1])) for first, last in runs]
    found: list[tuple[int, int, int]] = []
    for i in sorted(range(len(runs)), key=lambda i: -size[peaks[i]]):
        peak = peaks[i]
        if any(abs(slot[peak] - slot[other]) < separation for *_, other in found):
            continue
        first, last = runs[i]
        for (a, b), other in zip(runs, peaks):
            # A step up and its step back are one event, wherever the larger residual lies.
            back = z[other] * z[peak] < 0 and size[other] >= STEP_BACK * size[peak]
            free = all(b < onset or a > end for onset, end, _ in found)
            if back and free and walls[other] == walls[peak] and abs(slot[other] - slot[peak]) < separation:
                first, last = min(first, a), max(last, b)
        found.append((first, last, peak))
        if len(found) == k:
            break
    return found


def _parted(runs: list[tuple[int, int]], walls: Ints) -> list[tuple[int, int]]:
    """Return the runs cut where a gap in time lies inside."""
    parts = []
    for first, last in runs:
        cuts = first + 1 + np.flatnonzero(np.diff(walls[first : last + 1]))
        for a, b in zip([first, *cuts], [*cuts, last + 1]):
            parts.append((int(a), int(b) - 1))
    return parts


def event_groups(spans: list[tuple[int, int]], window: int) -> list[int]:
    """Return the group of each event: those that overlap or follow within `window` slots share one."""
    group, number, end = [0] * len(spans), -1, -(2**60)
    for i in sorted(range(len(spans)), key=lambda i: spans[i]):
        if spans[i][0] > end + window:
            number += 1
        end = max(end, spans[i][1])
        group[i] = number
    return group


def alike(columns: Floats) -> list[list[int]]:
    """Return the columns (T, C) in groups that are linked by a correlation beyond .9, in the order of the columns."""
    centred = columns - columns.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    centred = centred / np.where(norm > 0, norm, 1.0)
    linked = np.abs(centred.T @ centred) > SAME
    group = list(range(len(linked)))
    for i, j in zip(*np.nonzero(np.triu(linked, 1))):
        old, new = max(group[i], group[j]), min(group[i], group[j])
        group = [new if one == old else one for one in group]
    return [[c for c, one in enumerate(group) if one == first] for first in sorted(set(group))]


def drivers(phi: Floats, columns: Floats, names: list[str], groups: list[list[int]], scale: Floats, at: Any) -> Any:
    """Return what drove an event, one dictionary a group of covariates, strongest first.

    Parameters
    ----------
    phi : array of shape (n, C)
        Contributions at the event's steps.
    columns : array of shape (m, C)
        The covariates around the event.
    names : list of str
        Of the covariates.
    groups : list of list of int
        Covariates that count as one.
    scale : array of shape (C,)
        Robust deviation of each covariate.
    at : (array of int of shape (m,), int)
        Slot of each row of `columns` from the onset on, so that 0 is the onset; and the slots before the onset within
        which a movement counts as part of the event.
    """
    offset, lead = at
    total = float(phi.sum(axis=1).mean())
    rows = []
    for group in groups:
        together = phi[:, group].sum(axis=1)
        loudest = group[int(np.argmax(np.abs(phi[:, group]).mean(axis=0)))]
        change, moved = _movement(columns[:, loudest], scale[loudest], offset, lead)
        rows.append(
            {
                "covariates": [names[c] for c in group],
                "mean_phi": float(together.mean()),
                "mean_abs_phi": float(np.abs(together).mean()),
                "share": float(together.mean() / total) if abs(total) > 1e-9 else float("nan"),
                "change": change,
                "moved": moved,
                "first": False,
            }
        )
    rows.sort(key=lambda row: -row["mean_abs_phi"])
    heard = HEARD * sum(row["mean_abs_phi"] for row in rows)
    timed = [row for row in rows if row["moved"] is not None and 0 < heard <= row["mean_abs_phi"]]
    for row in timed:
        row["first"] = row["moved"] == min(one["moved"] for one in timed)
    return rows


def _movement(column: Floats, scale: float, offset: Ints, lead: int) -> tuple[float, int | None]:
    """Return how far a covariate went in an event, in robust deviations, and at which slot it was halfway there."""
    before, during = column[offset < -lead], offset >= -lead
    if np.isnan(before).all() or np.isnan(column[during]).all():
        return float("nan"), None
    change = np.where(np.isnan(column), 0.0, column - np.nanmedian(before)) / scale
    change[~during] = 0.0
    farthest = float(change[np.argmax(np.abs(change))])
    if abs(farthest) < MOVED:
        return farthest, None
    return farthest, int(offset[np.argmax(change * np.sign(farthest) >= abs(farthest) / 2)])


def spread_of(values: Floats) -> Floats:
    """Return 1.4826 MAD of each column; where that is 0 the standard deviation, where that is 0 too 1."""
    if values.shape[1] == 0:
        return np.ones(0)
    spread = 1.4826 * np.nanmedian(np.abs(values - np.nanmedian(values, axis=0)), axis=0)
    tiny = 1e-9 * (1.0 + np.nanmax(np.abs(values), axis=0))
    deviation = np.nanstd(values, axis=0)
    return np.where(spread > tiny, spread, np.where(deviation > tiny, deviation, 1.0))


def r2_of(observed: Floats, predicted: Floats) -> float:
    """Return the share of the variance that is predicted."""
    variance = float(((observed - observed.mean()) ** 2).sum())
    return 1.0 - float(((observed - predicted) ** 2).sum()) / variance if variance > 0 else 0.0


def xgboost() -> Any:
    """Import the library when it is first needed."""
    return require("xgboost", "telemetry", "TelemetryMonitor")


def settings(depth: int, rate: float, leaf: int) -> dict[str, Any]:
    """Return what XGBoost is to do."""
    # One thread: the same sums in the same order everywhere; targets and folds are what runs in parallel.
    return {
        "objective": "reg:squarederror",
        "tree_method": "hist",
        "max_depth": int(depth),
        "eta": float(rate),
        "min_child_weight": leaf,
        "nthread": 1,
        "verbosity": 0,
    }


def to_bytes(booster: Any) -> Bytes:
    """Return a booster as the bytes of its JSON: data that can be checked before XGBoost reads them."""
    return np.frombuffer(bytes(booster.save_raw(raw_format="json")), dtype=np.uint8).copy()


def from_bytes(model: Bytes) -> Any:
    """Return the booster that the bytes hold."""
    booster = xgboost().Booster({"nthread": 1, "verbosity": 0})
    booster.load_model(bytearray(np.ascontiguousarray(model).tobytes()))
    return booster


def check_booster(model: Any, width: int) -> None:
    """Raise unless the bytes are regression trees over `width` numbers whose nodes lie where they say."""

    def require_that(condition: bool, what: str) -> None:
        if not condition:
            raise InputError(f"a saved model of TelemetryMonitor is damaged: {what}")

    fits = isinstance(model, np.ndarray) and model.dtype == np.uint8 and model.ndim == 1
    require_that(fits and model.size <= MOST_BYTES, "no bytes, or too many")
    try:
        learner = json.loads(model.tobytes())["learner"]
        booster = learner["gradient_booster"]
        require_that(booster["name"] == "gbtree" and learner["objective"]["name"] == "reg:squarederror", "other models")
        features = {int(learner["learner_model_param"]["num_feature"])}
        trees = booster["model"]["trees"]
        require_that(len(trees) == int(booster["model"]["gbtree_model_param"]["num_trees"]) >= 1, "number of trees")
        for tree in trees:
            features.add(int(tree["tree_param"]["num_feature"]))
            n = int(tree["tree_param"]["num_nodes"])
            names = ("left_children", "right_children", "split_indices", "split_conditions", "base_weights")
            arrays = [np.asarray(tree[name], dtype=np.float64) for name in (*names, "default_left", "split_type")]
            require_that(all(array.shape == (n,) for array in arrays) and n > 0, "lengths of a tree")
            left, right, split = (array.astype(np.int64) for array in arrays[:3])
            inner = left >= 0
            require_that(bool(((left < 0) == (right < 0)).all()), "a node with one child")
            for child in (left[inner], right[inner]):
                # Children come after their parents, so no walk goes in circles.
                require_that(bool((child > np.flatnonzero(inner)).all() and (child < n).all()), "children of a node")
            require_that(bool(((split >= 0) & (split < width)).all()), "a split on a number that is not there")
            require_that(not arrays[-1].any() and not tree.get("categories"), "categories")
        require_that(features == {width}, "number of features")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"a saved model of TelemetryMonitor is damaged: {type(error).__name__}") from error

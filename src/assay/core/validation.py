"""Checks at the door: whatever comes in is understood, or refused in one line that names it and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NORMAL, ANOMALY, UNKNOWN = 0, 1, -1
_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)


class InputError(ValueError):
    """An argument, a file or a column that cannot be used; the message says in one line which, and what to do."""

    def __init__(self, message: object = "") -> None:
        # What is quoted may hold line breaks: a name, a label, another library's complaint.
        super().__init__(" ".join(line.strip() for line in str(message).splitlines()))


class InputTypeError(InputError, TypeError):
    """Something that is no number and no table of numbers at all."""


class LabelWarning(UserWarning):
    """Labels that are not Assay's were read as unknown."""


def as_table(X: Any, name: str = "X") -> tuple[Any, list[str] | None]:
    """Return `X` as an array that scikit-learn can check, and its column names if it has any.

    NumPy arrays pass through, objects among their values being read as numbers; a dataframe of any library (pandas,
    polars, Arrow, …) becomes a float64 array.

    Raises
    ------
    InputError
        If a dataframe's column is not numeric or holds missing values (the message names the column), or if `X` is
        sparse, masked or nothing that could be numbers.
    """
    if isinstance(X, np.ndarray) or not _looks_like_a_frame(X):
        return _as_array(X, name), None
    import narwhals.stable.v1 as nw

    try:
        frame = nw.from_native(X, eager_only=True, pass_through=False)
        series_of = list(frame.iter_columns())
    except (TypeError, ValueError) as error:  # a lazy frame, two columns of one name, a stranger
        raise InputError(f"{name} cannot be read as a dataframe: {' '.join(str(error).split())}") from error
    columns = []
    for series in series_of:
        column = str(series.name)
        if not (series.dtype.is_numeric() or series.dtype == nw.Boolean):
            raise InputError(
                f"{name}: column {column!r} holds {series.dtype}, not numbers; encode it as numbers or leave it out"
            )
        missing = int(series.null_count())
        if missing:
            raise InputError(f"{name}: column {column!r} holds {missing} missing values; impute or drop these rows")
        # Arrow refuses to cast integers that no float64 equals; NumPy takes the nearest.
        series = series if series.dtype.is_integer() else series.cast(nw.Float64)
        columns.append(np.asarray(series.to_numpy(), dtype=np.float64))
    matrix = np.column_stack(columns) if columns else np.empty((len(frame), 0))
    # Columns that are only numbered (as pandas does by default) have no names to hold anyone to.
    names = [series.name for series in series_of]
    return matrix, names if all(isinstance(column, str) for column in names) else None


def _as_array(X: Any, name: str) -> npt.NDArray[Any]:
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise InputError(f"{name} is sparse: pass {name}.toarray()")
    if isinstance(X, np.ma.MaskedArray) and np.ma.getmaskarray(X).any():
        raise InputError(f"{name} holds masked (missing) values; impute or drop these rows")
    try:
        array = X if type(X) in (np.ndarray, np.memmap) else np.asarray(X)
        # Without this, what stands in for a number would surface as whatever its float() raises.
        array = array.astype(np.float64) if array.dtype.kind == "O" else array
    except (TypeError, ValueError, OverflowError) as error:
        kind = InputTypeError if isinstance(error, TypeError) else InputError
        raise kind(f"{name} cannot be read as a table of numbers: {error}") from error
    if array.dtype.kind in "mMV":
        raise InputError(f"{name} holds {array.dtype}, not numbers; encode it as numbers or leave it out")
    return array


def as_vector(values: Any, name: str) -> Floats:
    """Return `values` as a finite float64 array of shape (n,), n >= 0.

    Raises
    ------
    InputError
        If it is not one-dimensional or holds anything else.
    """
    array = _as_array(values, name)
    if array.ndim != 1:
        raise InputError(f"{name} has shape {array.shape}, expected (n,): one number a row")
    return as_matrix(array[:, None], name, min_rows=0)[:, 0]


def as_matrix(X: Any, name: str = "X", *, min_rows: int = 1) -> Floats:
    """Return `X` as a finite, C-ordered float64 array of shape (n, d); never the caller's own memory changed.

    Raises
    ------
    InputError
        If `X` is not two-dimensional, has fewer than `min_rows` rows, holds text, complex numbers, NaN or
        infinity.
    """
    X, names = as_table(X, name)
    matrix = np.asarray(X)
    if matrix.dtype.kind == "c":
        raise InputError(f"{name} holds complex numbers; give real ones")
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
            matrix = np.ascontiguousarray(matrix, dtype=np.float64) if matrix.ndim else matrix
    except ValueError as error:
        raise InputError(f"{name} cannot be read as a table of numbers: {error}") from error
    if matrix.ndim != 2:
        raise InputError(f"{name} has {matrix.ndim} dimensions, expected 2 (rows, columns); reshape it first")
    if matrix.shape[1] == 0:
        raise InputError(f"{name} has no columns")
    if matrix.shape[0] < min_rows:
        raise InputError(f"{name} has {matrix.shape[0]} rows, at least {min_rows} needed")
    refuse_non_finite(matrix, name, names)
    return matrix


def refuse_non_finite(
    matrix: npt.NDArray[Any], name: str = "X", names: list[str] | None = None, first_row: int = 0
) -> None:
    """Raise an `InputError` that names the first cell of `matrix` holding NaN or infinity (or a value beyond 1e150).

    `first_row` numbers the first row of `matrix`, where that is a piece of something larger.
    """
    if matrix.size == 0 or matrix.dtype.kind != "f":
        return
    # Distances square the values: what would overflow there is refused here. (NaN fails both comparisons.)
    if float(matrix.max()) < 1e150 and float(matrix.min()) > -1e150:
        return
    usable = np.abs(matrix) < np.float64(1e150)
    row, column = np.argwhere(~usable)[0]
    value = matrix[row, column]
    what = "NaN" if np.isnan(value) else "infinity (inf)" if np.isinf(value) else f"{value:.3g}, too large (inf)"
    where = repr(names[column]) if names else str(column)
    count = int((~usable).sum())
    cell = f"row {first_row + row}, column {where} ({count} such cells in all)"
    raise InputError(f"{name} holds {what} in {cell}; impute, rescale or drop these rows")


def as_labels(y: Any, n: int, name: str = "y") -> Ints:
    """Return `y` as an int64 array of shape (n,) with values 0 (normal), 1 (anomaly) and -1 (unknown).

    Raises
    ------
    InputError
        If the length differs from `n` or another value occurs.
    """
    try:
        labels = np.asarray(y)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be read as labels: {error}") from error
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n,):
        raise InputError(f"{name} has shape {labels.shape}, expected ({n},): one label a row")
    labels, known = known_labels(labels)
    if not known.all():
        strange = sorted({str(value)[:40] for value in labels[~known].ravel()[:1000]})[:5]
        raise InputError(
            f"{name} holds {', '.join(strange)}: labels are 0 (normal), 1 (anomaly), -1 (unknown); map yours to these"
        )
    return labels.astype(np.int64)


def known_labels(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Bools]:
    """Return `labels` as numbers where they are some, and which of them are 0, 1 or -1."""
    # A dataframe's nullable column arrives as objects.
    is_numbers = labels.dtype.kind == "O" and all(isinstance(label, _NUMBERS) for label in labels)
    is_numbers = is_numbers and all(abs(label) <= 1e300 for label in labels)  # some integers are no floats
    if labels.dtype.kind == "b" or is_numbers:
        labels = labels.astype(np.float64)
    if labels.dtype.kind not in "iuf":
        return labels, np.zeros(len(labels), dtype=bool)
    return labels, np.isin(labels, (NORMAL, ANOMALY, UNKNOWN))


def normals_and_anomalies(y: Ints, *, min_normals: int, min_anomalies: int, name: str = "y") -> tuple[Ints, Ints]:
    """Return the row numbers of the normals and of the anomalies in fully known labels.

    Raises
    ------
    InputError
        If a label is unknown (-1) or a class has too few rows.
    """
    unknown = int((y == UNKNOWN).sum())
    if unknown:
        raise InputError(
            f"{name} holds {unknown} unknown labels (-1): drop these rows, or write 0 if -1 means normal in your data"
        )
    normals, anomalies = np.flatnonzero(y == NORMAL), np.flatnonzero(y == ANOMALY)
    if len(anomalies) < min_anomalies:
        raise InputError(
            f"{name} holds {len(anomalies)} anomalies (1), at least {min_anomalies} needed; add labelled anomalies"
        )
    if len(normals) < min_normals:
        raise InputError(f"{name} holds {len(normals)} normal rows (0), at least {min_normals} needed; add normal rows")
    return normals, anomalies


def check_number(
    value: Any,
    name: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    integer: bool = False,
    strict_low: bool = False,
    strict_high: bool = False,
) -> None:
    """Raise an `InputError` unless `value` is a number of [low, high] (an end is excluded where `strict_…`).

    An integer counts something, so it is at most 2**31 - 1.
    """
    high = min(high, 2**31 - 1) if integer else high
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    fits = isinstance(value, kinds) and not isinstance(value, bool)
    try:
        number = float(value) if fits else np.nan
    except OverflowError:  # an integer beyond every float
        number = np.nan
    if fits:
        fits = number > low if strict_low else number >= low
        fits = fits and (number < high if strict_high else number <= high)
    if not fits:
        left, right = "(" if strict_low else "[", ")" if strict_high else "]"
        kind = "an integer" if integer else "a number"
        raise InputError(f"{name}={told(value)}: give {kind} in {left}{low:g}, {high:.10g}{right}")


def check_option(value: Any, name: str, *options: str | None) -> None:
    """Raise an `InputError` unless `value` is one of `options`."""
    if not (value is None or isinstance(value, str)) or value not in options:
        raise InputError(f"{name}={told(value)}: choose one of {', '.join(map(repr, options))}")


def check_methods(value: Any, name: str, *methods: str) -> None:
    """Raise an `InputError` unless `value` is an instance that has `methods`."""
    if isinstance(value, type) or not all(callable(getattr(value, method, None)) for method in methods):
        raise InputError(f"{name}={told(value)}: give an unfitted estimator with {' and '.join(methods)}")


def told(value: Any) -> str:
    """Return what `value` looks like, in one short line."""
    line = " ".join(repr(value).split())
    return line if len(line) <= 80 else f"{line[:79]}…"


def _looks_like_a_frame(X: Any) -> bool:
    """Tell a dataframe from an array without importing any dataframe library, and without asking a lazy one."""
    return hasattr(type(X), "columns") or hasattr(type(X), "column_names")

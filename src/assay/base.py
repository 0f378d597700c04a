"""The contracts of Assay: read this file first.

Seven small classes say what every system promises. A system writes the methods that begin with an underscore;
the public ones are final and do the boring part: validation, labels, randomness, feature names.

Labels everywhere: 0 normal, 1 anomaly, -1 unknown. Scores everywhere: float64, finite, higher = more
anomalous. Qualities everywhere: float64, finite, higher = better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, final

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline as _Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted

from assay.core.graphs import Graphs, as_graphs
from assay.core.images import Images, as_images
from assay.core.random import as_generator
from assay.core.sequences import Sequences, as_sequences
from assay.core.series import Series, as_series
from assay.core.sets import Sets, as_sets
from assay.core.validation import (
    ANOMALY,
    Bools,
    Floats,
    InputError,
    Ints,
    as_labels,
    as_matrix,
    as_table,
    check_number,
    refuse_non_finite,
)


class _Estimator(BaseEstimator):
    """scikit-learn's base, which inspects a constructor once instead of at every clone: EAP clones hundreds."""

    @classmethod
    @cache
    def _get_param_names(cls) -> list[str]:
        names: list[str] = super()._get_param_names()
        return names


class System(_Estimator):
    """Whatever is fitted on a table: checks the input and remembers its width and its column names.

    The constructor of a system only stores; what `fit` learns ends in an underscore.
    """

    def _check_table(self, X: Any, *, reset: bool, min_rows: int = 1, name: str = "X") -> Floats:
        """Return `X` as a finite float64 array (n, d) of the fitted width, or raise one clear error."""
        X, names = as_table(X, name)
        matrix = X if _is_ready(X, min_rows) else self._converted(X, min_rows, name, names)
        refuse_non_finite(matrix, name, names)
        if reset and matrix is X:
            # What is fitted is the system's own: the caller may change their array afterwards.
            matrix = X.copy()
        if reset:
            self._remember(matrix.shape[1], names)
        else:
            self._compare(matrix.shape[1], names, name)
        return matrix

    def _converted(self, X: Any, min_rows: int, name: str, names: list[str] | None) -> Floats:
        if isinstance(X, np.ndarray) and X.ndim == 2:
            refuse_non_finite(X, name, names)
        try:
            matrix: Floats = check_array(
                X,
                dtype=np.float64,
                order="C",
                copy=True,
                ensure_min_samples=min_rows,
                estimator=self,
                input_name=name,
            )
        except ValueError as error:
            raise InputError(_in_one_line(error, name)) from error
        return matrix

    def _remember(self, width: int, names: list[str] | None) -> None:
        self.n_features_in_ = width
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _compare(self, width: int, names: list[str] | None, name: str) -> None:
        """Raise unless width and column names (where both sides have some) are those of the fit."""
        if names is not None and list(getattr(self, "feature_names_in_", names)) != names:
            self._check_names(names, name)
        if width != self.n_features_in_:
            raise InputError(
                f"{name} has {width} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input"
            )

    def _check_names(self, names: list[str], name: str) -> None:
        fitted = list(self.feature_names_in_)
        missing = [column for column in fitted if column not in names]
        extra = [column for column in names if column not in fitted]
        if missing or extra:
            raise InputError(f"{name}: columns differ from those at fit: missing {missing[:5]}, unexpected {extra[:5]}")
        raise InputError(f"{name}: columns are in another order than at fit; pass {name}[{fitted[:3]}…]")

    def _check_parameters(self) -> None:
        """Refuse parameters that make no sense; called at the start of `fit`."""


def _is_ready(X: Any, min_rows: int) -> bool:
    """Tell whether `X` needs no conversion: most calls come from within, and a full check is slow."""
    return (
        type(X) is np.ndarray
        and X.dtype == np.float64
        and X.ndim == 2
        and bool(X.flags.c_contiguous)
        and len(X) >= max(min_rows, 1)
        and X.shape[1] > 0
    )


def _in_one_line(error: ValueError, name: str) -> str:
    """Return scikit-learn's complaint without the data it prints, naming the argument."""
    lines = str(error).splitlines()
    told = " ".join([lines[0], *(line for line in lines[1:] if line.startswith("Reshape"))])
    return told if name in told.replace(".", " ").split() else f"{name}: {told}"


class Detector(System):
    """Gives every row one anomaly score.

    A detector has no contamination, no threshold and no probability: see `assay.calibration.Calibrated` for
    decisions.

    Attributes
    ----------
    labels : {"normals", "optional", "required"}
        What the labels do. ``"normals"``: the detector learns normality, so rows known to be anomalies (1)
        are left out of its training. ``"optional"``: it learns from labels where there are some.
        ``"required"``: it needs both kinds.
    """

    labels: ClassVar[str] = "normals"
    takes_weights: ClassVar[bool] = False
    min_rows: ClassVar[int] = 2

    @final
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Detector:
        """Learn from the rows of `X`.

        Parameters
        ----------
        X : array or dataframe of shape (n, d)
            Finite numbers.
        y : array of shape (n,), optional
            0 normal, 1 anomaly, -1 unknown. Without it every row is unknown.
        sample_weight : array of shape (n,), optional
            How much each row counts, >= 0; only where ``takes_weights``.

        Returns
        -------
        Detector
            Itself, fitted.

        Raises
        ------
        InputError
            If a value, a label or a parameter cannot be used.
        """
        X, known = self._enter(X, y)
        rng = as_generator(getattr(self, "random_state", None))
        if sample_weight is None:
            self._fit(*self._learnable(X, known), rng)
            return self
        if not self.takes_weights:
            raise InputError(f"sample_weight: {type(self).__name__} takes no weights; leave rows out instead")
        weights = np.asarray(sample_weight)
        if weights.shape != (len(X),):
            raise InputError(f"sample_weight has shape {weights.shape}: give one number >= 0 for each of {len(X)} rows")
        weights = as_matrix(weights[:, None], "sample_weight")[:, 0]
        if (weights < 0).any():
            raise InputError("sample_weight holds negative numbers: give one number >= 0 for each row")
        self._fit_weighted(X, known, weights, rng)
        return self

    @final
    def fit_score(self, X: Any, y: Any = None) -> Floats:
        """Fit, and return the scores of the training rows: those of ``fit(X, y).anomaly_score(X)``, for less work."""
        X, known = self._enter(X, y)
        rows, labels = self._learnable(X, known)
        rng = as_generator(getattr(self, "random_state", None))
        if rows is X:
            return np.ascontiguousarray(self._fit_score(X, labels, rng), dtype=np.float64)
        self._fit(rows, labels, rng)
        return np.ascontiguousarray(self._score(X), dtype=np.float64)

    def _enter(self, X: Any, y: Any) -> tuple[Floats, Ints | None]:
        """Return the checked rows and labels."""
        self._check_parameters()
        X = self._check_table(X, reset=True, min_rows=self.min_rows)
        known = None if y is None else as_labels(y, len(X))
        if self.labels == "required":
            if known is None:
                raise InputError(f"{type(self).__name__} requires y to be passed, but the target y is None")
            if not (known >= 0).any():
                raise InputError(f"y holds no known label (0 or 1): {type(self).__name__} learns from these")
        return X, known

    def _learnable(self, X: Floats, known: Ints | None) -> tuple[Floats, Ints | None]:
        """Leave out known anomalies where the detector learns normality."""
        if self.labels != "normals" or known is None or not (known == ANOMALY).any():
            return X, known
        rows = known != ANOMALY
        if rows.sum() < self.min_rows:
            raise InputError(f"y leaves {rows.sum()} rows that are not anomalies, at least {self.min_rows} needed")
        return X[rows], known[rows]

    @final
    def anomaly_score(self, X: Any) -> Floats:
        """Return one score a row, shape (n,), higher = more anomalous.

        A row's score does not depend on the other rows of `X`, and scoring never learns.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        InputError
            If the width, the column names or a value differ from what was fitted.
        """
        check_is_fitted(self)
        return np.ascontiguousarray(self._score(self._check_table(X, reset=False)), dtype=np.float64)

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def _fit_score(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> Floats:
        """Fit and score the training rows; a system whose fit already does half of the scoring says so here."""
        self._fit(X, y, rng)
        return self._score(X)

    def _fit_weighted(self, X: Floats, y: Ints | None, weights: Floats, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def _score(self, X: Floats) -> Floats:
        raise NotImplementedError


class Localizer(Detector):
    """A detector that also says *where*: one score per pixel, point, voxel, time step or event.

    A system writes `_locate` alone, for score and map come from the same work.
    """

    @final
    def anomaly_map(self, X: Any) -> Any:
        """Return one array of scores an item, of the item's own layout; its reduction is the item's score."""
        return self.locate(X)[1]

    @final
    def locate(self, X: Any) -> tuple[Floats, Any]:
        """Return the scores (n,) and the maps, for the price of one of them."""
        check_is_fitted(self)
        scores, maps = self._locate(self._check_table(X, reset=False))
        return np.ascontiguousarray(scores, dtype=np.float64), maps

    def _score(self, X: Any) -> Floats:
        return self._locate(X)[0]

    def _locate(self, X: Any) -> tuple[Floats, Any]:
        raise NotImplementedError


class TakesImages:
    """Put before a contract: the items are images (`assay.core.images.Images`), not the rows of a table."""

    data: ClassVar[str] = "images"

    def _check_table(self, X: Any, *, reset: bool, min_rows: int = 1, name: str = "X") -> Images:
        return as_images(X, name, min_images=min_rows)


class TakesSeries:
    """Put before a contract: X is one series (`assay.core.series.Series`), an item is a time step.

    What a score depends on is its neighbourhood, not other series: the first and the last steps of two pieces of a
    series differ from those of the whole.
    """

    data: ClassVar[str] = "series"

    def _check_table(self, X: Any, *, reset: bool, min_rows: int = 1, name: str = "X") -> Series:
        series = as_series(X, name, min_steps=min_rows)
        if reset:
            self._remember(series.values.shape[1], series.names)  # type: ignore[attr-defined]
            never = np.isnan(series.values).all(axis=0)
            if never.any():
                channel = int(np.argmax(never))
                called = repr(series.names[channel]) if series.names else channel
                raise InputError(f"{name}: channel {called} holds no measurement at all; leave it out")
        else:
            self._compare(series.values.shape[1], series.names, name)  # type: ignore[attr-defined]
        return series

    def _learnable(self, X: Series, known: Ints | None) -> tuple[Series, Ints | None]:
        """Take known anomalies for not measured: time goes on, but no window that holds them teaches anything."""
        if known is None or not (known == ANOMALY).any():
            return X, known
        values = X.values.copy()
        values[known == ANOMALY] = np.nan
        if np.isnan(values).all(axis=0).any():
            raise InputError("y leaves a channel without any step that is not an anomaly")
        return Series(values, X.time, X.names), known


class TakesWindows:
    """Put before a contract: the items are windows of series, an array (n, L, C) or, of one channel, (n, L)."""

    data: ClassVar[str] = "windows"

    def _check_table(self, X: Any, *, reset: bool, min_rows: int = 1, name: str = "X") -> Floats:
        try:
            windows = np.asarray(X)
            windows = windows.astype(np.float64) if windows.dtype.kind in "biufO" else windows
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} cannot be read as windows of numbers: {error}") from error
        if windows.dtype.kind != "f" or windows.ndim not in (2, 3) or 0 in windows.shape[1:]:
            raise InputError(f"{name} is {windows.dtype} of shape {windows.shape}: give windows (n, L, C) of numbers")
        windows = windows[:, :, None] if windows.ndim == 2 else windows
        if len(windows) < min_rows:
            raise InputError(f"{name} has {len(windows)} windows, at least {min_rows} needed")
        refuse_non_finite(windows.reshape(len(windows), -1), name)
        size = windows.shape[1] * windows.shape[2]
        if reset:
            self._remember(size, None)  # type: ignore[attr-defined]
            self.window_shape_ = windows.shape[1:]
        elif windows.shape[1:] != self.window_shape_:
            raise InputError(f"{name} has windows of shape {windows.shape[1:]}, fitted were {self.window_shape_}")
        return np.ascontiguousarray(windows, dtype=np.float64)


class TakesSequences:
    """Put before a contract: the items are event sequences (`assay.core.sequences.Sequences`)."""

    data: ClassVar[str] = "events"

    def _check_table(self, X: Any, *, reset: bool, min_rows: int = 1, name: str = "X") -> Sequences:
        return as_sequences(X, name, min_sequences=min_rows)


class TakesSets:
    """Put before a contract: the items are sets of rows (`assay.core.sets.Sets`), whose order means nothing."""

    data: ClassVar[str] = "sets"

    def _check_table(self, X: Any, *, reset: bool, min_rows: int = 1, name: str = "X") -> Sets:
        sets = as_sets(X, name, min_sets=min_rows)
        if reset:
            self._remember(sets.flat.shape[1], None)  # type: ignore[attr-defined]
        else:
            self._compare(sets.flat.shape[1], None, name)  # type: ignore[attr-defined]
        return sets


class TakesGraphs:
    """Put before a contract: the items are graphs (`assay.core.graphs.Graphs`)."""

    data: ClassVar[str] = "graphs"

    def _check_table(self, X: Any, *, reset: bool, min_rows: int = 1, name: str = "X") -> Graphs:
        graphs = as_graphs(X, name, min_graphs=min_rows)
        if reset:
            self._remember(graphs.x.shape[1], None)  # type: ignore[attr-defined]
        else:
            self._compare(graphs.x.shape[1], None, name)  # type: ignore[attr-defined]
        return graphs


class Calibrator(_Estimator):
    """Turns scores into decisions: learns a `threshold_` from scores of rows that are (mostly) normal.

    Attributes
    ----------
    fitted_on : {"normals", "training"}
        Which scores the promise needs. ``"normals"``: held-out scores of normal rows. ``"training"``: the
        training scores themselves, anomalies included.
    """

    fitted_on: ClassVar[str] = "normals"
    threshold_: float

    @final
    def fit(self, scores: Any, y: Any = None) -> Calibrator:
        """Learn from `scores` (n,), finite, higher = more anomalous; `y` is ignored."""
        scores = self._check_scores(scores)
        if len(scores) == 0:
            raise InputError("scores is empty: a calibrator needs at least one score")
        self._fit(scores)
        return self

    @final
    def predict(self, scores: Any) -> Ints:
        """Return 1 (anomaly) where a score lies above `threshold_`, else 0; shape (n,)."""
        check_is_fitted(self)
        return (self._check_scores(scores) > self.threshold_).astype(np.int64)

    def _check_scores(self, scores: Any) -> Floats:
        try:
            scores = np.asarray(scores)
        except ValueError as error:
            raise InputError(f"scores cannot be read as numbers: {error}") from error
        if scores.ndim != 1:
            raise InputError(f"scores has shape {scores.shape}, expected (n,): one score a row")
        return as_matrix(scores[:, None], "scores", min_rows=0)[:, 0]

    def _fit(self, scores: Floats) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Auxiliary:
    """Auxiliary anomalies and where they come from.

    Attributes
    ----------
    X : array of shape (n, d), (n, L, C) for windows, (n, H, W, 3) of 8-bit images, Sequences,
        Sets or Graphs
        The generated items.
    mask : array of bool of shape (n, d), (n, L, C) or (n, H, W); for sequences and sets (N,), along ``X.flat``; for
        graphs (N,), along ``X.x``
        Which entries (pixels, events, members, nodes) differ from the parent.
    touched : array of bool, of the same shape
        Which entries the generator meant to change; a few of them may have kept their value by chance.
    parents : array of int of shape (n,)
        Row of the fitted normals each was made from; -1 where there is none.
    meta : list of dict
        For each row: generator, strength and every drawn parameter.
    """

    X: Floats
    mask: Bools
    touched: Bools
    parents: Ints
    meta: list[dict[str, Any]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.X)

    def __iter__(self) -> Iterator[Floats]:
        return iter(self.X)


class Generator(System):
    """Makes auxiliary anomalies from normal rows.

    One knob serves all: ``strength`` 0 gives the parent row itself, 1 the published default, more goes
    further. The default rule is a straight line, ``parent + strength * (target - parent)``, towards a target
    drawn by the published law; a system with a natural strength of its own overrides `_sample`.

    Attributes
    ----------
    parents_ : array of shape (n, d)
        The normal rows, which auxiliary rows are made from.
    scale_ : array of shape (d,)
        Standard deviation of each column; 1 where it is constant.
    """

    needs_anomalies: ClassVar[bool] = False
    min_rows: ClassVar[int] = 2
    #: A changed entry differs by more than this share of its column's standard deviation.
    tolerance: ClassVar[float] = 1e-9

    @final
    def fit(self, X: Any, X_anomalous: Any = None) -> Generator:
        """Learn from normal rows `X` (n, d) and, where the generator can use them, real anomalies (m, d)."""
        self._check_parameters()
        X = self._check_table(X, reset=True, min_rows=self.min_rows, name="X_normal")
        if X_anomalous is not None:
            X_anomalous = self._check_table(X_anomalous, reset=False, name="X_anomalous")
        elif self.needs_anomalies:
            raise InputError(f"{type(self).__name__} needs X_anomalous: it starts from real anomalies")
        self._keep_parents(X)
        self._fit(X, X_anomalous, as_generator(getattr(self, "random_state", None)))
        return self

    @final
    def sample(self, n: int, strength: float | None = None, random_state: Any = None) -> Auxiliary:
        """Draw `n` auxiliary anomalies.

        Parameters
        ----------
        n : int
            How many rows.
        strength : float >= 0, optional
            0 is the identity, 1 (default) the published setting.
        random_state : None, int or numpy.random.Generator
            Seed of this draw; by default the generator's own `random_state`, so that two calls give the same
            rows.

        Returns
        -------
        Auxiliary
            Rows, mask, parents and parameters. A draw that changes nothing is drawn again; if it still
            changes nothing after 20 tries its ``meta["noop"]`` is True.
        """
        check_is_fitted(self)
        check_number(n, "n", low=1, integer=True)
        strength = 1.0 if strength is None else strength
        check_number(strength, "strength", low=0.0, high=1e6)
        seed = getattr(self, "random_state", None) if random_state is None else random_state
        return self._drawn(n, float(strength), as_generator(seed))

    def _drawn(self, n: int, strength: float, rng: np.random.Generator) -> Auxiliary:
        """Draw, draw again what changed nothing, and say what changed; items of no fixed layout do so themselves."""
        X, parents, meta = self._sample(n, strength, rng)
        for _ in range(20):
            idle = np.flatnonzero(~self._changed(X, parents).reshape(n, -1).any(axis=1))
            if strength == 0 or len(idle) == 0:
                break
            X[idle], parents[idle], again = self._sample(len(idle), strength, rng)
            for place, drawn in zip(idle, again):
                meta[place] = drawn
        mask = self._changed(X, parents)
        # Outside the mask a row is its parent, bit for bit.
        rooted = parents >= 0
        changed = mask[rooted].reshape(*mask[rooted].shape, *[1] * (X.ndim - mask.ndim))
        X[rooted] = np.where(changed, X[rooted], self._origin(parents[rooted]))
        name = type(self).__name__
        touched = np.ones(mask.shape, dtype=bool)
        for row, drawn in enumerate(meta):
            if "region" in drawn:
                touched[row] = drawn.pop("region")
            elif "features" in drawn:
                touched[row] = False
                touched[row, drawn["features"]] = True
        meta = [
            {"generator": name, "strength": strength, "noop": not mask[row].any(), **drawn}
            for row, drawn in enumerate(meta)
        ]
        return Auxiliary(X=X, mask=mask, touched=touched, parents=parents, meta=meta)

    def _keep_parents(self, X: Any) -> None:
        """Keep what anomalies are made from, and the scale of a change."""
        self.parents_ = X
        self.scale_ = np.where(np.ptp(X, axis=0) > 0, X.std(axis=0), 1.0)

    def _origin(self, parents: Ints) -> Any:
        """Return the items that `parents` number."""
        return self.parents_[parents]

    def _changed(self, X: Any, parents: Ints) -> Bools:
        """Return which entries of `X` differ from their parents'."""
        origin = np.where((parents >= 0)[:, None], self._origin(np.maximum(parents, 0)), np.inf)
        return np.abs(X - origin) > self.tolerance * self.scale_

    def _fit(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        """Learn what the published law needs; nothing by default."""

    def _sample(self, n: int, strength: float, rng: np.random.Generator) -> tuple[Floats, Ints, list[dict[str, Any]]]:
        parents = rng.integers(len(self.parents_), size=n)
        target, meta = self._target(parents, rng)
        origin = self._origin(parents)
        # At strength 1 the target itself: adding a difference back would move the last bit of its values.
        return target if strength == 1 else origin + strength * (target - origin), parents, meta

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, list[dict[str, Any]]]:
        """Draw one row a parent by the published law (strength 1), with the drawn parameters.

        The parameters may hold ``features``, the columns that were meant to change, or ``region``, the pixels (a
        mask); all were, where neither is given.
        """
        raise NotImplementedError


class QualityScore(System):
    """Says how much each auxiliary anomaly is worth, from labelled normals and a few real anomalies."""

    @final
    def fit(self, X: Any, y: Any) -> QualityScore:
        """Learn from `X` (n, d) with labels `y` (n,): 0 normal, 1 anomaly, none unknown."""
        self._check_parameters()
        X = self._check_table(X, reset=True)
        if y is None:
            raise InputError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        labels = as_labels(y, len(X))
        self._fit(X, labels, as_generator(getattr(self, "random_state", None)))
        return self

    @final
    def quality(self, X_aux: Any) -> Floats:
        """Return the quality of each row of `X_aux` (m, d): shape (m,), higher = better.

        Each row is judged on its own: the other rows do not matter.
        """
        check_is_fitted(self)
        return np.ascontiguousarray(
            self._quality(self._check_table(X_aux, reset=False, name="X_aux")), dtype=np.float64
        )

    def n_fits(self, n_rows: int) -> int:
        """Return how many models are fitted to judge `n_rows` rows, those of `fit` included."""
        return 0

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def _quality(self, X_aux: Floats) -> Floats:
        raise NotImplementedError


def uncalibrated(model: Any) -> Any:
    """Return the detector that a calibrated model holds, or the model itself."""
    return model.detector_ if hasattr(model, "calibrator_") else model


class Embedder(System):
    """Turns items of any kind into rows of numbers: how EAP and the tabular detectors reach every kind of data."""

    @final
    def fit(self, X: Any, y: Any = None) -> Embedder:
        """Learn what the rows are made with; `y` is ignored."""
        self._check_parameters()
        X = self._check_table(X, reset=True)
        self._fit(X, as_generator(getattr(self, "random_state", None)))
        return self

    @final
    def transform(self, X: Any) -> Floats:
        """Return one row of numbers an item, (n, d); each item alone decides on its row."""
        check_is_fitted(self)
        return np.ascontiguousarray(self._embed(self._check_table(X, reset=False)), dtype=np.float64)

    @final
    def fit_transform(self, X: Any, y: Any = None) -> Floats:
        """Fit and return the rows of the same items."""
        return self.fit(X).transform(X)

    def _fit(self, X: Any, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def _embed(self, X: Any) -> Any:
        raise NotImplementedError


def _final_has(method: str) -> Any:
    return available_if(lambda pipeline: hasattr(pipeline._final_estimator, method))


class Pipeline(_Pipeline):
    """scikit-learn's `Pipeline`, which also passes on Assay's own methods.

    An embedder (any transformer) in front carries EAP or a tabular detector to any kind of data.

    Examples
    --------
    >>> from sklearn.decomposition import PCA
    >>> from assay import ExpectedAnomalyPosterior, Pipeline
    >>> judge = Pipeline([("embed", PCA(5)), ("eap", ExpectedAnomalyPosterior())])
    """

    def _embedded(self, X: Any) -> Any:
        check_is_fitted(self)
        for _, _, step in self._iter(with_final=False):
            X = step.transform(X)
        return X

    @_final_has("anomaly_score")
    def anomaly_score(self, X: Any) -> Floats:
        """Embed `X` and return the detector's scores."""
        return self._final_estimator.anomaly_score(self._embedded(X))

    @_final_has("quality")
    def quality(self, X_aux: Any) -> Floats:
        """Embed `X_aux` and return the qualities."""
        return self._final_estimator.quality(self._embedded(X_aux))

    @_final_has("evaluate")
    def evaluate(self, X_aux: Any) -> Any:
        """Embed `X_aux` and return the table of `ExpectedAnomalyPosterior.evaluate`."""
        return self._final_estimator.evaluate(self._embedded(X_aux))

    @_final_has("select")
    def select(self, X_aux: Any, rule: str = "prior", **options: Any) -> Bools:
        """Embed `X_aux` and return which rows to keep."""
        return self._final_estimator.select(self._embedded(X_aux), rule=rule, **options)

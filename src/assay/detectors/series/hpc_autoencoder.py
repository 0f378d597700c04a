"""HPC autoencoder: a wide, sparse autoencoder of one computing node's sensors.

In: one node's telemetry, a series (T, C) of one row per five minutes, in the sensors' own units, healthy rows only.
Out: one score a row, >= 0: the largest error of a sensor, as a share of that sensor's healthy range; and a map (T, C)
of the errors of all sensors. Idle rows are not judged: NaN. Rows are independent points; there is no context in time.
For many nodes, and for thresholds, see `assay.detectors.series.fleet`.

A healthy node's sensors hang together: load, frequency, power, temperature, fans. An autoencoder learns how, node by
node. Its hidden layer is ten times as wide as its input; what keeps it from the identity is sparsity, not a bottleneck.

With x in [0, 1]^C on the healthy rows (min-max by sensor, fitted on the training rows alone):

    h = relu(x W + b),   x̂ = h V + c,   e_j = |x_j - x̂_j|,   loss of a batch = mean e + λ Σ h,
    score = max_j e_j;  or (mean_j e_j^p)^(1/p), p = 1 being the mean.

Σ runs over all hidden units of all rows of the batch. The maximum, for a misconfiguration shows in few sensors. Idle
rows, those whose utilisation columns sum to less than `idle_below`, are left out of training: a node is mostly idle,
and every busy hour would look odd.

Defaults of the published code: width 10 C, λ = 1e-5, mean absolute error, Adam at its usual rate, batches of 64, sum of
utilisations below 10. The code runs 2 epochs; here 10, chosen on one simulated fleet. More of them bring the network
nearer to the identity, which sees nothing: `results/hpc_autoencoders.md` shows how far, and that the penalty, were it
divided by the rows of the batch, would not hold it back.

Departures:

- The code scales with the extremes of all data, anomalies included; here the training rows alone say what [0, 1] is.
- The code fills holes with 0. Here a sensor's last value is carried on, as in every detector of series, and what was
  not measured teaches nothing and has no place on the map. (In the score the carried value counts; `Fleet` leaves it
  out after a few rows.)
- The code drops sensors that never change. Here they stay, with the scale 1: that they move is news.
- No percentile is looked for on the test set: a detector has no threshold.
- The gradients are written out, in float32 NumPy: so many nodes of one width train as one stack of networks, each with
  its own batches, and torch is not needed. Scores are float64.

Not reproduced: the published accuracies, whose data cannot be fetched here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from assay.base import Localizer
from assay.core.parallel import run
from assay.core.progress import progress, silence
from assay.core.random import as_generator
from assay.core.series import Series
from assay.core.validation import Bools, Floats, InputError, Ints, check_number, told
from assay.detectors.series.common import CHUNK, SeriesDetector

Arrays = dict[str, npt.NDArray[np.float32]]

#: Adam's constants, as Keras has them.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
#: Every so many steps momentum below this is nothing: units that have fallen silent would leave numbers so small that
#: processors work on them far slower.
SWEEP, NOTHING = 100, 1e-30
#: Hidden units times rows that are worked on at a time: what a core's cache holds. More of them are slower.
CACHE = 80_000


class Task(NamedTuple):
    """What one network is to learn.

    Attributes
    ----------
    rows : array of shape (n, C)
        Scaled training rows.
    measured : array of shape (n, C)
        1 where a value was measured, 0 where it was carried on.
    weights : dict of arrays
        Where the network begins: ``encode`` (C, H), ``encode_bias`` (1, H), ``decode`` (H, C), ``decode_bias`` (1, C).
    rng : numpy.random.Generator
        Draws the batches.
    """

    rows: npt.NDArray[np.float32]
    measured: npt.NDArray[np.float32]
    weights: Arrays
    rng: np.random.Generator


def initial(n_sensors: int, hidden: int, rng: np.random.Generator) -> Arrays:
    """Draw a network: weights uniform as by Glorot, biases 0."""
    bound = np.sqrt(6 / (n_sensors + hidden))

    def uniform(*shape: int) -> npt.NDArray[np.float32]:
        return rng.uniform(-bound, bound, size=shape).astype(np.float32)

    return {
        "encode": uniform(n_sensors, hidden),
        "encode_bias": np.zeros((1, hidden), dtype=np.float32),
        "decode": uniform(hidden, n_sensors),
        "decode_bias": np.zeros((1, n_sensors), dtype=np.float32),
    }


def gradients(weights: Sequence[Any], x: Any, share: Any, penalty: Any) -> tuple[Any, ...]:
    """Return the gradients of Σ share · |x - x̂| + Σ penalty · h, for a stack of k networks.

    Parameters
    ----------
    weights : sequence of four arrays
        Of shapes (k, C, H), (k, 1, H), (k, H, C) and (k, 1, C).
    x : array of shape (k, B, C)
        A batch for each network.
    share : array of shape (k, B, C)
        What each error counts: 1 / (rows · C), 0 where nothing was measured.
    penalty : array of shape (k, B, 1)
        λ; 0 for rows that only fill up a batch.

    Returns
    -------
    tuple of four arrays
        Shaped as the weights.
    """
    encode, encode_bias, decode, decode_bias = weights
    h = x @ encode
    h += encode_bias
    np.maximum(h, 0, out=h)
    e = h @ decode
    e += decode_bias
    e -= x
    np.sign(e, out=e)
    e *= share
    back = e @ decode.swapaxes(1, 2)
    back += penalty
    back *= h > 0
    return (
        x.swapaxes(1, 2) @ back,
        back.sum(axis=1, keepdims=True),
        h.swapaxes(1, 2) @ e,
        e.sum(axis=1, keepdims=True),
    )


def train(tasks: Sequence[Task], epochs: int, batch_size: int, learning_rate: float, l1: float) -> list[Arrays]:
    """Train networks of one shape together, each on its own rows; the results are those of training each alone.

    Parameters
    ----------
    tasks : sequence of Task
        Of any numbers of rows.
    epochs : int
        Passes over each task's rows.
    batch_size : int
        Rows of a step.
    learning_rate : float
        Of Adam.
    l1 : float
        λ.

    Returns
    -------
    list of dict of arrays
        The weights, one dict a task.
    """
    # The longest first: those that are still learning are then always the first k, and their weights a view.
    order = sorted(range(len(tasks)), key=lambda i: -len(tasks[i].rows))
    ranked = [tasks[i] for i in order]
    steps = np.array([epochs * -(-len(task.rows) // batch_size) for task in ranked])
    draws = [_batches(task, epochs, batch_size) for task in ranked]
    names = list(ranked[0].weights)
    weights = [np.stack([task.weights[name] for task in ranked]) for name in names]
    first, second, room = ([np.zeros_like(array) for array in weights] for _ in range(3))
    tall, width = min(batch_size, len(ranked[0].rows)), ranked[0].rows.shape[1]
    x, share = (np.zeros((len(ranked), tall, width), dtype=np.float32) for _ in range(2))
    penalty = np.zeros((len(ranked), tall, 1), dtype=np.float32)
    for step in progress(range(int(steps[0])), "training the autoencoder", total=int(steps[0])):
        k = int((steps > step).sum())
        for place in range(k):
            task, rows = ranked[place], next(draws[place])
            n = len(rows)
            x[place, :n], share[place, :n], penalty[place, :n] = task.rows[rows], task.measured[rows], l1
            share[place, :n] /= n * width
            x[place, n:], share[place, n:], penalty[place, n:] = 0, 0, 0
        found = gradients([array[:k] for array in weights], x[:k], share[:k], penalty[:k])
        rate = learning_rate * np.sqrt(1 - BETA_2 ** (step + 1)) / (1 - BETA_1 ** (step + 1))
        for array, gradient, *state in zip(weights, found, first, second, room):
            _adam(array[:k], gradient, *(part[:k] for part in state), np.float32(rate))
        if step % SWEEP == SWEEP - 1:
            for momentum in first:
                momentum[np.abs(momentum) < NOTHING] = 0.0
    learned: list[Arrays] = [{} for _ in tasks]
    for place, i in enumerate(order):
        learned[i] = {name: array[place].copy() for name, array in zip(names, weights)}
    return learned


def _batches(task: Task, epochs: int, batch_size: int) -> Iterator[Ints]:
    for _ in range(epochs):
        rows = task.rng.permutation(len(task.rows))
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]


def _adam(weights: Any, gradient: Any, first: Any, second: Any, room: Any, rate: np.float32) -> None:
    """Take one step in place; `room` is scratch space of the weights' shape."""
    first *= np.float32(BETA_1)
    first += np.multiply(gradient, np.float32(1 - BETA_1), out=room)
    second *= np.float32(BETA_2)
    np.multiply(gradient, gradient, out=room)
    room *= np.float32(1 - BETA_2)
    second += room
    np.sqrt(second, out=room)
    room += np.float32(EPSILON)
    np.divide(first, room, out=room)
    room *= rate
    weights -= room


def power_mean(errors: Floats, p: float) -> Floats:
    """Return the mean of order `p` of each row of errors (n, C), missing ones left out; NaN where all are missing."""
    measured = ~np.isnan(errors)
    there, count = np.where(measured, errors, 0.0), measured.sum(axis=1)
    largest = there.max(axis=1)
    result = largest
    if p != np.inf:
        # By the largest, so that no power overflows.
        relative = there / np.where(largest > 0, largest, 1.0)[:, None]
        result = largest * ((relative**p).sum(axis=1) / np.maximum(count, 1)) ** (1 / p)
    return np.where(count > 0, result, np.nan)


class HPCAutoencoder(SeriesDetector, Localizer):
    """A wide, sparse autoencoder of a node's sensors; the score is the largest error.

    Parameters
    ----------
    width : int, default 10
        Hidden units for each sensor, as published.
    l1 : float, default 1e-5
        λ, the penalty on hidden activity, summed over the batch, as published.
    epochs : int, default 10
        Passes over the rows: ours; the published code takes 2. 0 leaves the network untrained.
    batch_size : int, default 64
        Rows of a step, as published.
    learning_rate : float, default 1e-3
        Of Adam, as published.
    p : float >= 1, default infinity
        Order of the mean of a row's errors: infinity is the largest error, as published, 1 their mean.
    utilisation : list of str or int, optional
        Sensors that tell how busy the node is, by name or number. Without any, no row is idle.
    idle_below : float, default 10
        A row is idle where these sensors sum to less, in their own units (per cent): as published.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    low_, scale_ : array of shape (C,)
        Smallest training value of each sensor, and its range; 1 where it is constant.
    utilisation_ : array of int
        Numbers of the sensors of `utilisation`.
    weights_ : dict of arrays
        ``encode`` (C, H), ``encode_bias`` (1, H), ``decode`` (H, C), ``decode_bias`` (1, C).

    References
    ----------
    A. Borghesi, A. Bartolini, M. Lombardi, M. Milano, L. Benini: Anomaly Detection using Autoencoders in High
    Performance Computing Systems. IAAI 2019, arXiv 1811.05269.

    Examples
    --------
    >>> load = np.random.default_rng(0).uniform(size=400)
    >>> series = np.column_stack([load, load**2, 1 - load])
    >>> model = HPCAutoencoder(epochs=60, random_state=0).fit(series)
    >>> odd = np.array([[0.9, 0.1, 0.1], [0.9, 0.81, 0.1]])  # every value is usual; in the first row not together
    >>> first, second = model.anomaly_score(odd)
    >>> bool(first > 5 * second), int(np.argmax(model.anomaly_map(odd)[0]))
    (True, 1)
    """

    def __init__(
        self,
        width: int = 10,
        l1: float = 1e-5,
        epochs: int = 10,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        p: float = np.inf,
        utilisation: Sequence[str | int] | None = None,
        idle_below: float = 10.0,
        random_state: Any = None,
    ) -> None:
        self.width = width
        self.l1 = l1
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.p = p
        self.utilisation = utilisation
        self.idle_below = idle_below
        self.random_state = random_state

    @property
    def reach(self) -> tuple[int, int]:
        """The row alone."""
        return 0, 0

    def _check_parameters(self) -> None:
        for name in ("width", "batch_size"):
            check_number(getattr(self, name), name, low=1, integer=True)
        check_number(self.epochs, "epochs", low=0, integer=True)
        check_number(self.l1, "l1", low=0.0, high=1e3)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=1e3)
        check_number(self.p, "p", low=1.0)
        check_number(self.idle_below, "idle_below")
        wanted = self.utilisation
        if wanted is not None and not (
            isinstance(wanted, (list, tuple)) and wanted and all(type(one) in (str, int) for one in wanted)
        ):
            raise InputError(f"utilisation={told(wanted)}: give a list of sensors, by name or number, or None")

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        task = self._task(values, X, rng)
        with threadpool_limits(1):
            self.weights_ = train([task], *self._recipe())[0]

    def _recipe(self) -> tuple[int, int, float, float]:
        return int(self.epochs), int(self.batch_size), float(self.learning_rate), float(self.l1)

    def _task(self, values: Floats, X: Series, rng: np.random.Generator) -> Task:
        """Learn the scale, and return what the network has to."""
        self.utilisation_ = self._numbers(X.names, values.shape[1])
        busy = X.observed & ~self._idle(values)
        if busy.sum() < 2:
            raise InputError(
                f"X holds {int(busy.sum())} rows to learn from, at least 2 needed; all others hold no measurement, are "
                f"known anomalies or idle (utilisation sums to less than idle_below={self.idle_below:g})"
            )
        rows, measured = values[busy], ~np.isnan(X.values[busy])
        high = np.where(measured, rows, -np.inf).max(axis=0)
        low = np.where(measured, rows, np.inf).min(axis=0)
        # A sensor that was measured in idle rows alone has its median here, and nothing to learn.
        self.low_ = np.where(measured.any(axis=0), low, self.fill_)
        self.scale_ = np.where(high > low, high - low, 1.0)
        scaled = ((rows - self.low_) / self.scale_).astype(np.float32)
        weights = initial(scaled.shape[1], int(self.width) * scaled.shape[1], rng)
        return Task(scaled, measured.astype(np.float32), weights, rng)

    def _numbers(self, names: list[str] | None, width: int) -> Ints:
        numbers = []
        for wanted in self.utilisation or ():
            if isinstance(wanted, str) and wanted not in (names or ()):
                raise InputError(f"utilisation: there is no sensor {wanted!r}; give one of X's columns, or its number")
            number = names.index(wanted) if names and isinstance(wanted, str) else int(wanted)
            if not 0 <= number < width:
                raise InputError(f"utilisation: there is no sensor {number}; X has {width}, numbered from 0")
            numbers.append(number)
        return np.array(numbers, dtype=np.int64)

    def _idle(self, values: Floats) -> Bools:
        if len(self.utilisation_) == 0:
            return np.zeros(len(values), dtype=bool)
        return np.asarray(values[:, self.utilisation_].sum(axis=1) < self.idle_below)

    def _errors(self, values: Floats) -> Floats:
        """Return the errors (T, C) of filled values, NaN in idle rows."""
        encode, encode_bias, decode, decode_bias = (array.astype(np.float64) for array in self.weights_.values())
        errors = (values - self.low_) / self.scale_
        for start in range(0, len(errors), CHUNK):
            x = errors[start : start + CHUNK]
            x -= np.maximum(x @ encode + encode_bias, 0) @ decode + decode_bias
        np.abs(errors, out=errors)
        errors[self._idle(values)] = np.nan
        return errors

    def _steps(self, values: Floats) -> Floats:
        return power_mean(self._errors(values), float(self.p))

    def _locate(self, X: Series) -> tuple[Floats, Floats]:
        errors = self._errors(X.filled(self.fill_))
        scores = power_mean(errors, float(self.p))
        scores[~X.observed] = np.nan
        errors[np.isnan(X.values)] = np.nan
        return scores, errors


def fit_together(models: Sequence[HPCAutoencoder], tables: Sequence[Any], labels: Sequence[Any]) -> None:
    """Fit a model to each table, the networks of one width as one stack; each becomes what `fit` alone would make it.

    Parameters
    ----------
    models : sequence of HPCAutoencoder
        Alike but for their seeds.
    tables : sequence of series
        One a model.
    labels : sequence of array or None
        One a model; rows known to be anomalies (1) teach nothing.
    """
    tasks = []
    for model, table, y in zip(models, tables, labels):
        X, known = model._enter(table, y)
        series, _ = model._learnable(X, known)
        model.fill_ = np.nanmedian(series.values, axis=0)
        tasks.append(model._task(series.filled(model.fill_), series, as_generator(model.random_state)))
    # Alike in width, and in length as far as can be, so that few wait for the others.
    ranks = sorted(range(len(tasks)), key=lambda i: (tasks[i].rows.shape[1], -len(tasks[i].rows)))
    stacks: list[list[int]] = []
    for i in ranks:
        hidden = tasks[i].weights["encode"].shape[1]
        room = max(1, CACHE // (hidden * int(models[i].batch_size)))
        last = stacks[-1] if stacks else []
        if last and len(last) < room and tasks[last[0]].rows.shape[1] == tasks[i].rows.shape[1]:
            last.append(i)
        else:
            stacks.append([i])
    with threadpool_limits(1):
        work = [([tasks[i] for i in stack], *models[stack[0]]._recipe()) for stack in stacks]
        learned = run(_quietly, work, description="training the fleet")
    for stack, results in zip(stacks, learned):
        for i, weights in zip(stack, results):
            models[i].weights_ = weights


def _quietly(*arguments: Any) -> list[Arrays]:
    with silence():
        return train(*arguments)

"""SLAD: a network tells from a row's pieces, lifted to one width, how large each piece was; anomalies confuse it.

In: a table (n, D), columns in any units. Out: one score a row, in [0, ln 2] with ``loss="js"``; higher = more
anomalous.

Random pieces of a row, of various sizes, are lifted to one width by fixed random maps, so that their size shows no
longer. A network that has to rank c pieces of one row by size must know how the columns of normal rows hang together:
where they do not, it fails. The labels are free, and the same for every row.

With x in [0, 1]^D on the training rows (min-max by column), a group of c pieces S_1 … S_c and a weight w_j a column:

    u_i = T_|S_i| x[S_i] in R^h,  T_s one frozen map for each size s, uniform in ±1/√s;
    y_i = β/h · Σ_{j in S_i} w_j,  t = softmax(y) over the group;
    p = softmax(Φ(u_1) … Φ(u_c)),  Φ(u) = out · leaky(hidden · u), no bias anywhere;
    loss = JS(p, t) = KL(p‖m)/2 + KL(t‖m)/2,  m = (p + t)/2;
    score(x) = mean of the loss over the r groups that were trained on.

Sizes come from a pool: a random choice of at most 50 of 1 … D, fixed at fit. The columns of a piece are drawn without
replacement, or with it where D <= 10. Below 50 columns w_j is the mean |correlation| of column j with all columns,
stretched to [0, 1]; from 50 on it is 1. Each group learns from its own bootstrap of max(⌊n/r⌋ · F, 10) rows, with
F = 50, 20, 5, 2, 1 for n < 500, < 1000, < 5000, <= 100 000 and above; batches mix the groups.

Defaults of the published code: c 10, r 20, h 128, pool 50, β 200, hidden layer 100 with slope .01, Adam (1e-3,
L2 1e-5), batches of 128, 100 epochs (10 for three of its data sets).

Departures:

- ``loss="js"`` is the paper's. The code takes each softmax twice and the divergence the other way round, which is not
  0 where p = t: KL(m‖softmax(p)) + KL(m‖softmax(t)). ``loss="official"`` is that one. `results/slad.md` compares them.
- Scaling by the training rows' extremes is part of the detector. A constant column has the scale 1.
- Where all columns weigh the same (always so with two of them) the code divides 0 by 0; here they weigh 1. One column
  alone has one size only, and nothing to rank: its pieces, drawn with replacement, have 1 to 10 values.
- The gradients are written out: the network is two matrix products a step, everything between them one pass. leaky is
  homogeneous, so that the gradient of `out` is that of `hidden` times `hidden`: activations need not be kept. No torch.
- Lifted samples are kept where they fit into 256 MB; otherwise an epoch lifts them again, some batches at a time.
- Scores are float64, hidden · T_s multiplied out: the width h is not visited.

Beyond the paper: `SLAD.feature_scores` says which columns sit in the pieces that are misjudged. With β = 200 that is
little more than a guess, for a group's largest piece, which holds most columns, decides its loss; β = 20 tells more.

Limits. Without a bias a network is surer the larger its input is: rows that are far off in every column at once, in the
direction in which it is right, look normal. With `assay.calibration.Calibrated` it raises more false alarms than
promised (tests/test_calibrated.py).

Not reproduced: the published tables, whose largest data sets cannot be fetched here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, rel_entr, softmax, xlogy
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from assay.base import Detector
from assay.core.progress import progress
from assay.core.validation import Floats, InputError, Ints, check_number, check_option
from assay.kernels.jit import jit

Singles = npt.NDArray[np.float32]

#: Slope of leaky below 0.
SLOPE = np.float32(0.01)
#: Adam's constants.
BETA_1, BETA_2, EPSILON = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
#: Gradients below this are nothing: processors work far slower on numbers as small as theirs would become.
NOTHING = 1e-25
#: Columns from which on all weigh the same, and up to which pieces are drawn with replacement.
MANY, FEW = 50, 10
#: Rows below which the bootstraps grow by a factor.
FACTORS = ((500, 50), (1000, 20), (5000, 5), (100_001, 2))
#: Bytes of lifted samples that are kept through the epochs; batches lifted at a time where they do not fit.
CACHE, BATCHES = 2**28, 32
#: Rows scored at a time: a hidden layer of theirs fits into a core's cache.
CHUNK = 512
#: Scaled values are held within this, so that no product overflows.
FAR = 1e100


def size_pool(n_features: int, pool_size: int, rng: np.random.Generator) -> Ints:
    """Draw the sizes that pieces may have: sorted, different, at most `pool_size` of 1 … D."""
    longest = n_features if n_features > 1 else FEW
    return np.sort(1 + rng.choice(longest, min(pool_size, longest), replace=False))


def feature_weights(x: Floats) -> Floats:
    """Return what each column counts in a piece's size: its mean |correlation| stretched to [0, 1], or 1."""
    d = x.shape[1]
    if d >= MANY:
        return np.ones(d)
    centred = x - x.mean(axis=0)
    norms = np.sqrt(np.square(centred).sum(axis=0))
    centred /= np.where(np.ptp(x, axis=0) > 0, norms, np.inf)  # a constant column correlates with nothing
    strength = np.abs(centred.T @ centred).mean(axis=1)
    low, high = strength.min(), strength.max()
    # Rounding alone must not rank columns that weigh the same.
    return (strength - low) / (high - low) if high - low > 1e-9 else np.ones(d)


def draw_pieces(n_features: int, sizes: Ints, shape: tuple[int, int], rng: np.random.Generator) -> list[list[Ints]]:
    """Draw the columns of each piece: `shape` (r, c) lists of them, sizes uniform over the pool."""
    r, c = shape
    again = n_features <= FEW
    return [[rng.choice(n_features, rng.choice(sizes), replace=again) for _ in range(c)] for _ in range(r)]


def size_labels(pieces: list[list[Ints]], weights: Floats, width: int, magnify: float) -> Floats:
    """Return y (r, c): β/h times the summed weights of each piece's columns."""
    return np.array([[weights[piece].sum() for piece in group] for group in pieces]) * (magnify / width)


def bootstrap_size(n: int, n_groups: int) -> int:
    """Return the number of rows that each group learns from."""
    factor = next((factor for bound, factor in FACTORS if n < bound), 1)
    return max(n // n_groups * factor, 10)


# -- the two losses: what each member of a group adds, and the gradient of their sum ---------------------------------


def js_terms(logits: Floats, t: Floats) -> Floats:
    """Return the members' parts (n, c) of the Jensen-Shannon divergence between softmax(logits) and `t`; all >= 0."""
    p = softmax(logits, axis=-1)
    m = (p + t) / 2
    return np.maximum((rel_entr(p, m) + rel_entr(t, m)) / 2, 0.0)


def official_terms(logits: Floats, t: Floats) -> Floats:
    """Return the members' parts (n, c) of the published code's loss, of any sign: both softmaxes are taken twice."""
    p = softmax(logits, axis=-1)
    m = (p + t) / 2
    return 2 * xlogy(m, m) - m * (log_softmax(p, axis=-1) + log_softmax(t, axis=-1))


@jit
def _softmax(values: Any, into: Floats) -> None:
    top, total = np.max(values), 0.0
    for i in range(len(values)):
        into[i] = np.exp(float(values[i]) - top)
        total += into[i]
    into /= total


@jit
def _through_softmax(p: Floats, slope: Floats, scale: float, gradient: Singles) -> None:
    """Turn the derivatives by p into those by the logits, times `scale`."""
    mean = 0.0
    for i in range(len(p)):
        mean += p[i] * slope[i]
    for i in range(len(p)):
        found = scale * p[i] * (slope[i] - mean)
        gradient[i] = found if abs(found) > NOTHING else 0.0


@jit
def js_gradient(logits: Singles, t: Floats, gradient: Singles) -> float:
    """Write the gradient of the mean loss of a batch (B, c) by its logits, and return the summed loss."""
    size, c = t.shape
    p, slope, total = np.empty(c), np.empty(c), 0.0
    for row in range(size):
        _softmax(logits[row], p)
        for i in range(c):
            m = 0.5 * (p[i] + t[row, i])
            slope[i] = 0.5 * np.log(p[i] / m) if p[i] > 0 else 0.0
            total += p[i] * slope[i] + (0.5 * t[row, i] * np.log(t[row, i] / m) if t[row, i] > 0 else 0.0)
        _through_softmax(p, slope, 1.0 / size, gradient[row])
    return total


@jit
def official_gradient(logits: Singles, t: Floats, gradient: Singles) -> float:
    """Do the same for the published code's loss."""
    size, c = t.shape
    p, again, slope, total = np.empty(c), np.empty(c), np.empty(c), 0.0
    for row in range(size):
        _softmax(logits[row], p)
        _softmax(p, again)
        log_t = np.log(np.sum(np.exp(t[row])))
        for i in range(c):
            m = 0.5 * (p[i] + t[row, i])
            logs = np.log(again[i]) + t[row, i] - log_t
            log_m = np.log(m) if m > 0 else 0.0
            total += m * (2 * log_m - logs)
            slope[i] = log_m - 0.5 * logs - m + again[i]
        _through_softmax(p, slope, 1.0 / size, gradient[row])
    return total


LOSSES: dict[str, tuple[Callable[..., Floats], Callable[..., float]]] = {
    "js": (js_terms, js_gradient),
    "official": (official_terms, official_gradient),
}


# -- the network -----------------------------------------------------------------------------------------------------


@jit
def outputs(z: Any, out: Any, slope: np.float32, into: Any) -> None:
    """Write out · leaky(z) for each column of z (H, m)."""
    into[:] = 0
    for j in range(z.shape[0]):
        for k in range(z.shape[1]):
            into[k] += out[j] * (z[j, k] if z[j, k] > 0 else slope * z[j, k])


@jit
def backwards(z: Singles, gradient: Singles, slope: np.float32) -> None:
    """Overwrite z (H, m) with the derivative of leaky there, times each column's gradient."""
    for j in range(z.shape[0]):
        for k in range(z.shape[1]):
            z[j, k] = gradient[k] if z[j, k] > 0 else slope * gradient[k]


@jit
def adam(
    weights: Singles,
    gradient: Singles,
    first: Singles,
    second: Singles,
    rate: np.float32,
    decay: np.float32,
    bias: np.float32,
) -> None:
    """Take a step in place; `bias` is that of the second moment, the first one's is within the rate."""
    one = np.float32(1)
    for i in range(len(weights)):
        g = gradient[i] + decay * weights[i]
        first[i] = BETA_1 * first[i] + (one - BETA_1) * g
        second[i] = BETA_2 * second[i] + (one - BETA_2) * g * g
        weights[i] -= rate * first[i] / (np.sqrt(second[i] * bias) + EPSILON)


class Samples(NamedTuple):
    """What is learned from: the groups' pieces of the rows drawn for them.

    Attributes
    ----------
    x : array of shape (n, D)
        Scaled rows, float32.
    drawn : array of shape (r, q)
        The row of each sample; samples are numbered group by group.
    pieces : list of r lists of c arrays
        Columns.
    maps : list of r lists of c arrays of shape (s, h)
        The pieces' maps, float32.
    """

    x: Singles
    drawn: Ints
    pieces: list[list[Ints]]
    maps: list[list[Singles]]

    def lifted(self, numbers: Ints, into: Singles | None = None) -> Singles:
        """Return the lifted samples of ascending numbers, (c, k, h): a member of all groups after the other."""
        c, h = len(self.pieces[0]), self.maps[0][0].shape[1]
        result = np.empty((c, len(numbers), h), dtype=np.float32) if into is None else into[:, : len(numbers)]
        rows = self.drawn.ravel()[numbers]
        bounds = np.searchsorted(numbers, np.arange(len(self.pieces) + 1) * self.drawn.shape[1])
        for g, (pieces, maps) in enumerate(zip(self.pieces, self.maps)):
            part = slice(*bounds[g : g + 2])
            columns = np.ascontiguousarray(self.x[rows[part]].T)
            for i, (piece, T) in enumerate(zip(pieces, maps)):
                np.matmul(columns[piece].T, T, out=result[i, part])
        return result

    def epochs(self, count: int, batch_size: int, rng: np.random.Generator) -> Iterator[Iterator[tuple[Any, ...]]]:
        """Yield `count` epochs, each of them parts: lifted samples, the order to take them in, and their groups."""
        c, h = len(self.pieces[0]), self.maps[0][0].shape[1]
        total, per_group = self.drawn.size, self.drawn.shape[1]
        size = total if 4 * total * c * h <= CACHE else min(total, BATCHES * batch_size)
        room = np.empty((c, size, h), dtype=np.float32)
        if size == total:
            self.lifted(np.arange(total), room)

        def parts(order: Ints) -> Iterator[tuple[Any, ...]]:
            if size == total:
                yield room, order, order // per_group
                return
            for start in range(0, total, size):
                part = order[start : start + size]
                numbers = np.sort(part)
                yield self.lifted(numbers, room), np.searchsorted(numbers, part), part // per_group

        for _ in range(count):
            yield parts(rng.permutation(total))


def train(
    samples: Samples,
    t: Floats,
    hidden: Singles,
    out: Singles,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    gradient_of: Callable[..., float] = js_gradient,
    rng: np.random.Generator,
) -> Floats:
    """Train the network in place, and return the mean loss of each epoch.

    Parameters
    ----------
    samples : Samples
        What to learn from.
    t : array of shape (r, c)
        Targets of each group.
    hidden, out : arrays of shape (H, h) and (H,)
        Weights, float32.
    epochs, batch_size, learning_rate, weight_decay
        As those of `SLAD`.
    gradient_of : callable, default `js_gradient`
        Of the loss.
    rng : numpy.random.Generator
        Draws the batches.
    """
    H, h = hidden.shape
    c = t.shape[1]
    batch_size = min(batch_size, samples.drawn.size)
    u_room = np.empty(batch_size * c * h, dtype=np.float32)
    z_room = np.empty(batch_size * c * H, dtype=np.float32)
    state = [np.zeros((2, weights.size), dtype=np.float32) for weights in (hidden, out)]
    losses, step, decay = np.zeros(epochs), 0, np.float32(weight_decay)
    every = samples.epochs(epochs, batch_size, rng)
    for epoch, parts in enumerate(progress(every, "training SLAD", total=epochs)):
        for lifted, order, groups in parts:
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                size = len(chosen) * c
                u = u_room[: size * h].reshape(c, -1, h)
                np.take(lifted, chosen, axis=1, out=u, mode="clip")  # in this mode `u` is written without a detour
                u = u.reshape(size, h)
                z = np.matmul(hidden, u.T, out=z_room[: H * size].reshape(H, size))
                logits, gradient = np.empty((2, size), dtype=np.float32)
                outputs(z, out, SLOPE, logits)
                targets = t[groups[start : start + batch_size]]
                losses[epoch] += gradient_of(logits.reshape(c, -1).T, targets, gradient.reshape(c, -1).T)
                backwards(z, gradient, SLOPE)
                by_hidden = z @ u
                by_out = np.einsum("jk,jk->j", hidden, by_hidden)
                by_hidden *= out[:, None]
                step += 1
                rate = np.float32(learning_rate / (1 - float(BETA_1) ** step))
                bias = np.float32(1 / (1 - float(BETA_2) ** step))
                for weights, by, moments in zip((hidden, out), (by_hidden, by_out), state):
                    adam(weights.ravel(), by.ravel(), *moments, rate, decay, bias)
    return losses / samples.drawn.size


class SLAD(Detector):
    """Scale learning: pieces of a row are ranked by their size, and the loss is the score.

    Parameters
    ----------
    group_size : int >= 2, default 10
        c, pieces that are ranked together; all defaults are those of the published code.
    n_groups : int, default 20
        r, groups the score is averaged over.
    width : int, default 128
        h, what pieces are lifted to.
    pool_size : int, default 50
        Sizes that pieces may have, at most; no more than D.
    magnify : float > 0, default 200
        β, by which labels are multiplied: the larger, the more the largest pieces alone count.
    hidden : int, default 100
        Units of the hidden layer.
    loss : {"js", "official"}, default "js"
        The paper's loss, or that of the published code.
    epochs : int, default 100
        Passes over the groups' rows. 0 leaves the network untrained.
    batch_size : int, default 128
        Groups of pieces a step.
    learning_rate : float, default 1e-3
        Of Adam.
    weight_decay : float, default 1e-5
        Added to the gradient, times the weights.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    low_, range_ : array of shape (D,)
        Smallest training value of each column, and its range; 1 where it is constant.
    sizes_ : array of int
        The pool, ascending.
    maps_ : list of arrays of shape (s, h)
        T_s, transposed, for each size.
    weights_ : array of shape (D,)
        w.
    pieces_ : list of r lists of c arrays of int
        Columns of each piece.
    targets_ : array of shape (r, c)
        t.
    hidden_, out_ : arrays of shape (H, h) and (H,)
        Weights of the network.
    losses_ : array of shape (epochs,)
        Mean training loss of each epoch.

    References
    ----------
    H. Xu, Y. Wang, J. Wei, S. Jian, Y. Li, N. Liu: Fascinating Supervisory Signals and Where to Find Them: Deep Anomaly
    Detection with Scale Learning. ICML 2023, arXiv 2305.16114.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6))
    >>> model = SLAD(n_groups=5, epochs=20, random_state=0).fit(X)
    >>> shuffled = rng.permuted(X, axis=0)  # every value is usual, not so together
    >>> bool(np.median(model.anomaly_score(shuffled)) > 2 * np.median(model.anomaly_score(X)))
    True
    """

    def __init__(
        self,
        group_size: int = 10,
        n_groups: int = 20,
        width: int = 128,
        pool_size: int = 50,
        magnify: float = 200.0,
        hidden: int = 100,
        loss: str = "js",
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        random_state: Any = None,
    ) -> None:
        self.group_size = group_size
        self.n_groups = n_groups
        self.width = width
        self.pool_size = pool_size
        self.magnify = magnify
        self.hidden = hidden
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.group_size, "group_size", low=2, integer=True)
        check_number(self.epochs, "epochs", low=0, integer=True)
        for name in ("n_groups", "width", "pool_size", "hidden", "batch_size"):
            check_number(getattr(self, name), name, low=1, integer=True)
        check_number(self.magnify, "magnify", low=0.0, high=1e6, strict_low=True)
        for name in ("learning_rate", "weight_decay"):
            check_number(getattr(self, name), name, low=0.0, high=1e3)
        check_option(self.loss, "loss", *LOSSES)

    def _check_fitted(self) -> None:
        """Refuse a saved network whose parts do not fit together, before compiled code reads it."""
        if hasattr(self, "out_") and not (self.out_.ndim == 1 and self.hidden_.shape[:1] == self.out_.shape):
            raise InputError("the saved SLAD holds a network whose layers do not fit together")

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        n, d = X.shape
        low, high = X.min(axis=0), X.max(axis=0)
        self.low_, self.range_ = low, np.where(high > low, high - low, 1.0)
        x, r, c, h = self._scaled(X), int(self.n_groups), int(self.group_size), int(self.width)
        self.weights_ = feature_weights(x)
        self.sizes_ = size_pool(d, int(self.pool_size), rng)
        self.maps_ = [_uniform((int(s), h), s, rng) for s in self.sizes_]
        self.pieces_ = draw_pieces(d, self.sizes_, (r, c), rng)
        self.targets_ = softmax(size_labels(self.pieces_, self.weights_, h, float(self.magnify)), axis=1)
        self.hidden_ = _uniform((int(self.hidden), h), h, rng)
        self.out_ = _uniform((int(self.hidden),), int(self.hidden), rng)
        maps = [[self.maps_[self._size(piece)] for piece in group] for group in self.pieces_]
        drawn = rng.integers(n, size=(r, bootstrap_size(n, r)))
        # Products as small as these gain nothing from threads.
        with threadpool_limits(1):
            self.losses_ = train(
                Samples(x.astype(np.float32), drawn, self.pieces_, maps),
                self.targets_,
                self.hidden_,
                self.out_,
                epochs=int(self.epochs),
                batch_size=int(self.batch_size),
                learning_rate=float(self.learning_rate),
                weight_decay=float(self.weight_decay),
                gradient_of=LOSSES[self.loss][1],
                rng=rng,
            )

    def _size(self, piece: Ints) -> int:
        """Return the place of a piece's size in the pool."""
        return int(np.searchsorted(self.sizes_, len(piece)))

    def _scaled(self, X: Floats) -> Floats:
        with np.errstate(over="ignore"):  # what is too far is held at FAR
            return np.clip((X - self.low_) / self.range_, -FAR, FAR)

    def _terms(self, X: Floats) -> Iterator[tuple[slice, int, Floats]]:
        """Yield which rows, which group, and what each piece adds to their loss: (k, c)."""
        terms_of = LOSSES[self.loss][0]
        hidden, out = self.hidden_.astype(np.float64), self.out_.astype(np.float64)
        merged = {len(T): hidden @ T.T for T in self.maps_}
        c = self.targets_.shape[1]
        z_room = np.empty(len(hidden) * CHUNK)
        for start in progress(range(0, len(X), CHUNK), "scoring with SLAD", total=-(-len(X) // CHUNK)):
            part = slice(start, min(start + CHUNK, len(X)))
            x = np.ascontiguousarray(self._scaled(X[part]).T)
            z = z_room[: len(hidden) * x.shape[1]].reshape(len(hidden), x.shape[1])
            logits = np.empty((c, x.shape[1]))
            for g, group in enumerate(self.pieces_):
                for i, piece in enumerate(group):
                    np.matmul(merged[len(piece)], x[piece], out=z)
                    outputs(z, out, SLOPE, logits[i])
                yield part, g, terms_of(logits.T, self.targets_[g])

    def _score(self, X: Floats) -> Floats:
        scores = np.zeros(len(X))
        for part, _, terms in self._terms(X):
            scores[part] += terms.sum(axis=1)
        return scores / len(self.pieces_)

    def feature_scores(self, X: Any) -> Floats:
        """Return how much the pieces with a column are misjudged beyond all pieces, shape (n, D).

        That is the mean loss of the pieces that contain the column minus the mean loss of all pieces; 0 for a column
        that is in no piece.

        Parameters
        ----------
        X : array or dataframe of shape (n, D)
            Rows to explain.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        InputError
            If the width, the column names or a value differ from what was fitted.
        """
        check_is_fitted(self)
        X = self._check_table(X, reset=False)
        r, c = self.targets_.shape
        holds = np.zeros((r, c, X.shape[1]))
        for g, group in enumerate(self.pieces_):
            for i, piece in enumerate(group):
                holds[g, i, piece] = 1
        count = holds.sum(axis=(0, 1))
        share = holds / np.maximum(count, 1) - (count > 0) / (r * c)
        scores = np.zeros(X.shape)
        for part, g, terms in self._terms(X):
            scores[part] += terms @ share[g]
        return scores


def _uniform(shape: tuple[int, ...], fan_in: int, rng: np.random.Generator) -> Singles:
    """Draw weights as torch's linear layers begin."""
    bound = 1 / np.sqrt(fan_in)
    return rng.uniform(-bound, bound, size=shape).astype(np.float32)

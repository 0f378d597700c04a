"""Windows of series as rows of numbers: as they are, by their spectrum, or by random convolutions.

In: windows (n, L, C), or (n, L) of one channel, L >= 4 steps. Out: one row a window, (n, d), unitless: every channel
is standardised by its mean and deviation over the training windows first, so that level and size are seen.

`RawWindows`, d = L C: the values themselves.

`SpectralWindows`, d = C (bands + 7): of each channel, after its straight line is taken off, the logarithm of the power
in equal bands of frequency; and its mean, the logarithm of its deviation, slope, least and largest value, largest step
from one to the next and largest distance from the mean of both neighbours. The spectrum knows no place: windows that
differ in phase alone are near each other.

`RandomConvolutions`, d = 2 kernels: ROCKET. Of each of many random dilated kernels the largest response and the share
of positive ones,

    max_t (b + Σ_j w_j x[t + j D])   and   mean_t [b + Σ_j w_j x[t + j D] > 0],

with 7, 9 or 11 weights N(0, 1) less their mean, b ~ U(−1, 1), dilation D = 2^u, u ~ U(0, log2((L − 1) / (length − 1))),
padding in half of them; each sees 2^u random channels, u ~ U(0, log2(min(C, length) + 1)).

Departures: ROCKET standardises each window by itself, which hides a change of level or size; here it is done by the
training set. It takes 10 000 kernels for a linear classifier; distances need fewer. In windows of fewer than 7 steps
a kernel has as many weights as there are steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from assay.base import Embedder, TakesWindows
from assay.core.validation import Floats, InputError, Ints, check_number
from assay.kernels.jit import jit

#: Fewer steps have no shape.
SHORTEST = 4
#: Below this power a band counts as empty: the logarithm of nothing is bounded.
FLOOR = 1e-6


class _Windows(TakesWindows, Embedder):
    """Standardises windows by those it was fitted on.

    Attributes
    ----------
    mean_, scale_ : array of shape (C,)
        Of each channel over all steps; scale 1 where it is constant.
    window_shape_ : tuple
        L and C.
    n_features_in_ : int
        L · C.
    """

    def _fit(self, X: Floats, rng: np.random.Generator) -> None:
        if X.shape[1] < SHORTEST:
            raise InputError(f"X has windows of {X.shape[1]} steps, at least {SHORTEST} needed")
        steps = X.reshape(-1, X.shape[2])
        varies = (np.ptp(steps, axis=0) > 0) & (steps.std(axis=0) > 0)
        self.mean_ = np.where(varies, steps.mean(axis=0), steps[0])
        self.scale_ = np.where(varies, steps.std(axis=0), 1.0)
        self._prepare(X, rng)

    def _prepare(self, X: Floats, rng: np.random.Generator) -> None:
        """Learn or draw what else is needed."""

    def _embed(self, X: Floats) -> Floats:
        return self._rows((X - self.mean_) / self.scale_)

    def _rows(self, Z: Floats) -> Floats:
        """Return the rows of standardised windows."""
        raise NotImplementedError


class RawWindows(_Windows):
    """The values of a window, one after another.

    Attributes
    ----------
    mean_, scale_ : array of shape (C,)
        Of each channel over all steps; scale 1 where it is constant.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(5.0, 2.0, size=(30, 20, 3))
    >>> RawWindows().fit_transform(X).shape
    (30, 60)
    """

    def _rows(self, Z: Floats) -> Floats:
        return Z.reshape(len(Z), -1)


class SpectralWindows(_Windows):
    """Power in bands of frequency, and level, size, slope and extremes.

    Parameters
    ----------
    bands : int, default 16
        Equal bands from the slowest to the fastest frequency (ours); at most L // 2.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(5.0, 2.0, size=(30, 50, 3))
    >>> SpectralWindows().fit_transform(X).shape
    (30, 69)
    """

    def __init__(self, bands: int = 16) -> None:
        self.bands = bands

    def _check_parameters(self) -> None:
        check_number(self.bands, "bands", low=1, integer=True)

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """Return what each number of a row is, array of str of shape (d,); band 1 is the slowest."""
        check_is_fitted(self)
        length, channels = self.window_shape_
        bands = min(self.bands, length // 2)
        what = [f"power in band {band} of {bands}" for band in range(1, bands + 1)]
        what += [
            "mean",
            "log of the deviation",
            "slope",
            "least value",
            "largest value",
            "largest step",
            "sharpest tip",
        ]
        of = [""] if channels == 1 else [f", channel {channel}" for channel in range(1, channels + 1)]
        return np.array([one + channel for one in what for channel in of], dtype=object)

    def _rows(self, Z: Floats) -> Floats:
        n, length, _ = Z.shape
        time = np.arange(length) - (length - 1) / 2
        time /= np.sqrt((time**2).mean())
        mean = Z.mean(axis=1)
        slope = np.einsum("t,ntc->nc", time, Z) / length
        flat = Z - mean[:, None] - slope[:, None] * time[:, None]
        power = np.abs(np.fft.rfft(flat, axis=1)[:, 1:]) ** 2 * (2 / length**2)
        edges = np.linspace(0, power.shape[1], min(self.bands, power.shape[1]) + 1).round().astype(np.int64)
        in_bands = np.add.reduceat(power, edges[:-1], axis=1)
        neighbours = Z[:, 1:-1] - (Z[:, :-2] + Z[:, 2:]) / 2
        features = [
            mean,
            np.log(Z.std(axis=1) + FLOOR),
            slope,
            Z.min(axis=1),
            Z.max(axis=1),
            np.abs(np.diff(Z, axis=1)).max(axis=1),
            np.abs(neighbours).max(axis=1),
        ]
        return np.concatenate([np.log(in_bands + FLOOR).reshape(n, -1), *features], axis=1)


class RandomConvolutions(_Windows):
    """Largest responses and shares of positive responses of random dilated kernels: ROCKET.

    Parameters
    ----------
    n_kernels : int, default 256
        Kernels, each of which gives two numbers (paper: 10 000).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    weights_ : array of shape (total,)
        Weights of all kernels, by kernel, channel and place.
    lengths_, dilations_, paddings_ : arrays of int of shape (n_kernels,)
        Weights of a kernel, steps between them, and zeros on either side.
    biases_ : array of shape (n_kernels,)
        b of each.
    channels_, channel_counts_ : arrays of int
        The channels that the kernels see, one kernel after another, and how many each does.

    References
    ----------
    A. Dempster, F. Petitjean, G. I. Webb: ROCKET: Exceptionally Fast and Accurate Time Series Classification Using
    Random Convolutional Kernels. Data Mining and Knowledge Discovery 34, 2020, arXiv 1910.13051.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(10, 50, 3))
    >>> RandomConvolutions(n_kernels=20, random_state=0).fit_transform(X).shape
    (10, 40)
    """

    def __init__(self, n_kernels: int = 256, *, random_state: Any = None) -> None:
        self.n_kernels = n_kernels
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.n_kernels, "n_kernels", low=1, high=1e6, integer=True)

    def _prepare(self, X: Floats, rng: np.random.Generator) -> None:
        length, width = X.shape[1:]
        self.lengths_ = np.minimum(rng.choice([7, 9, 11], self.n_kernels), length).astype(np.int64)
        reach = np.log2((length - 1) / (self.lengths_ - 1))
        self.dilations_ = np.floor(2 ** rng.uniform(0.0, reach)).astype(np.int64)
        padded = rng.random(self.n_kernels) < 0.5
        self.paddings_ = np.where(padded, (self.lengths_ - 1) * self.dilations_ // 2, 0).astype(np.int64)
        self.biases_ = rng.uniform(-1.0, 1.0, self.n_kernels)
        most = np.log2(np.minimum(width, self.lengths_) + 1)
        self.channel_counts_ = np.minimum(np.floor(2 ** rng.uniform(0.0, most)), width).astype(np.int64)
        self.channels_ = np.concatenate([rng.permutation(width)[:count] for count in self.channel_counts_])
        weights = []
        for size, count in zip(self.lengths_, self.channel_counts_):
            drawn = rng.standard_normal((count, size))
            weights.append((drawn - drawn.mean(axis=1, keepdims=True)).ravel())
        self.weights_ = np.concatenate(weights)

    def _rows(self, Z: Floats) -> Floats:
        return _responses(
            np.ascontiguousarray(Z.transpose(0, 2, 1)),
            self.weights_,
            self.lengths_,
            self.dilations_,
            self.paddings_,
            self.biases_,
            self.channels_,
            self.channel_counts_,
        )


@jit
def _responses(
    X: Floats,
    weights: Floats,
    lengths: Ints,
    dilations: Ints,
    paddings: Ints,
    biases: Floats,
    channels: Ints,
    counts: Ints,
) -> Floats:
    """Return the largest response and the share of positive ones of every kernel, (n, 2 kernels); X (n, C, L)."""
    n, _, steps = X.shape
    rows = np.empty((n, 2 * len(lengths)))
    buffer = np.empty(3 * steps)
    for row in range(n):
        weight, channel = 0, 0
        for kernel in range(len(lengths)):
            length, dilation, padding = lengths[kernel], dilations[kernel], paddings[kernel]
            size = steps + 2 * padding - (length - 1) * dilation
            for t in range(size):
                buffer[t] = biases[kernel]
            for c in range(counts[kernel]):
                values = X[row, channels[channel + c]]
                for j in range(length):
                    shift = j * dilation - padding
                    w = weights[weight]
                    weight += 1
                    for t in range(max(0, -shift), min(size, steps - shift)):
                        buffer[t] += w * values[t + shift]
            channel += counts[kernel]
            largest, positive = buffer[0], 0
            for t in range(size):
                largest = max(largest, buffer[t])
                positive += buffer[t] > 0
            rows[row, 2 * kernel] = largest
            rows[row, 2 * kernel + 1] = positive / size
    return rows

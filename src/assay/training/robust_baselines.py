"""Other remedies for a forecaster whose training series is contaminated: those that RobustTSF was compared with.

In: a series and an unfitted `assay.detectors.series.robust_tsf.RobustTSF`, as a rule with ``method="mae"``. All of
them judge in scaled units (the detector's `scaling`), channel by channel where they replace values, and in the mean
over the channels where they select samples.

- `offline_imputation`: fit, sweep through the series in time order replacing whatever is far from its forecast by the
  forecast (later forecasts see the replacements), fit anew.
- `imputing_lstm`: a forecaster for the detector's `forecaster`, which replaces such inputs inside its recurrence, in
  training as in scoring, by what it expected itself. Its first forecasts are those of an untrained network: in our
  experiments it does not recover from them (results/robust_tsf.md).
- `loss_weights`: three epochs of warm-up; of the samples the share η of largest mean loss goes, and the share η whose
  loss jumps most (standard deviation of its successive differences); give the result as ``sample_weight``.
- `difference_weights`: keeps a sample if the last step of its input is near the mean of the steps before it; the trend
  of RobustTSF replaced by a moving average; give the result as ``sample_weight``.

None of the thresholds is on the paper's pages; ours are in the signatures. The score from a seasonal decomposition is
not reproduced.

Reference: H. Cheng, Q. Wen, Y. Liu, L. Sun: RobustTSF: Towards Theory and Design of Robust Time Series Forecasting with
Anomalies. ICLR 2024, arXiv 2402.02032.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from assay.core.progress import progress
from assay.core.random import as_generator
from assay.core.series import Series, as_series
from assay.core.validation import Bools, Floats, InputError, check_number
from assay.detectors.series.robust_tsf import Builder, RobustTSF, centre_and_scale, epochs_of, forecasts
from assay.nn.state import seeded


class Imputed(NamedTuple):
    """What offline imputation did.

    Attributes
    ----------
    detector : RobustTSF
        Fitted to the imputed series.
    values : array of shape (T, C)
        The imputed series.
    replaced : array of bool of shape (T, C)
        Which values are forecasts.
    """

    detector: RobustTSF
    values: Floats
    replaced: Bools


def offline_imputation(X: Any, detector: RobustTSF, threshold: float = 0.5) -> Imputed:
    """Fit, replace what is `threshold` scaled units or more from its forecast, in time order, and fit anew.

    Parameters
    ----------
    X : array of shape (T,) or (T, C), or dataframe
        The contaminated series. A missing value is judged by what stands in for it.
    detector : RobustTSF
        Unfitted; it is not changed.
    threshold : float, default 0.5
        Scaled units: ours.

    Examples
    --------
    >>> series = np.sin(np.arange(300) / 8)
    >>> series[150] = 9
    >>> detector = RobustTSF("mae", forecaster="linear", epochs=10, random_state=0)
    >>> offline_imputation(series, detector).replaced[150]
    array([ True])
    """
    check_number(threshold, "threshold", low=0.0)
    series = as_series(X)
    first = clone(detector).fit(series)
    z = first.scaled(series.filled(first.fill_))
    swept, replaced = _swept(first.network(), z, first.window, threshold)
    values = np.where(replaced, first.centre_ + first.scale_ * swept, series.values)
    return Imputed(clone(detector).fit(Series(values, series.time, series.names)), values, replaced)


def _swept(network: nn.Module, z: Floats, window: int, threshold: float) -> tuple[Floats, Bools]:
    """Return scaled values with forecasts in place of what is far from them, and where."""
    z, replaced = z.copy(), np.zeros(z.shape, dtype=bool)
    for t in progress(range(window, len(z)), "imputing", total=len(z) - window):
        expected = forecasts(network, z[None, t - window : t])[0]
        replaced[t] = np.abs(expected - z[t]) >= threshold
        z[t] = np.where(replaced[t], expected, z[t])
    return z, replaced


class ImputingLSTM(nn.Module):
    """LSTM cells that read, in place of an input `threshold` or more from what they expected, what they expected."""

    def __init__(self, channels: int, hidden: int, layers: int, threshold: float) -> None:
        super().__init__()
        widths = [channels] + [hidden] * (layers - 1)
        self.cells = nn.ModuleList(nn.LSTMCell(width, hidden) for width in widths)
        self.head = nn.Linear(hidden, channels)
        self.hidden, self.threshold = hidden, threshold

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the next values (n, C) of windows (n, L, C); the first step of a window is taken as it is."""
        states = [(windows.new_zeros(len(windows), self.hidden),) * 2 for _ in self.cells]
        expected = windows[:, 0]
        for value in windows.unbind(1):
            signal = torch.where((expected - value).abs() >= self.threshold, expected, value)
            for layer, cell in enumerate(self.cells):
                states[layer] = cell(signal, states[layer])
                signal = states[layer][0]
            expected = self.head(signal)
        return expected


def imputing_lstm(hidden: int = 10, layers: int = 2, threshold: float = 0.5) -> Builder:
    """Return online imputation, a `forecaster` for RobustTSF.

    Parameters
    ----------
    hidden : int, default 10
        Units of each layer: published.
    layers : int, default 2
        Layers: published.
    threshold : float, default 0.5
        Scaled units: ours.

    Examples
    --------
    >>> model = RobustTSF("mae", forecaster=imputing_lstm(4, 1), epochs=1, random_state=0)
    >>> model.fit(np.sin(np.arange(200) / 8)).forecast(np.zeros(30)).shape
    (30, 1)
    """
    check_number(hidden, "hidden", low=1, integer=True)
    check_number(layers, "layers", low=1, integer=True)
    check_number(threshold, "threshold", low=0.0)
    return lambda _, channels: ImputingLSTM(channels, hidden, layers, threshold)


def loss_weights(X: Any, detector: RobustTSF, eta: float = 0.3, warm_up: int = 3) -> Floats:
    """Return one weight a step, (T,): 0 where the loss of forecasting it was large, or jumped, in the warm-up.

    Parameters
    ----------
    X : array of shape (T,) or (T, C), or dataframe
        The contaminated series.
    detector : RobustTSF
        Unfitted: its forecaster, scaling, optimiser and seed are used, and its error (``"mse"`` or absolute).
    eta : float of [0, 1), default 0.3
        The share of samples that goes for each of the two reasons.
    warm_up : int, default 3
        Epochs, at the first learning rate: published.

    Examples
    --------
    >>> series = np.sin(np.arange(300) / 8)
    >>> series[150] = 9
    >>> float(loss_weights(series, RobustTSF("mae", forecaster="linear", random_state=0))[150])
    0.0
    """
    check_number(eta, "eta", low=0.0, high=1.0, strict_high=True)
    check_number(warm_up, "warm_up", low=2, integer=True)
    detector._check_parameters()
    series, z = _scaled(X, detector.scaling)
    starts, window, squared = series.whole(detector.window + 1), detector.window, detector.method == "mse"
    if len(starts) == 0:
        raise InputError(f"X: no {window + 1} steps are without a missing step; give a longer series")
    views = np.lib.stride_tricks.sliding_window_view(z, window, axis=0).transpose(0, 2, 1)
    rng, losses = as_generator(detector.random_state), []
    with seeded(rng):
        network = detector.build(z.shape[1])
        settings = {"batch_size": detector.batch_size, "learning_rate": detector.learning_rate, "rng": rng}
        ones = np.ones((len(starts), z.shape[1]))
        # Three times the epochs, of which the last two thirds, at a lower rate, are never begun.
        for epoch in epochs_of(network, z, starts, ones, window, squared=squared, epochs=3 * warm_up, **settings):
            error = np.abs(forecasts(network, views[starts]) - z[starts + window])
            losses.append((error**2 if squared else error).mean(axis=1))
            if epoch + 1 == warm_up:
                break
    n, jumps = round(eta * len(starts)), np.diff(losses, axis=0).std(axis=0)
    dropped = [np.argsort(-measure, kind="stable")[:n] for measure in (np.mean(losses, axis=0), jumps)]
    weights = np.ones(len(z))
    weights[starts[np.concatenate(dropped)] + window] = 0.0
    return weights


def difference_weights(X: Any, scaling: str | None = "robust", width: int = 5, tau: float = 0.3) -> Floats:
    """Return one weight a step, (T,): 0 where the step before is more than `tau` from the mean of `width` before it.

    Parameters
    ----------
    X : array of shape (T,) or (T, C), or dataframe
        The contaminated series.
    scaling : {"robust", "standard"} or None, default "robust"
        As of RobustTSF.
    width : int, default 5
        Steps of the mean: ours.
    tau : float, default 0.3
        Scaled units, of the mean over the channels: that of RobustTSF.

    Examples
    --------
    >>> series = np.linspace(0, 1, 100)
    >>> series[50] = 9
    >>> difference_weights(series, scaling=None)[49:58].tolist()
    [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    """
    check_number(width, "width", low=1, integer=True)
    check_number(tau, "tau", low=0.0)
    _, z = _scaled(X, scaling)
    sums = np.concatenate([np.zeros((1, z.shape[1])), np.cumsum(z, axis=0)])
    steps = np.arange(len(z))
    first = np.maximum(steps - width, 0)
    means = np.where(steps[:, None] > 0, (sums[steps] - sums[first]) / np.maximum(steps - first, 1)[:, None], z)
    near = np.abs(z - means).mean(axis=1) <= tau
    return np.concatenate([[1.0], near[:-1].astype(float)])


def _scaled(X: Any, scaling: str | None) -> tuple[Series, Floats]:
    """Return the series, and its filled values in the units that a forecaster is trained in."""
    series = as_series(X)
    centre, scale = centre_and_scale(series.values, scaling)
    return series, (series.filled(np.nanmedian(series.values, axis=0)) - centre) / scale

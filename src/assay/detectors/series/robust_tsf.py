"""RobustTSF: a forecaster trained on a contaminated series as if that were clean, and how far a value is from it.

In: a series (T,) or (T, C), which may itself hold anomalies nobody has labelled. Out: one score a step, >= 0, about 1
where a forecast is as good as in training; higher = more anomalous. Beside it the forecasts, the robust trend, and
for each training sample whether it was kept.

An anomaly in the label of a sample does little harm if the error is absolute: the median of what is observed stays the
clean value as long as less than half of it is hit. An anomaly in the input hurts most at the window's end, near what
is to be forecast. So samples whose last input step lies off a robust trend are left out, and the others are fitted in
absolute error:

    trend   s = argmin Σ_t w |s_t - z_t| + λ Σ_t |s_{t-1} - 2 s_t + s_{t+1}|,  w = 1/sqrt(1 + (.01 median|z|)²) ≈ 1
    score of a sample  A = Σ_{j < K} k(j) |z_{l-j} - s_{l-j}|,  l its last input step, K = `lay_back`
            k(j) = 1 (``"dirac"``) or exp(-j²) (``"exponential"``)
    loss of a batch of B samples  (1/B) Σ_i 1[A_i <= τ] |f(window_i) - y_i|

z is the scaled series, f sees the `window` steps before y. A sample that is left out still counts in B. The trend uses
the future: it selects training samples and is never computed in scoring.

Channels: f sees all of them and forecasts all of them; each has its own trend, and in the loss of a sample a channel
counts only if A of this channel is at most τ, whatever happens in the others (the mean runs over samples and channels).

Score of a step: mean over the channels of |x - forecast| / unit, the unit being the median absolute residual of the
training samples that were kept. Before the series begins stands its first value: so the first `window` steps are
scored with a window that is in part (the first step's: wholly) made of it.

Defaults of the published code: λ = 3 on unit spacing (it writes .3 on steps of .1 with a scale-free difference),
τ = .3, K = 1, Dirac; windows of 16, an LSTM of 2 layers of 10, Adam at .01 for a third of 30 epochs and at .001
afterwards, batches of 128.

Departures:

- The benchmark scales by the clean training series, which nobody has. ``scaling="robust"`` takes median and 1.4826
  median absolute deviations of what is there; for the benchmark's protocol scale beforehand and pass None.
- With a clean `validation` series the epoch of least mean absolute error on it is used, without one the last; the
  code reports the epoch that is best on the test series.
- The trend is found exactly (`assay.kernels.trend_filter`), not by a generic solver; only with the absolute fit (what
  the code calls ``loss='mse'`` is a Huber fit).
- Times are not used by the trend: a gap is one step. Windows across gaps and missing steps are left out of training.

What to expect (results/robust_tsf.md, simulated seasons): without noise, selection clearly lowers the error on clean
data below that of plain absolute error. With noise it gains little ("missing") or loses (a constant shift, Gaussian
spikes, stuck levels); its scores then still find anomalies as well or better, but for stuck levels.

Not reproduced: forecasts of several steps, the transformers of the paper's tables (any forecaster can be given), the
score from a seasonal decomposition. Other remedies for contaminated training are in `assay.training.robust_baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from assay.core.progress import progress
from assay.core.series import Series, as_series
from assay.core.validation import Bools, Floats, InputError, Ints, check_number, check_option, told
from assay.detectors.series.common import CHUNK, SeriesDetector
from assay.kernels.trend_filter import trend_filter
from assay.nn.state import arrays_of, seeded, with_arrays

#: A forecaster, from windows (n, window, C) to the next values (n, C), made for a window and a number of channels.
Builder = Callable[[int, int], nn.Module]


class LSTMForecaster(nn.Module):
    """LSTM whose last output is read by a linear layer."""

    def __init__(self, channels: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, channels)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the next values (n, C) of windows (n, L, C)."""
        return self.head(self.lstm(windows)[0][:, -1])


def centre_and_scale(values: Floats, scaling: str | None) -> tuple[Floats, Floats]:
    """Return what is subtracted from each channel (T, C), and what it is divided by: 1 where it is constant."""
    if scaling is None:
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    deviation = np.nanstd(values, axis=0)
    if scaling == "standard":
        centre, scale = np.nanmean(values, axis=0), deviation
    else:
        centre = np.nanmedian(values, axis=0)
        mad = 1.4826 * np.nanmedian(np.abs(values - centre), axis=0)
        scale = np.where(mad > 0, mad, deviation)
    varies = (np.nanmax(values, axis=0) > np.nanmin(values, axis=0)) & (scale > 0)
    return centre, np.where(varies, scale, 1.0)


def robust_trend(z: Floats, penalty: float = 3.0) -> Floats:
    """Return the trend of each channel of scaled values (T, C)."""
    weights = 1.0 / np.sqrt(1.0 + (0.01 * np.median(np.abs(z), axis=0)) ** 2)
    columns = progress(zip(z.T, weights), "filtering trends", total=z.shape[1])
    return np.column_stack([trend_filter(np.ascontiguousarray(column), penalty, w) for column, w in columns])


def sample_scores(deviations: Floats, starts: Ints, window: int, lay_back: int, weighting: str) -> Floats:
    """Return A, (n, C), of the samples whose windows begin at `starts`, from |z - s| (T, C)."""
    back = np.arange(lay_back)
    weights = np.ones(lay_back) if weighting == "dirac" else np.exp(-(back.astype(float) ** 2))
    last = starts[:, None] + window - 1
    return np.einsum("k,nkc->nc", weights, deviations[last - back])


def batch_loss(forecast: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, squared: bool) -> torch.Tensor:
    """Return the mean error over ALL samples and channels: a sample of weight 0 adds nothing and is counted."""
    error = forecast - target
    return (weight * (error.square() if squared else error.abs())).mean()


def epochs_of(
    network: nn.Module,
    z: Floats,
    starts: Ints,
    weights: Floats,
    window: int,
    *,
    squared: bool,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    rng: np.random.Generator,
) -> Iterator[int]:
    """Train a forecaster, and hand over the number of each epoch when it is done.

    Adam at `learning_rate` for the first third of the epochs, at a tenth of it afterwards.
    """
    steps = torch.from_numpy(z.astype(np.float32))
    views = steps.unfold(0, window, 1).transpose(1, 2)
    counts = torch.from_numpy(weights.astype(np.float32))
    begins = torch.from_numpy(starts)
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    for epoch in progress(range(epochs), "training the forecaster", total=epochs):
        network.train()
        optimiser.param_groups[0]["lr"] = learning_rate * (1.0 if 3 * epoch < epochs else 0.1)
        for rows in torch.from_numpy(rng.permutation(len(starts))).split(batch_size):
            first = begins[rows]
            optimiser.zero_grad()
            batch_loss(network(views[first]), steps[first + window], counts[rows], squared).backward()
            optimiser.step()
        yield epoch


def forecasts(network: nn.Module, windows: Floats) -> Floats:
    """Return the next values (n, C) of windows (n, L, C), in pieces of bounded size."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for i in range(0, len(windows), CHUNK):
            parts.append(network(torch.from_numpy(windows[i : i + CHUNK].astype(np.float32))).double().numpy())
    return np.concatenate(parts)


class RobustTSF(SeriesDetector):
    """Residual of a forecaster that was trained on the samples whose inputs end on a robust trend, in absolute error.

    `fit` also takes ``sample_weight``, one number a step: what the error of forecasting this step counts in the loss,
    on top of the selection.

    Parameters
    ----------
    method : {"robust", "mae", "mse"}, default "robust"
        The method; or, without any selection, absolute or squared error: the plain forecasters it is compared with.
    window : int, default 16
        Steps that a forecast is made from: published.
    forecaster : {"lstm", "linear"} or callable, default "lstm"
        f; published: an LSTM, or a transformer. A callable makes the network from the window and the number of
        channels; the network takes (n, window, C) to (n, C). A detector with one of your own cannot be saved.
    hidden : int, default 10
        Units of each layer of the LSTM: published.
    layers : int, default 2
        Layers of the LSTM: published.
    scaling : {"robust", "standard"} or None, default "robust"
        Median and median absolute deviation, mean and standard deviation, or nothing. τ is in these units.
    penalty : float, default 3
        λ of the trend: published (see the module's page for the unit).
    tau : float, default 0.3
        τ, the largest score of a sample that is kept: published.
    lay_back : int, default 1
        K, the steps at the end of a window that its score is taken from: published.
    weighting : {"dirac", "exponential"}, default "dirac"
        k: published.
    epochs : int, default 30
        Passes over the samples: published. 0 leaves the network untrained.
    batch_size : int, default 128
        Samples a step: published.
    learning_rate : float, default 0.01
        Of Adam, for the first third of the epochs, a tenth of it afterwards: published.
    validation : array of shape (T', C) or dataframe, optional
        A clean series, in the units of `X`, to choose the epoch by; without one the last epoch is used.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    centre_, scale_ : array of shape (C,)
        What is subtracted from each channel, and what it is divided by.
    targets_ : array of int of shape (n,)
        The step that each training sample forecasts; its window is what comes before.
    sample_scores_ : array of shape (n, C)
        A of the training samples.
    kept_ : array of bool of shape (n, C)
        Which of them were learned from: A <= τ, or all without selection; never those of ``sample_weight`` 0.
    epoch_ : int
        The epoch whose weights are used, from 0; -1 where none was trained.
    network_ : dict of arrays
        Weights of f.
    unit_ : array of shape (C,)
        Median absolute residual of the kept samples, in scaled units; 1 where it is 0.

    References
    ----------
    H. Cheng, Q. Wen, Y. Liu, L. Sun: RobustTSF: Towards Theory and Design of Robust Time Series Forecasting with
    Anomalies. ICLR 2024, arXiv 2402.02032.

    Examples
    --------
    >>> series = np.sin(np.arange(300) / 8)
    >>> series[::10] += 5
    >>> model = RobustTSF(forecaster="linear", epochs=5, random_state=0).fit(series)
    >>> bool(model.kept_[model.targets_ % 10 == 1].any()), model.forecast(series).shape
    (False, (300, 1))
    """

    takes_weights: ClassVar[bool] = True

    def __init__(
        self,
        method: str = "robust",
        window: int = 16,
        forecaster: str | Builder = "lstm",
        hidden: int = 10,
        layers: int = 2,
        scaling: str | None = "robust",
        penalty: float = 3.0,
        tau: float = 0.3,
        lay_back: int = 1,
        weighting: str = "dirac",
        epochs: int = 30,
        batch_size: int = 128,
        learning_rate: float = 0.01,
        validation: Any = None,
        random_state: Any = None,
    ) -> None:
        self.method = method
        self.window = window
        self.forecaster = forecaster
        self.hidden = hidden
        self.layers = layers
        self.scaling = scaling
        self.penalty = penalty
        self.tau = tau
        self.lay_back = lay_back
        self.weighting = weighting
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation = validation
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_option(self.method, "method", "robust", "mae", "mse")
        if not callable(self.forecaster):
            check_option(self.forecaster, "forecaster", "lstm", "linear")
        check_option(self.scaling, "scaling", "robust", "standard", None)
        check_option(self.weighting, "weighting", "dirac", "exponential")
        for name in ("window", "hidden", "layers", "batch_size"):
            check_number(getattr(self, name), name, low=1, integer=True)
        check_number(self.lay_back, "lay_back", low=1, high=self.window, integer=True)
        check_number(self.epochs, "epochs", low=0, integer=True)
        check_number(self.penalty, "penalty", low=0.0, high=1e6, strict_low=True)
        check_number(self.tau, "tau", low=0.0)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=1e3)
        if self.validation is not None:
            as_series(self.validation, "validation", min_steps=self.window + 1)

    @property
    def reach(self) -> tuple[int, int]:
        """The steps of the window before."""
        return int(self.window), 0

    def trend(self, values: Any) -> Floats:
        """Return the robust trend of a series, (T, C), in its own units; it looks ahead, and no score depends on it."""
        check_is_fitted(self)
        series = self._check_table(values, reset=False, name="values")
        return self.centre_ + self.scale_ * robust_trend(self.scaled(series.filled(self.fill_)), self.penalty)

    def forecast(self, X: Any) -> Floats:
        """Return what each step was expected to be, (T, C), from the steps before it."""
        check_is_fitted(self)
        series = self._check_table(X, reset=False)
        return self.centre_ + self.scale_ * self._expected(self.scaled(series.filled(self.fill_)))

    def network(self) -> nn.Module:
        """Return f, frozen: from scaled windows (n, window, C) to scaled next values (n, C)."""
        check_is_fitted(self)
        with torch.device("meta"):
            network = self.build(len(self.centre_))
        return with_arrays(network, self.network_)

    def scaled(self, values: Floats) -> Floats:
        """Return values (T, C) in the units that f works in."""
        return (values - self.centre_) / self.scale_

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        self._train(values, X, np.ones(len(values)), rng)

    def _fit_weighted(self, X: Series, y: Ints | None, weights: Floats, rng: np.random.Generator) -> None:
        X, _ = self._learnable(X, y)
        self.fill_ = np.nanmedian(X.values, axis=0)
        self._train(X.filled(self.fill_), X, weights, rng)

    def _train(self, values: Floats, X: Series, weights: Floats, rng: np.random.Generator) -> None:
        self.centre_, self.scale_ = centre_and_scale(X.values, self.scaling)
        z, starts = self.scaled(values), X.whole(self.window + 1)
        if len(starts) < 2:
            raise InputError(
                f"X: {len(starts)} stretches of {self.window + 1} steps are without a missing step, at least 2 needed; "
                "give a longer series or a shorter window"
            )
        self.targets_ = starts + self.window
        kept, weight = self._selected(z, starts), weights[self.targets_, None]
        self.kept_ = kept & (weight > 0)
        if not self.kept_.any(axis=0).all():
            channel = int(np.argmin(self.kept_.any(axis=0)))
            raise InputError(f"tau={told(self.tau)} leaves no sample of channel {channel} to learn from; raise it")
        with seeded(rng):
            network = self.build(z.shape[1])
            self._run(network, z, starts, kept * weight, rng)
        residuals = np.abs(z - self._expected(z))[self.targets_]
        typical = np.nanmedian(np.where(self.kept_, residuals, np.nan), axis=0)
        self.unit_ = np.where(typical > 0, typical, 1.0)

    def _selected(self, z: Floats, starts: Ints) -> Bools:
        deviations = np.abs(z - robust_trend(z, self.penalty))
        self.sample_scores_ = sample_scores(deviations, starts, self.window, self.lay_back, self.weighting)
        return self.sample_scores_ <= self.tau if self.method == "robust" else np.ones_like(self.sample_scores_, bool)

    def _run(self, network: nn.Module, z: Floats, starts: Ints, weights: Floats, rng: np.random.Generator) -> None:
        """Train, and keep the weights of the best epoch on the clean series, or of the last."""
        least, self.epoch_, self.network_ = np.inf, -1, arrays_of(network)
        steps = epochs_of(
            network,
            z,
            starts,
            weights,
            self.window,
            squared=self.method == "mse",
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            rng=rng,
        )
        for epoch in steps:
            error = -float(epoch) if self.validation is None else self._validation_error(network)
            if error < least:
                least, self.epoch_, self.network_ = error, epoch, arrays_of(network)

    def _validation_error(self, network: nn.Module) -> float:
        """Return the mean absolute error of forecasts on the clean series, in scaled units."""
        clean = self._check_table(self.validation, reset=False, name="validation")
        starts = clean.whole(self.window + 1)
        if len(starts) == 0:
            raise InputError(f"validation: no {self.window + 1} steps are without a missing step; give a longer series")
        z = self.scaled(clean.filled(self.fill_))
        return float(np.abs(forecasts(network, _windows(z, self.window)[starts]) - z[starts + self.window]).mean())

    def _steps(self, values: Floats) -> Floats:
        z = self.scaled(values)
        return (np.abs(z - self._expected(z)) / self.unit_).mean(axis=1)

    def _expected(self, z: Floats) -> Floats:
        """Return the forecast of every step of scaled values, (T, C); before the first stands the first."""
        padded = np.concatenate([np.repeat(z[:1], self.window, axis=0), z[:-1]])
        return forecasts(self.network(), _windows(padded, self.window))

    def build(self, channels: int) -> nn.Module:
        """Return f, untrained, for so many channels."""
        if self.forecaster == "linear":
            return nn.Sequential(nn.Flatten(), nn.Linear(self.window * channels, channels))
        if self.forecaster == "lstm":
            return LSTMForecaster(channels, self.hidden, self.layers)
        return self.forecaster(self.window, channels)  # type: ignore[operator]


def _windows(z: Floats, length: int) -> Floats:
    """Return all windows (n, length, C), a view."""
    return np.lib.stride_tricks.sliding_window_view(z, length, axis=0).transpose(0, 2, 1)

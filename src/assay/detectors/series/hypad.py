"""HypAD: an anomaly is a window that the model is certain about and yet reconstructs wrongly.

In: a series (T,) or (T, C). Out: one score a step, >= 0, and by `certainty` one certainty a step in [0, 1). With
``hyperbolic=False`` this is TadGAN: the same networks, losses and scores without the ball.

An encoder E turns a window x of L steps into a latent vector z, a decoder D turns it back; two Wasserstein critics
judge whether decoded noise looks like windows (C_x) and whether codes look like noise (C_z). A head H maps windows and
reconstructions alike into the Poincaré ball (`assay.nn.hyperbolic`), h = H(x) and ĥ = H(D(E(x))), where what cannot be
predicted is best put near the origin: ‖ĥ‖ is the certainty.

    critics      E[C_x(H(D(z)))] - E[C_x(x)] + 10 E(‖∇C_x(x~)‖ - 1)²,  z ~ N(0, I),  x~ = α x + (1 - α) H(D(z)),
                 E[C_z(E(x))] - E[C_z(z)] + the like;
    others       10 E[d(ĥ, h)] - E[C_x(H(D(z)))] - E[C_z(E(x))];  Euclidean: mean squared error for d, and no H.

An epoch: `critic_passes` passes over the windows for the critics, then one for E, D and H. Adam, and Riemannian Adam
for the point b of H.

Scores, each first brought from windows to steps:

    rec          d(ĥ, h) of a window (Euclidean: ‖x - x̂‖); a step has the mean over the windows that cover it. With
                 ``standardise``: (rec - mean) / std of training, not below 0, + 1;
    certainty    ‖ĥ‖, a step has the mean over the windows that cover it;
    critic       a step has the mode of C_x(x) over the windows that cover it: the value at which their Gaussian kernel
                 density is largest, the median where all are equal. Then |c - m| / s + 1 and a centred rolling mean.

`combine`: "mult" critic · rec; "uncertainty" critic · rec · certainty, the HypAD score; "sum" .2 critic + .8 rec;
"sum_uncertainty" (.5 critic + .5 rec) · certainty; "rec", "critic", and both "_uncertainty", times certainty.

Defaults of the public code: weights 10, 5 critic passes, batches of 64, latent 20, window 100, 40 epochs. It takes
every window (``stride=1``) at a learning rate of 5e-4, with LSTMs of 50 and 64 units. Here it is every tenth at 2e-3,
with narrower LSTMs: minutes on one core for 20 000 steps instead of hours.

Look at `spread_` after fitting. H is shared by h and ĥ, so W = 0 makes every distance 0, and W does shrink at first.
After 900 steps of E, D and H the certainty hardly varied yet, after 1900 it did (`results/hypad.md`). Few windows or
epochs end in that state; train longer, or at a larger rate.

Departures:

- The public code hands a window to the LSTMs as one step of L numbers, so that nothing recurs over time (and rows of
  channels with no window at all); ``recurrent=False`` does that with whole windows. By default the LSTMs run over the L
  steps, in TadGAN's form: E is linear on all states, D decodes L / 2 numbers, doubled in time between its two layers.
- m (mean between the quartiles), s, the width of the rolling mean (`smoothing` of the number of training windows), the
  mean and deviation of rec come from the training series. The public code takes them from the series that is scored:
  a step's score then depends on all others. Here it reaches window - 1 steps and half the rolling mean to each side.
- Channels are scaled to [-1, 1] by the training series alone (public code: again on the test part) and cut off at ±5.
- The gradient penalty takes the norm of each window's gradient, with one α a window; the public code takes one norm of
  the whole batch, and an α an entry.
- The public code cuts scores of steps short to the number of windows; here both are of steps.
- Ball arithmetic is in double precision; the rolling mean's width is odd. Codes are computed once an epoch for the
  critics and fakes once a pass, in large batches: E, D and H do not change meanwhile.

Not reproduced: that certainty parts what is noisy from what is predictable. On a sine with noisy stretches ‖ĥ‖ was the
same in these as in the clean ones, to a hundredth, whether or not W had grown: x̂ is the part of noise that can be
predicted, and ‖H(x̂)‖ goes by its size. "uncertainty" ranked no better than "mult"; "mult" itself did far better in the
ball than as TadGAN (`results/hypad.md`). Nor the regular grid and the detrending (`assay.core.series.regular`),
TadGAN's point, area and warping errors, and the paper's figures. For intervals see `assay.calibration.intervals`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from assay.core.progress import progress
from assay.core.series import Series
from assay.core.validation import Floats, InputError, check_number, check_option
from assay.detectors.series.common import SeriesDetector, covering_mean, windows
from assay.nn.hyperbolic import BallAdam, HyperbolicHead, distance
from assay.nn.state import arrays_of, seeded, with_arrays

COMBINATIONS = (
    *("mult", "uncertainty", "sum", "sum_uncertainty"),
    *("rec", "rec_uncertainty", "critic", "critic_uncertainty"),
)
#: Weights of the reconstruction and of the gradient penalty.
WEIGHT, PENALTY = 10.0, 10.0
#: Keeps the gradient of the distance finite where it is 0.
SOFTENING = 1e-7
#: Scaled values are cut off here: training values lie within ±1.
CLIP = 5.0
#: Windows that are described at a time, and entries of the table of kernels.
CHUNK, ENTRIES = 1024, 1_000_000


class Encoder(nn.Module):
    """Windows (n, L, C) to codes (n, latent): a bidirectional LSTM and a linear layer."""

    def __init__(self, length: int, channels: int, latent: int, hidden: int, recurrent: bool) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.lstm = nn.LSTM(channels if recurrent else length * channels, hidden, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * hidden * (length if recurrent else 1), latent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the codes of windows."""
        return self.linear(self.lstm(x if self.recurrent else x.flatten(1)[:, None])[0].flatten(1))


class Decoder(nn.Module):
    """Codes (n, latent) to windows (n, L, C) within ±1: linear, two bidirectional LSTMs, linear, tanh."""

    def __init__(self, length: int, channels: int, latent: int, hidden: int, recurrent: bool) -> None:
        super().__init__()
        self.length, self.channels, self.recurrent = length, channels, recurrent
        # TadGAN's 50 numbers for windows of 100: half a window's steps of one number, or one step of as many.
        half = (length + 1) // 2 if recurrent else 50
        self.begin = nn.Linear(latent, half)
        self.first = nn.LSTM(1 if recurrent else half, hidden, bidirectional=True, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.second = nn.LSTM(2 * hidden, hidden, bidirectional=True, batch_first=True)
        self.end = nn.Linear(2 * hidden, channels if recurrent else length * channels)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Return the windows of codes."""
        states = self.begin(z)
        states = self.drop(self.first(states[..., None] if self.recurrent else states[:, None])[0])
        if self.recurrent:
            states = states.repeat_interleave(2, dim=1)[:, : self.length]
        return torch.tanh(self.end(self.second(states)[0])).view(-1, self.length, self.channels)


def critic(size: int, width: int, layers: int, dropout: float) -> nn.Sequential:
    """Return a critic: `layers` layers of `width`, LeakyReLU(.2) and dropout after each, then one number."""
    stack: list[nn.Module] = []
    for layer in range(layers):
        stack += [nn.Linear(width if layer else size, width), nn.LeakyReLU(0.2), nn.Dropout(dropout)]
    return nn.Sequential(*stack, nn.Linear(width, 1))


def gradient_penalty(judge: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return E(‖∇ judge‖ - 1)² at a random point between each real row (n, d) and its fake one."""
    alpha = torch.rand(len(real), 1)
    between = (alpha * real + (1 - alpha) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
    return ((gradient.square().sum(dim=1) + 1e-12).sqrt() - 1).square().mean()


def critic_loss(judge: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return the Wasserstein loss of a critic with its gradient penalty."""
    return judge(fake).mean() - judge(real).mean() + PENALTY * gradient_penalty(judge, real, fake)


def mapped(networks: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    """Return windows (n, L, C) as rows (n, L · C), through H where there is one."""
    return networks["head"](x.flatten(1)) if "head" in networks else x.flatten(1)


def kde_modes(values: Floats, length: int) -> Floats:
    """Return for each of T steps the mode of the values of the windows that cover it; `values` (T - length + 1,).

    The mode is the first value at which the Gaussian kernel density (Scott's rule) of all is largest; the median where
    they are equal. O(T · length²), a table of kernels at a time.
    """
    n = len(values)
    k, steps = min(length, n), n + length - 1
    modes = np.empty(steps)
    # Where k windows cover a step; all of the few where there are less than `length`.
    modes[k - 1 : steps - k + 1] = _modes(np.lib.stride_tricks.sliding_window_view(values, k))
    for m in range(1, k):
        modes[m - 1], modes[-m] = _modes(values[None, :m])[0], _modes(values[None, n - m :])[0]
    return modes


def _modes(rows: Floats) -> Floats:
    """Return the mode of each row (n, k) of values."""
    n, k = rows.shape
    modes = np.median(rows, axis=1)
    spread = rows.std(axis=1, ddof=1) if k > 1 else np.zeros(n)
    width = spread * k**-0.2
    varied = np.flatnonzero(spread > 1e-12 * (1 + np.abs(modes)))
    size = max(1, ENTRIES // k**2)
    for rows_of in (varied[i : i + size] for i in range(0, len(varied), size)):
        scaled = rows[rows_of] / width[rows_of, None]
        density = np.exp(-0.5 * (scaled[:, :, None] - scaled[:, None, :]) ** 2).sum(axis=2)
        modes[rows_of] = rows[rows_of, density.argmax(axis=1)]
    return modes


def rolling_mean(values: Floats, half: int) -> Floats:
    """Return the mean over the steps at most `half` away, of those there are."""
    # Summed about their mean, so that the running total stays small.
    centre = values.mean()
    total = np.concatenate([[0.0], np.cumsum(values - centre)])
    steps = np.arange(len(values))
    first, end = np.maximum(steps - half, 0), np.minimum(steps + half + 1, len(values))
    return centre + (total[end] - total[first]) / (end - first)


def combined(how: str, critic: Floats, rec: Floats, certainty: Floats) -> Floats:
    """Return the scores of steps from their parts, each (T,)."""
    score = {
        "mult": lambda: critic * rec,
        "sum": lambda: 0.2 * critic + 0.8 * rec,
        "rec": lambda: rec,
        "critic": lambda: critic,
        "uncertainty": lambda: critic * rec,
        "sum_uncertainty": lambda: 0.5 * critic + 0.5 * rec,
        "rec_uncertainty": lambda: rec,
        "critic_uncertainty": lambda: critic,
    }[how]()
    return score * certainty if how.endswith("uncertainty") else score


class HypAD(SeriesDetector):
    """Reconstruction, critic and certainty of windows on the Poincaré ball; TadGAN without the ball.

    Parameters
    ----------
    window : int, default 100
        L (public code).
    hyperbolic : bool, default True
        Whether the head H is there; False is TadGAN.
    recurrent : bool, default True
        Whether the LSTMs run over the steps of a window; False, as in the public code, feeds it as one step.
    combine : str or None, default None
        How the score is made, see the module; None is ``"uncertainty"``, without the ball ``"mult"``.
    standardise : bool, default False
        Whether rec is brought to the scale of the training windows; the public code does so for many channels.
    latent : int, default 20
        Entries of a code, and width of the critics (public code).
    hidden, decoder_hidden : int, default 24 and 32
        Units a direction of the encoder's and of the decoder's LSTMs; public code: 50 and 64.
    epochs : int, default 40
        Published; 0 leaves the networks untrained.
    critic_passes : int, default 5
        Passes over the windows for the critics, for one for the others (public code).
    batch_size : int, default 64
        Windows a step (public code).
    learning_rate : float, default 2e-3
        Of all networks; public code: 5e-4, for ten times as many steps.
    stride : int, default 10
        Steps between windows to train on; public code: 1.
    smoothing : float in [0, 1], default 0.01
        Width of the critic's rolling mean, as a share of the windows of the training series (public code).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    low_, high_ : array of shape (C,)
        Smallest and largest training value of each channel.
    networks_ : dict of arrays
        Encoder, decoder, critic of windows and head.
    critic_mean_, critic_scale_ : float
        m and s, of the training steps.
    rec_mean_, rec_scale_ : float
        Mean and deviation of rec over the training windows.
    spread_ : float
        Standard deviation of the certainty over the training windows: below .001 the head has collapsed, and the
        certainty says nothing.
    half_ : int
        Steps that the rolling mean takes on either side.

    References
    ----------
    A. Flaborea, B. Prenkaj, B. Munjal, M. A. Sterpa, D. Aragona, L. Podo, F. Galasso: Are we certain it's anomalous?
    CVPR Workshops 2023, arXiv 2211.09224. A. Geiger, D. Liu, S. Alnegheimish, A. Cuesta-Infante, K. Veeramachaneni:
    TadGAN: Time Series Anomaly Detection Using Generative Adversarial Networks. 2020, arXiv 2009.07769.

    Examples
    --------
    >>> series = np.sin(np.arange(300) / 5)
    >>> detector = HypAD(window=20, hidden=4, decoder_hidden=4, epochs=1, random_state=0).fit(series)
    >>> detector.anomaly_score(series).shape, bool((detector.certainty(series) < 1).all())
    ((300,), True)
    """

    def __init__(
        self,
        window: int = 100,
        hyperbolic: bool = True,
        recurrent: bool = True,
        combine: str | None = None,
        standardise: bool = False,
        latent: int = 20,
        hidden: int = 24,
        decoder_hidden: int = 32,
        epochs: int = 40,
        critic_passes: int = 5,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        stride: int = 10,
        smoothing: float = 0.01,
        random_state: Any = None,
    ) -> None:
        self.window = window
        self.hyperbolic = hyperbolic
        self.recurrent = recurrent
        self.combine = combine
        self.standardise = standardise
        self.latent = latent
        self.hidden = hidden
        self.decoder_hidden = decoder_hidden
        self.epochs = epochs
        self.critic_passes = critic_passes
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.stride = stride
        self.smoothing = smoothing
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.window, "window", low=2, integer=True)
        check_option(self.combine, "combine", None, *COMBINATIONS)
        if not self.hyperbolic and self.combine is not None and self.combine.endswith("uncertainty"):
            raise InputError(
                f"combine={self.combine!r} needs a certainty: give hyperbolic=True, or another combination"
            )
        for name in ("latent", "hidden", "decoder_hidden", "batch_size", "stride"):
            check_number(getattr(self, name), name, low=1, integer=True)
        for name in ("epochs", "critic_passes"):
            check_number(getattr(self, name), name, low=0, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=1.0)
        check_number(self.smoothing, "smoothing", low=0.0, high=1.0)

    @property
    def reach(self) -> tuple[int, int]:
        """Window - 1 steps and half the rolling mean on either side."""
        return (int(self.window) - 1 + self.half_,) * 2

    def certainty(self, X: Any) -> Floats:
        """Return how certain the model is of each step of a series, (T,), in [0, 1); NaN where nothing was measured.

        It depends on the reconstruction alone, so it can be multiplied with the score of any detector of series.

        Raises
        ------
        InputError
            If `X` cannot be used, or without the ball.
        """
        check_is_fitted(self)
        series = self._check_table(X, reset=False)
        if not self.hyperbolic:
            raise InputError("hyperbolic=False has no certainty: fit with hyperbolic=True")
        certainty = covering_mean(
            self._described(windows(self._scaled(series.filled(self.fill_)), self.window))[1], self.window
        )
        certainty[~series.observed] = np.nan
        return certainty

    def _learn(self, values: Floats, X: Series, rng: np.random.Generator) -> None:
        self.low_, self.high_ = np.nanmin(X.values, axis=0), np.nanmax(X.values, axis=0)
        starts = X.whole(self.window)
        if len(starts) < 2:
            raise InputError(
                f"X: {len(starts)} windows of {self.window} steps are without a missing step, at least 2 needed; "
                "give a longer series or a shorter window"
            )
        views = windows(self._scaled(values), self.window)
        lessons = views[starts[:: self.stride]]
        with seeded(rng):
            networks = self._networks()
            critic_z = critic(self.latent, self.latent, 2, 0.2)
            self._train(networks, critic_z, torch.from_numpy(lessons.astype(np.float32)))
        self.networks_ = arrays_of(networks)
        self._take_scales(views, starts, lessons)

    def _networks(self) -> nn.ModuleDict:
        channels = len(self.low_)
        size = self.window * channels
        parts = {
            "encoder": Encoder(self.window, channels, self.latent, self.hidden, self.recurrent),
            "decoder": Decoder(self.window, channels, self.latent, self.decoder_hidden, self.recurrent),
            "critic": critic(size, self.latent, 4, 0.25),
        }
        if self.hyperbolic:
            parts["head"] = HyperbolicHead(size)
        return nn.ModuleDict(parts)

    def _train(self, networks: nn.ModuleDict, critic_z: nn.Module, x: torch.Tensor) -> None:
        critics = torch.optim.Adam([*networks["critic"].parameters(), *critic_z.parameters()], lr=self.learning_rate)
        steps = _optimisers(networks, self.learning_rate)
        batch = min(int(self.batch_size), len(x))
        for _ in progress(range(self.epochs), "training HypAD", total=self.epochs):
            with torch.no_grad():
                codes = _in_chunks(networks["encoder"], x)
            for _ in range(self.critic_passes):
                z = torch.randn(len(x), self.latent)
                with torch.no_grad():
                    fakes = _in_chunks(lambda part: mapped(networks, networks["decoder"](part)).float(), z)
                for rows in _batches(len(x), batch):
                    loss = critic_loss(networks["critic"], x[rows].flatten(1), fakes[rows])
                    loss = loss + critic_loss(critic_z, torch.randn(batch, self.latent), codes[rows])
                    critics.zero_grad()
                    loss.backward()
                    critics.step()
            for rows in _batches(len(x), batch):
                loss = generator_loss(networks, critic_z, x[rows])
                for step in steps:
                    step.zero_grad()
                loss.backward()
                for step in steps:
                    step.step()

    def _take_scales(self, views: Floats, starts: Any, lessons: Floats) -> None:
        """Learn what scores are measured against, from the windows of the training series without a missing step."""
        self.half_ = int(self.smoothing * len(starts)) // 2
        runs = np.split(starts, np.flatnonzero(np.diff(starts) != 1) + 1)
        modes = np.concatenate([kde_modes(self._criticised(views[run[0] : run[-1] + 1]), self.window) for run in runs])
        low, high = np.quantile(modes, [0.25, 0.75])
        self.critic_mean_ = float(modes[(modes >= low) & (modes <= high)].mean())
        self.critic_scale_ = _scale(modes)
        rec, certainty = self._described(lessons)
        self.rec_mean_, self.rec_scale_ = float(rec.mean()), _scale(rec)
        self.spread_ = float(certainty.std())

    def _scaled(self, values: Floats) -> Floats:
        varies = self.high_ > self.low_
        middle, half = (self.low_ + self.high_) / 2, np.where(varies, (self.high_ - self.low_) / 2, 1.0)
        return np.clip((values - middle) / half, -CLIP, CLIP)

    def _steps(self, values: Floats) -> Floats:
        return combined(self.combine or ("uncertainty" if self.hyperbolic else "mult"), *self._parts(values))

    def _parts(self, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Return critic, rec and certainty of the steps of filled values (T, C), (T,) each."""
        views = windows(self._scaled(values), self.window)
        modes = kde_modes(self._criticised(views), self.window)
        unusual = rolling_mean(np.abs(modes - self.critic_mean_) / self.critic_scale_ + 1, self.half_)
        rec, certainty = self._described(views)
        if self.standardise:
            rec = np.maximum((rec - self.rec_mean_) / self.rec_scale_, 0) + 1
        return unusual, covering_mean(rec, self.window), covering_mean(certainty, self.window)

    def _restored(self) -> nn.ModuleDict:
        with torch.device("meta"):
            networks = self._networks()
        return with_arrays(networks, self.networks_)

    def _described(self, views: Floats) -> tuple[Floats, Floats]:
        """Return rec and certainty of windows (n, L, C), (n,) each; certainty 1 without the ball."""
        networks, parts = self._restored(), []
        with torch.inference_mode():
            for i in range(0, len(views), CHUNK):
                x = torch.from_numpy(views[i : i + CHUNK].astype(np.float32))
                h, again = mapped(networks, x), mapped(networks, networks["decoder"](networks["encoder"](x)))
                if self.hyperbolic:
                    parts.append(torch.stack([distance(again, h, SOFTENING), again.norm(dim=1)]))
                else:
                    parts.append(torch.stack([(again - h).norm(dim=1), torch.ones(len(h))]))
        rec, certainty = torch.cat(parts, dim=1).double().numpy()
        return rec, certainty

    def _criticised(self, views: Floats) -> Floats:
        """Return the critic's value of windows (n, L, C), in double precision: where a mode lies hangs on digits."""
        judge = self._restored()["critic"].double()
        with torch.inference_mode():
            parts = [
                judge(torch.from_numpy(views[i : i + CHUNK].astype(np.float64)).flatten(1))[:, 0]
                for i in range(0, len(views), CHUNK)
            ]
        return torch.cat(parts).numpy()


def generator_loss(networks: nn.ModuleDict, critic_z: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the loss of encoder, decoder and head on windows (n, L, C)."""
    codes = networks["encoder"](x)
    fake = mapped(networks, networks["decoder"](torch.randn_like(codes)))
    h, again = mapped(networks, x), mapped(networks, networks["decoder"](codes))
    error = distance(again, h, SOFTENING).mean() if "head" in networks else (again - h).square().mean()
    return WEIGHT * error - networks["critic"](fake.float()).mean() - critic_z(codes).mean()


def _optimisers(networks: nn.ModuleDict, lr: float) -> list[torch.optim.Optimizer]:
    """Return Adam for encoder, decoder and W, and Riemannian Adam for b."""
    free = [*networks["encoder"].parameters(), *networks["decoder"].parameters()]
    if "head" not in networks:
        return [torch.optim.Adam(free, lr=lr)]
    head = networks["head"]
    return [
        torch.optim.Adam([*free, head.weight], lr=lr, weight_decay=1e-5),
        BallAdam([head.bias], lr=lr, weight_decay=1e-5),
    ]


def _in_chunks(function: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([function(part) for part in rows.split(CHUNK)])


def _batches(n: int, size: int) -> list[torch.Tensor]:
    """Return the numbers of n windows in a new order, in whole batches."""
    return [rows for rows in torch.randperm(n).split(size) if len(rows) == size]


def _scale(values: Floats) -> float:
    """Return the standard deviation, 1 where all are equal."""
    return float(values.std()) if np.ptp(values) > 0 else 1.0

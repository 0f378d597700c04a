"""VAE-GAN: what an autoencoder that has seen only normal images cannot draw again.

In: normal images, any size, resized to `image_size` (a multiple of 16). Out: one score an image, of 0 to 1, the
largest difference to its reconstruction, and the map of the differences at the network's input size; higher = more
anomalous. `VAEGAN.reconstruct` gives the reconstructions.

An encoder E turns an image x into mean μ and log variance of 32 hidden numbers z, a decoder G draws x̂ = G(z) from
them, and a discriminator D tells real images (0) from drawn ones (1). What E and G learned on normal images leaves out
what is not normal: the defect is in x - x̂.

    E           conv 32, 64, 128, 256 (3x3, stride 2, ReLU; normalised but for the last), linear 160 tanh, two heads
    G           linear 64 · s/16 · s/16 ReLU, four times (transposed conv 2x2 stride 2, conv 3x3, ReLU; normalised but
                for the last) of 256, 128, 64, 32, transposed conv 3x3 to RGB, sigmoid
    D           conv 128 (8x8), 64 (5x5), 32 (4x4) of stride 2 with ReLU, the first two pooled (2x2) and normalised;
                linear 128 ReLU, linear 1, sigmoid
    L_D         BCE of D on [x, x̂] against [0, 1]
    L_E,G       sum over pixels, mean over channels of BCE(x, x̂) + KL(z | N(0, 1)) + max(1e-4, BCE(D(x̂), 0) - L_D)
    z           μ + exp(log variance / 2) · ε while it learns; μ afterwards: nothing is drawn at scoring
    map, score  m = max over the channels of |x - x̂|, α = max over the pixels of m

Each network has its own Adam (rate 1e-3, ε 1e-7); all gradients are taken before any of them steps. Published:
``width_mult=1, image_size=128, epochs=30_000``, 32 images a step, images turned by up to 40°, moved and scaled by up to
5 %, brightness .8 to 1.2, mirrored both ways where the object allows it.

Departures from the published code, and what it does otherwise:

- The defaults fit a processor: a quarter of the width, few epochs, small batches, and no turns: where the direction of
  a texture is what is normal, so few epochs of turned images teach nothing but their mean. Where products lie anyhow,
  give ``rotation``. So small and so briefly trained it has been worse than `MeanImage` on aligned objects, and near
  chance on photographed textures; it needs images that few numbers tell.
- Its optimiser of E and G is one Adam over both, which is the same, and a third stands idle.
- Its normalisation layers are run as if not training, so that their running mean and variance are 0 and 1 to the end
  (the released discriminators hold just these): they only scale and shift. Here they normalise by the batch while
  training and by running statistics afterwards, so that an image's score does not depend on the others.
- x and x̂ go through D once, together. Without batch statistics that is what the published code computes.
- It also turns every training image by a quarter, one way or the other, so that none is seen upright, as all are at
  the test. Left out.
- Its shear of .05 is in degrees; so it is here.
- The score "sum of all differences" and the threshold chosen on the test set are left out.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from assay.core.images import Images
from assay.core.progress import progress
from assay.core.validation import InputError, check_number, check_option
from assay.detectors.images.common import BATCH, MapDetector, in_batches
from assay.nn.augment import brightness as brightened
from assay.nn.pdn import as_numbers, scaled_width
from assay.nn.state import arrays_of, seeded, with_arrays

Pictures = npt.NDArray[np.float32]

#: Of the normalisation and of Adam, as in the library of the published code.
NORM_EPS, ADAM_EPS = 1e-3, 1e-7
#: Least value of the adversarial term.
LEAST_ADVERSARIAL = 1e-4
#: How far fractions may lie beyond [0, 1].
ROUNDING = 1e-6


class SameConv(nn.Conv2d):
    """A convolution that gives ⌈n / stride⌉ cells; what padding is odd goes to the right and the bottom."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the maps."""
        pads = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1]):
            lacking = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
            pads += [lacking // 2, lacking - lacking // 2]
        return super().forward(F.pad(x, pads))


class Encoder(nn.Module):
    """E: images (b, 3, s, s) to mean and log variance (b, latent)."""

    def __init__(self, image_size: int, latent: int, width_mult: float = 1.0) -> None:
        super().__init__()
        widths = 3, *(scaled_width(width, width_mult) for width in (32, 64, 128, 256))
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            layers += [SameConv(inputs, outputs, 3, stride=2), nn.ReLU()]
            layers += [normalised(outputs)] if number < 3 else [nn.Flatten()]
        hidden = scaled_width(160, width_mult)
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1] * (image_size // 16) ** 2, hidden), nn.Tanh())
        self.mean, self.log_variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        glorot(self)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log variance of the hidden numbers."""
        hidden = self.layers(x)
        return self.mean(hidden), self.log_variance(hidden)


class Decoder(nn.Sequential):
    """G: hidden numbers (b, latent) to images (b, 3, s, s), before the sigmoid."""

    def __init__(self, image_size: int, latent: int, width_mult: float = 1.0) -> None:
        side = image_size // 16
        first, *widths = (scaled_width(width, width_mult) for width in (64, 256, 128, 64, 32))
        layers: list[nn.Module] = [nn.Linear(latent, first * side**2), nn.ReLU(), nn.Unflatten(1, (first, side, side))]
        for number, (inputs, outputs) in enumerate(pairwise((first, *widths))):
            layers += [nn.ConvTranspose2d(inputs, outputs, 2, stride=2), nn.ReLU()]
            layers += [SameConv(outputs, outputs, 3), nn.ReLU()]
            layers += [normalised(outputs)] if number < 3 else []
        super().__init__(*layers, nn.ConvTranspose2d(widths[-1], 3, 3, padding=1))
        glorot(self)


class Discriminator(nn.Sequential):
    """D: images (b, 3, s, s) to (b, 1), high for drawn ones, before the sigmoid."""

    def __init__(self, image_size: int, width_mult: float = 1.0) -> None:
        first, second, third, hidden = (scaled_width(width, width_mult) for width in (128, 64, 32, 128))
        side = math.ceil(image_size // 16 / 2)
        super().__init__(
            *(SameConv(3, first, 8, stride=2), nn.ReLU(), nn.MaxPool2d(2), normalised(first)),
            *(SameConv(first, second, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), normalised(second)),
            *(SameConv(second, third, 4, stride=2), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(third * side**2, hidden), nn.ReLU(), nn.Linear(hidden, 1)),
        )
        glorot(self)


def normalised(width: int) -> nn.BatchNorm2d:
    """Return a layer that normalises by the batch while training, by running statistics afterwards."""
    return nn.BatchNorm2d(width, eps=NORM_EPS)


def glorot(network: nn.Module) -> None:
    """Draw the weights uniformly after Glorot, biases 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


def kl_divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return KL(N(mean, variance) | N(0, 1)), summed over the hidden numbers, averaged over the batch."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1).mean()


def reconstruction_loss(x: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Return BCE(x, sigmoid(drawn)): summed over pixels, averaged over channels and batch."""
    return F.binary_cross_entropy_with_logits(drawn, x, reduction="none").mean(dim=1).sum(dim=(1, 2)).mean()


def adversarial_losses(real: torch.Tensor, drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return L_D and the term of E and G, of D's outputs (b, 1) for real and for drawn images."""
    judged = torch.cat([real, drawn])
    labels = torch.cat([torch.zeros_like(real), torch.ones_like(drawn)])
    discerning = F.binary_cross_entropy_with_logits(judged, labels)
    deceiving = F.binary_cross_entropy_with_logits(drawn, torch.zeros_like(drawn))
    return discerning, (deceiving - discerning).clamp(min=LEAST_ADVERSARIAL)


class Training:
    """The three networks and their optimisers; `step` learns from a batch.

    Parameters
    ----------
    encoder, decoder, discriminator : nn.Module
        E, G and D.
    learning_rate : float
        Of all three.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, discriminator: nn.Module, learning_rate: float) -> None:
        self.encoder, self.decoder, self.discriminator = encoder, decoder, discriminator
        networks = encoder, decoder, discriminator
        self.optimisers = [torch.optim.Adam(one.parameters(), lr=learning_rate, eps=ADAM_EPS) for one in networks]

    def losses(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the four terms for images (b, 3, s, s): ``rebuilding``, ``kl``, ``adversarial``, ``discerning``."""
        mean, log_variance = self.encoder(x)
        drawn = self.decoder(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))
        judged = self.discriminator(torch.cat([x, torch.sigmoid(drawn)]))
        discerning, adversarial = adversarial_losses(*judged.chunk(2))
        rebuilding, kl = reconstruction_loss(x, drawn), kl_divergence(mean, log_variance)
        return {"rebuilding": rebuilding, "kl": kl, "adversarial": adversarial, "discerning": discerning}

    def step(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one step of every optimiser: D down its own loss, E and G down theirs; return the losses before it."""
        losses = self.losses(x)
        of_d = list(self.discriminator.parameters())
        of_eg = [*self.encoder.parameters(), *self.decoder.parameters()]
        down_d = torch.autograd.grad(losses["discerning"], of_d, retain_graph=True)
        down_eg = torch.autograd.grad(losses["rebuilding"] + losses["kl"] + losses["adversarial"], of_eg)
        for parameter, gradient in zip([*of_d, *of_eg], [*down_d, *down_eg]):
            parameter.grad = gradient
        for optimiser in self.optimisers:
            optimiser.step()
        return losses


def moved(
    x: torch.Tensor, rng: np.random.Generator, rotation: float, shift: float, shear: float, zoom: float, flips: bool
) -> torch.Tensor:
    """Return every image (b, 3, s, s) turned, moved, sheared, scaled and mirrored by its own draw.

    Angles are uniform up to `rotation` and `shear` degrees either way, the shift up to a share `shift` of the side
    along each axis, the scale of each axis in 1 ± `zoom`; with `flips` each axis is mirrored half of the time. What
    comes in at the border is the nearest pixel.
    """
    n = len(x)
    turn, slant = (np.deg2rad(rng.uniform(-most, most, n)) for most in (rotation, shear))
    away, scale = rng.uniform(-2 * shift, 2 * shift, (n, 2)), rng.uniform(1 - zoom, 1 + zoom, (n, 2))
    mirror = np.where(flips & (rng.random((n, 2)) < 0.5), -1.0, 1.0)
    cos, sin, zero = np.cos(turn), np.sin(turn), np.zeros(n)
    rotate = np.array([[cos, -sin], [sin, cos]])
    lean = np.array([[zero + 1, -np.sin(slant)], [zero, np.cos(slant)]])
    # From the place of a pixel to where it comes from.
    linear = np.einsum("ijn,jkn,nk->nik", rotate, lean, scale * mirror)
    offset = np.einsum("ijn,nj->ni", rotate, away)
    theta = torch.from_numpy(np.concatenate([linear, offset[:, :, None]], axis=2)).to(x.dtype)
    places = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, places, mode="bilinear", padding_mode="border", align_corners=False)


class VAEGAN(MapDetector):
    """Differences to the reconstruction by a variational autoencoder that a discriminator sharpens.

    Parameters
    ----------
    width_mult : float, default .25
        Multiplies all widths but the latent one; published: 1.
    image_size : int >= 32, default 128
        Side in pixels that images are resized to, a multiple of 16.
    latent : int, default 32
        Hidden numbers an image.
    epochs : int, default 60
        Passes over the images; published: 30 000. 0 leaves the networks untrained.
    batch_size : int, default 8
        Images a step; published: 32.
    learning_rate : float, default 1e-3
        Of all three Adams.
    rotation : float, default 0
        Degrees that an image is turned by at most, while training; published: 40.
    shift : float, default .05
        Share of the side that it is moved by at most.
    shear : float, default .05
        Degrees that it is sheared by at most.
    zoom : float in [0, 1), default .05
        Share that each axis is scaled by at most.
    brightness : float in [0, 1], default .2
        Share that its brightness changes by at most.
    flips : bool, default False
        Mirror each axis half of the time; published: True for hazelnuts, False for screws.
    reduction : {"max", "norm"}, default "max"
        How the channels of |x - x̂| become a map: their largest value or their Euclidean norm.
    smoothing : float, default 0
        Standard deviation of a Gaussian over the map, in pixels.
    image_score : {"max_grid", "max_map", "topk_mean"}, default "max_grid"
        How an image's score is taken: largest pixel, the same after smoothing, mean of the top 1 % of the pixels.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    encoder_, decoder_ : dict of arrays
        Weights and running statistics of E and G.

    References
    ----------
    M. Rashid, E. Amparore, E. Ferrari, D. Verda: Can I trust my anomaly detection system? A case study based on
    explainable AI. xAI 2024, arXiv 2407.19951.

    Examples
    --------
    >>> images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    >>> net = VAEGAN(width_mult=0.1, image_size=32, epochs=2, random_state=0).fit(images)
    >>> net.anomaly_score(images).shape, net.anomaly_map(images).shape
    ((4,), (4, 32, 32))
    >>> net.reconstruct(images).shape
    (4, 32, 32, 3)
    """

    def __init__(
        self,
        width_mult: float = 0.25,
        image_size: int = 128,
        latent: int = 32,
        epochs: int = 60,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        rotation: float = 0.0,
        shift: float = 0.05,
        shear: float = 0.05,
        zoom: float = 0.05,
        brightness: float = 0.2,
        flips: bool = False,
        reduction: str = "max",
        smoothing: float = 0.0,
        image_score: str = "max_grid",
        random_state: Any = None,
    ) -> None:
        self.width_mult = width_mult
        self.image_size = image_size
        self.latent = latent
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.rotation = rotation
        self.shift = shift
        self.shear = shear
        self.zoom = zoom
        self.brightness = brightness
        self.flips = flips
        self.reduction = reduction
        self.smoothing = smoothing
        self.image_score = image_score
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.width_mult, "width_mult", low=0.0, high=4.0, strict_low=True)
        if self.image_size % 16:
            raise InputError(f"image_size={self.image_size}: give a multiple of 16, at least 32")
        check_number(self.epochs, "epochs", low=0, integer=True)
        for name in ("latent", "batch_size"):
            check_number(getattr(self, name), name, low=1, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=1e3)
        check_number(self.rotation, "rotation", low=0.0, high=180.0)
        check_number(self.shear, "shear", low=0.0, high=45.0)
        check_number(self.zoom, "zoom", low=0.0, high=1.0, strict_high=True)
        for name in ("shift", "brightness"):
            check_number(getattr(self, name), name, low=0.0, high=1.0)
        check_option(self.reduction, "reduction", "max", "norm")

    def _fit(self, X: Images, y: Any, rng: np.random.Generator) -> None:
        images = np.concatenate(list(in_batches(X, self.image_size, "reading images")))
        with seeded(rng):
            E, G = self._encoder(), self._decoder()
            networks = nn.ModuleList([E, G, Discriminator(self.image_size, self.width_mult)])
            training = Training(*networks.to(memory_format=torch.channels_last), learning_rate=self.learning_rate)
            for _ in progress(range(self.epochs), "training VAE-GAN", total=self.epochs):
                order = rng.permutation(len(images))
                for start in range(0, len(images), self.batch_size):
                    training.step(self._varied(as_numbers(images[order[start : start + self.batch_size]]), rng))
        self.encoder_, self.decoder_ = arrays_of(E), arrays_of(G)

    def _varied(self, x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Return a batch as it is trained on."""
        x = moved(x, rng, self.rotation, self.shift, self.shear, self.zoom, self.flips)
        factor = rng.uniform(1 - self.brightness, 1 + self.brightness, len(x))
        return brightened(x, torch.from_numpy(factor).to(x.dtype))

    def _encoder(self) -> Encoder:
        return Encoder(self.image_size, self.latent, self.width_mult)

    def _decoder(self) -> Decoder:
        return Decoder(self.image_size, self.latent, self.width_mult)

    def _rebuilt(self) -> Any:
        """Return a function of images (b, 3, s, s) in [0, 1] that gives their reconstructions."""
        with torch.device("meta"):
            E, G = self._encoder(), self._decoder()
        E, G = (
            with_arrays(network, arrays).to(memory_format=torch.channels_last)
            for network, arrays in ((E, self.encoder_), (G, self.decoder_))
        )
        return lambda x: torch.sigmoid(G(E(x)[0]))

    def _scorer(self) -> Any:
        rebuilt = self._rebuilt()

        def differences(batch: Any) -> torch.Tensor:
            x = as_numbers(batch)
            away = (x - rebuilt(x)).abs()
            return away.amax(dim=1) if self.reduction == "max" else away.square().sum(dim=1).sqrt()

        return differences

    def reconstruct(self, X: Any) -> Pictures:
        """Return what the autoencoder draws for images of any kind, (n, image_size, image_size, 3) in [0, 1]."""
        check_is_fitted(self)
        images = self._check_table(X, reset=False)
        rebuilt, drawn = self._rebuilt(), []
        with torch.inference_mode():
            for batch in in_batches(images, self.image_size, "reconstructing"):
                drawn.append(rebuilt(as_numbers(batch)))
        return _as_pictures(drawn)

    def reconstruct_pixels(self, batch: Any) -> Pictures:
        """Return the same for numbers at the network's size; made for explanations, which change pixels by themselves.

        Parameters
        ----------
        batch : array of float32 of shape (b, image_size, image_size, 3)
            Colours in [0, 1].

        Returns
        -------
        array of float32 of shape (b, image_size, image_size, 3)
            In [0, 1].

        Raises
        ------
        InputError
            If shape or values are others.
        """
        check_is_fitted(self)
        pixels = np.asarray(batch)
        shape = (self.image_size, self.image_size, 3)
        if pixels.dtype.kind != "f" or pixels.shape[1:] != shape:
            raise InputError(
                f"batch is {pixels.dtype} of shape {pixels.shape}: give numbers of shape (b, {shape[0]}, {shape[1]}, 3)"
            )
        if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN fails both
            raise InputError("batch holds numbers beyond [0, 1]: clip or rescale it")
        rebuilt = self._rebuilt()
        x = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            return _as_pictures([rebuilt(part) for part in x.split(BATCH)])


def _as_pictures(drawn: list[torch.Tensor]) -> Pictures:
    """Return images (b, 3, s, s) of several batches as an array (n, s, s, 3)."""
    return np.ascontiguousarray(torch.cat(drawn).permute(0, 2, 3, 1).numpy(), dtype=np.float32)

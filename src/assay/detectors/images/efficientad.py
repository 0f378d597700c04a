"""EfficientAD: a student fails to imitate its teacher where a patch is new, and an autoencoder where the layout is.

In: normal images, any size, resized to `image_size`. Out: one score an image, its map's largest pixel, and a map at the
network's input size; over the pixels of held-out normal images the .9 quantile of either branch is 0 and the .995
quantile .1; higher = more anomalous.

A teacher T (`assay.nn.pdn`) describes every 33 x 33 window of an image I by C numbers; T̂ = (T - μ) / σ by channel
over the training images. A student S of the same form with 2C outputs learns in its first half to imitate T̂ and in its
second an autoencoder A, whose bottleneck is one vector an image; on new patches the first fails (structural anomalies),
on new arrangements of known patches A fails in a way that the student, seeing windows alone, cannot (logical ones):

    hard loss   mean of the (T̂(I) - S_1..C(I))² that reach their .999 quantile, an image at a time
    penalty     mean S_1..C(P)², P an image of something else: S must not imitate T beyond normality
    A           mean (T̂(I') - A(I'))², I' = I with its brightness, contrast or saturation times U(.8, 1.2)
    second half mean (A(I') - S_C+1..2C(I'))²; the gradient goes into both
    map         mean of the two branches' maps, each normalised (`assay.nn.map_normaliser`), 4 cells of 0 around it

Published: ``width_mult=1, image_size=256, steps=70_000``, Adam with learning rate 1e-4 (a tenth after 95 %) and weight
decay 1e-5, one image a step, a tenth of the training images held out for the quantiles, a teacher distilled from
WideResNet-101 on ImageNet in 60 000 steps of 16 images, and ImageNet's images for the penalty.

Departures:

- The defaults (``width_mult=.25``, 128 pixels, 2000 steps at ten times the learning rate) fit a processor: minutes
  instead of days, and weaker. 1e-3 was chosen on two categories of mini-MVTec, drawn with a seed that no result uses;
  2000 steps at the published 1e-4 leave the student far from its teacher.
- The published teacher must be given (``teacher="file"``). By default one is distilled at fit from the patch
  features of EfficientNet-Lite0, standardised and turned by a random orthogonal projection to C channels, on crops of
  the dozen photographs that scikit-image and scikit-learn bring along. These crops also serve for the penalty. Both are
  weaker than ImageNet: name a folder of photographs of other things as `penalty_images` where there is one.
- On real defects the defaults lie far below PatchCore (`results/images.md`). Take the published size, steps and a
  published teacher for work, on a graphics card.
- A teacher of few channels at a higher learning rate (`teacher_learning_rate` 1e-3) learns most in few steps.
- The map has the network's input size, not that of each image.
- With more than one image a step the hard loss is still taken an image at a time.
- The kernel of the bottleneck is s / 32 below 256 pixels, where the published 8 x 8 would not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from assay.core.images import Images, Pixels, resized
from assay.core.progress import progress
from assay.core.validation import Floats, InputError, check_number, check_option, told
from assay.detectors.images.common import MapDetector, in_batches
from assay.generators.textures import texture_source
from assay.nn.augment import brightness, contrast, greyed, saturation
from assay.nn.backbones import architecture, build, initial_weights
from assay.nn.map_normaliser import QuantileMapNormaliser
from assay.nn.patch_features import PatchFeatures
from assay.nn.pdn import (
    CHANNELS,
    PatchDescriptionNetwork,
    as_numbers,
    batches,
    distil,
    imagenet_scaled,
    read_teacher,
    scaled_width,
    targets,
)
from assay.nn.state import Arrays, arrays_of, seeded, with_arrays

#: Cells that the unpadded network loses at each side.
BORDER = 4
#: Share of the penalty's images without colour, and of the teacher's.
GREY_PENALTY, GREY_TEACHER = 0.3, 0.1
#: Most that brightness, contrast or saturation change.
CHANGE = 0.2
#: Share of the steps after which the learning rate falls to a tenth.
DECAY_AFTER = 0.95

Branches = Callable[[Pixels], list[torch.Tensor]]


class AutoEncoder(nn.Module):
    """A: images of `size` pixels to C maps on the unpadded grid, through one vector an image.

    Parameters
    ----------
    size : int
        Side of the images; one of 256 has a kernel of 8 x 8 at the bottleneck, smaller ones size // 32.
    outputs : int
        C.
    width_mult : float, default 1
        Multiplies the hidden widths.
    dropout : float, default .2
        Of the decoder.
    """

    def __init__(self, size: int, outputs: int, width_mult: float = 1.0, dropout: float = 0.2) -> None:
        super().__init__()
        narrow, wide = scaled_width(32, width_mult), scaled_width(64, width_mult)
        widths = 3, narrow, narrow, wide, wide, wide
        layers: list[nn.Module] = []
        for inputs, channels in pairwise(widths):
            layers += [nn.Conv2d(inputs, channels, 4, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(wide, wide, min(8, size // 32)))
        self.sizes = (max(1, size // 64 - 1), size // 32, size // 16 - 1, size // 8, size // 4 - 1, size // 2 - 1)
        self.grid = math.ceil(size / 4) - 2 * BORDER
        self.decoder = nn.ModuleList(nn.Conv2d(wide, wide, 4, padding=2) for _ in self.sizes)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(), nn.Conv2d(wide, outputs, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the maps (b, C, grid, grid) of images in [0, 1]."""
        x = self.encoder(imagenet_scaled(x))
        for side, layer in zip(self.sizes, self.decoder):
            x = self.dropout(F.relu(layer(_at(x, side))))
        return self.last(_at(x, self.grid))


def hard_quantile_loss(squared: torch.Tensor, p: float = 0.999) -> torch.Tensor:
    """Return the mean of the elements that reach the `p` quantile, for each item of (b, …), averaged over the items.

    The quantile is the interpolated one, of any number of elements. `p` = 0 is the mean of all.
    """
    losses = []
    for item in squared.flatten(1):
        # What reaches the interpolated quantile reaches the element behind it. Rounded: .999 · 1000 is 999.
        place = math.ceil(round(p * (len(item) - 1), 6))
        threshold = item.detach().kthvalue(place + 1).values
        losses.append(item[item >= threshold].mean())
    return torch.stack(losses).mean()


def changed_light(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return each image with one of brightness, contrast and saturation times U(.8, 1.2)."""
    which = rng.integers(3, size=len(x))
    factors = torch.from_numpy(rng.uniform(1 - CHANGE, 1 + CHANGE, len(x))).to(x.dtype)
    changes = brightness, contrast, saturation
    rows = [changes[k](x[i : i + 1], factors[i : i + 1]) for i, k in enumerate(which)]
    return torch.cat(rows).contiguous(memory_format=torch.channels_last)


def losses(
    teacher: nn.Module,
    student: nn.Module,
    autoencoder: nn.Module,
    x: torch.Tensor,
    other: torch.Tensor,
    changed: torch.Tensor,
    p: float = 0.999,
) -> dict[str, torch.Tensor]:
    """Return the four losses, by the names of the module's table, of images, others, and the images in other light.

    `teacher` is the normalised one, T̂. All images go through a network together.
    """
    with torch.no_grad():
        wanted, wanted_changed = teacher(torch.cat([x, changed])).chunk(2)
    described, foreign, described_changed = student(torch.cat([x, other, changed])).chunk(3)
    rebuilt, channels = autoencoder(changed), wanted.shape[1]
    return {
        "hard": hard_quantile_loss((wanted - described[:, :channels]).square(), p),
        "penalty": foreign[:, :channels].square().mean(),
        "autoencoder": (wanted_changed - rebuilt).square().mean(),
        "second": (rebuilt - described_changed[:, channels:]).square().mean(),
    }


class EfficientAD(MapDetector):
    """A student, its teacher and an autoencoder, all of them small.

    Parameters
    ----------
    size : {"S", "M"}, default "S"
        Of the patch description networks.
    width_mult : float, default .25
        Multiplies all widths and the teacher's 384 channels; published: 1.
    image_size : int >= 64, default 128
        Side in pixels that images are resized to; published: 256.
    steps : int, default 2000
        Training steps; published: 70 000. 0 leaves student and autoencoder untrained.
    teacher : str, default "distil"
        ``"distil"``: distilled at fit; else the path of a state dict in the published layout.
    teacher_steps : int, default 1000
        Steps of the distillation; published: 60 000.
    teacher_learning_rate : float, default 1e-3
        Of the distillation; published: 1e-4.
    teacher_batch_size : int, default 4
        Images a step of the distillation; published: 16.
    backbone : str, default "efficientnet_lite0"
        What is distilled, a name of `assay.nn.backbones`; published: ``"wide_resnet101_2"``.
    weights : str or None, default "imagenet"
        Of the backbone: ``"imagenet"``, the path of a state dict, or None for random ones.
    levels : tuple of str, default ("stage3", "stage5")
        Levels of the backbone, the first of stride 8; published: ``("layer2", "layer3")``.
    penalty_images : "photographs", "procedural", folder, list of files or array of images, default "photographs"
        Images of something else than the product, for the penalty and the distillation: see
        `assay.generators.textures`. Published: ImageNet.
    n_penalty : int, default 200
        How many of them are drawn; each takes 12 s² bytes, and while the teacher learns a quarter of C s² more.
    penalty : float, default 1
        Weight of the penalty.
    hard_quantile : float in [0, 1), default .999
        Of the hard loss; 0 is the mean of all.
    dropout : float in [0, 1), default .2
        Of the autoencoder's decoder.
    holdout : float in (0, 1), default .1
        Share of the training images, at least one, that the quantiles are taken from.
    low, high : float, default .9 and .995
        The quantiles that become 0 and .1.
    batch_size : int, default 1
        Images a step.
    learning_rate, weight_decay : float, default 1e-3 and 1e-5
        Of Adam; published: 1e-4 and 1e-5.
    smoothing : float, default 0
        Standard deviation of a Gaussian over the map, in pixels.
    image_score : {"max_grid", "max_map", "topk_mean"}, default "max_map"
        How an image's score is taken.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    teacher_, student_, autoencoder_ : dict of arrays
        Weights.
    teacher_mean_, teacher_std_ : arrays of shape (C,)
        μ and σ.
    quantiles_ : array of shape (2, 2)
        For the student's and the autoencoder's branch, the two quantiles of the raw maps.

    References
    ----------
    K. Batzner, L. Heckler, R. König: EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies.
    WACV 2024, arXiv 2303.14535.

    Examples
    --------
    >>> images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    >>> tiny = dict(width_mult=0.05, image_size=64, steps=3, teacher_steps=2, n_penalty=4, weights=None)
    >>> net = EfficientAD(**tiny, random_state=0).fit(images)
    >>> net.anomaly_score(images).shape, net.anomaly_map(images).shape
    ((4,), (4, 64, 64))
    """

    def __init__(
        self,
        size: str = "S",
        width_mult: float = 0.25,
        image_size: int = 128,
        steps: int = 2000,
        teacher: str = "distil",
        teacher_steps: int = 1000,
        teacher_learning_rate: float = 1e-3,
        teacher_batch_size: int = 4,
        backbone: str = "efficientnet_lite0",
        weights: str | None = "imagenet",
        levels: tuple[str, ...] = ("stage3", "stage5"),
        penalty_images: Any = "photographs",
        n_penalty: int = 200,
        penalty: float = 1.0,
        hard_quantile: float = 0.999,
        dropout: float = 0.2,
        holdout: float = 0.1,
        low: float = 0.9,
        high: float = 0.995,
        batch_size: int = 1,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-5,
        smoothing: float = 0.0,
        image_score: str = "max_map",
        random_state: Any = None,
    ) -> None:
        self.size = size
        self.width_mult = width_mult
        self.image_size = image_size
        self.steps = steps
        self.teacher = teacher
        self.teacher_steps = teacher_steps
        self.teacher_learning_rate = teacher_learning_rate
        self.teacher_batch_size = teacher_batch_size
        self.backbone = backbone
        self.weights = weights
        self.levels = levels
        self.penalty_images = penalty_images
        self.n_penalty = n_penalty
        self.penalty = penalty
        self.hard_quantile = hard_quantile
        self.dropout = dropout
        self.holdout = holdout
        self.low = low
        self.high = high
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.smoothing = smoothing
        self.image_score = image_score
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option(self.size, "size", "S", "M")
        check_number(self.width_mult, "width_mult", low=0.0, high=4.0, strict_low=True)
        check_number(self.image_size, "image_size", low=64, integer=True)
        if not isinstance(self.teacher, str):
            raise InputError(f"teacher={told(self.teacher)}: give 'distil' or the path of a state dict")
        with torch.device("meta"):
            architecture(self.backbone).check_levels(self.levels)
        for name in ("steps", "teacher_steps"):
            check_number(getattr(self, name), name, low=0, integer=True)
        for name in ("batch_size", "teacher_batch_size", "n_penalty"):
            check_number(getattr(self, name), name, low=1, integer=True)
        for name in ("teacher_learning_rate", "penalty", "learning_rate", "weight_decay"):
            check_number(getattr(self, name), name, low=0.0, high=1e3)
        for name in ("hard_quantile", "dropout"):
            check_number(getattr(self, name), name, low=0.0, high=1.0, strict_high=True)
        check_number(self.holdout, "holdout", low=0.0, high=1.0, strict_low=True, strict_high=True)
        check_number(self.low, "low", low=0.0, high=1.0)
        check_number(self.high, "high", low=self.low, high=1.0, strict_low=True)

    # -- training --------------------------------------------------------------------------------------------------

    def _fit(self, X: Images, y: Any, rng: np.random.Generator) -> None:
        foreign = self._foreign(rng)
        images = np.concatenate(list(in_batches(X, self.image_size, "reading images")))
        order = rng.permutation(len(images))
        held = min(max(1, round(self.holdout * len(images))), len(images) - 1)
        train, valid = images[np.sort(order[held:])], images[np.sort(order[:held])]
        with seeded(rng):
            self.teacher_ = self._taught(foreign, rng)
            self.teacher_mean_, self.teacher_std_ = self._statistics(train)
            self._train(train, foreign, rng)
        branches = self._branches()
        with torch.inference_mode():
            maps = [branches(image[None]) for image in progress(valid, "normalising maps", len(valid))]
        by_branch = [torch.cat(parts).numpy() for parts in zip(*maps)]
        self.quantiles_ = QuantileMapNormaliser.quantiles_of(by_branch, self.low, self.high)

    def _foreign(self, rng: np.random.Generator) -> Pixels:
        """Draw the images of something else, at twice the size: the teacher's model sees them so."""
        draw, side = texture_source(self.penalty_images, "penalty_images"), 2 * self.image_size
        drawn = progress(range(self.n_penalty), "drawing other images", self.n_penalty)
        return np.stack([draw((side, side), rng)[0] for _ in drawn])

    def _taught(self, foreign: Pixels, rng: np.random.Generator) -> Arrays:
        channels = scaled_width(CHANNELS, self.width_mult)
        if self.teacher != "distil":
            return read_teacher(self.teacher, self.size, self.width_mult, channels)
        large = greyed(as_numbers(foreign), rng, GREY_TEACHER)
        foreign = (large * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        small = np.stack([resized(image, (self.image_size,) * 2) for image in foreign])
        network = build(self.backbone, initial_weights(self.backbone, self.weights, rng))
        maps = targets(PatchFeatures(network, self.levels), foreign, channels)
        pdn = PatchDescriptionNetwork(channels, self.size, self.width_mult, padded=True)
        options = dict(batch_size=self.teacher_batch_size, learning_rate=self.teacher_learning_rate)
        distil(pdn, small, maps, rng, steps=self.teacher_steps, weight_decay=self.weight_decay, **options)
        return arrays_of(pdn)

    def _statistics(self, train: Pixels) -> tuple[Any, Any]:
        """Return mean and standard deviation of the teacher's channels over all places of the training images."""
        pdn = self._pdn(self.teacher_, 1)
        total = squares = torch.zeros(scaled_width(CHANNELS, self.width_mult), dtype=torch.float64)
        count = 0
        with torch.inference_mode():
            for image in progress(train, "measuring the teacher", len(train)):
                described = pdn(as_numbers(image[None])).double().flatten(2)[0]
                total, squares = total + described.sum(dim=1), squares + described.square().sum(dim=1)
                count += described.shape[1]
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=0).sqrt()
        return mean.numpy(), torch.where(std > 0, std, 1.0).numpy()

    def _train(self, train: Pixels, foreign: Pixels, rng: np.random.Generator) -> None:
        channels = scaled_width(CHANNELS, self.width_mult)
        teacher = self._pdn(self._normalised_teacher(), 1)
        student = PatchDescriptionNetwork(2 * channels, self.size, self.width_mult)
        autoencoder = AutoEncoder(self.image_size, channels, self.width_mult, self.dropout)
        networks = nn.ModuleList([student, autoencoder]).train().to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(networks.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        decay = torch.optim.lr_scheduler.StepLR(optimiser, max(1, int(DECAY_AFTER * self.steps)), gamma=0.1)
        edge = self.image_size // 2
        others = foreign[:, edge : edge + self.image_size, edge : edge + self.image_size]
        plan = zip(*(batches(len(part), self.steps, self.batch_size, rng) for part in (train, others)))
        for rows, other_rows in progress(plan, "training EfficientAD", self.steps):
            x = as_numbers(train[rows])
            other = greyed(as_numbers(others[other_rows]), rng, GREY_PENALTY)
            parts = losses(teacher, student, autoencoder, x, other, changed_light(x, rng), self.hard_quantile)
            optimiser.zero_grad()
            (parts["hard"] + self.penalty * parts["penalty"] + parts["autoencoder"] + parts["second"]).backward()
            optimiser.step()
            decay.step()
        self.student_, self.autoencoder_ = arrays_of(student), arrays_of(autoencoder)

    # -- scoring ---------------------------------------------------------------------------------------------------

    def _normalised_teacher(self) -> Arrays:
        """Return the teacher with its normalisation merged into the last layer."""
        *_, weight, bias = self.teacher_
        merged = {
            weight: self.teacher_[weight] / self.teacher_std_[:, None, None, None],
            bias: (self.teacher_[bias] - self.teacher_mean_) / self.teacher_std_,
        }
        return self.teacher_ | {name: array.astype(np.float32) for name, array in merged.items()}

    def _pdn(self, arrays: Arrays, halves: int) -> nn.Module:
        with torch.device("meta"):
            channels = halves * scaled_width(CHANNELS, self.width_mult)
            pdn = PatchDescriptionNetwork(channels, self.size, self.width_mult)
        return with_arrays(pdn, arrays).to(memory_format=torch.channels_last)

    def _branches(self) -> Branches:
        """Return a function of a batch that gives the raw maps (b, rows, columns) of student and autoencoder."""
        channels = scaled_width(CHANNELS, self.width_mult)
        teacher, student = self._pdn(self._normalised_teacher(), 1), self._pdn(self.student_, 2)
        with torch.device("meta"):
            empty = AutoEncoder(self.image_size, channels, self.width_mult, self.dropout)
        autoencoder = with_arrays(empty, self.autoencoder_).to(memory_format=torch.channels_last)

        def branches(batch: Pixels) -> list[torch.Tensor]:
            maps = []
            for image in as_numbers(batch).split(1):  # one at a time: the first layers' maps are large
                described = student(image)
                first = (teacher(image) - described[:, :channels]).square().mean(dim=1)
                maps.append((first, (autoencoder(image) - described[:, channels:]).square().mean(dim=1)))
            return [torch.cat(parts) for parts in zip(*maps)]

        return branches

    def _scorer(self) -> Any:
        branches, normaliser = self._branches(), QuantileMapNormaliser(self.quantiles_)
        return lambda batch: F.pad(normaliser.combined(branches(batch)), (BORDER,) * 4)

    def branch_scores(self, X: Any) -> Floats:
        """Return the largest value of either branch's normalised map, (n, 2): student, autoencoder.

        A defect that only the first raises is one of structure, one that only the second raises is one of layout.
        """
        check_is_fitted(self)
        images = self._check_table(X, reset=False)
        branches, normaliser = self._branches(), QuantileMapNormaliser(self.quantiles_)
        rows = []
        with torch.inference_mode():
            for batch in in_batches(images, self.image_size, "scoring"):
                rows += [torch.stack([maps.amax(dim=(1, 2)) for maps in normaliser(branches(batch))], dim=1)]
        return torch.cat(rows).double().numpy()


def _at(x: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)

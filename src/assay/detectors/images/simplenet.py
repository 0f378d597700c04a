"""SimpleNet: a small network tells normal patch features from the same features with noise on them.

In: normal images, any size, resized to `image_size`. Out: one score an image, unbounded, about -1 to 1 after training,
and a map at the network's input size; higher = more anomalous.

A frozen backbone turns an image into a grid of patch features o (`assay.nn.patch_features`). A linear adaptor G takes
them to q = G(o); noise *after* the adaptor makes a counterfeit of every location, and a discriminator D (Linear,
BatchNorm, LeakyReLU(.2), Linear without bias) learns to tell both:

    q⁻ = q + ε,  ε ~ N(0, σ²) in every dimension of every location, drawn anew each step;
    loss = mean max(0, t - D(q)) + mean max(0, t + D(q⁻)),  t = .5  (truncated L1);
    score of a location = -D(G(o)).

Both kinds go through D in one batch, for its BatchNorm's sake, and gradients reach G through both. The image's score
is the largest of the grid; the map is the grid, bilinear, smoothed by a Gaussian of 4 pixels.

Defaults of the published code: margins .5, hidden width 1024, learning rates 2e-4 (D, Adam, weight decay 1e-5) and
1e-4 (G, AdamW), batches of 8 images, smoothing 4. The published backbone is ``backbone="wide_resnet50_2"``,
``levels=("layer2", "layer3")``, ``aggregate="adaptive"``, ``width=1536``, at 288 pixels with ``noise_std=.015`` and
``epochs=160``.

Departures:

- The default backbone is EfficientNet-Lite0, whose weights can be installed. σ = .015 belongs to the scale of the
  published features, so ``noise_std="auto"`` takes .5 times the median standard deviation of q's dimensions over the
  training set, before training. The factor was chosen once, on crops of scikit-image's brick, grass and gravel
  with pasted, scratched, blurred and darkened places: see `AUTO_NOISE` of `assay.generators.features`.
- Nothing is augmented and the backbone is frozen, so the features are computed once and kept (n · h · w · D floats):
  the same mathematics, for a fraction of the time. ``epochs`` is 40, not 160.
- Images are resized, not cropped: defects near the border count.
- The last epoch is used. The published figures are those of the best epoch on the test set.
- At scoring G, the first layer and BatchNorm, all of them affine, are one product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from assay.core.images import Images
from assay.core.progress import progress
from assay.core.validation import check_number
from assay.detectors.images.common import PatchDetector
from assay.generators.features import AUTO_NOISE, MIX_RATIO, check_noise
from assay.nn.patch_features import PatchFeatures
from assay.nn.state import arrays_of, seeded

#: Slope of the discriminator's LeakyReLU below 0.
SLOPE = 0.2


def adaptor(width: int, layers: int) -> nn.Sequential:
    """Return G: linear layers of one width, with bias and without activation; none of them is the identity."""
    return _xavier(nn.Sequential(*(nn.Linear(width, width) for _ in range(layers))))


def discriminator(width: int, hidden: int) -> nn.Sequential:
    """Return D: a normality score a row, (n, width) -> (n, 1), without a bias or a sigmoid at the end."""
    layers = nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(SLOPE), nn.Linear(hidden, 1, bias=False)
    return _xavier(nn.Sequential(*layers))


def with_noise(q: torch.Tensor, std: float, components: int = 1) -> torch.Tensor:
    """Return the counterfeits of rows (n, d): noise of deviation `std` · 1.1^k, k drawn for each row."""
    scale = std * MIX_RATIO ** torch.randint(components, (len(q), 1))
    return q + scale * torch.randn_like(q)


def truncated_l1(genuine: torch.Tensor, counterfeit: torch.Tensor, margin: float = 0.5) -> torch.Tensor:
    """Return the loss of the discriminator's outputs: 0 beyond the margin, a straight line before it."""
    return F.relu(margin - genuine).mean() + F.relu(margin + counterfeit).mean()


def merged(adapt: dict[str, Any], judge: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weight, bias and last layer of D ∘ G in evaluation: -D(G(o)) = -last · leaky(weight · o + bias)."""
    A, J = ({name: np.asarray(array, dtype=np.float64) for name, array in part.items()} for part in (adapt, judge))
    scale = J["1.weight"] / np.sqrt(J["1.running_var"] + nn.BatchNorm1d(1).eps)
    weight = scale[:, None] * J["0.weight"]
    bias = scale * (J["0.bias"] - J["1.running_mean"]) + J["1.bias"]
    for layer in reversed(range(len(A) // 2)):
        bias = bias + weight @ A[f"{layer}.bias"]
        weight = weight @ A[f"{layer}.weight"]
    arrays = weight, bias, -J["3.weight"][0]
    first, second, third = (torch.from_numpy(array.astype(np.float32)) for array in arrays)
    return first, second, third


class SimpleNet(PatchDetector):
    """Patch features against their noisy counterfeits.

    Parameters
    ----------
    backbone : str, default "efficientnet_lite0"
        A name of `assay.nn.backbones`; published: ``"wide_resnet50_2"``.
    weights : str or None, default "imagenet"
        Of the backbone: ``"imagenet"``, the path of a state dict, or None for random ones.
    levels : tuple of str, default ("stage3", "stage5")
        Levels of the backbone, shallow first; published: ``("layer2", "layer3")``.
    patch : int, default 3
        Side of the neighbourhood that a feature is averaged over, in cells.
    aggregate : {"concat", "adaptive"}, default "concat"
        How levels are joined, see `assay.nn.patch_features`; published: ``"adaptive"``.
    width : int, default 1536
        Dimensions of ``"adaptive"`` features.
    image_size : int, default 224
        Side in pixels that images are resized to; published: a crop of 288.
    noise_std : float or "auto", default "auto"
        Standard deviation σ of the noise; published: .015, for the published backbone.
    mix_noise : int, default 1
        Components of the noise: each location takes σ · 1.1^k, k uniform below this number.
    adaptor_layers : int, default 1
        Linear layers of G; 0 leaves it out.
    hidden : int, default 1024
        Hidden width of D.
    margin : float, default 0.5
        t of the loss.
    epochs : int, default 40
        Passes over the features; published: 160. 0 leaves both networks untrained.
    batch_size : int, default 8
        Images a step.
    learning_rate, adaptor_learning_rate : float, default 2e-4 and 1e-4
        Of D and of G.
    weight_decay : float, default 1e-5
        Of D.
    smoothing : float, default 4
        Standard deviation of the map's Gaussian, in pixels.
    image_score : {"max_grid", "max_map", "topk_mean"}, default "max_grid"
        How an image's score is taken: largest location, largest pixel of the map, mean of the top 1 % of locations.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    noise_std_ : float
        σ.
    adaptor_, discriminator_ : dict of arrays
        Weights of G and D.

    References
    ----------
    Z. Liu, Y. Zhou, Y. Xu, Z. Wang: SimpleNet: A Simple Network for Image Anomaly Detection and Localization. CVPR
    2023, arXiv 2303.15140.

    Examples
    --------
    >>> images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    >>> net = SimpleNet(weights=None, image_size=32, hidden=16, epochs=2, random_state=0).fit(images)
    >>> net.anomaly_score(images).shape, net.anomaly_map(images).shape
    ((4,), (4, 32, 32))
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        weights: str | None = "imagenet",
        levels: tuple[str, ...] = ("stage3", "stage5"),
        patch: int = 3,
        aggregate: str = "concat",
        width: int = 1536,
        image_size: int = 224,
        noise_std: float | str = "auto",
        mix_noise: int = 1,
        adaptor_layers: int = 1,
        hidden: int = 1024,
        margin: float = 0.5,
        epochs: int = 40,
        batch_size: int = 8,
        learning_rate: float = 2e-4,
        adaptor_learning_rate: float = 1e-4,
        weight_decay: float = 1e-5,
        smoothing: float = 4.0,
        image_score: str = "max_grid",
        random_state: Any = None,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.levels = levels
        self.patch = patch
        self.aggregate = aggregate
        self.width = width
        self.image_size = image_size
        self.noise_std = noise_std
        self.mix_noise = mix_noise
        self.adaptor_layers = adaptor_layers
        self.hidden = hidden
        self.margin = margin
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.adaptor_learning_rate = adaptor_learning_rate
        self.weight_decay = weight_decay
        self.smoothing = smoothing
        self.image_score = image_score
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_noise(self.noise_std, self.mix_noise)
        check_number(self.adaptor_layers, "adaptor_layers", low=0, high=10, integer=True)
        check_number(self.epochs, "epochs", low=0, integer=True)
        for name in ("hidden", "batch_size"):
            check_number(getattr(self, name), name, low=1, integer=True)
        for name in ("margin", "learning_rate", "adaptor_learning_rate", "weight_decay"):
            check_number(getattr(self, name), name, low=0.0, high=1e3)

    def _learn(self, X: Images, features: PatchFeatures, rng: np.random.Generator) -> None:
        o = self._extract(X, features)
        with seeded(rng):
            G, D = adaptor(o.shape[-1], self.adaptor_layers), discriminator(o.shape[-1], self.hidden)
            self.noise_std_ = _auto_std(o, G) if isinstance(self.noise_std, str) else float(self.noise_std)
            self._train(o, G, D, rng)
        self.adaptor_, self.discriminator_ = arrays_of(G), arrays_of(D)

    def _train(self, o: torch.Tensor, G: nn.Module, D: nn.Module, rng: np.random.Generator) -> None:
        steps = [torch.optim.Adam(D.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)]
        if self.adaptor_layers:
            steps.append(torch.optim.AdamW(G.parameters(), lr=self.adaptor_learning_rate))
        for _ in progress(range(self.epochs), "training SimpleNet", total=self.epochs):
            for rows in torch.from_numpy(rng.permutation(len(o))).split(self.batch_size):
                q = G(o[rows].flatten(0, 2))
                genuine, counterfeit = D(torch.cat([q, with_noise(q, self.noise_std_, self.mix_noise)])).chunk(2)
                for step in steps:
                    step.zero_grad()
                truncated_l1(genuine, counterfeit, self.margin).backward()
                for step in steps:
                    step.step()

    def _cells(self) -> Any:
        weight, bias, last = merged(self.adaptor_, self.discriminator_)

        def one(o: torch.Tensor) -> torch.Tensor:
            return F.leaky_relu_(F.linear(o, weight, bias), SLOPE) @ last

        # An image at a time: its hidden layer fits into the cache.
        return lambda features: torch.stack([one(o) for o in features])


def _auto_std(o: torch.Tensor, G: nn.Module) -> float:
    """Return the noise for adapted features: a share of their median deviation over all places of all images."""
    total, squares, count = 0.0, 0.0, o[..., 0].numel()
    with torch.inference_mode():
        for image in o:
            q = G(image.flatten(0, 1)).double()
            total, squares = total + q.sum(dim=0), squares + q.square().sum(dim=0)
    variance = (squares / count - (total / count).square()).clamp(min=0)
    return AUTO_NOISE * float(variance.sqrt().quantile(0.5))


def _xavier(network: nn.Sequential) -> nn.Sequential:
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight)
    return network

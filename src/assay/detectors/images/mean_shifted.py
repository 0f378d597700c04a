"""Mean-shifted contrastive adaptation: tune a pretrained encoder on normal images so that near neighbours tell.

In: normal images. Out: one score an image, the sum of the squared distances to its k nearest normal features, in
[0, 4k]; no map. `transform` gives the features themselves, (n, D) of length one.

Pretrained features of one class lie in a narrow cone. A contrastive loss spreads directions evenly; measured from the
origin it therefore opens the cone, and the compactness that scoring lives on is lost. Measured from the mean of the
normal features, the same loss spreads the directions *around the mean*, and leaves the distance to it free:

    f(x) = φ(x) / ‖φ(x)‖,   c = mean f over the normal images,   θ(x) = (f(x) - c) / ‖f(x) - c‖,
    L = mean over the 2B views i of -log( exp(θ_i·θ_pair(i) / τ) / Σ_{j ≠ i} exp(θ_i·θ_j / τ) ).

φ is the pooled deepest level. c comes from the pretrained encoder and the images as they are, and never changes. With
``angular`` the squared distances of both views to c / ‖c‖ are added (their means). Every image is shown as two random
views (`assay.nn.augment.contrastive_view`). Plain SGD without momentum; the network stays in evaluation mode
throughout, so that running statistics do not move. Levels up to `frozen` are not trained. The score is on f, not on
θ: Σ over the k nearest of (2 - 2 f·f'), exact, in blocks. Normal images may be of several kinds: nothing assumes one.

Defaults: τ = .25, learning rate 1e-5, weight decay 5e-5, batches of 64, 20 epochs, k = 2, no angular loss (the official
code). Its backbone is ResNet-152 with everything up to ``layer2`` frozen (``backbone="resnet152",
frozen="layer2"``), or ResNet-18 with nothing frozen; EfficientNet-Lite0, frozen up to the same stride 8, stands in for
it, its weights being a package. An epoch of a few hundred images is a few steps only: at the published learning rate,
chosen for 5,000 images, they hardly move the network, and 1e-3 is then a better start.

Departures: images are brought to `image_size` squared without the centre crop (the official way with ResNet-18), so
that nothing at the border is lost; the blur is a true Gaussian; the published table picked the best epoch by looking at
test labels, here the number of epochs is fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from assay.base import Detector, TakesImages
from assay.core.images import Images
from assay.core.progress import progress
from assay.core.validation import Floats, InputError, Ints, check_number
from assay.detectors.images.common import in_batches
from assay.nn.augment import contrastive_view
from assay.nn.backbones import architecture, build, initial_weights, trainable
from assay.nn.state import arrays_of

#: Rows scored together: (rows, normal images) distances are in memory.
ROWS = 1024


def shifted(features: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Return θ: the directions from `centre` (D,) to the features (b, D), which are brought to length one first."""
    return F.normalize(F.normalize(features, dim=1) - centre, dim=1)


def contrastive_loss(first: torch.Tensor, second: torch.Tensor, temperature: float = 0.25) -> torch.Tensor:
    """Return NT-Xent of two views of the same items, each (b, D) of length one; every view is an anchor.

    Its denominator holds the pair and the other 2b - 2 views, not the anchor itself; one item alone costs 0.
    """
    views = torch.cat([first, second])
    n = len(first)
    similarity = views @ views.T / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
    pairs = torch.arange(2 * n).roll(n)
    return F.cross_entropy(similarity, pairs)


def angular_loss(features: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Return the mean squared distance of features (b, D) to the centre, both at length one: 2 - 2 f·c on average."""
    return (F.normalize(features, dim=1) - F.normalize(centre, dim=0)).square().sum(dim=1).mean()


def mean_shifted_loss(
    first: torch.Tensor, second: torch.Tensor, centre: torch.Tensor, temperature: float = 0.25, angular: bool = False
) -> torch.Tensor:
    """Return the loss of two views' raw features (b, D) about `centre` (D,); a centre of 0 is plain contrast.

    Examples
    --------
    >>> import torch
    >>> from assay.detectors.images.mean_shifted import mean_shifted_loss
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> bool(mean_shifted_loss(x, x, x.mean(dim=0)) < mean_shifted_loss(x, x.flip(0), x.mean(dim=0)))
    True
    """
    loss = contrastive_loss(shifted(first, centre), shifted(second, centre), temperature)
    if angular:
        loss = loss + angular_loss(first, centre) + angular_loss(second, centre)
    return loss


def adapt(
    encoder: nn.Module,
    views: Callable[[Ints], torch.Tensor],
    n: int,
    centre: torch.Tensor,
    rng: np.random.Generator,
    *,
    temperature: float = 0.25,
    angular: bool = False,
    learning_rate: float = 1e-5,
    weight_decay: float = 5e-5,
    batch_size: int = 64,
    epochs: int = 20,
) -> Floats:
    """Tune an encoder in place and return the mean loss of each epoch.

    Parameters
    ----------
    encoder : module
        Gives features (b, D); what is not to be trained has ``requires_grad`` off. It is set to evaluation mode.
    views : callable
        Rows (b,) -> one random view of each, as the encoder wants them; called twice a step.
    n : int
        Number of items.
    centre : tensor of shape (D,)
        Mean of the pretrained features at length one.
    rng : numpy.random.Generator
        Order of the items.
    temperature, angular, learning_rate, weight_decay, batch_size, epochs
        See `MeanShiftedContrastive`.
    """
    encoder.eval()
    weights = [weight for weight in encoder.parameters() if weight.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=learning_rate, weight_decay=weight_decay)
    losses = np.zeros(epochs)
    for epoch in progress(range(epochs), "adapting the encoder", total=epochs):
        order = rng.permutation(n)
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            loss = mean_shifted_loss(encoder(views(rows)), encoder(views(rows)), centre, temperature, angular)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[epoch] += loss.item() * len(rows) / n
    return losses


def neighbour_score(features: Floats, normals: Floats, k: int = 2) -> Floats:
    """Return each row's squared distances to its k nearest `normals`, summed; all rows are of length one."""
    scores = np.empty(len(features))
    k = min(k, len(normals))
    for start in range(0, len(features), ROWS):
        similarity = features[start : start + ROWS] @ normals.T
        nearest = np.partition(similarity, len(normals) - k, axis=1)[:, len(normals) - k :]
        scores[start : start + ROWS] = np.maximum(2.0 - 2.0 * np.sort(nearest, axis=1), 0.0).sum(axis=1)
    return scores


class _Pooled(nn.Module):
    """A backbone whose output is the mean over the places of one level."""

    def __init__(self, backbone: Any, level: str) -> None:
        super().__init__()
        self.backbone, self.level = backbone, level

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x, (self.level,))[self.level].mean(dim=(2, 3))


def _level(weight: str, levels: tuple[str, ...]) -> str:
    """Return the level that a weight belongs to, by its name; a ResNet's first layers lie beside the levels."""
    top = weight.split(".")[0]
    return top if top in levels else levels[0]


class MeanShiftedContrastive(TakesImages, Detector):
    """Adapts a pretrained network to normal images by contrast about their mean; scores by near neighbours.

    Parameters
    ----------
    backbone : str, default "efficientnet_lite0"
        Network; see `assay.nn.backbones` (published: ResNet-152).
    weights : str or None, default "imagenet"
        Its weights; a file of yours, or None for random ones.
    frozen : str or None, default "stage3"
        Deepest level that is not trained (published: ``layer2`` of ResNet-152); None trains everything.
    temperature : float, default .25
        τ.
    angular : bool, default False
        Also pull the features towards their pretrained mean.
    learning_rate, weight_decay : float, defaults 1e-5 and 5e-5
        Of plain SGD.
    batch_size : int, default 64
        Images a step.
    epochs : int, default 20
        Passes over the images; 0 leaves the pretrained network: plain near neighbours.
    k : int, default 2
        Neighbours.
    image_size : int, default 224
        Images are brought to this size squared, in pixels.
    random_state : None, int or numpy.random.Generator
        Seed of order and views.

    Attributes
    ----------
    backbone_ : dict of arrays
        Weights of the adapted network.
    centre_ : array of shape (D,), float32
        Mean of the pretrained features c.
    normals_ : array of shape (n, D), float32
        Adapted features of the training images, of length one.
    losses_ : array of shape (epochs,)
        Mean loss of each epoch.

    References
    ----------
    Reiss and Hoshen: Mean-Shifted Contrastive Loss for Anomaly Detection. AAAI 2023, arXiv 2106.03844.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.detectors.images.mean_shifted import MeanShiftedContrastive
    >>> X = np.random.default_rng(0).random((4, 32, 32, 3))
    >>> model = MeanShiftedContrastive(weights=None, image_size=32, epochs=1, random_state=0).fit(X)
    >>> model.anomaly_score(X).shape, model.transform(X).shape
    ((4,), (4, 1280))
    """

    labels: ClassVar[str] = "normals"

    def __init__(
        self,
        backbone="efficientnet_lite0",
        weights="imagenet",
        frozen="stage3",
        temperature=0.25,
        angular=False,
        learning_rate=1e-5,
        weight_decay=5e-5,
        batch_size=64,
        epochs=20,
        k=2,
        image_size=224,
        random_state=None,
    ):
        self.backbone = backbone
        self.weights = weights
        self.frozen = frozen
        self.temperature = temperature
        self.angular = angular
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.k = k
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        with torch.device("meta"):
            network = architecture(self.backbone)
        if self.frozen is not None:
            network.check_levels((self.frozen,), "frozen")
            if self.frozen == network.levels[-1]:
                raise InputError(f"frozen={self.frozen!r} is the deepest level, which leaves nothing to train")
        check_number(self.temperature, "temperature", low=0.0, strict_low=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, strict_low=True)
        check_number(self.weight_decay, "weight_decay", low=0.0)
        check_number(self.batch_size, "batch_size", low=2, integer=True)
        check_number(self.epochs, "epochs", low=0, integer=True)
        check_number(self.k, "k", low=1, integer=True)
        check_number(self.image_size, "image_size", low=32, integer=True)

    def _fit(self, X: Images, y: Any, rng: np.random.Generator) -> None:
        self.backbone_ = initial_weights(self.backbone, self.weights, rng)
        pretrained = self._features(X)
        self.centre_ = pretrained.mean(axis=0)
        network = trainable(self.backbone, self.backbone_)
        if self.frozen is not None:
            frozen = network.levels[: network.levels.index(self.frozen) + 1]
            for name, weight in network.named_parameters():
                weight.requires_grad_(_level(name, network.levels) not in frozen)
        self.losses_ = adapt(
            _Pooled(network, network.levels[-1]),
            lambda rows: network.scaled(contrastive_view(X[rows], self.image_size, rng)),
            len(X),
            torch.from_numpy(self.centre_),
            rng,
            temperature=self.temperature,
            angular=self.angular,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            epochs=self.epochs,
        )
        self.backbone_ = arrays_of(network)
        self.normals_ = self._features(X)

    def _features(self, X: Images) -> Any:
        """Return f of every image, unaugmented: (n, D) float32."""
        network = build(self.backbone, self.backbone_)
        encoder = _Pooled(network, network.levels[-1])
        parts = []
        for batch in in_batches(X, self.image_size, "extracting features"):
            with torch.inference_mode():
                parts.append(F.normalize(encoder(network.scaled(batch)), dim=1).numpy())
        return np.concatenate(parts)

    def _score(self, X: Images) -> Floats:
        return neighbour_score(self._features(X).astype(np.float64), self.normals_.astype(np.float64), self.k)

    def transform(self, X: Any) -> Floats:
        """Return the adapted features of images, (n, D) of length one: an embedder for whatever works on tables."""
        check_is_fitted(self)
        return self._features(self._check_table(X, reset=False)).astype(np.float64)

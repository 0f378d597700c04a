"""DOHSC and DO2HSC on images: a small convolutional network whose normal images fill a ball, or a shell.

In: normal images, any size, resized to 32 x 32: for what an image shows, not for small defects. Out: one score an
image, unbounded above; negative inside the region that holds all training images but a share ν (a shell: all but 2 ν
when the warm-up ends, then more), positive outside; no map.

Three convolutions of 5 x 5 (32, 64, 128 channels), each with batch normalisation, ELU and pooling by 2, and a linear
layer 2048 -> k' with batch normalisation; nothing has a bias. The network is first trained as half of an autoencoder,
then the head of `assay.nn.hypersphere` shapes its output: an orthogonal projection that makes normal images a round
cloud, a centre, a ball or a shell. The equations are there. An image loses its mean and is divided by its mean size;
then the smallest and the largest training value become 0 and 1.

Defaults of the published code: k' = 32, 10 epochs of the autoencoder, 200 epochs (the shell: after 50 of the ball),
learning rate 1e-3, weight decay 1e-6, batches of 200; ν = .01. ``region="ball"`` as for tables.

Departures from the published code, besides those of the head:

- The values that become 0 and 1 are those of the training set; there they are constants of CIFAR-10's classes.
- The autoencoder is trained by Adam, like the rest; there by plain SGD. Its decoder reads the embedding before the
  projection.
- The last epoch is used. The published figures are the best on the test set, over epochs and over ν.
- Batch normalisation's statistics are taken anew, by a pass over the training images, before anything is frozen.

Not reproduced: the figures for CIFAR-10 and Fashion-MNIST. Training images are kept in memory, 12 kB each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from assay.base import Detector, TakesImages
from assay.core.images import Images
from assay.core.progress import progress
from assay.core.validation import Floats, InputError, check_number
from assay.detectors.images.common import in_batches
from assay.nn.hypersphere import Hypersphere, check_head, compress, region_score
from assay.nn.state import arrays_of, seeded, with_arrays

#: Side that images are brought to, and side of the last feature maps.
SIZE, LAST = 32, 4
CHANNELS = (32, 64, 128)


def encoder(latent: int) -> nn.Sequential:
    """Return the network (n, 3, 32, 32) -> (n, latent)."""
    layers: list[nn.Module] = []
    for before, after in zip((3, *CHANNELS), CHANNELS):
        layers += [nn.Conv2d(before, after, 5, padding=2, bias=False), _norm(nn.BatchNorm2d, after)]
        layers += [nn.ELU(), nn.MaxPool2d(2)]
    width = CHANNELS[-1] * LAST**2
    layers += [nn.Flatten(), nn.Linear(width, latent, bias=False), _norm(nn.BatchNorm1d, latent)]
    return nn.Sequential(*layers)


def decoder(latent: int) -> nn.Sequential:
    """Return the way back (n, latent) -> (n, 3, 32, 32), in [0, 1]."""
    layers: list[nn.Module] = [nn.Unflatten(1, (latent // LAST**2, LAST, LAST)), nn.ELU()]
    for before, after in zip((latent // LAST**2, *CHANNELS[:0:-1]), CHANNELS[::-1]):
        layers += [nn.ConvTranspose2d(before, after, 5, padding=2, bias=False), _norm(nn.BatchNorm2d, after)]
        layers += [nn.ELU(), nn.Upsample(scale_factor=2)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(CHANNELS[0], 3, 5, padding=2, bias=False), nn.Sigmoid())


def _norm(kind: Any, width: int) -> Any:
    return kind(width, eps=1e-4, affine=False)


def contrast(images: Any) -> torch.Tensor:
    """Return images (n, 32, 32, 3), 8 bits, as (n, 3, 32, 32) float32 of mean 0 and, if they vary, mean size 1."""
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255
    x = x - x.mean(dim=(1, 2, 3), keepdim=True)
    return x / x.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1 / 255)


class ImageHypersphere(TakesImages, Detector):
    """Distance to the border of a ball, or of a shell, that a convolutional network fits to normal images.

    Parameters
    ----------
    region : {"ball", "shell"}, default "ball"
        DOHSC's region or DO2HSC's.
    latent : int, default 32
        k', width of the embedding, a multiple of 16.
    nu : float in [0, .5), default .01
        ν, share of the training images beyond a radius.
    guard : float, default .1
        Least distance of the centre's coordinates from 0.
    orthogonal : bool, default True
        Whether the embedding is projected; False is Deep SVDD.
    centred : bool, default False
        Whether the mean is taken off before the projection (ours).
    pretrain_epochs : int, default 10
        Passes of the autoencoder over the images.
    warm_up : int, default 50
        Passes with the ball before the shell's radii are set.
    epochs : int, default 200
        Passes over the images.
    batch_size : int, default 200
        Fewest images a step.
    learning_rate : float, default 1e-3
        Of Adam.
    weight_decay : float, default 1e-6
        Of Adam.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    range_ : tuple of float
        The values that become 0 and 1.
    network_, head_ : dict of arrays
        Weights of the encoder; projection and centre.
    distances_ : array of shape (n,)
        Distances of the training images to the centre.
    radii_ : tuple of float
        r_min (0 for a ball) and r_max.
    collapsed_ : bool
        Whether training left the distances without spread: then they tell nothing.
    losses_ : array
        Mean loss of each epoch, those of the warm-up first.

    References
    ----------
    Y. Zhang, Y. Sun, J. Cai, J. Fan: Deep Orthogonal Hypersphere Compression for Anomaly Detection. ICLR 2024, arXiv
    2302.06430.

    Examples
    --------
    >>> images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    >>> detector = ImageHypersphere(latent=16, pretrain_epochs=1, epochs=2, random_state=0).fit(images)
    >>> detector.anomaly_score(images).shape
    (20,)
    """

    def __init__(
        self,
        region: str = "ball",
        latent: int = 32,
        nu: float = 0.01,
        guard: float = 0.1,
        orthogonal: bool = True,
        centred: bool = False,
        pretrain_epochs: int = 10,
        warm_up: int = 50,
        epochs: int = 200,
        batch_size: int = 200,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.region = region
        self.latent = latent
        self.nu = nu
        self.guard = guard
        self.orthogonal = orthogonal
        self.centred = centred
        self.pretrain_epochs = pretrain_epochs
        self.warm_up = warm_up
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_head(self.region, self.nu, self.guard, self.warm_up, self.epochs, self.batch_size)
        check_number(self.latent, "latent", low=LAST**2, integer=True)
        if self.latent % LAST**2:
            raise InputError(f"latent={self.latent}: give a multiple of {LAST**2}")
        check_number(self.pretrain_epochs, "pretrain_epochs", low=0, integer=True)
        for name in ("learning_rate", "weight_decay"):
            check_number(getattr(self, name), name, low=0.0, high=1e3)

    def _parts(self) -> tuple[nn.Sequential, Hypersphere]:
        head = Hypersphere(self.latent, self.latent, bool(self.orthogonal), bool(self.centred))
        return encoder(self.latent), head

    def _fit(self, X: Images, y: Any, rng: np.random.Generator) -> None:
        x = torch.cat([contrast(batch) for batch in in_batches(X, SIZE, "reading images")])
        self.range_ = float(x.min()), float(x.max())
        x = self._scaled(x)
        with seeded(rng):
            network, head = self._parts()
            back = decoder(self.latent)
        self._pretrain(network, back, x, rng)
        found = compress(
            network,
            head,
            lambda rows: (network(x[rows].to(network[0].weight.dtype)), 0.0),
            len(x),
            rng,
            region=self.region,
            nu=self.nu,
            guard=self.guard,
            warm_up=self.warm_up,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            what="training an image hypersphere",
        )
        self.network_, self.head_ = arrays_of(network), arrays_of(head)
        self.distances_, self.radii_, self.collapsed_, self.losses_ = found

    def _pretrain(self, network: nn.Module, back: nn.Module, x: torch.Tensor, rng: np.random.Generator) -> None:
        weights = [*network.parameters(), *back.parameters()]
        step = torch.optim.Adam(weights, lr=self.learning_rate, weight_decay=self.weight_decay)
        for _ in progress(range(self.pretrain_epochs), "training an autoencoder", total=self.pretrain_epochs):
            for rows in np.array_split(rng.permutation(len(x)), max(1, len(x) // self.batch_size)):
                step.zero_grad()
                (back(network(x[rows])) - x[rows]).square().sum(dim=(1, 2, 3)).mean().backward()
                step.step()

    def _scaled(self, x: torch.Tensor) -> torch.Tensor:
        low, high = self.range_
        return (x - low) / (high - low) if high > low else x - low

    def _score(self, X: Images) -> Floats:
        with torch.device("meta"):
            network, head = self._parts()
        network, head = with_arrays(network, self.network_), with_arrays(head, self.head_)  # type: ignore[assignment]
        parts = []
        for batch in in_batches(X, SIZE, "scoring"):
            with torch.inference_mode():
                parts.append(head.distances(network(self._scaled(contrast(batch)).double())).numpy())
        scores: Floats = region_score(np.concatenate(parts), self.region, self.radii_)
        return scores

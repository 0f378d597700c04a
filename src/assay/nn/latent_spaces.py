"""Latent spaces of a known topology: what the last numbers of an encoder are taken to.

A latent space of k numbers without an edge or a hole holds no circle of k dimensions: an encoder must tear it. These
spaces have the hole. Each says how many raw numbers it wants of the encoder (`raw_width`), how many it hands to the
decoder (`width`), and takes the ones to the others (`project`). A sphere divides by the norm: continuous everywhere but
at 0, so that it suits data around a hole and not data that fill it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from assay.core.validation import Floats, check_number


class Euclidean:
    """k numbers as they are."""

    def __init__(self, dimension: int) -> None:
        check_number(dimension, "dimension", low=1, integer=True)
        self.dimension, self.raw_width, self.width = dimension, dimension, dimension

    def project(self, raw: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the codes (n, width) of encoder outputs (n, raw_width) for the inputs `x`."""
        return raw


class Sphere:
    """The sphere of k dimensions, in k + 1 numbers of norm 1."""

    def __init__(self, dimension: int) -> None:
        check_number(dimension, "dimension", low=1, integer=True)
        self.dimension, self.raw_width, self.width = dimension, dimension + 1, dimension + 1

    def project(self, raw: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the codes (n, width) of encoder outputs (n, raw_width) for the inputs `x`."""
        return raw / raw.norm(dim=1, keepdim=True).clamp(min=torch.finfo(raw.dtype).tiny)


class Product:
    """Several spaces side by side, e.g. two spheres."""

    def __init__(self, *spaces: Any) -> None:
        self.spaces = spaces
        self.dimension = sum(space.dimension for space in spaces)
        self.raw_width = sum(space.raw_width for space in spaces)
        self.width = sum(space.width for space in spaces)

    def project(self, raw: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the codes (n, width) of encoder outputs (n, raw_width) for the inputs `x`."""
        parts = raw.split([space.raw_width for space in self.spaces], dim=1)
        return torch.cat([space.project(part, x) for space, part in zip(self.spaces, parts)], dim=1)


class Torus(Product):
    """k circles, in 2k numbers."""

    def __init__(self, dimension: int) -> None:
        check_number(dimension, "dimension", low=1, integer=True)
        super().__init__(*(Sphere(1) for _ in range(dimension)))


class Atlas:
    """Two charts of k numbers each: the code is the chart (-1 or 1) and the place in it.

    An input belongs to the chart whose centre is nearer. In training, inputs about as near to both (`overlap`) are
    given to either by chance, so that both charts know the strip where they meet. The encoder jumps there: it is not
    continuous, and that is how it escapes the theorem.

    Parameters
    ----------
    dimension : int
        Of each chart.
    centers : array of shape (2, d)
        Of the charts, in the space of the inputs.
    overlap : float, default 0.2
        Share of the way from the border to a centre that both charts learn.
    """

    def __init__(self, dimension: int, centers: Floats, overlap: float = 0.2) -> None:
        check_number(dimension, "dimension", low=1, integer=True)
        self.dimension, self.raw_width, self.width = dimension, 2 * dimension, dimension + 1
        first, second = (torch.from_numpy(np.asarray(center)) for center in centers)
        self.normal, self.middle, self.overlap = second - first, (first + second) / 2, overlap

    def project(self, raw: torch.Tensor, x: torch.Tensor, training: bool = False) -> torch.Tensor:
        """Return the codes (n, width) of encoder outputs (n, raw_width) for the inputs `x`."""
        normal = self.normal.to(x.dtype)
        half = (normal @ normal).clamp(min=torch.finfo(x.dtype).tiny) / 2
        side = (x - self.middle.to(x.dtype)) @ normal / half  # -1 and 1 at the centres
        if training:
            side = side + self.overlap * (2 * torch.rand_like(side) - 1)
        second = (side > 0)[:, None]
        place = torch.where(second, raw[:, self.dimension :], raw[:, : self.dimension])
        return torch.cat([second.to(raw.dtype) * 2 - 1, place], dim=1)

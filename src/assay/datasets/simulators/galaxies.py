"""Pictures of galaxies with known kinds: discs and spirals, mergers, and what only looks unusual."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.images import Pixels
from assay.core.random import as_generator
from assay.core.validation import Floats, Ints, check_number

KINDS = ("galaxy", "merger", "artefact")


class Sky(NamedTuple):
    """Pictures of single objects.

    Attributes
    ----------
    images : array of shape (n, size, size, 3)
        8-bit RGB, the object in the middle.
    kinds : array of int of shape (n,)
        0 ordinary galaxy, 1 merger (two nuclei, a tail), 2 artefact (a satellite's trail, a bright bleeding star).
    """

    images: Pixels
    kinds: Ints


def galaxies(n: int = 500, mergers: int = 15, artefacts: int = 20, *, size: int = 64, random_state: Any = None) -> Sky:
    """Return pictures of `n` ordinary galaxies, of mergers and of artefacts, in random order.

    Parameters
    ----------
    n, mergers, artefacts : int, default 500, 15 and 20
        How many of each.
    size : int, default 64
        Pixels a side.
    random_state : None, int or numpy.random.Generator
        Seed.
    """
    for name, value, least in (("n", n, 1), ("mergers", mergers, 0), ("artefacts", artefacts, 0), ("size", size, 16)):
        check_number(value, name, low=least, integer=True)
    rng = as_generator(random_state)
    kinds = rng.permutation(np.repeat([0, 1, 2], [n, mergers, artefacts]))
    return Sky(np.stack([_picture(kind, size, rng) for kind in kinds]), kinds)


def _picture(kind: int, size: int, rng: np.random.Generator) -> Pixels:
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    light = _disc(x, y, rng.uniform(0.18, 0.35), rng)
    if kind == 1:
        away, turn = rng.uniform(0.3, 0.5), rng.uniform(0, 2 * np.pi)
        u, v = x - away * np.cos(turn), y - away * np.sin(turn)
        light = light + rng.uniform(0.6, 1.0) * _disc(u, v, rng.uniform(0.12, 0.25), rng)
        # A tail: light along a bow that leaves the second nucleus.
        bow = np.hypot(u, v)
        bend = np.arctan2(v, u) - turn - 2.5 * bow
        light = light + 0.5 * np.exp(-((np.sin(bend / 2) / 0.18) ** 2) - ((bow - 0.35) / 0.25) ** 2)
    if kind == 2:
        if rng.random() < 0.5:
            angle, shift = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3)
            light = light + 1.5 * np.exp(-(((x * np.sin(angle) - y * np.cos(angle) - shift) / 0.03) ** 2))
        else:
            u, v = x - rng.uniform(-0.4, 0.4), y - rng.uniform(-0.4, 0.4)
            light = light + 3 * np.exp(-(u**2 + v**2) / 0.02) + 2 * np.exp(-np.abs(u) / 0.02) * (np.abs(v) < 0.8)
    colour = np.array([1.0, rng.uniform(0.75, 0.95), rng.uniform(0.5, 0.9)])
    noisy = 0.06 + 0.75 * light[..., None] * colour + rng.normal(0, 0.015, (size, size, 3))
    return np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8)


def _disc(x: Floats, y: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """Return a disc seen from the side, with a core, and in half of all cases with two spiral arms."""
    angle, flat = rng.uniform(0, np.pi), rng.uniform(0.4, 1.0)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = (y * np.cos(angle) - x * np.sin(angle)) / flat
    away = np.hypot(u, v)
    disc = 0.7 * np.exp(-away / radius) + 0.5 * np.exp(-((away / (0.3 * radius)) ** 2))
    if rng.random() < 0.5:
        disc = disc * (1 + 0.5 * np.cos(2 * (np.arctan2(v, u) - 9 * away)) * (away > 0.5 * radius))
    return np.asarray(disc)

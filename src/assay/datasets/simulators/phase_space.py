"""Decays of a particle at rest: flat phase space, a resonance in it, and a hunt for the bump it makes.

An event is n massless particles, each a four-vector (energy, p_x, p_y, p_z), whose sum is (E, 0, 0, 0) exactly. The
momenta that conservation allows lie on the boundary of a convex body of 3n - 3 dimensions: a sphere S^(3n-4). So a
latent space of the intrinsic dimension 3n - 4 cannot hold them, one of 3n - 3 can.

- `rambo`: every allowed event equally likely (Kleiss, Stirling and Ellis, Computer Physics Communications 40, 1986).
  Massless vectors q_i, isotropic with energy -ln(ρ1 ρ2), are brought to rest and to the energy E by one boost and one
  scale: Q = Σ q_i, M = √Q², b = -Q⃗/M, γ = Q⁰/M, x = E/M, a = 1/(1+γ); p⃗ = x (q⃗ + b q⁰ + a (b·q⃗) b) and p⁰ = |p⃗|,
  which is x (γ q⁰ + b·q⃗). For massless particles all events have the same weight.
- `resonance`: E decays into particle 3 and a resonance of mass m ~ N(mass, width), and that into particles 1 and 2;
  both decays are isotropic where the parent is at rest.
- `bump_hunt`: few of the second among many of the first. Given m12, both are distributed alike: nothing but that one
  mass tells them apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.random import as_generator
from assay.core.validation import Floats, Ints, check_number


class BumpHunt(NamedTuple):
    """Flat three-body decays with a resonance hidden among them.

    Attributes
    ----------
    X : array of shape (n, 6)
        Momenta of particles 1 and 2; the third follows from conservation.
    y : array of int of shape (n,)
        1 for decays through the resonance.
    m12 : array of shape (n,)
        Invariant mass of particles 1 and 2.
    momenta : array of shape (n, 3, 4)
        The events: (energy, p_x, p_y, p_z) of each particle.
    mass, width : float
        Mean and standard deviation of the resonance's mass.
    """

    X: Floats
    y: Ints
    m12: Floats
    momenta: Floats
    mass: float
    width: float


def rambo(n: int, particles: int = 3, energy: float = 1.0, random_state: Any = None) -> Floats:
    """Return events of flat massless phase space.

    Parameters
    ----------
    n : int
        Events.
    particles : int, default 3
        Particles an event, at least 2.
    energy : float, default 1
        Total energy E.
    random_state : None, int or numpy.random.Generator
        Seed.

    Returns
    -------
    array of shape (n, particles, 4)
        (energy, p_x, p_y, p_z) of each particle.

    Examples
    --------
    >>> events = rambo(1000, random_state=0)
    >>> bool(abs(events.sum(axis=1) - [1, 0, 0, 0]).max() < 1e-12)
    True
    """
    check_number(n, "n", low=1, integer=True)
    check_number(particles, "particles", low=2, high=1000, integer=True)
    check_number(energy, "energy", low=0.0, strict_low=True)
    rng = as_generator(random_state)
    # 1 - u lies in (0, 1]: no logarithm of 0.
    size = -np.log1p(-rng.uniform(size=(n, particles))) - np.log1p(-rng.uniform(size=(n, particles)))
    p = size[..., None] * _isotropic((n, particles), rng)
    for _ in range(2):  # the second time mends what rounding left of events that were nearly one line
        p = _at_rest(p, energy)
    return np.concatenate([np.linalg.norm(p, axis=2, keepdims=True), p], axis=2)


def _at_rest(q: Floats, energy: float) -> Floats:
    """Return massless momenta (n, particles, 3), boosted to where their sum is 0 and scaled to this energy."""
    q0 = np.linalg.norm(q, axis=2, keepdims=True)
    Q0, Q = q0.sum(axis=1, keepdims=True), q.sum(axis=1, keepdims=True)
    M = np.sqrt(Q0**2 - (Q**2).sum(axis=2, keepdims=True))
    b, gamma = -Q / M, Q0 / M
    return energy / M * (q + b * q0 + (b * q).sum(axis=2, keepdims=True) / (1 + gamma) * b)


def resonance(
    n: int, mass: float = 0.5**0.5, width: float = 0.01, energy: float = 1.0, random_state: Any = None
) -> Floats:
    """Return three-body decays through a resonance of particles 1 and 2.

    Parameters
    ----------
    n : int
        Events.
    mass, width : float, default √.5 and .01
        Mean and standard deviation of the resonance's mass; drawn again outside (0, energy).
    energy : float, default 1
        Total energy E, above `mass`.
    random_state : None, int or numpy.random.Generator
        Seed.

    Returns
    -------
    array of shape (n, 3, 4)
        (energy, p_x, p_y, p_z) of each particle.
    """
    check_number(n, "n", low=1, integer=True)
    check_number(energy, "energy", low=0.0, strict_low=True)
    check_number(mass, "mass", low=0.0, high=energy, strict_low=True, strict_high=True)
    check_number(width, "width", low=0.0, high=energy)
    rng = as_generator(random_state)
    m = rng.normal(mass, width, n)
    while ((m <= 0) | (m >= energy)).any():
        outside = (m <= 0) | (m >= energy)
        m[outside] = rng.normal(mass, width, outside.sum())
    size = (energy**2 - m**2) / (2 * energy)  # momentum of the resonance, and of particle 3
    parent = np.c_[np.hypot(size, m), -size[:, None] * _isotropic((n,), rng)]
    first = two_body_decay(parent, rng)
    third = np.c_[size, -parent[:, 1:]]
    return np.stack([first, parent - first, third], axis=1)


def two_body_decay(parent: Floats, random_state: Any = None) -> Floats:
    """Return the first of two massless particles that each parent decays into; the other is what remains.

    Parameters
    ----------
    parent : array of shape (n, 4)
        (energy, p_x, p_y, p_z), with a mass above 0.
    random_state : None, int or numpy.random.Generator
        Seed of the direction, isotropic where the parent is at rest.

    Returns
    -------
    array of shape (n, 4)
        (energy, p_x, p_y, p_z).
    """
    m = invariant_mass(parent)[:, None]
    direction = _isotropic((len(parent),), as_generator(random_state))
    beta, gamma = parent[:, 1:] / m, parent[:, :1] / m  # γβ and γ of the boost from rest
    along = (beta * direction).sum(axis=1, keepdims=True)
    p = m / 2 * (direction + beta + along / (1 + gamma) * beta)
    return np.c_[m / 2 * (gamma + along), p]


def bump_hunt(
    n: int = 50_000,
    fraction: float = 0.01,
    mass: float = 0.5**0.5,
    width: float = 0.01,
    energy: float = 1.0,
    random_state: Any = None,
) -> BumpHunt:
    """Return flat three-body decays, a few of them replaced by decays through a resonance, in random order.

    Parameters
    ----------
    n : int, default 50 000
        Events.
    fraction : float, default .01
        Share that decays through the resonance.
    mass, width : float, default √.5 and .01
        Mean and standard deviation of its mass.
    energy : float, default 1
        Total energy.
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> hunt = bump_hunt(1000, fraction=0.05, random_state=0)
    >>> hunt.X.shape, int(hunt.y.sum())
    ((1000, 6), 50)
    """
    check_number(n, "n", low=2, integer=True)
    check_number(fraction, "fraction", low=0.0, high=1.0)
    rng = as_generator(random_state)
    y = np.zeros(n, dtype=np.int64)
    y[rng.permutation(n)[: round(fraction * n)]] = 1
    momenta = rambo(n, 3, energy, rng)
    if y.any():
        momenta[y == 1] = resonance(int(y.sum()), mass, width, energy, rng)
    m12 = invariant_mass(momenta[:, 0] + momenta[:, 1])
    return BumpHunt(momenta[:, :2, 1:].reshape(n, 6), y, m12, momenta, float(mass), float(width))


def invariant_mass(p: Floats) -> Floats:
    """Return the mass of four-vectors (..., 4); 0 where rounding makes its square negative."""
    return np.sqrt(np.maximum(p[..., 0] ** 2 - (p[..., 1:] ** 2).sum(axis=-1), 0.0))


def _isotropic(shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Return unit vectors (..., 3)."""
    z, angle = rng.uniform(-1, 1, shape), rng.uniform(0, 2 * np.pi, shape)
    flat = np.sqrt(1 - z**2)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], axis=-1)

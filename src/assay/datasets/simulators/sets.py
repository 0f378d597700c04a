"""Sets whose truth is known: population statistics, sums of digits, odd digits, proportions, shapes.

In: sizes and a seed. Out: named tuples of sets, each set an array (N, d), with what there is to know about each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from assay.core.random import as_generator
from assay.core.validation import Bools, Floats, InputError, Ints, check_number, check_option

TASKS = ("rotation", "correlation", "rank_one", "random")
#: Digits that the odd-one-out sets of training show, and those that only the test shows.
SEEN, UNSEEN = (0, 1, 2, 3, 4, 5, 6), (7, 8, 9)
SHAPES = ("sphere", "cube", "cylinder", "torus")
#: Half the side of the square whose corners are the components of `proportion_bags`, and their spread.
CORNER, SPREAD = 2.0, 0.5


class PopulationStatistics(NamedTuple):
    """Samples of Gaussians, and a statistic of each.

    Attributes
    ----------
    X : array of shape (n, N, d)
        Sets of N points.
    target : array of shape (n,)
        The statistic of the Gaussian (not of the sample), in nats.
    covariance : array of shape (n, d, d)
        Of the Gaussians, whose mean is 0.
    parameter : array of shape (n,)
        The angle, the correlation or the weight of the rank-one part; NaN where there is none.
    """

    X: Floats
    target: Floats
    covariance: Floats
    parameter: Floats


class LabelledSets(NamedTuple):
    """Sets of any size, and a number or a class of each.

    Attributes
    ----------
    X : list of array of shape (N, d)
        Sets.
    y : array of shape (n,)
        What belongs to each.
    """

    X: list[Floats]
    y: Any


class OddDigits(NamedTuple):
    """Sets of images of one digit, with one image of another digit among them.

    Attributes
    ----------
    X : array of shape (n, N, 64)
        Images of 8 x 8 pixels in [0, 1].
    odd : array of int of shape (n,)
        Place of the other digit.
    digits : array of int of shape (n, N)
        What each image shows.
    images : array of int of shape (n, N)
        Number of each image in scikit-learn's data.
    """

    X: Floats
    odd: Ints
    digits: Ints
    images: Ints


class ProportionBags(NamedTuple):
    """Bags of usual points, some of them in unusual proportions.

    Attributes
    ----------
    X : array of shape (n, N, 2)
        Bags of N points around the corners of a square.
    y : array of int of shape (n,)
        0 where the corners are equally likely, 1 where one diagonal is more so.
    """

    X: Floats
    y: Ints


def population_statistics(
    task: str = "rotation", n_sets: int = 1024, n_points: int = 512, random_state: Any = None
) -> PopulationStatistics:
    """Draw samples of Gaussians together with a statistic that their sets should reveal.

    =============  ===================================================  ==============================================
    task           covariance Σ                                         target
    =============  ===================================================  ==============================================
    rotation       R(a) A R(a)', A fixed, 2 x 2, a uniform in [0, π]    entropy of the first coordinate,
                                                                        ½ log(2πe Σ₁₁)
    correlation    [[A, aA], [aA, A]], A fixed, 8 x 8, a in (-1, 1)     mutual information of one pair of coordinates,
                                                                        -½ log(1 - a²); of both halves, 8 times that
    rank_one       I + t vv', v fixed, 32 x 32, t uniform in [0, 1)     total correlation, ½ Σ log Σ_ii - ½ log |Σ|
    random         a Wishart matrix of its own for each set, 32 x 32    the same
    =============  ===================================================  ==============================================

    The published generator of the first task squares the variance once more: a mistake that is not repeated here.

    Parameters
    ----------
    task : {"rotation", "correlation", "rank_one", "random"}, default "rotation"
        Which one.
    n_sets : int, default 1024
        Number of sets; the paper trains on 2^7 to 2^17.
    n_points : int, default 512
        Points of each (paper).
    random_state : None, int or numpy.random.Generator
        Seed; it decides on A and v too, so that training and test sets should come from one call.

    Returns
    -------
    PopulationStatistics
        Sets and targets.

    Examples
    --------
    >>> drawn = population_statistics("correlation", n_sets=3, n_points=10, random_state=0)
    >>> drawn.X.shape, bool(np.allclose(drawn.target, -0.5 * np.log(1 - drawn.parameter**2)))
    ((3, 10, 16), True)
    """
    check_option(task, "task", *TASKS)
    check_number(n_sets, "n_sets", low=1, integer=True)
    check_number(n_points, "n_points", low=1, integer=True)
    rng = as_generator(random_state)
    if task == "rotation":
        parameter = rng.uniform(0, np.pi, n_sets)
        A = _wishart(2, rng)
        turn = np.stack([np.cos(parameter), -np.sin(parameter), np.sin(parameter), np.cos(parameter)], axis=1)
        turn = turn.reshape(-1, 2, 2)
        covariance = turn @ A @ turn.transpose(0, 2, 1)
        target = 0.5 * np.log(2 * np.pi * np.e * covariance[:, 0, 0])
    elif task == "correlation":
        parameter = rng.uniform(-0.99, 0.99, n_sets)
        pair = np.ones((n_sets, 2, 2))
        pair[:, [0, 1], [1, 0]] = parameter[:, None]
        covariance = np.einsum("nij,kl->nikjl", pair, _wishart(8, rng)).reshape(n_sets, 16, 16)
        target = -0.5 * np.log(1 - parameter**2)
    else:
        d = 32
        if task == "rank_one":
            parameter, v = rng.uniform(0, 1, n_sets), rng.normal(size=d)
            covariance = np.eye(d) + parameter[:, None, None] * np.outer(v, v)
        else:
            parameter = np.full(n_sets, np.nan)
            covariance = np.stack([_wishart(d, rng) for _ in range(n_sets)])
        diagonal = np.einsum("nii->ni", covariance)
        target = 0.5 * np.log(diagonal).sum(axis=1) - 0.5 * np.linalg.slogdet(covariance)[1]
    factor = np.linalg.cholesky(covariance)
    X = rng.normal(size=(n_sets, n_points, covariance.shape[1])) @ factor.transpose(0, 2, 1)
    return PopulationStatistics(X, target, covariance, parameter)


def _wishart(d: int, rng: np.random.Generator) -> Floats:
    """Return a random covariance, far enough from singular."""
    root = rng.normal(size=(d, 2 * d))
    covariance: Floats = root @ root.T / (2 * d)
    return covariance


def digit_sums(n_sets: int, smallest: int = 1, largest: int = 10, random_state: Any = None) -> LabelledSets:
    """Draw sets of digits 1 to 9, one-hot (N, 9), and their sums.

    Parameters
    ----------
    n_sets : int
        Number of sets.
    smallest, largest : int, default 1 and 10
        Sizes, uniform in between.
    random_state : None, int or numpy.random.Generator
        Seed.

    Returns
    -------
    LabelledSets
        Sets and sums.

    Examples
    --------
    >>> drawn = digit_sums(2, 3, 3, random_state=0)
    >>> [one.shape for one in drawn.X], bool(drawn.y[0] == (drawn.X[0] @ np.arange(1, 10)).sum())
    ([(3, 9), (3, 9)], True)
    """
    check_number(n_sets, "n_sets", low=1, integer=True)
    check_number(smallest, "smallest", low=1, integer=True)
    check_number(largest, "largest", low=smallest, integer=True)
    rng = as_generator(random_state)
    digits = [rng.integers(1, 10, size=size) for size in rng.integers(smallest, largest + 1, size=n_sets)]
    return LabelledSets([np.eye(9)[one - 1] for one in digits], np.array([float(one.sum()) for one in digits]))


def odd_digits(n_sets: int, size: int = 8, part: str = "train", random_state: Any = None) -> OddDigits:
    """Draw sets of handwritten digits with an odd one among them, from scikit-learn's 1797 images.

    No image of one part occurs in another, and no digit of ``"unseen"`` in the other two: neither as the digit of a set
    nor as the odd one. A set never holds an image twice; the odd one's place is uniform.

    Parameters
    ----------
    n_sets : int
        Number of sets.
    size : int, default 8
        Images of a set, at most 25.
    part : {"train", "seen", "unseen"}, default "train"
        Digits 0 to 6, three quarters of their images; the same digits, the other images; digits 7 to 9.
    random_state : None, int or numpy.random.Generator
        Seed of the sets; the split of the images is always the same.

    Returns
    -------
    OddDigits
        Sets, and which one is odd.

    Examples
    --------
    >>> drawn = odd_digits(2, part="unseen", random_state=0)
    >>> drawn.X.shape, sorted(set(drawn.digits.ravel().tolist()) - {7, 8, 9})
    ((2, 8, 64), [])
    """
    from sklearn.datasets import load_digits

    check_number(n_sets, "n_sets", low=1, integer=True)
    check_number(size, "size", low=3, high=25, integer=True)
    check_option(part, "part", "train", "seen", "unseen")
    data = load_digits()
    shown, held_out = np.asarray(data.target), np.random.default_rng(0).random(len(data.target)) < 0.25
    usable = np.ones(len(shown), dtype=bool) if part == "unseen" else held_out == (part == "seen")
    of = {d: np.flatnonzero(usable & (shown == d)) for d in (UNSEEN if part == "unseen" else SEEN)}
    rng = as_generator(random_state)
    images, odd = np.empty((n_sets, size), dtype=np.int64), rng.integers(size, size=n_sets)
    for row in range(n_sets):
        common, other = rng.choice(list(of), size=2, replace=False)
        images[row] = rng.choice(of[common], size=size, replace=False)
        images[row, odd[row]] = rng.choice(of[other])
    return OddDigits(np.asarray(data.data)[images] / 16.0, odd, shown[images], images)


def proportion_bags(
    n_normal: int, n_anomalous: int, n_points: int = 50, shift: float = 0.15, random_state: Any = None
) -> ProportionBags:
    """Draw bags of points around the corners of a square.

    In a normal bag all four corners have probability ¼; in an anomalous one those of a diagonal, either one, have ¼ +
    `shift` and the others ¼ - `shift`. Every point is a usual one, every corner is equally far from the middle, and
    the distribution of either coordinate is the same in both kinds of bags: only how they go together differs.

    Parameters
    ----------
    n_normal, n_anomalous : int
        Number of bags.
    n_points : int, default 50
        Points of a bag.
    shift : float in [0, .25], default .15
        Of the probabilities.
    random_state : None, int or numpy.random.Generator
        Seed.

    Returns
    -------
    ProportionBags
        Normal bags first.

    Examples
    --------
    >>> drawn = proportion_bags(2, 1, random_state=0)
    >>> drawn.X.shape, drawn.y.tolist()
    ((3, 50, 2), [0, 0, 1])
    """
    check_number(n_normal, "n_normal", low=0, integer=True)
    check_number(n_anomalous, "n_anomalous", low=0, integer=True)
    check_number(n_points, "n_points", low=1, integer=True)
    check_number(shift, "shift", low=0.0, high=0.25)
    rng = as_generator(random_state)
    y = np.repeat([0, 1], [n_normal, n_anomalous])
    # P(both coordinates have one sign): a half, or more, or less.
    same = 0.5 + 2 * shift * y * rng.choice([-1.0, 1.0], size=len(y))
    first = rng.choice([-1.0, 1.0], size=(len(y), n_points))
    second = first * np.where(rng.random((len(y), n_points)) < same[:, None], 1.0, -1.0)
    X = CORNER * np.stack([first, second], axis=2) + SPREAD * rng.normal(size=(len(y), n_points, 2))
    return ProportionBags(X, y)


def shape_clouds(n_each: int, smallest: int = 100, largest: int = 200, random_state: Any = None) -> LabelledSets:
    """Draw points on the surfaces of simple shapes, turned about z, stretched, with a little noise.

    Parameters
    ----------
    n_each : int
        Clouds of each of sphere, cube, cylinder and torus.
    smallest, largest : int, default 100 and 200
        Points of a cloud, uniform in between.
    random_state : None, int or numpy.random.Generator
        Seed.

    Returns
    -------
    LabelledSets
        Clouds (N, 3), every column of mean 0 and standard deviation 1 within a cloud, and their shape's name.

    Examples
    --------
    >>> drawn = shape_clouds(1, random_state=0)
    >>> drawn.y.tolist(), drawn.X[0].shape[1]
    (['sphere', 'cube', 'cylinder', 'torus'], 3)
    """
    check_number(n_each, "n_each", low=1, integer=True)
    check_number(smallest, "smallest", low=2, integer=True)
    check_number(largest, "largest", low=smallest, integer=True)
    rng = as_generator(random_state)
    clouds = []
    for shape in np.repeat(SHAPES, n_each):
        points = _surface(str(shape), int(rng.integers(smallest, largest + 1)), rng)
        a = rng.uniform(-0.1 * np.pi, 0.1 * np.pi)
        points = points @ np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
        points = points * rng.uniform(0.8, 1.25, size=3) + 0.02 * rng.normal(size=points.shape)
        clouds.append((points - points.mean(axis=0)) / points.std(axis=0))
    return LabelledSets(clouds, np.repeat(SHAPES, n_each))


def _surface(shape: str, n: int, rng: np.random.Generator) -> Floats:
    """Return points on a surface, uniform but for the torus, which is a little denser inside."""
    turn = rng.uniform(0, 2 * np.pi, n)
    ring = np.column_stack([np.cos(turn), np.sin(turn)])
    if shape == "sphere":
        points = rng.normal(size=(n, 3))
        return points / np.linalg.norm(points, axis=1, keepdims=True)
    if shape == "cube":
        points = rng.uniform(-1, 1, size=(n, 3))
        points[np.arange(n), rng.integers(3, size=n)] = rng.choice([-1.0, 1.0], size=n)
        return points
    if shape == "cylinder":
        # Radius 1 and height 2: the side is two thirds of the surface.
        side: Bools = rng.random(n) < 2 / 3
        radius = np.where(side, 1.0, np.sqrt(rng.random(n)))
        return np.column_stack(
            [ring * radius[:, None], np.where(side, rng.uniform(-1, 1, n), rng.choice([-1.0, 1.0], n))]
        )
    if shape == "torus":
        around = rng.uniform(0, 2 * np.pi, n)
        return np.column_stack([ring * (1 + 0.4 * np.cos(around))[:, None], 0.4 * np.sin(around)])
    raise InputError(f"shape={shape!r}: choose one of {', '.join(SHAPES)}")

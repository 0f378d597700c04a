"""Auxiliary anomalies for sets: strange members, strange proportions, and noise as the floor.

In: normal sets of members with d numbers each, see `assay.core.sets`. Out: `Auxiliary` whose X is `Sets` of the same
sizes, and whose mask and touched are (M,), along ``X.flat``: they mark the members that differ from the parent's.

    ForeignMembers    k members give way to members of another set (one donor, or a donor each)
    ProportionShift   k members give way to members of one kind, which becomes too frequent; every member is a usual one
    MemberNoise       every member gets Gaussian noise: the floor

Of a set of N members k = max(1, round(share · strength · N)) are exchanged, at most N; strength 0 is the parent; noise
grows with the strength itself. A set never gets a member that it holds already: where all candidates are such, fewer
are exchanged. Every set is drawn from a seed of its own, which its parameters hold: parent and seed reproduce it.

Deep Sets makes its odd sets by the first law, with one donor and one member. The others, and all shares, are ours.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.cluster import KMeans

from assay.base import Auxiliary, Generator, TakesSets
from assay.core.progress import progress
from assay.core.random import child_seeds
from assay.core.sets import Sets, joined_sets, member_moments
from assay.core.validation import Bools, Floats, InputError, Ints, check_number, told

Meta = dict[str, Any]
#: The new members of a set, which of them were exchanged, what was drawn.
Edited = tuple[Floats, Bools, Meta]


class SetGenerator(TakesSets, Generator):
    """Edits normal sets; a generator writes `_edit`.

    Attributes
    ----------
    flat_ : array of shape (M, d)
        The members of the normal sets, one set after another.
    offsets_ : array of int of shape (n + 1,)
        Where each begins.
    identity_ : array of int of shape (M,)
        Equal members have equal numbers.
    """

    min_rows: ClassVar[int] = 1

    @property
    def parents_(self) -> Sets:
        """The normal sets."""
        return Sets(self.flat_, self.offsets_)

    def _keep_parents(self, X: Sets) -> None:
        self.flat_, self.offsets_ = X.flat.copy(), np.asarray(X.offsets, dtype=np.int64).copy()
        self.identity_ = np.unique(X.flat, axis=0, return_inverse=True)[1].ravel().astype(np.int64)

    def _moments(self) -> tuple[Floats, Floats]:
        return member_moments(Sets(self.flat_, self.offsets_))

    def _places(self, row: int) -> Ints:
        """Return where a normal set's members stand in `flat_`."""
        return np.arange(self.offsets_[row], self.offsets_[row + 1])

    def _drawn(self, n: int, strength: float, rng: np.random.Generator) -> Auxiliary:
        rows = [self._one(seed, strength) for seed in progress(child_seeds(rng, n), type(self).__name__, n)]
        members, touched, mask, parents, meta = zip(*rows)
        return Auxiliary(
            X=joined_sets(list(members), self.flat_.shape[1]),  # type: ignore[arg-type]
            mask=np.concatenate(mask),
            touched=np.concatenate(touched),
            parents=np.array(parents, dtype=np.int64),
            meta=list(meta),
        )

    def _one(self, seed: int, strength: float) -> tuple[Floats, Bools, Bools, int, Meta]:
        """Draw one set; draw again, up to 20 times, what changed nothing."""
        rng = np.random.default_rng(seed)
        for attempt in range(21):
            if attempt:
                seed = child_seeds(rng, 1)[0]
                rng = np.random.default_rng(seed)
            parent = int(rng.integers(len(self.offsets_) - 1))
            origin = self.flat_[self._places(parent)]
            members, touched, drawn = origin, np.zeros(len(origin), dtype=bool), {}
            if strength > 0:
                members, touched, drawn = self._edit(parent, strength, rng)
            mask = (members != origin).any(axis=1)
            if mask.any() or strength == 0:
                break
        meta = {"generator": type(self).__name__, "strength": strength, "noop": not mask.any(), "seed": seed, **drawn}
        return members, touched, mask, parent, meta

    def _edit(self, parent: int, strength: float, rng: np.random.Generator) -> Edited:
        """Return an edited copy of a normal set."""
        raise NotImplementedError

    def _exchanged(self, parent: int, places: Ints, candidates: Ints, rng: np.random.Generator) -> tuple[Floats, Bools]:
        """Return a set with members `candidates` (places in `flat_`), in random order, at `places` of its own."""
        own = self._places(parent)
        # One of each kind of equal members, and none that the set holds.
        candidates = rng.permutation(candidates)
        first = np.sort(np.unique(self.identity_[candidates], return_index=True)[1])
        fresh = candidates[first]
        fresh = fresh[~np.isin(self.identity_[fresh], self.identity_[own])][: len(places)]
        members, touched = self.flat_[own], np.zeros(len(own), dtype=bool)
        members[places[: len(fresh)]] = self.flat_[fresh]
        touched[places[: len(fresh)]] = True
        return members, touched


def _count(share: float, strength: float, size: int) -> int:
    return min(size, max(1, round(share * strength * size)))


class ForeignMembers(SetGenerator):
    """Members of another set in the place of a set's own.

    Parameters
    ----------
    share : float in (0, 1], default .1
        Share of a set's members that are exchanged at strength 1, at least one (ours).
    one_donor : bool, default True
        All from one other set; False: from any others.
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Póczos, R. Salakhutdinov, A. Smola: Deep Sets. NeurIPS 2017,
    arXiv 1703.06114.

    Examples
    --------
    >>> X = [[[1.0], [2.0], [3.0]], [[10.0], [20.0], [30.0]]]
    >>> auxiliary = ForeignMembers(random_state=0).fit(X).sample(1)
    >>> auxiliary.X[0].ravel().tolist(), auxiliary.mask.tolist()
    ([30.0, 2.0, 3.0], [True, False, False])
    """

    min_rows: ClassVar[int] = 2

    def __init__(self, share: float = 0.1, one_donor: bool = True, random_state: Any = None) -> None:
        self.share = share
        self.one_donor = one_donor
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.share, "share", low=0.0, high=1.0, strict_low=True)
        if not isinstance(self.one_donor, (bool, np.bool_)):
            raise InputError(f"one_donor={told(self.one_donor)}: give True or False")

    def _edit(self, parent: int, strength: float, rng: np.random.Generator) -> Edited:
        own, n = self._places(parent), len(self.offsets_) - 1
        places = np.sort(rng.permutation(len(own))[: _count(self.share, strength, len(own))])
        if self.one_donor:
            donor = int(parent + 1 + rng.integers(n - 1)) % n
            members, touched = self._exchanged(parent, places, self._places(donor), rng)
            return members, touched, {"places": np.flatnonzero(touched).tolist(), "donor": donor}
        others = np.delete(np.arange(len(self.flat_)), own)
        members, touched = self._exchanged(parent, places, others, rng)
        return members, touched, {"places": np.flatnonzero(touched).tolist()}


class ProportionShift(SetGenerator):
    """Usual members in unusual proportions: one kind of members takes the place of the others.

    The kinds are clusters of all members of the normal sets (k-means on standardised members). A kind is drawn, and
    members of it, from any set, replace some of the parent's members of other kinds.

    Parameters
    ----------
    share : float in (0, 1], default .3
        Share of a set's members that are exchanged at strength 1, at least one (ours).
    clusters : int, default 8
        Kinds of members, at most the number of different ones (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    kind_ : array of int of shape (M,)
        Cluster of each member of the normal sets.

    Examples
    --------
    >>> X = [[[0.0], [0.1], [5.0], [5.1]], [[0.2], [0.3], [5.2], [5.3]]]
    >>> auxiliary = ProportionShift(clusters=2, random_state=0).fit(X).sample(1)
    >>> auxiliary.X[0].ravel().tolist(), auxiliary.mask.tolist()
    ([0.0, 0.1, 0.3, 5.1], [False, False, True, False])
    """

    def __init__(self, share: float = 0.3, clusters: int = 8, random_state: Any = None) -> None:
        self.share = share
        self.clusters = clusters
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.share, "share", low=0.0, high=1.0, strict_low=True)
        check_number(self.clusters, "clusters", low=2, high=1000, integer=True)

    def _fit(self, X: Any, X_anomalous: Any, rng: np.random.Generator) -> None:
        centre, spread = self._moments()
        scaled = (self.flat_ - centre) / spread
        k = min(self.clusters, int(self.identity_.max()) + 1)
        kinds = KMeans(k, n_init=3, random_state=child_seeds(rng, 1)[0]).fit(scaled).labels_
        self.kind_ = kinds.astype(np.int64)

    def _edit(self, parent: int, strength: float, rng: np.random.Generator) -> Edited:
        own = self._places(parent)
        kind = int(rng.integers(self.kind_.max() + 1))
        places = rng.permutation(np.flatnonzero(self.kind_[own] != kind))
        places = np.sort(places[: _count(self.share, strength, len(own))])
        members, touched = self._exchanged(parent, places, np.flatnonzero(self.kind_ == kind), rng)
        return members, touched, {"places": np.flatnonzero(touched).tolist(), "kind": kind}


class MemberNoise(SetGenerator):
    """Gaussian noise on every number of every member: the floor.

    Parameters
    ----------
    noise_std : float > 0, default .5
        Of the noise at strength 1, in standard deviations of the column over all normal members (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    spread_ : array of shape (d,)
        Standard deviation of the members' columns; 1 where a column is constant.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(3, 4, 2))
    >>> auxiliary = MemberNoise(random_state=0).fit(X).sample(2)
    >>> auxiliary.X.sizes.tolist(), bool(auxiliary.mask.all())
    ([4, 4], True)
    """

    def __init__(self, noise_std: float = 0.5, random_state: Any = None) -> None:
        self.noise_std = noise_std
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.noise_std, "noise_std", low=0.0, strict_low=True, high=1e6)

    def _fit(self, X: Any, X_anomalous: Any, rng: np.random.Generator) -> None:
        self.spread_ = self._moments()[1]

    def _edit(self, parent: int, strength: float, rng: np.random.Generator) -> Edited:
        members = self.flat_[self._places(parent)]
        noise = strength * self.noise_std * self.spread_ * rng.normal(size=members.shape)
        return members + noise, np.ones(len(members), dtype=bool), {}

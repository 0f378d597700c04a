"""Auxiliary anomalies for event sequences: edits, unlikely events; and harmless instability for normal ones.

In: normal sequences of event ids or names, see `assay.core.sequences`. Out: `Auxiliary` whose X is `Sequences` of the
same kind of events, and whose mask and touched are (N,), along ``X.flat``: they mark the events that were inserted,
replaced or moved. What was cut out is not there to be marked: the event after the cut is, or the last one where nothing
follows. Where the length is as before, the mask holds only those whose place had another event.

Of a sequence of l events k = max(1, round(share · strength · l)) are edited, as far as it has so many; strength 0 is
the parent. Nothing is blended: an event is there or not; `splice` has one seam at any strength, which strength moves.
Every sequence is drawn from a seed of its own, which its parameters hold: parent and seed reproduce it.

`EventEdits` (E2), one of

    insert        k events by their frequency, at random places       insert_rare   of the rarest ones instead
    delete        k events                                            replace       k events, by frequency
    swap          k/2 pairs of neighbours that differ change places   reverse       a block of k, backwards
    duplicate     a block of k once more right after itself           truncate      the last k are missing
    splice        the last k are those of another sequence

`UnlikelyEvents` (E3) puts k events where they are unlikely. An n-gram model of the normals,

    p(e | c) = (n(c e) + p(e | c')) / (n(c) + 1),  c' the context c without its oldest event,

says how likely event e is after c, down to the frequency of e; before a sequence stand marks. Each new event is one of
those that are least likely there and together have at most a tenth of the probability. ``context_only=True``
exchanges events of the sequence itself: how often each occurs does not change, so whoever only counts sees nothing.

`unstable` (E1) drops, doubles or swaps a few unimportant events, as new versions of a system do: the label of its
result stays *normal*. It is an augmentation of training data, or a test of a detector's patience.

Ours: all numbers of E2 and E3. Departures: LogRobust also changes the words of templates; events here have none.
Delays and bursts need times, which sequences do not have: they are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from assay.base import Auxiliary, Generator, TakesSequences
from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.sequences import Sequences, as_sequences, joined
from assay.core.validation import Bools, Floats, InputError, Ints, check_number, check_option, told

Meta = dict[str, Any]
#: The new numbers of a sequence, which of them were edited, what was drawn.
Edited = tuple[Ints, Bools, Meta]
#: "Rare" and "unlikely" are the events that together have at most this share of the probability.
TAIL = 0.1


class SequenceGenerator(TakesSequences, Generator):
    """Edits normal sequences; a generator writes `_edit`. Events are numbers 0 … V - 1 inside.

    Attributes
    ----------
    events_ : array of shape (V,)
        The events of the normals, sorted: ids or names.
    flat_ : array of int of shape (N,)
        The normals' events as numbers, one sequence after another.
    offsets_ : array of int of shape (n + 1,)
        Where each begins.
    frequencies_ : array of shape (V,)
        Share of each event.
    """

    min_rows: ClassVar[int] = 1
    share: Any

    def _check_parameters(self) -> None:
        check_number(self.share, "share", low=0.0, high=1.0, strict_low=True)

    @property
    def parents_(self) -> Sequences:
        """The normal sequences."""
        return Sequences(self.events_[self.flat_], self.offsets_)

    def _keep_parents(self, X: Sequences) -> None:
        self.events_, numbers = np.unique(X.flat, return_inverse=True)
        self.flat_ = numbers.ravel().astype(np.int64)
        self.offsets_ = np.asarray(X.offsets, dtype=np.int64).copy()
        self.frequencies_ = np.bincount(self.flat_) / len(self.flat_)

    def _numbers(self, row: int) -> Ints:
        """Return a normal sequence as numbers, a copy."""
        return self.flat_[self.offsets_[row] : self.offsets_[row + 1]].copy()

    def _drawn(self, n: int, strength: float, rng: np.random.Generator) -> Auxiliary:
        rows = [self._one(seed, strength) for seed in progress(child_seeds(rng, n), type(self).__name__, n)]
        numbers, touched, mask, parents, meta = zip(*rows)
        X = joined(list(numbers))
        return Auxiliary(
            X=Sequences(self.events_[X.flat], X.offsets),  # type: ignore[arg-type]
            mask=np.concatenate(mask),
            touched=np.concatenate(touched),
            parents=np.array(parents, dtype=np.int64),
            meta=list(meta),
        )

    def _one(self, seed: int, strength: float) -> tuple[Ints, Bools, Bools, int, Meta]:
        """Draw one sequence; draw again, up to 20 times, what changed nothing."""
        rng = np.random.default_rng(seed)
        for attempt in range(21):
            if attempt:
                seed = child_seeds(rng, 1)[0]
                rng = np.random.default_rng(seed)
            parent = int(rng.integers(len(self.offsets_) - 1))
            origin = self._numbers(parent)
            numbers, touched, drawn = origin, np.zeros(len(origin), dtype=bool), {}
            if strength > 0:
                count = max(1, round(self.share * strength * len(origin)))
                numbers, touched, drawn = self._edit(origin.copy(), count, rng, parent)
            noop = np.array_equal(numbers, origin)
            if not noop or strength == 0:
                break
        mask = touched & (numbers != origin) if len(numbers) == len(origin) else touched
        name = type(self).__name__
        return (
            numbers,
            touched,
            mask,
            parent,
            {
                "generator": name,
                "strength": strength,
                "noop": noop,
                "seed": seed,
                **drawn,
            },
        )

    def _edit(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        """Edit `count` events of a sequence, which may be changed in place."""
        raise NotImplementedError


class EventEdits(SequenceGenerator):
    """Events inserted, deleted, replaced, moved, repeated; sequences cut or spliced (E2).

    Parameters
    ----------
    kind : str, optional
        ``"insert"``, ``"insert_rare"``, ``"delete"``, ``"replace"``, ``"swap"``, ``"reverse"``, ``"duplicate"``,
        ``"truncate"`` or ``"splice"``; by default drawn uniformly.
    share : float in (0, 1], default .1
        Share of a sequence's events that are edited at strength 1 (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    rare_ : array of int
        The rarest events, which together make up at most a tenth of all; at least one.

    Examples
    --------
    >>> X = [["open", "read", "close"], ["open", "write", "close"]]
    >>> auxiliary = EventEdits("truncate", random_state=0).fit(X).sample(2)
    >>> [sequence.tolist() for sequence in auxiliary.X], auxiliary.mask
    ([['open', 'read'], ['open', 'read']], array([False,  True, False,  True]))
    """

    KINDS: ClassVar[tuple[str, ...]] = (
        "insert",
        "insert_rare",
        "delete",
        "replace",
        "swap",
        "reverse",
        "duplicate",
        "truncate",
        "splice",
    )
    min_rows: ClassVar[int] = 2

    def __init__(self, kind: str | None = None, share: float = 0.1, *, random_state: Any = None) -> None:
        self.kind = kind
        self.share = share
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option(self.kind, "kind", None, *self.KINDS)

    def _fit(self, X: Any, X_anomalous: Any, rng: np.random.Generator) -> None:
        self.rare_ = np.flatnonzero(least_likely(self.frequencies_))

    def _edit(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        kind = self.kind or str(rng.choice(self.KINDS))
        edit: Callable[..., Edited] = getattr(self, f"_{kind}")
        numbers, touched, drawn = edit(x, count, rng, parent)
        return numbers, touched, {"kind": kind, **drawn}

    def _insert(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        return _inserted(x, rng.choice(len(self.events_), count, p=self.frequencies_), rng)

    def _insert_rare(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        return _inserted(x, rng.choice(self.rare_, count), rng)

    def _delete(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        places = np.sort(rng.permutation(len(x))[: min(count, len(x) - 1)])
        numbers = np.delete(x, places)
        after = np.minimum(places - np.arange(len(places)), len(numbers) - 1)
        return numbers, _marked(numbers, after), {"places": places.tolist()}

    def _replace(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        places = np.sort(rng.permutation(len(x))[:count])
        own, total = self.frequencies_[x[places]], np.cumsum(self.frequencies_)
        # By frequency among all other events: the own one's stretch of [0, 1] is stepped over.
        u = rng.random(len(places)) * (1 - own)
        u += np.where(u >= total[x[places]] - own, own, 0.0)
        x[places] = np.minimum(np.searchsorted(total, u, side="right"), len(total) - 1)
        return x, _marked(x, places), {"places": places.tolist()}

    def _swap(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        free = np.ones(len(x), dtype=bool)
        pairs: list[int] = []
        for i in rng.permutation(np.flatnonzero(x[1:] != x[:-1])):
            if free[i] and free[i + 1] and len(pairs) < (count + 1) // 2:
                free[i : i + 2] = False
                x[i], x[i + 1] = x[i + 1], x[i]
                pairs.append(int(i))
        return x, ~free, {"places": sorted(pairs)}

    def _reverse(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        length = min(max(count, 2), len(x))
        start = int(rng.integers(len(x) - length + 1))
        x[start : start + length] = x[start : start + length][::-1].copy()
        return x, _marked(x, slice(start, start + length)), {"start": start, "length": length}

    def _duplicate(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        length = min(count, len(x))
        start = int(rng.integers(len(x) - length + 1))
        end = start + length
        # Of a count beyond the sequence's length the whole of it goes round and round.
        numbers = np.concatenate([x[:end], np.resize(x[start:end], count), x[end:]])
        return numbers, _marked(numbers, slice(end, end + count)), {"start": start, "length": length}

    def _truncate(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        numbers = x[: max(1, len(x) - count)]
        return numbers, _marked(numbers, [-1]), {"length": len(numbers)}

    def _splice(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        n = len(self.offsets_) - 1
        donor = int(parent + 1 + rng.integers(n - 1)) % n
        kept = max(1, len(x) - count)
        numbers = np.concatenate([x[:kept], self._numbers(donor)[-count:]])
        return numbers, _marked(numbers, slice(kept, None)), {"donor": donor, "kept": kept}


def _inserted(x: Ints, events: Ints, rng: np.random.Generator) -> Edited:
    """Return a sequence with events at random places, the ends included."""
    gaps = np.sort(rng.integers(len(x) + 1, size=len(events)))
    numbers = np.insert(x, gaps, events)
    places = gaps + np.arange(len(events))
    return numbers, _marked(numbers, places), {"places": places.tolist()}


def _marked(x: Ints, places: Any) -> Bools:
    marks = np.zeros(len(x), dtype=bool)
    marks[places] = True
    return marks


def least_likely(p: Floats, tail: float = TAIL) -> Bools:
    """Return which events are the least likely that together have at most `tail` of the probability; at least one."""
    order = np.argsort(p, kind="stable")
    marks = np.zeros(len(p), dtype=bool)
    marks[order[np.cumsum(p[order]) <= tail * p.sum()]] = True
    marks[order[0]] = True
    return marks


class UnlikelyEvents(SequenceGenerator):
    """Events where an n-gram model finds them unlikely (E3).

    Parameters
    ----------
    context_only : bool, default False
        Exchange events within the sequence, so that only their order becomes unlikely and every count stays.
    share : float in (0, 1], default .1
        Share of a sequence's events that are replaced at strength 1 (ours).
    order : int in [2, 4], default 2
        n of the n-grams (ours).
    tail : float in (0, 1), default .1
        The new event is one of the least likely that together have at most this probability.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    grams_, counts_ : list of arrays of int
        The n-grams of the normals for n = 2, …, order: the number that each makes, and how often it occurs.

    Examples
    --------
    >>> X = ["ab" * 10, "ba" * 10]
    >>> auxiliary = UnlikelyEvents(random_state=0).fit([list(letters) for letters in X]).sample(1)
    >>> "".join(auxiliary.X[0])
    'ababbbababababababaa'
    """

    def __init__(
        self,
        context_only: bool = False,
        share: float = 0.1,
        order: int = 2,
        tail: float = TAIL,
        *,
        random_state: Any = None,
    ) -> None:
        self.context_only = context_only
        self.share = share
        self.order = order
        self.tail = tail
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not isinstance(self.context_only, (bool, np.bool_)):
            raise InputError(f"context_only={told(self.context_only)}: give True or False")
        check_number(self.order, "order", low=2, high=4, integer=True)
        check_number(self.tail, "tail", low=0.0, high=1.0, strict_low=True, strict_high=True)

    def _fit(self, X: Any, X_anomalous: Any, rng: np.random.Generator) -> None:
        base, before = len(self.events_) + 1, self.order - 1
        if base**self.order >= 2**63:
            raise InputError(f"order={self.order} is too much for {base - 1} different events; give a smaller one")
        # Every sequence with marks in front, so that its beginning has a context too.
        marks = np.full(before, base - 1)
        rows = range(len(self.offsets_) - 1)
        flat = np.concatenate([part for row in rows for part in (marks, self._numbers(row))])
        events = np.flatnonzero(flat != base - 1)
        self.grams_, self.counts_ = [], []
        for n in range(2, self.order + 1):
            codes = _code([flat[events - back] for back in range(n - 1, -1, -1)], base)
            grams, counts = np.unique(codes, return_counts=True)
            self.grams_.append(grams)
            self.counts_.append(counts.astype(np.int64))

    def _probabilities(self, x: Ints, place: int) -> Floats:
        """Return p(e | the events before `place`) of every event, (V,)."""
        base, p = len(self.events_) + 1, self.frequencies_
        for context, (grams, counts) in enumerate(zip(self.grams_, self.counts_), start=1):
            past = [int(x[i]) if i >= 0 else base - 1 for i in range(place - context, place)]
            first = int(_code(past, base)) * base
            low, high = np.searchsorted(grams, [first, first + base])
            p = p / (counts[low:high].sum() + 1)
            p[grams[low:high] - first] += counts[low:high] / (counts[low:high].sum() + 1)
        return p

    def _edit(self, x: Ints, count: int, rng: np.random.Generator, parent: int) -> Edited:
        return self._exchange(x, count, rng) if self.context_only else self._replace(x, count, rng)

    def _replace(self, x: Ints, count: int, rng: np.random.Generator) -> Edited:
        places = np.sort(rng.permutation(len(x))[:count])
        for place in places:
            unlikely = least_likely(self._probabilities(x, place), self.tail)
            unlikely[x[place]] = False
            if unlikely.any():
                x[place] = rng.choice(np.flatnonzero(unlikely))
        return x, _marked(x, places), {"kind": "replace", "places": places.tolist()}

    def _exchange(self, x: Ints, count: int, rng: np.random.Generator) -> Edited:
        free, swaps = np.ones(len(x), dtype=bool), []
        for place in rng.permutation(len(x)):
            if len(swaps) == (count + 1) // 2:
                break
            unlikely = least_likely(self._probabilities(x, place), self.tail)
            partners = np.flatnonzero(free & unlikely[x] & (x != x[place]))
            if not free[place] or len(partners) == 0:
                continue
            # Of a few, the first at whose place this event is unlikely too.
            few = rng.permutation(partners)[:8]
            both = (j for j in few if least_likely(self._probabilities(x, j), self.tail)[x[place]])
            partner = int(next(both, few[0]))
            x[place], x[partner] = x[partner], x[place]
            free[[place, partner]] = False
            swaps.append([int(place), partner])
        return x, ~free, {"kind": "exchange", "swaps": swaps}


def _code(gram: list[Any], base: int) -> Any:
    """Return the number that events make as digits, the last one last."""
    code: Any = 0
    for digit in gram:
        code = code * base + digit
    return code


def unstable(sequences: Any, ratio: float = 0.1, random_state: Any = None) -> Sequences:
    """Return the sequences with harmless instability: they are as normal as before, and keep their labels.

    A random share `ratio` of them gets one of: one to three events (at most a tenth, at least one) dropped, doubled on
    the spot, or swapped with the next one. Events are chosen in proportion to the share of sequences that hold them:
    what occurs everywhere says little.

    Parameters
    ----------
    sequences : list of sequences or Sequences
        Normal ones.
    ratio : float in [0, 1], default .1
        Share that is changed, on average (LogRobust: .05, .1, .15, .2 and .3).
    random_state : None, int or numpy.random.Generator
        Seed.

    Returns
    -------
    Sequences
        As many, in the same order.

    References
    ----------
    X. Zhang et al.: Robust Log-Based Anomaly Detection on Unstable Log Data. ESEC/FSE 2019.

    Examples
    --------
    >>> [sequence.tolist() for sequence in unstable([[1, 2, 3], [1, 2, 4]], ratio=1.0, random_state=0)]
    [[2, 3], [1, 2]]
    """
    X = as_sequences(sequences, "sequences")
    check_number(ratio, "ratio", low=0.0, high=1.0)
    rng = as_generator(random_state)
    events, numbers = np.unique(X.flat, return_inverse=True)
    owner = np.repeat(np.arange(len(X)), X.lengths)
    # In how many sequences each event occurs.
    distinct = np.unique(owner * len(events) + numbers.ravel())
    everywhere = np.bincount(distinct % len(events), minlength=len(events))
    parts = []
    for row, chosen in enumerate(rng.random(len(X)) < ratio):
        part = X[row].copy()
        weight = everywhere[numbers.ravel()[X.offsets[row] : X.offsets[row + 1]]].astype(np.float64)
        parts.append(_perturbed(part, weight / weight.sum(), rng) if chosen else part)
    return joined(parts)


def _perturbed(part: Any, weight: Floats, rng: np.random.Generator) -> Any:
    kind, count = rng.choice(["drop", "double", "swap"]), int(rng.integers(1, 4))
    places = np.sort(rng.choice(len(part), min(count, max(1, len(part) // 10)), replace=False, p=weight))
    if kind == "double":
        return np.insert(part, places, part[places])
    if len(part) == 1:
        return part
    if kind == "drop":
        return np.delete(part, places)
    for place in np.minimum(places, len(part) - 2):
        part[[place, place + 1]] = part[[place + 1, place]]
    return part

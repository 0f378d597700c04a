"""Event sequences of a small grammar in two phases, and four kinds of anomalies with their places.

A normal sequence begins with phase A, the symbols 0 to 9, and goes on with phase B, the symbols 10 to 19, each of 15 to
30 events. Within a phase the next symbol depends on the last one alone: each has three successors, of probability .5,
.3 and .2. A phase always begins with the same symbol and may end after any. The anomalies, each made from a normal
sequence of its own:

- ``"p"``: one event is replaced by one that is legal neither after its predecessor nor before its successor;
- ``"s"``: five neighbouring events of one phase are put into an order with as many illegal steps as there can be: the
  counts of all symbols stay;
- ``"g1"``: the phases are swapped. Only the joint is illegal, and that the sequence begins with B;
- ``"g2"``: phase A goes on to the end. Every step of it is legal, and so is every window.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from assay.core.random import as_generator
from assay.core.validation import Bools, Ints, check_number

#: Symbols of a phase, its shortest and longest run, and the probabilities of a symbol's successors.
SYMBOLS, SHORTEST, LONGEST = 10, 15, 30
PROBABILITIES = (0.5, 0.3, 0.2)
KINDS = ("p", "s", "g1", "g2")
#: Events that kind "s" puts into another order.
SHUFFLED = 5


class GrammarSequences(NamedTuple):
    """Sequences of a grammar.

    Attributes
    ----------
    train : list of array of int
        Normal sequences to learn from.
    test : list of array of int
        Fresh normal sequences, then the anomalies, one kind after another.
    y : array of int of shape (n,)
        0 for a normal sequence of `test`, 1 for an anomaly.
    kind : array of str of shape (n,)
        ``"normal"``, ``"p"``, ``"s"``, ``"g1"`` or ``"g2"``.
    span : array of int of shape (n, 2)
        First event of the anomaly and the one after its last: what was replaced or put into another order, the joint's
        second event (g1), all events after phase A should have ended (g2); (-1, -1) for a normal sequence.
    legal : array of bool of shape (20, 20)
        Which symbol may follow which, within the phases and from A to the beginning of B.
    """

    train: list[Ints]
    test: list[Ints]
    y: Ints
    kind: npt.NDArray[np.str_]
    span: Ints
    legal: Bools


def grammar_sequences(
    n_train: int = 3000, n_normal: int = 500, n_each: int = 125, random_state: Any = None
) -> GrammarSequences:
    """Draw a grammar, and sequences of it.

    Parameters
    ----------
    n_train : int, default 3000
        Normal sequences to learn from.
    n_normal : int, default 500
        Normal sequences to test on.
    n_each : int, default 125
        Anomalies of each kind.
    random_state : None, int or numpy.random.Generator
        Seed of the grammar and of the sequences.

    Returns
    -------
    GrammarSequences
        Everything, drawn from one grammar.

    Examples
    --------
    >>> from assay.datasets.simulators.grammar import grammar_sequences
    >>> drawn = grammar_sequences(5, 2, 1, random_state=0)
    >>> drawn.kind.tolist(), [30 <= len(events) <= 60 for events in drawn.test]
    (['normal', 'normal', 'p', 's', 'g1', 'g2'], [True, True, True, True, True, True])
    """
    for value, name in ((n_train, "n_train"), (n_normal, "n_normal"), (n_each, "n_each")):
        check_number(value, name, low=0, integer=True)
    rng = as_generator(random_state)
    successors, starts = _grammar(rng)
    legal = np.zeros((2 * SYMBOLS, 2 * SYMBOLS), dtype=bool)
    legal[np.arange(2 * SYMBOLS)[:, None], successors] = True
    legal[:SYMBOLS, starts[1]] = True

    def phase(number: int, length: int) -> Ints:
        return _walk(successors, starts[number], length, rng)

    def lengths() -> tuple[int, int]:
        first, second = rng.integers(SHORTEST, LONGEST + 1, size=2)
        return int(first), int(second)

    def normal() -> tuple[Ints, int]:
        first, second = lengths()
        return np.concatenate([phase(0, first), phase(1, second)]), first

    def anomaly(kind: str) -> tuple[Ints, tuple[int, int]]:
        events, joint = normal()
        if kind == "p":
            return _replaced(events, legal, rng)
        if kind == "s":
            return _reordered(events, joint, legal, rng)
        if kind == "g1":
            swapped = np.concatenate([events[joint:], events[:joint]])
            return swapped, (len(events) - joint, len(events) - joint + 1)
        return phase(0, len(events)), (joint, len(events))

    train = [normal()[0] for _ in range(n_train)]
    test = [normal()[0] for _ in range(n_normal)]
    anomalies = [anomaly(kind) for kind in KINDS for _ in range(n_each)]
    spans = [(-1, -1)] * n_normal + [span for _, span in anomalies]
    return GrammarSequences(
        train=train,
        test=test + [events for events, _ in anomalies],
        y=np.repeat([0, 1], [n_normal, len(anomalies)]),
        kind=np.repeat(["normal", *KINDS], [n_normal] + [n_each] * len(KINDS)),
        span=np.array(spans, dtype=np.int64).reshape(-1, 2),
        legal=legal,
    )


def _grammar(rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return the successors of each symbol (20, 3), the likeliest first, and the first symbol of each phase."""
    tables, starts = [], []
    for number in range(2):
        names = number * SYMBOLS + rng.permutation(SYMBOLS)
        # One successor is the next on a ring, so that every symbol leads to every other; all are equally frequent.
        steps = rng.permutation([1, *rng.choice(np.arange(2, SYMBOLS), size=len(PROBABILITIES) - 1, replace=False)])
        table = np.empty((SYMBOLS, len(steps)), dtype=np.int64)
        table[names - number * SYMBOLS] = names[(np.arange(SYMBOLS)[:, None] + steps) % SYMBOLS]
        tables.append(table)
        starts.append(int(rng.choice(names)))
    return np.concatenate(tables), np.array(starts)


def _walk(successors: Ints, start: int, length: int, rng: np.random.Generator) -> Ints:
    choices = rng.choice(len(PROBABILITIES), size=length - 1, p=PROBABILITIES)
    events = [start]
    for choice in choices:
        events.append(int(successors[events[-1], choice]))
    return np.array(events, dtype=np.int64)


def _replaced(events: Ints, legal: Bools, rng: np.random.Generator) -> tuple[Ints, tuple[int, int]]:
    """Replace one event, not the first or the last, by one that is illegal on both sides."""
    place = int(rng.integers(1, len(events) - 1))
    before, after = events[place - 1], events[place + 1]
    events[place] = rng.choice(np.flatnonzero(~legal[before] & ~legal[:, after]))
    return events, (place, place + 1)


def _reordered(events: Ints, joint: int, legal: Bools, rng: np.random.Generator) -> tuple[Ints, tuple[int, int]]:
    """Put five neighbours of one phase into one of the orders with the most illegal steps, those at its ends too."""
    starts = [place for place in range(1, len(events) - SHUFFLED) if place + SHUFFLED <= joint or place >= joint]
    start = int(rng.choice(starts))
    orders = np.array(list(permutations(events[start : start + SHUFFLED])))
    ends = np.broadcast_to(events[[start - 1, start + SHUFFLED]], (len(orders), 2))
    whole = np.column_stack([ends[:, 0], orders, ends[:, 1]])
    illegal = (~legal[whole[:, :-1], whole[:, 1:]]).sum(axis=1)
    events[start : start + SHUFFLED] = rng.choice(orders[illegal == illegal.max()])
    return events, (start, start + SHUFFLED)

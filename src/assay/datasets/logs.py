"""From raw log lines to event sequences: a template miner in the manner of Drain, sessions, sliding windows.

A line like ``Received block blk_3 of size 91178 from /10.250.10.6`` is an event ``Received block <*> of size <*> from
<*>`` with parameters. Drain finds the events in one pass: known shapes of parameters are masked, the line is split
into tokens, and a tree of fixed depth (number of tokens, then the first `depth` - 3 tokens, a token with a digit
counting as <*>) leads to a short list of templates, the most similar of which takes the line if the share of equal
tokens reaches `similarity`; tokens that differ become <*>.

Source: P. He, J. Zhu, Z. Zheng, M. Lyu: Drain: An Online Log Parsing Approach with Fixed Depth Tree. ICWS 2017.
Defaults are its code's: depth 4, similarity .5, at most 100 children a node.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from assay.core.sequences import Sequences, joined
from assay.core.validation import InputError, check_number

ANY = "<*>"
#: Shapes of parameters that most logs share: block and request ids, addresses, hexadecimal and plain numbers.
MASKS = (
    r"blk_-?\d+",
    r"(/|\b)(\d{1,3}\.){3}\d{1,3}(:\d+)?\b:?",
    r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
    r"\b0x[0-9a-fA-F]+\b",
    r"(?<=[^A-Za-z0-9])-?\d+$|(?<=[^A-Za-z0-9])-?\d+(?=[^A-Za-z0-9])",
)


class TemplateMiner:
    """Numbers the events of log lines, one line after another.

    Parameters
    ----------
    depth : int >= 3, default 4
        Levels of the tree, root and lists included.
    similarity : float in [0, 1], default 0.5
        Share of equal tokens from which a line belongs to a template.
    max_children : int, default 100
        Most tokens that a node tells apart; further ones count as <*>.
    masks : sequence of str, optional
        Regular expressions of parameters, replaced by <*> beforehand; `MASKS` by default.

    Attributes
    ----------
    templates : list of list of str
        The tokens of each event, by number.

    Examples
    --------
    >>> miner = TemplateMiner()
    >>> miner.parse(["took 3 ms", "took 14 ms", "link down", "took 9 ms"])
    [0, 0, 1, 0]
    >>> miner.text(0)
    'took <*> ms'
    """

    def __init__(
        self,
        depth: int = 4,
        similarity: float = 0.5,
        max_children: int = 100,
        masks: Sequence[str] | None = None,
    ) -> None:
        check_number(depth, "depth", low=3, integer=True)
        check_number(similarity, "similarity", low=0.0, high=1.0)
        check_number(max_children, "max_children", low=2, integer=True)
        self.depth, self.similarity, self.max_children = depth, similarity, max_children
        try:
            self._masks = [re.compile(mask) for mask in (MASKS if masks is None else masks)]
        except re.error as error:
            raise InputError(f"masks: {error.pattern!r} is no regular expression: {error}") from error
        self.templates: list[list[str]] = []
        self._root: dict[Any, Any] = {}

    def parse(self, lines: Iterable[str]) -> list[int]:
        """Return the event number of each line; templates found on the way are kept for the next call."""
        return [self._add(self._tokens(line)) for line in lines]

    def text(self, event: int) -> str:
        """Return an event's template as a line."""
        return " ".join(self.templates[event])

    def _tokens(self, line: str) -> list[str]:
        for mask in self._masks:
            line = mask.sub(ANY, line)
        return line.split()

    def _add(self, tokens: list[str]) -> int:
        candidates = self._leaf(tokens)
        best, best_share, best_fixed = -1, -1.0, -1
        for event in candidates:
            template = self.templates[event]
            equal = sum(a == b for a, b in zip(template, tokens) if a != ANY)
            share = equal / len(tokens) if tokens else 1.0
            wild = template.count(ANY)
            # Of equally similar templates the one with more wildcards, as in the published code.
            if share > best_share or (share == best_share and wild > best_fixed):
                best, best_share, best_fixed = event, share, wild
        if best >= 0 and best_share >= self.similarity:
            template = self.templates[best]
            self.templates[best] = [a if a == b else ANY for a, b in zip(template, tokens)]
            return best
        self.templates.append(tokens)
        candidates.append(len(self.templates) - 1)
        return candidates[-1]

    def _leaf(self, tokens: list[str]) -> list[int]:
        """Return the list of templates that a line may belong to, made where there is none yet."""
        node = self._root.setdefault(len(tokens), {})
        for token in tokens[: self.depth - 3]:
            key = ANY if any(letter.isdigit() for letter in token) else token
            if key not in node and key != ANY:
                # The last child is kept free for <*>.
                room = self.max_children - (0 if ANY in node else 1)
                key = key if len(node) < room else ANY
            node = node.setdefault(key, {})
        return node.setdefault("", [])  # no token is empty


def sessions(events: Sequence[Any], keys: Sequence[Hashable]) -> tuple[Sequences, list[Hashable]]:
    """Return the events of each key in their order, and the keys in the order of their first event.

    Examples
    --------
    >>> from assay.datasets.logs import sessions
    >>> grouped, keys = sessions([7, 8, 7, 9], ["a", "b", "a", "b"])
    >>> [list(map(int, events)) for events in grouped], keys
    ([[7, 7], [8, 9]], ['a', 'b'])
    """
    if len(events) != len(keys):
        raise InputError(f"keys has {len(keys)} entries, events {len(events)}: give one key an event")
    groups: dict[Hashable, list[Any]] = {}
    for event, key in zip(events, keys):
        groups.setdefault(key, []).append(event)
    return joined([np.asarray(group) for group in groups.values()]), list(groups)


def sliding(events: Sequence[Any], length: int, stride: int | None = None) -> tuple[Sequences, Any]:
    """Return windows of `length` events, and where each begins; the last, shorter rest is a window too.

    Parameters
    ----------
    events : sequence
        One long log.
    length : int
        Events of a window.
    stride : int, optional
        Events between two beginnings; `length` by default, so that no event is in two windows.
    """
    check_number(length, "length", low=1, integer=True)
    stride = length if stride is None else stride
    check_number(stride, "stride", low=1, integer=True)
    flat = np.asarray(events)
    starts = np.arange(0, max(1, len(flat) - length + stride), stride) if len(flat) else np.empty(0, dtype=np.int64)
    starts = starts[starts < len(flat)]
    return joined([flat[start : start + length] for start in starts], flat.dtype), starts

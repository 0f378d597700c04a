"""A review under way: the order of the items, who looks at which, what was said, learning anew. No web in here.

One `Review` serves all reviewers of a project at once; every method may be called from any thread. Labels are in the
database before a method returns, choices in ``review.json``; everything else can be computed again from them, so a
killed process loses nothing. A label knows its item by number: once there is one, the items must stay as they are.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations, islice
from typing import Any

import numpy as np

from assay.core.files import new_file
from assay.core.random import as_generator
from assay.core.validation import InputError, check_number, check_option
from assay.metrics.ranking import rank_weighted_score
from assay.review.auxiliary import Agreement, agreement_with_quality
from assay.review.labels import Label, LabelStore
from assay.review.project import Project
from assay.review.ranking import METHODS, ActiveRanker
from assay.review.remedy import Remedies, Remedy

#: Items in the queue that are put in order at first; twice as many are when these were judged.
HEAD = 20_000
#: Seconds for which an item that someone looks at is kept from the others.
HELD = 90.0
#: From this judgement on an item counts as interesting.
INTERESTING = 3
ORDERS = ("trained", "detector", "random")


@dataclass
class Choices:
    """What can be set while reviewing.

    Attributes
    ----------
    method : str
        How to learn from labels, see `assay.review.ranking`.
    order : str
        ``"trained"``: by what was learned; ``"detector"``: by the detector's scores; ``"random"``.
    overlap : int
        How many people should judge an item before it leaves everyone's queue.
    """

    method: str = "neighbours"
    order: str = "trained"
    overlap: int = 1


@dataclass
class Training:
    """How far learning anew has come.

    Attributes
    ----------
    running : bool
        Whether it is under way.
    step : str
        What is being done, in words.
    share : float
        How much of it is done, in [0, 1].
    seconds : float
        How long it took, or has taken so far.
    error : str
        Why it failed; empty if it did not.
    labels : int
        How many items it learned from.
    """

    running: bool = False
    step: str = ""
    share: float = 0.0
    seconds: float = 0.0
    error: str = ""
    labels: int = 0


class Review:
    """A project being reviewed.

    Parameters
    ----------
    project : Project
        Which.
    database : str, optional
        URL of the database of labels; the project's own by default.
    n_jobs : int, optional
        Workers for what is not computed yet.
    """

    def __init__(self, project: Project, database: str | None = None, n_jobs: int | None = None) -> None:
        self.project = project
        self.settings = project.settings
        self.prepared = project.prepare(n_jobs)
        self.items = self.prepared.items
        self.store = LabelStore(database or project.database, self.settings.id)
        self.training = Training()
        self._lock, self._heat_lock = threading.RLock(), threading.Lock()
        #: What someone says is stored and counted in one order.
        self._writing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._heat = project.heat_model() if self.settings.kind == "images" else None
        of_tables = self.prepared.detector is not None and self.settings.kind == "tables"
        self._remedies = Remedies(self.prepared, self.settings.seed) if of_tables else None
        #: item -> reviewer -> value
        self._said: dict[int, dict[str, int]] = self.store.current()
        self._shown: dict[int, dict[str, float]] = {}
        #: Of each reviewer, the items picked on the map, and those skipped.
        self._selections: dict[str, list[int]] = {}
        self._skipped: defaultdict[str, set[int]] = defaultdict(set)
        self.choices = self._remembered()
        self._place = np.full(len(self.items), -1, dtype=np.int64)
        self._place[self.prepared.rows] = np.arange(len(self.prepared.rows))
        self._learn()
        # Whatever must be imported for an explanation should not keep the first reviewer waiting.
        self.why(0)

    def close(self) -> None:
        """Finish writing."""
        self.store.close()

    def _remembered(self) -> Choices:
        """Return the choices of the last time; refuse other items than those that were judged."""
        path = self.project.folder / "review.json"
        try:
            told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            choices, items = _checked(Choices(**told.get("choices", {}))), told.get("items", self.prepared.key)
        except (TypeError, ValueError, AttributeError) as error:
            self.store.close()
            raise InputError(f"{path} is damaged ({error}): remove it, and choose again under Settings") from error
        if items != self.prepared.key and self._said:
            self.store.close()
            raise InputError(
                f"{self.settings.source} has changed since {len(self._said)} of its items were judged, and judgements "
                "know them by number: put it back as it was, or make a new project"
            )
        self._remember(choices)
        return choices

    def _remember(self, choices: Choices) -> None:
        told = {"items": self.prepared.key, "choices": vars(choices)}
        path = self.project.folder / "review.json"
        if not path.is_file() or json.loads(path.read_text(encoding="utf-8")) != told:
            with new_file(path, overwrite=True) as part:
                part.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")

    # Looking

    def next(self, reviewer: str, after: int | None = None) -> int | None:
        """Return the item that a reviewer should look at; None when the queue is empty.

        Parameters
        ----------
        reviewer : str
            Who.
        after : int, optional
            This item is skipped: it comes again when nothing else is left.
        """
        with self._lock:
            skipped = self._skipped[reviewer]
            if after is not None:
                self.check_item(after)
                skipped.add(after)
            item = None
            for item in self._waiting(reviewer):
                if item != after:
                    break  # else it is the one skipped, and stays so if nothing else waits
            if item in skipped:  # all that wait were skipped: a new round of them
                skipped.clear()
            if item is not None:
                self._shown.setdefault(item, {})[reviewer] = time.monotonic()
            return item

    def upcoming(self, reviewer: str, count: int = 20) -> list[int]:
        """Return the first items of a reviewer's queue."""
        with self._lock:
            return list(islice(self._waiting(reviewer), count))

    def _waiting(self, reviewer: str) -> Iterator[int]:
        """Yield what waits for a reviewer, the best first and what was skipped last."""
        now, told, later = time.monotonic(), set(), []
        while True:
            for item in self._queue(reviewer):
                if item in told or not self._waits_for(item, reviewer, now):
                    continue
                told.add(item)
                if item in self._skipped[reviewer]:
                    later.append(item)
                else:
                    yield item
            if reviewer in self._selections or self._whole:
                break
            self._head *= 2
            self._put_in_order()
        yield from later

    def _queue(self, reviewer: str) -> Iterator[int]:
        if reviewer in self._selections:
            yield from self._selections[reviewer]
            return
        # What everyone has judged stands in front: it is passed over once, not at every request.
        while self._passed < len(self._order) and self._is_done(self._order[self._passed]):
            self._passed += 1
        for place in range(self._passed, len(self._order)):
            yield self._order[place]

    def _is_done(self, item: int) -> bool:
        return len(self._said.get(item, ())) >= self.choices.overlap

    def _waits_for(self, item: int, reviewer: str, now: float) -> bool:
        said = self._said.get(item, {})
        if reviewer in said:
            return False
        if reviewer in self._selections:
            return True  # who picks items by hand wants to see them, whoever judged them
        looked = self._shown.get(item, {})
        others = sum(1 for who, when in looked.items() if who not in said and who != reviewer and now - when < HELD)
        return len(said) + others < self.choices.overlap

    def scores(self, item: int) -> dict[str, Any]:
        """Return the detector's score in [0, 5], the learned one and û (None before anything was learned)."""
        self.check_item(item)
        with self._lock:
            ranker = self.ranker
            score = float(ranker.scores_[item])
            if ranker.predicted_ is None:
                return {"detector": score, "trained": score, "predicted": None, "near": None}
            row = np.array([item])
            return {
                "detector": score,
                "trained": float(ranker.trained_scores(row)[0]),
                "predicted": float(ranker.predict(row)[0]),
                "near": self._nearest(item),
            }

    def _nearest(self, item: int) -> dict[str, Any]:
        """Return the judged item nearest to this one: what the learned score rests on."""
        judged = np.array([one for one in sorted(self.ranker.labels_) if one != item], dtype=np.int64)
        if len(judged) == 0:
            return {}
        away = np.linalg.norm(
            np.asarray(self.ranker.features_[judged], dtype=np.float64) - self.ranker.features_[item], axis=1
        )
        near = int(judged[np.argmin(away)])
        return {"item": near, "name": self.items.names[near], "value": self.ranker.labels_[near]}

    def why(self, item: int, most: int = 5) -> list[tuple[str, float]]:
        """Return the features that raise an item's detector score most, each with what it adds; empty if unnamed.

        Shapley values against a row that is the mean in every column, see `assay.explain.attribution`.
        """
        if self.prepared.detector is None:
            return []
        from assay.explain.attribution import attribute

        row = np.asarray(self.prepared.features[[item]], dtype=np.float64)
        values = attribute(self.prepared.detector, row, np.zeros_like(row), n_orders=3).values[0]
        order = np.argsort(-values, kind="stable")[:most]
        return [(self.prepared.columns[column], float(values[column])) for column in order if values[column] > 0]

    @property
    def has_remedies(self) -> bool:
        """Whether `remedy` has answers."""
        return self._remedies is not None

    def remedy(self, item: int) -> Remedy | None:
        """Return what would make an item ordinary, see `assay.review.remedy`; None for kinds other than tables."""
        self.check_item(item)
        return None if self._remedies is None else self._remedies.of(item)

    def meta(self, item: int) -> dict[str, Any]:
        """Return what is known of an item beside itself."""
        table = self.prepared.meta
        row = None if table is None else table.slice(item, 1)
        return {} if row is None else {name: row[name][0].as_py() for name in row.column_names}

    def said(self, item: int) -> dict[str, int]:
        """Return what each reviewer said of an item."""
        with self._lock:
            return dict(self._said.get(item, {}))

    def picture(self, item: int, heat: bool = False) -> bytes | None:
        """Return an item's image as a JPEG, with its heat map if wanted; None where items are no images."""
        self.check_item(item)
        if not heat or self._heat is None:
            return self.items.picture(item)
        with self._heat_lock:
            scores = np.asarray(self._heat.anomaly_map(self.items.data[[item]])[0], dtype=np.float64)
        low, high = float(np.median(scores)), float(scores.max())
        return self.items.picture(item, (scores - low) / max(high - low, 1e-12))

    @property
    def has_heat(self) -> bool:
        """Whether there are heat maps."""
        return self._heat is not None

    def check_item(self, item: Any) -> None:
        """Refuse a number that no item has."""
        check_number(item, "item", low=0, high=len(self.items) - 1, integer=True)

    def find(self, text: str) -> int | None:
        """Return the item with this number or name; None if there is none."""
        text = text.strip()
        if text.isdecimal() and int(text) < len(self.items):
            return int(text)
        try:
            return self.items.names.index(text)
        except ValueError:
            return None

    # Saying

    def label(self, reviewer: str, item: int, value: int) -> Label:
        """Keep what a reviewer says of an item; see `LabelStore.add`."""
        self.check_item(item)
        with self._writing[reviewer]:
            label = self.store.add(item, reviewer, value)
            with self._lock:
                if label.value < 0:
                    self._passed = 0
                self._skipped[label.reviewer].discard(label.item)
                self._count(label.item, label.reviewer, label.value)
        return label

    def _count(self, item: int, reviewer: str, value: int | None) -> None:
        said = self._said.setdefault(item, {})
        said.pop(reviewer, None)
        if value is not None and value >= 0:
            said[reviewer] = value
        if not said:
            del self._said[item]

    def undo(self, reviewer: str) -> int | None:
        """Take a reviewer's latest label back; return its item, or None if there is none."""
        with self._writing[reviewer]:
            label = self.store.undo(reviewer)
            if label is None:
                return None
            earlier = [
                one.value
                for one in self.store.history()
                if one.item == label.item and one.reviewer == label.reviewer and one.undone is None
            ]
            with self._lock:
                self._passed = 0
                self._count(label.item, label.reviewer, earlier[-1] if earlier else None)
                self._shown.setdefault(label.item, {})[label.reviewer] = time.monotonic()
        return label.item

    # Choosing

    def select(self, reviewer: str, places: Any) -> int:
        """Make the items at these places of the map a reviewer's queue, best first; an empty list gives all back."""
        rows = self.prepared.rows
        places = np.asarray(places)
        if places.size and (places.ndim != 1 or places.dtype.kind not in "iu"):
            raise InputError("places: give whole numbers")
        if places.size and not 0 <= places.min() <= places.max() < len(rows):
            raise InputError(f"places: give numbers from 0 to {len(rows) - 1}")
        with self._lock:
            if places.size == 0:
                self._selections.pop(reviewer, None)
                return len(self.items)
            chosen = np.unique(rows[places.astype(np.int64)])
            order = np.argsort(-self.ranker.trained_scores(chosen), kind="stable")
            self._selections[reviewer] = chosen[order].tolist()
            return len(chosen)

    def selected(self, reviewer: str) -> int | None:
        """Return how many items a reviewer picked on the map; None if none."""
        with self._lock:
            return len(self._selections[reviewer]) if reviewer in self._selections else None

    def choose(self, **choices: Any) -> None:
        """Change `Choices`; the order follows at once, the method at the next `retrain`."""
        told = _checked(Choices(**{**vars(self.choices), **choices}))
        with self._lock:
            self._remember(told)
            self.choices = told
            self._put_in_order()

    # Learning

    def retrain(self) -> bool:
        """Start learning from all labels in the background; False if that is under way already."""
        with self._lock:
            if self.training.running:
                return False
            self.training = Training(running=True, step="starting")
        threading.Thread(target=self._learn, name="assay-retrain", daemon=True).start()
        return True

    def _learn(self) -> None:
        start = time.monotonic()
        self.training = Training(running=True, step="reading the labels")

        def step(words: str, share: float) -> None:
            self.training.step, self.training.share = words, share
            self.training.seconds = time.monotonic() - start

        try:
            with self._lock:
                means = {item: float(np.mean(list(said.values()))) for item, said in self._said.items()}
                method, old = self.choices.method, getattr(self, "ranker", None)
            ranker = ActiveRanker(method, random_state=self.settings.seed)
            step("taking the items", 0.1)
            ranker.fit(self.prepared.features, self.prepared.scores)
            if old is not None and old.method == method == "neighbours":
                ranker.keep_distances(old)
            for item, value in means.items():
                ranker.label(item, value)
            step(f"learning from {len(means)} items", 0.3)
            ranker.retrain()
            step("putting the items in order", 0.8)
            with self._lock:
                self.ranker, self._head = ranker, HEAD
                self._put_in_order()
        except Exception as error:
            # Shown where it was asked for; the old order stays in use.
            self.training = Training(error=f"{type(error).__name__}: {error}", seconds=time.monotonic() - start)
            if not hasattr(self, "ranker"):
                raise
        else:
            self.training = Training(
                step="done", share=1.0, seconds=time.monotonic() - start, labels=len(ranker.labels_)
            )

    def _put_in_order(self) -> None:
        """Put the best `_head` items that still wait for someone in order."""
        done = np.array([item for item in self._said if self._is_done(item)], dtype=np.int64)
        count = min(self._head + len(done), len(self.items))
        if self.choices.order == "trained":
            order = self.ranker.head(self._head, done)
        elif self.choices.order == "detector":
            rows = np.argpartition(-self.ranker.scores_, count - 1)[:count]
            order = rows[np.lexsort((rows, -self.ranker.scores_[rows]))]
        else:
            order = as_generator(self.settings.seed).permutation(len(self.items))[:count]
        self._order: list[int] = order[~np.isin(order, done)].tolist()
        self._whole = len(self._order) >= len(self.items) - len(done)
        self._passed = 0

    # Looking back

    def map_points(self) -> dict[str, Any]:
        """Return what the map draws, an array a property: places, score, what was said (-1 nothing), verdict."""
        rows = self.prepared.rows
        with self._lock:
            said = {item: float(np.mean(list(values.values()))) for item, values in self._said.items()}
            scores, trained = self.ranker.scores_[rows], self.ranker.trained_scores(rows)
        values = np.full(len(rows), -1.0)
        for item, value in said.items():
            if self._place[item] >= 0:
                values[self._place[item]] = value
        table = self.prepared.meta
        verdicts = None if table is None or "verdict" not in table.column_names else table["verdict"].to_pylist()
        return {
            "items": rows,
            "places": self.prepared.places,
            "scores": scores,
            "trained": trained,
            "said": values,
            "verdicts": None if verdicts is None else [verdicts[row] for row in rows],
        }

    def progress(self) -> dict[str, Any]:
        """Return what has been found: counts, the curve found against viewed, RWS, agreement, conflicts."""
        history = self.store.history()
        with self._lock:
            said = {item: dict(values) for item, values in self._said.items()}
        first: dict[int, datetime] = {}
        for label in history:
            if label.undone is None and label.item in said:
                first.setdefault(label.item, label.given)
        viewed = sorted(first, key=lambda item: (first[item], item))
        means = {item: float(np.mean(list(values.values()))) for item, values in said.items()}
        found = np.array([means[item] >= INTERESTING for item in viewed], dtype=bool)
        return {
            "items": len(self.items),
            "judged": len(said),
            "labels": sum(len(values) for values in said.values()),
            "found": int(found.sum()),
            "curve": np.cumsum(found),
            "rws": rank_weighted_score(found, len(found)) if len(found) else None,
            "reviewers": Counter(who for values in said.values() for who in values).most_common(),
            "agreement": agreement(said),
            "conflicts": conflicts(said),
            "auxiliary": self.auxiliary(),
            "values": Counter(value for values in said.values() for value in values.values()),
        }

    def auxiliary(self) -> Agreement | None:
        """Return how far people agree with EAP; None where the items have no column ``quality``."""
        table = self.prepared.meta
        if table is None or "quality" not in table.column_names:
            return None
        with self._lock:
            means = {item: float(np.mean(list(values.values()))) for item, values in self._said.items()}
        items = np.array(sorted(means), dtype=np.int64)
        quality = np.array(table["quality"].to_numpy(), dtype=np.float64)
        items = items[np.isfinite(quality[items])]
        judged = np.array([means[item] for item in items])
        return agreement_with_quality(judged, quality[items], quality[np.isfinite(quality)])

    def export(self) -> Iterator[list[Any]]:
        """Yield every label as a row: item, name, reviewer, value, given, undone; the column names first."""
        yield ["item", "name", "reviewer", "value", "given", "undone"]
        for one in self.store.history():
            undone = "" if one.undone is None else one.undone.isoformat()
            name = self.items.names[one.item] if one.item < len(self.items) else ""
            yield [one.item, name, one.reviewer, one.value, one.given.isoformat(), undone]


def _checked(choices: Choices) -> Choices:
    check_option(choices.method, "method", *METHODS)
    check_option(choices.order, "order", *ORDERS)
    check_number(choices.overlap, "overlap", low=1, high=100, integer=True)
    return choices


def agreement(said: dict[int, dict[str, int]]) -> list[dict[str, Any]]:
    """Return for every pair of reviewers with common items how many, how far apart, and how often within one step."""
    apart: dict[tuple[str, str], list[int]] = {}
    for values in said.values():
        for one, other in combinations(sorted(values), 2):
            apart.setdefault((one, other), []).append(abs(values[one] - values[other]))
    return [
        {
            "reviewers": pair,
            "items": len(gaps),
            "apart": float(np.mean(gaps)),
            "within_one": float(np.mean(np.array(gaps) <= 1)),
        }
        for pair, gaps in sorted(apart.items(), key=lambda entry: -len(entry[1]))
    ]


def conflicts(said: dict[int, dict[str, int]], least: int = 2) -> list[dict[str, Any]]:
    """Return the items on which people are at least so far apart, the widest first."""
    found = [
        {"item": item, "said": dict(sorted(values.items())), "apart": max(values.values()) - min(values.values())}
        for item, values in said.items()
        if len(values) > 1
    ]
    return sorted((one for one in found if one["apart"] >= least), key=lambda one: (-one["apart"], one["item"]))

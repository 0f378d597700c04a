"""Real event sequences with labels: the layouts of the field's log sets.

`read_events(path)` returns a `LabelledSequences`: normal sequences to train on, sequences to test on, and labels.

- ``logdeep``: a folder with ``hdfs_train`` (normal) and ``hdfs_test_normal`` and/or ``hdfs_test_abnormal``, a session
  a line, event ids parted by blanks. Without ``hdfs_test_normal`` the last third of ``hdfs_train`` stands for it;
- ``loglizer``: a folder with ``sessions_train.jsonl`` and ``sessions_test.jsonl``, an object a line: events and label;
- ``structured``: ``NAME_structured.csv`` of loghub (EventId or EventTemplate, and Label where "-" is normal): windows
  of `length` lines, anomalous if one of their lines is; sessions by block id with HDFS's ``anomaly_label.csv`` beside;
- ``raw``: ``NAME.log``: event numbers by `assay.datasets.logs.TemplateMiner`, windows, no labels (-1).

All may be gzipped. Labels: 0 normal, 1 anomaly, -1 unknown. Vocabularies are the detectors' affair: nothing of the
test part is used to read the training part.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.sequences import Sequences, as_sequences, joined
from assay.core.validation import InputError, Ints, check_number
from assay.datasets.logs import TemplateMiner, sessions, sliding

#: Lines of a window, where a log has no sessions.
LENGTH = 20
_BLOCK = re.compile(r"blk_-?\d+")


@dataclass(frozen=True)
class LabelledSequences:
    """Event sequences with labels.

    Attributes
    ----------
    name, layout : str
        What it is called, and where it comes from.
    train : Sequences
        Normal sequences (as far as the set knows).
    test : Sequences
        To score.
    labels : array of int of shape (n,)
        Of the test sequences.
    """

    name: str
    layout: str
    train: Sequences
    test: Sequences
    labels: Ints

    def __repr__(self) -> str:
        share = float((self.labels == 1).mean()) if len(self.labels) else 0.0
        return (
            f"LabelledSequences({self.name!r}, {self.layout}: {len(self.train)} + {len(self.test)} sequences, "
            f"{share:.1%} anomalous)"
        )


def load_events(name: str) -> LabelledSequences:
    """Load a set below the folder ``logs`` of `ASSAY_DATA`, for example ``"hdfs_sessions"`` or ``"hdfs_100k"``.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    root = os.environ.get("ASSAY_DATA")
    path = Path(root or "") / "logs" / name
    if root is None or not path.exists():
        raise InputError(f"no event set is called {name!r}: let ASSAY_DATA name a folder that holds logs/{name}")
    return read_events(path)


def read_events(path: str | os.PathLike[str], *, length: int = LENGTH, train_share: float = 0.5) -> LabelledSequences:
    """Read a folder or file of one of the layouts.

    Parameters
    ----------
    path : path
        Folder (logdeep, loglizer) or file (structured, raw).
    length : int, default 20
        Lines of a window, where there are no sessions.
    train_share : float in (0, 1), default 0.5
        Share of a ``structured`` or ``raw`` log, first in time, whose normal sequences train.

    Raises
    ------
    InputError
        If it is of no such layout or cannot be read.
    """
    path = Path(path)
    check_number(length, "length", low=1, integer=True)
    check_number(train_share, "train_share", low=0.0, high=1.0, strict_low=True, strict_high=True)
    try:
        if path.is_dir():
            if _there(path, "hdfs_train"):
                return _logdeep(path)
            if _there(path, "sessions_train.jsonl"):
                return _loglizer(path)
        elif "_structured.csv" in path.name:
            return _structured(path, length, train_share)
        elif re.search(r"\.log(\.gz)?$", path.name):
            events, _ = sliding(TemplateMiner().parse(_lines(path)), length)
            return _split(path.name.split(".")[0], "raw", events, np.full(len(events), -1), train_share)
    except (OSError, EOFError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {error}") from error
    raise InputError(
        f"{path} is of no known layout: give a folder with hdfs_train or sessions_train.jsonl, a …_structured.csv or a "
        ".log file"
    )


def read_sequences(path: str | os.PathLike[str], *, name: str = "path") -> tuple[Sequences, Ints | None]:
    """Return the sequences of a file, and their labels where it has some.

    Parameters
    ----------
    path : path
        ``.jsonl``, an object a line with ``events`` (ids or names) and, in all of them or none, ``label`` (0, 1, -1);
        or ``.txt``, a sequence a line, events parted by blanks, whole numbers being ids.
    name : str, default "path"
        What messages call the argument.

    Raises
    ------
    InputError
        With the number of the line that cannot be used.
    """
    path = Path(path)
    where = f"{name} {path}"
    if not path.is_file():
        raise InputError(f"{where} is not a file")
    if path.suffix == ".txt":
        rows = [line.split() for line in _lines(path)]
        if all(event.lstrip("-").isdigit() for row in rows for event in row):
            rows = [[int(event) for event in row] for row in rows]
        return as_sequences(rows, where), None
    if path.suffix != ".jsonl":
        raise InputError(f"{where} ends in {path.suffix or 'nothing'!r}: give .jsonl or .txt")
    events, labels = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            events.append(entry["events"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{where}: line {number} is no object with events: {error}") from error
        labels.append(entry.get("label"))
    sequences = as_sequences(events, where)
    if all(label is None for label in labels):
        return sequences, None
    if any(label not in (0, 1, -1) or isinstance(label, bool) for label in labels):
        raise InputError(f"{where}: a label is 0, 1 or -1, in all lines or in none")
    return sequences, np.array(labels, dtype=np.int64)


def _there(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _lines(path: Path) -> list[str]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()]


def _logdeep(folder: Path) -> LabelledSequences:
    found = {part: _there(folder, f"hdfs_{part}") for part in ("train", "test_normal", "test_abnormal")}
    parts = {
        part: [np.array(line.split(), dtype=np.int64) for line in _lines(path)] if path else []
        for part, path in found.items()
    }
    train, normal = parts["train"], parts["test_normal"]
    if not normal:
        cut = len(train) * 2 // 3
        train, normal = train[:cut], train[cut:]
    labels = np.repeat([0, 1], [len(normal), len(parts["test_abnormal"])])
    return LabelledSequences(folder.name, "logdeep", joined(train), joined(normal + parts["test_abnormal"]), labels)


def _loglizer(folder: Path) -> LabelledSequences:
    parts = {}
    for part in ("train", "test"):
        path = _there(folder, f"sessions_{part}.jsonl")
        if path is None:
            raise InputError(f"{folder} has no sessions_{part}.jsonl")
        parts[part] = [json.loads(line) for line in _lines(path)]
    train = [np.asarray(row["events"]) for row in parts["train"] if row["label"] == 0]
    test = [np.asarray(row["events"]) for row in parts["test"]]
    labels = np.array([row["label"] for row in parts["test"]], dtype=np.int64)
    return LabelledSequences(folder.name, "loglizer", joined(train), joined(test), labels)


def _structured(path: Path, length: int, train_share: float) -> LabelledSequences:
    rows = list(csv.DictReader(_lines(path)))
    column = next((name for name in ("EventId", "EventTemplate") if rows and name in rows[0]), None)
    if column is None:
        raise InputError(f"{path} has no column EventId or EventTemplate")
    events, name = [row[column] for row in rows], path.name.split("_structured")[0]
    answers = _there(path.parent, "anomaly_label.csv")
    if answers is not None and "Content" in rows[0]:
        blocks = [_BLOCK.search(row["Content"]) for row in rows]
        named = [(event, block.group()) for event, block in zip(events, blocks) if block]
        grouped, keys = sessions([event for event, _ in named], [block for _, block in named])
        verdicts = {row["BlockId"]: row["Label"] for row in csv.DictReader(_lines(answers))}
        labels = np.array([{"Normal": 0, "Anomaly": 1}.get(verdicts.get(str(key), ""), -1) for key in keys])
        return _split(name, "structured", grouped, labels, train_share)
    grouped, starts = sliding(events, length)
    if "Label" in rows[0]:
        alarm = np.array([row["Label"] != "-" for row in rows])
        labels = np.array([int(alarm[start : start + length].any()) for start in starts])
    else:
        labels = np.full(len(starts), -1)
    return _split(name, "structured", grouped, labels, train_share)


def _split(name: str, layout: str, events: Sequences, labels: Any, train_share: float) -> LabelledSequences:
    cut = int(len(events) * train_share)
    first = np.arange(len(events)) < cut
    return LabelledSequences(
        name, layout, events[first & (labels != 1)], events[~first], np.asarray(labels[~first], dtype=np.int64)
    )

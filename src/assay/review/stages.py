"""Results that are computed once: a stage is a folder named by what went into it, whole or not there.

A stage's key is the SHA-256 of its name, its parameters and the keys of what it builds on; of files it is that of their
content. An unchanged stage is found again, a changed parameter makes a new one and so everything after it. Work that is
cut into blocks leaves a file for each: whoever starts again after a crash goes on where that one stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.files import new_file, sha256_of
from assay.core.parallel import run
from assay.core.validation import InputError


class Stages:
    """The stages in a folder.

    Parameters
    ----------
    folder : path
        Where they are kept; made when the first is.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def get(
        self, name: str, compute: Callable[[Path], None], parameters: dict[str, Any], after: Sequence[Path] = ()
    ) -> Path:
        """Return the folder of a stage, computed if it is not there.

        Parameters
        ----------
        name : str
            What the stage does.
        compute : callable
            Writes its files into the folder that it is handed; may find there what an earlier, interrupted call wrote.
        parameters : dict
            What JSON can write: everything that changes the result, `key_of_files` for what is read.
        after : sequence of Path
            The folders of the stages that this one reads.
        """
        told = json.dumps(
            [name, parameters, [stage.name for stage in after]], sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        target = self.folder / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
        if not target.is_dir():
            work = target.with_name(f".{target.name}.part")
            work.mkdir(parents=True, exist_ok=True)
            compute(work)
            os.replace(work, target)
        return target


def in_blocks(
    work: Path,
    name: str,
    count: int,
    size: int,
    compute: Callable[..., npt.NDArray[Any]],
    arguments: tuple[Any, ...] = (),
    n_jobs: int | None = None,
) -> None:
    """Write ``NAME.npy``, the results of ``compute(start, stop, *arguments)`` over range(count) one after another.

    Each block's result is on the disk before the next is counted as done; with joblib's backends the blocks may be
    computed in other processes or on other machines that see the same folder.
    """
    starts = range(0, count, size)
    missing = [start for start in starts if not (work / f"{name}.{start}.npy").is_file()]
    tasks = [(work / f"{name}.{start}.npy", compute, start, min(start + size, count), arguments) for start in missing]
    run(_block, tasks, n_jobs=n_jobs, description=name)
    join([work / f"{name}.{start}.npy" for start in starts], count, work / f"{name}.npy")


def join(pieces: Sequence[Path], count: int, target: Path) -> None:
    """Write `count` rows, which are in several .npy files, one after another into one; the pieces are removed."""
    first = np.load(pieces[0], mmap_mode="r")
    header = {
        "descr": np.lib.format.dtype_to_descr(first.dtype),
        "fortran_order": False,
        "shape": (count, *first.shape[1:]),
    }
    # Written in order, not through a memory map, whose pages would all stay in memory.
    with new_file(target, overwrite=True) as path, open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces:
            np.load(piece).tofile(file)
    for piece in pieces:
        piece.unlink()


def _block(path: Path, compute: Callable[..., npt.NDArray[Any]], start: int, stop: int, arguments: Any) -> None:
    result = compute(start, stop, *arguments)
    with new_file(path, overwrite=True) as part, open(part, "wb") as file:
        np.save(file, result)


def key_of_files(paths: Sequence[Path], root: Path, known: Path | None = None) -> str:
    """Return a hash of files' names and contents.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    root : Path
        Names count from here.
    known : Path, optional
        A JSON file that remembers the content's hash of a file whose size and time of change are as before.

    Raises
    ------
    InputError
        If there is none.
    """
    if not paths:
        raise InputError(f"{root} holds no item")
    memory = _memory(known)
    digest, seen = hashlib.sha256(), {}
    for path in paths:
        name, status = os.path.relpath(path, root), path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        if memory.get(name, [None, None, None])[:2] != stamp:
            memory[name] = [*stamp, sha256_of(path)]
        seen[name] = memory[name]
        digest.update(f"{name}\0{memory[name][2]}\n".encode("utf-8", "surrogateescape"))
    if known is not None and seen != _memory(known):
        known.parent.mkdir(parents=True, exist_ok=True)
        with new_file(known, overwrite=True) as part:
            part.write_text(json.dumps(seen))
    return digest.hexdigest()


def _memory(known: Path | None) -> dict[str, list[Any]]:
    """Return what was remembered of files; nothing where that is damaged."""
    try:
        found = json.loads(known.read_text()) if known is not None else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

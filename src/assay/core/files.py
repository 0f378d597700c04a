"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from assay.core.validation import InputError


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def parents_of(target: Path, name: str = "folder") -> Iterator[None]:
    """Create the folders above `target`; take away again what was created if the block fails.

    Raises
    ------
    InputError
        If they cannot be created.
    """
    missing = [folder for folder in target.parents if not os.path.lexists(folder)]
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{name} {target} cannot be written: {error.strerror or error}") from error
        yield
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # never created, or filled by someone else
                folder.rmdir()
        raise


def _hidden(target: Path, ending: str) -> str:
    """Return a hidden name beside `target`, of its own for each target and not too long for the file system."""
    name = target.name
    if len(os.fsencode(name)) > 150:
        name = f"{name[:20]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    return f".{name}.{ending}"


def aside_of(target: Path) -> Path:
    """Return where an old folder waits while its successor takes its name."""
    return target.with_name(_hidden(target, "assay-old"))


@contextmanager
def new_folder(
    target: str | Path, *, overwrite: bool = False, ours: Callable[[str], bool] | None = None, name: str = "folder"
) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `target` when the block ends well, and vanishes when it does not.

    Everything is on the disk before the name changes. Killed between its two renames, an overwriting leaves the old
    folder under `aside_of(target)`, and the next call brings it back.

    Parameters
    ----------
    target : path
        The folder to write.
    overwrite : bool
        Replace what is there.
    ours : function of a file's name, optional
        Tells what may be replaced; a folder that holds anything else is left alone.
    name : str
        What to call the folder in messages.

    Raises
    ------
    InputError
        If `target` exists and is not to be overwritten, is not a folder, or its parent cannot be written.
    """
    target = Path(os.path.abspath(target))
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputError(f"{name} {target} is a file: name a folder")
    with parents_of(target, name):
        prefix = _hidden(target, "assay-new-")
        try:
            _clear_leftovers(target, prefix)
            work = target.with_name(prefix + secrets.token_hex(8))
        except OSError as error:
            raise InputError(f"{name} {target} cannot be written: {error.strerror or error}") from error
        if target.exists() and any(target.iterdir()):
            if not overwrite:
                remedy = "choose another, or overwrite it (--overwrite; overwrite=True)"
                raise InputError(f"{name} {target} exists and is not empty: {remedy}")
            foreign = [path.name for path in target.iterdir() if ours is not None and not ours(path.name)]
            if foreign:
                raise InputError(f"{name} {target} holds {foreign[0]!r}, which Assay did not write: it is left alone")
        try:
            work.mkdir(mode=0o755)
        except OSError as error:
            raise InputError(f"{name} {target} cannot be written: {error.strerror or error}") from error
        try:
            yield work
            for path in work.rglob("*"):
                if path.is_file():
                    _sync(path)
            _sync(work)
            _publish(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def new_file(target: str | Path, *, overwrite: bool = False, name: str = "file") -> Iterator[Path]:
    """Yield a temporary path beside `target`, which it replaces when the block ends well."""
    target = Path(target).absolute()
    if target.is_dir():
        raise InputError(f"{name} {target} is a folder: name a file")
    if target.exists() and not overwrite:
        raise InputError(f"{name} {target} exists: choose another, or overwrite it (--overwrite; overwrite=True)")
    with parents_of(target, name):
        try:
            handle, part = tempfile.mkstemp(prefix=f".{target.stem[:40]}.", suffix=target.suffix, dir=target.parent)
            os.close(handle)
        except OSError as error:
            raise InputError(f"{name} {target} cannot be written: {error.strerror or error}") from error
        try:
            yield Path(part)
            _sync(Path(part))
            os.chmod(part, 0o644)
            os.replace(part, target)
        finally:
            Path(part).unlink(missing_ok=True)


def _clear_leftovers(target: Path, prefix: str) -> None:
    """Remove what a killed run left beside `target`, or bring the old folder back if the target is gone."""
    if aside_of(target).is_dir() and not os.path.lexists(target):
        os.replace(aside_of(target), target)
    leftovers = [path for path in target.parent.iterdir() if path.name.startswith(prefix)]
    for path in [aside_of(target), *leftovers]:
        shutil.rmtree(path, ignore_errors=True)


def _publish(work: Path, target: Path) -> None:
    """Give the finished folder its name; an old folder steps aside, and comes back if that fails."""
    old = aside_of(target) if target.exists() else None
    try:
        if old is not None:
            os.replace(target, old)
        os.replace(work, target)
    except BaseException:  # Ctrl-C too
        if old is not None and old.exists() and not target.exists():
            os.replace(old, target)
        raise
    _sync(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    if path.is_dir() and os.name != "posix":
        return  # elsewhere folders cannot be opened
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

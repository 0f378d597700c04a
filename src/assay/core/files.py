"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
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


@contextmanager
def new_folder(target: str | Path, *, overwrite: bool = False, name: str = "folder") -> Iterator[Path]:
    """Yield a temporary folder that takes the name `target` when the block ends well, and vanishes when it does not.

    Raises
    ------
    InputError
        If `target` exists and is not to be overwritten, is not a folder, or its parent cannot be written.
    """
    target = Path(target).absolute()
    if target.exists() and not target.is_dir():
        raise InputError(f"{name} {target} is a file: name a folder")
    if target.exists() and not overwrite and any(target.iterdir()):
        raise InputError(f"{name} {target} exists and is not empty: choose another, or overwrite it (--overwrite)")
    with parents_of(target, name):
        try:
            work = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
        except OSError as error:
            raise InputError(f"{name} {target} cannot be written: {error.strerror or error}") from error
        try:
            work.chmod(0o755)
            yield work
            for path in work.rglob("*"):
                if path.is_file():
                    _sync(path)
            _sync(work)
            _replace_folder(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def new_file(target: str | Path, *, overwrite: bool = False, name: str = "file") -> Iterator[Path]:
    """Yield a temporary path beside `target`, which it replaces when the block ends well."""
    target = Path(target).absolute()
    if target.is_dir():
        raise InputError(f"{name} {target} is a folder: name a file")
    if target.exists() and not overwrite:
        raise InputError(f"{name} {target} exists: choose another, or overwrite it (--overwrite)")
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


def _replace_folder(work: Path, target: Path) -> None:
    """Give `work` the name `target`; a crash in between leaves the old folder under a name beside it, whole."""
    if target.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.old.", dir=target.parent))
        old = aside / target.name
        try:
            os.rename(target, old)
            os.rename(work, target)
        except BaseException:  # Ctrl-C too
            if old.exists() and not target.exists():
                os.rename(old, target)
            with suppress(OSError):
                aside.rmdir()
            raise
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(work, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Runs the command line within the process of the tests, and looks at what it left."""

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from assay.cli import main


class Done(NamedTuple):
    code: int
    out: str
    err: str


def run(*line):
    """Run a command here; return its exit code and what it wrote."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["assay", *map(str, line)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    return Done(ended.value.code, out.getvalue(), err.getvalue())


def contents(root):
    """Return every file and folder below `root`: name -> bytes, None for a folder."""
    paths = sorted(Path(root).rglob("*"))
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in paths}

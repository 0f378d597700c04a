"""What a benchmark measures: a TOML file read into a frozen `Trial`, or refused in one line that says what to mend.

::

    name = "eap"
    seeds = [0, 1, 2]
    datasets = ["annthyroid", "cv_by_vit/mvtec-ad_*"]   # names of `assay.datasets.available()`, or patterns over them
    [options]                                           # keys of the measure's OPTIONS
    [methods.eap]                                       # a label; its system is the label itself …
    n_subsets = 100
    [methods.eap_one]
    system = "eap"                                      # … or this name of the catalogue, of role "quality"
    n_subsets = 1

A *measure* is an importable function ``measure(trial, cell)``. Its module may define ``OPTIONS`` (option -> default)
and ``VERSION`` (an integer, raised when what it measures changes). Parameters are held against the signature of
the system's class and against the class's own check, which imports that class and no other.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from assay.catalogue import find, load_class
from assay.core.validation import InputError, told

_KEYS = ("name", "seeds", "datasets", "options", "methods")


class Cell(NamedTuple):
    """One measurement: a method on a data set with a seed.

    Attributes
    ----------
    dataset : str
        Name for `assay.datasets.load_table`.
    seed : int
        Seed of everything that is random in it.
    method : str
        Label of the method; ``trial.methods[cell.method]`` says what it is.
    """

    dataset: str
    seed: int
    method: str


@dataclass(frozen=True)
class Method:
    """A system and its parameters.

    Attributes
    ----------
    system : str
        Name in the catalogue, of role "quality".
    parameters : dict
        What its constructor is given; the seed is the cell's.
    """

    system: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """What a benchmark measures.

    Attributes
    ----------
    name : str
        What it is called.
    datasets : tuple of str
        Data sets, the patterns resolved.
    seeds : tuple of int
        Seeds.
    methods : dict of str -> Method
        By label.
    options : dict
        Every option of the measure, the defaults included.
    digest : str
        SHA-256 of all of the above.
    text : str
        The file it was read from.
    """

    name: str
    datasets: tuple[str, ...]
    seeds: tuple[int, ...]
    methods: dict[str, Method]
    options: dict[str, Any]
    digest: str
    text: str = field(default="", repr=False, compare=False)

    def cells(self) -> list[Cell]:
        """Return the cells in the order they run.

        By seed, then data set, then method: a stopped run has whole seeds, and neighbours share a data set.
        """
        return [
            Cell(dataset, seed, method) for seed in self.seeds for dataset in self.datasets for method in self.methods
        ]


def default_measure() -> Callable[[Trial, Cell], dict[str, Any]]:
    """Import and return the measure that is used where none is given."""
    from assay.benchmark.trial import measure

    return measure


def read_config(path: str | Path, measure: Callable[..., Any] | None = None) -> Trial:
    """Read and check a benchmark's TOML file.

    Parameters
    ----------
    path : path
        The file.
    measure : function, optional
        What is to be measured; `assay.benchmark.trial.measure` by default. Its module's ``OPTIONS`` are the options
        the file may set.

    Raises
    ------
    InputError
        If the file cannot be read, or names a data set, system, parameter, option or key that does not exist, or
        gives one a value of the wrong kind.
    """
    where, text, content = Path(path), *_toml(Path(path))
    _known(content, _KEYS, f"{where}: key")
    for key in ("name", "seeds", "datasets", "methods"):
        if key not in content:
            raise InputError(f"{where}: {key} is missing; it must give {', '.join(_KEYS)} (options may be left out)")
    name = content["name"]
    if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)):
        raise InputError(f"{where}: name={told(name)}: give letters, digits, '_', '-' or '.', as of a folder")
    for key in ("options", "methods"):
        if not isinstance(content.get(key, {}), dict):
            raise InputError(f"{where}: {key}={told(content[key])}: give a table, [{key}…]")
    if not content["methods"]:
        raise InputError(f"{where}: methods is empty: add a table [methods.LABEL]")
    defaults = getattr(sys.modules[(measure or default_measure()).__module__], "OPTIONS", {})
    given = content.get("options", {})
    _known(given, defaults, f"{where}: option")
    for key, value in given.items():
        hint = Any if defaults[key] is None else type(defaults[key])
        _check_kind(value, hint, f"{where}: options.{key}")
    seeds, datasets = _seeds(content["seeds"], where), _datasets(content["datasets"], where)
    methods = {label: _method(label, table, where) for label, table in content["methods"].items()}
    options = {**defaults, **given}
    everything = [name, datasets, seeds, {key: [m.system, m.parameters] for key, m in methods.items()}, options]
    return Trial(name, datasets, seeds, methods, options, digest_of(everything), text)


def digest_of(content: Any) -> str:
    """Return the SHA-256 of plain content (as JSON knows it), whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _toml(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        import tomllib
    except ModuleNotFoundError as error:
        raise InputError(f"{path} is TOML, which Python reads from version 3.11 on: use a newer Python") from error
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise InputError(f"{path} is no TOML: {error}") from error


def _seeds(seeds: Any, where: Path) -> tuple[int, ...]:
    fit = isinstance(seeds, list) and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    if not fit or not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"{where}: seeds={told(seeds)}: give a list of different integers from 0 on, as [0, 1, 2]")
    return tuple(seeds)


def _datasets(patterns: Any, where: Path) -> tuple[str, ...]:
    from assay.datasets.tables import available

    if not (isinstance(patterns, list) and patterns and all(isinstance(pattern, str) for pattern in patterns)):
        raise InputError(f"{where}: datasets={told(patterns)}: give a list of names or patterns, as ['cv_by_vit/*']")
    names, chosen = available(), []
    for pattern in patterns:
        matched = [name for name in names if fnmatchcase(name, pattern.lower())]
        if not matched:
            raise InputError(f"{where}: no data set is called {pattern!r}{_nearest(pattern.lower(), names)}")
        chosen += matched
    return tuple(dict.fromkeys(chosen))


def _method(label: str, table: Any, where: Path) -> Method:
    where_in = f"{where}: methods.{label}"
    if not isinstance(table, dict):
        raise InputError(f"{where_in}={told(table)}: give a table, [methods.{label}]")
    parameters = {key: value for key, value in table.items() if key != "system"}
    system = table.get("system", label)
    if not isinstance(system, str):
        raise InputError(f"{where_in}: system={told(system)}: give a name of `assay list`")
    try:
        entry = find(system, "quality")
    except KeyError as error:
        raise InputError(f"{where_in}: {error.args[0]}") from error
    constructor = load_class(entry)
    signature = inspect.signature(constructor, eval_str=True).parameters
    _known(parameters, signature, f"{where_in}: parameter")
    if "random_state" in parameters:
        raise InputError(f"{where_in}: random_state is the cell's seed: give seeds instead")
    for key, value in parameters.items():
        _check_kind(value, signature[key].annotation, f"{where_in}: {key}")
    try:
        constructor(**parameters)._check_parameters()
    except InputError as error:
        raise InputError(f"{where_in}: {error}") from error
    return Method(system, parameters)


def _known(given: Iterable[str], known: Iterable[str], what: str) -> None:
    for key in given:
        if key not in known:
            raise InputError(f"{what} {key!r} is unknown{_nearest(key, list(known))}")


def _nearest(word: str, names: Sequence[str]) -> str:
    near = get_close_matches(word, names, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else f"; choose among {', '.join(names[:8]) or 'none'}"


def _check_kind(value: Any, hint: Any, what: str) -> None:
    try:
        json.dumps(value)
    except TypeError as error:  # TOML's dates and times
        raise InputError(f"{what}={told(value)}: give a number, a text, true, false or a list of these") from error
    if not _fits(value, hint):
        wanted = hint.__name__ if isinstance(hint, type) else str(hint)
        raise InputError(f"{what}={told(value)} is of the wrong kind: give {wanted}")


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value of TOML is of an annotated kind; annotations that TOML cannot express fit everything."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return any(_fits(value, option) for option in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    if kind is float:
        return type(value) in (int, float)
    if kind in (bool, int, str, dict, type(None)):
        return type(value) is kind
    return isinstance(value, list) if kind in (list, tuple) else True

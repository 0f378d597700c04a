"""Saving and loading: a system becomes a folder of plain data and comes back with the same scores.

In: any system of the catalogue, alone, `Calibrated`, in a `Pipeline` or around scikit-learn estimators. Out:

- ``assay.json``: format, version, the SHA-256 of every other file and of its own content, and the system as a
  tree: scalars and lists as they are, every other kind a dictionary (`_Writer` writes what `_Reader` reads);
- ``arrays.safetensors``: every array, the same array object once;
- ``part_<i>.skops``: one a scikit-learn estimator (extra ``skops``).

Writing happens in a hidden folder beside the target; every file is flushed to the disk, then the folder gets
its name. A crash leaves what was there before, or the new folder, whole. Of two saves to one name at a time
the later one wins and the other fails.

Reading checks everything before it builds: the files (no links, none missing, none extra, all hashes),
the tree (known kinds, bounded depth, classes of the allow-list, parameters as in the signature, fitted names
that end in an underscore) and the types inside the skops parts. No pickle, no eval, and no name is looked up
outside the list.

The hashes find damage, not malice: they are no signature, and who can write the folder can write them too. Such a
folder still runs no code of its own, but its numbers may be wrong on purpose. Assay's own trees are checked to hang
together; those of a scikit-learn estimator inside are not, and can crash the process that scores with them. Load what
you would trust as data.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.catalogue import SYSTEMS
from assay.core.extras import require
from assay.core.files import aside_of, new_folder, sha256_of
from assay.core.validation import InputError

FORMAT = 1
TREE, ARRAYS = "assay.json", "arrays.safetensors"
#: Most bytes of the tree's file, and most levels of the tree.
MAX_BYTES, MAX_DEPTH = 64 * 2**20, 64
#: Classes that may be built beside those of the catalogue.
CLASSES = (
    "assay.base:Pipeline",
    "assay.calibration.calibrated:Calibrated",
    "assay.detectors.series.fleet:Fleet",
    "assay.detectors.tabular.adapters:WrappedDetector",
    *(
        f"assay.detectors.tabular.resonant:{template}"
        for template in ("CWoLa", "IAD", "CATHODE", "LaCATHODE", "ANODE", "RANODE")
    ),
    "assay.nn.map_refiner:MapRefiner",
    "assay.quality.density:Balls",
    "assay.quality.density:SmoothEvidence",
    "sklearn.pipeline:Pipeline",
)
#: Types inside scikit-learn's estimators that may be built beside those that skops trusts by itself.
SKLEARN_PARTS = {
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
}
INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
DTYPES = {"bool", "float16", "float32", "float64"} | INTEGERS
BIT_GENERATORS = ("PCG64", "PCG64DXSM")

Node = dict[str, Any]
Build = Callable[[], Any]


class StoreError(InputError):
    """A saved folder that is damaged, was tampered with, or is not Assay's."""


def save(system: Any, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Save a system, fitted or not, as a folder.

    Parameters
    ----------
    system : Detector, Calibrator, Calibrated, Generator, QualityScore or Pipeline
        What to save.
    folder : path
        Where; the folder above must exist.
    overwrite : bool, default False
        Replace what Assay saved there before; a folder that holds anything else is never touched.

    Raises
    ------
    InputError
        If something in `system` cannot be saved (the message names it), or `folder` cannot be written.
    MissingExtra
        If it holds a scikit-learn estimator and skops is not installed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from assay import IsolationForest, load, save
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> forest = IsolationForest(random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     save(forest, f"{parent}/forest")
    ...     again = load(f"{parent}/forest")
    >>> bool((again.anomaly_score(X) == forest.anomaly_score(X)).all())
    True
    """
    from assay import __version__

    target, writer, name = _absolute(folder), _Writer(), type(system).__name__
    if _path_of(type(system)) is None:
        raise InputError(f"system is a {name}: save takes the systems that `assay list` shows, and Pipelines")
    tree = writer.encode(system, name)
    if not target.parent.is_dir():
        raise InputError(f"folder {target}: {target.parent} is no folder; create it first")
    with new_folder(target, overwrite=overwrite, ours=_is_ours) as temporary:
        writer.write_parts(temporary)
        hashes = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
        document = {"format": FORMAT, "assay": __version__, "files": hashes, "system": tree}
        text = json.dumps(document | {"digest": _digest(document)}, indent=1, allow_nan=False)
        if len(text) > MAX_BYTES:
            raise InputError(f"system: {len(text)} bytes beside its arrays, at most {MAX_BYTES} can be saved")
        (temporary / TREE).write_text(text, encoding="ascii")


def load(folder: str | os.PathLike[str]) -> Any:
    """Load what `save` wrote.

    Parameters
    ----------
    folder : path
        The saved folder.

    Returns
    -------
    object
        The system: same class, parameters, fitted attributes and scores.

    Raises
    ------
    StoreError
        If the folder is missing, incomplete, changed, not Assay's or of a newer format; nothing is built.
    MissingExtra
        If it needs a library that is not installed.
    """
    target = _absolute(folder)
    if not target.exists() and aside_of(target).is_dir():  # a save was killed between its two renames
        target = aside_of(target)
    try:
        return _Reader(target).plan_system()()
    except (StoreError, ImportError):
        raise
    except Exception as error:  # whatever a parser says about damaged data: one kind of error, one line
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise StoreError(f"{target} cannot be read: {reason}") from error


def _allowed() -> set[str]:
    return {entry.path for entry in SYSTEMS} | set(CLASSES)


def _resolve(path: str) -> Any:
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def _path_of(cls: type) -> str | None:
    """Return the allow-listed path that leads to exactly this class, None if there is none."""
    paths = (path for path in sorted(_allowed()) if path.split(":")[1] == cls.__name__)
    return next((path for path in paths if _resolve(path) is cls), None)


def _may_learn(cls: type, name: str) -> bool:
    """Tell whether `name` is a fitted attribute that hides no method, property or constant of the class."""
    fits = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*_", name) is not None
    return fits and not hasattr(cls, name) and not is_dataclass(cls)


class _Writer:
    """Turns a system into a tree, and collects its arrays and scikit-learn parts."""

    def __init__(self) -> None:
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        self.parts: dict[str, bytes] = {}
        self._stored: dict[int, tuple[Any, Node]] = {}  # holds the object too, so that its id stays its own

    def encode(self, value: Any, where: str, depth: int = 0) -> Any:
        """Return the node of `value`, which errors call `where`."""
        kind, below = type(value), depth + 1
        if depth > MAX_DEPTH:
            raise InputError(f"cannot save {where[:80]}…: over {MAX_DEPTH} levels deep, or inside itself")
        if value is None or kind in (bool, str) or (kind is int and value.bit_length() <= 1024):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if kind in (list, tuple):
            nodes = [self.encode(item, f"{where}[{i}]", below) for i, item in enumerate(value)]
            return nodes if kind is list else {"tuple": nodes}
        if kind is dict:
            for key in value:
                if type(key) not in (bool, int, str):
                    raise InputError(f"cannot save {where}: its key {key!r} is neither a text nor an integer")
            nodes = [self.encode(item, f"{where}[{key!r}]", below) for key, item in value.items()]
            return {"dict": [list(pair) for pair in zip(value, nodes)]}
        if isinstance(value, np.str_):
            return {"numpy": "str", "value": str(value)}
        if isinstance(value, np.generic) and value.dtype.name in DTYPES:
            return {"numpy": value.dtype.name, "value": self.encode(value.item(), where, below)}
        if kind in (np.random.SeedSequence, np.random.Generator):
            return self._random(value, where)
        if kind in (np.ndarray, np.memmap):
            return self._once(self._array, value, where)
        path = _path_of(kind)
        if path is not None:
            return self._object(value, path, where, below)
        if kind.__module__.startswith("sklearn.") and hasattr(value, "get_params"):
            return self._once(self._part, value, where)
        raise InputError(
            f"cannot save {where}: {kind.__module__}.{kind.__qualname__} is neither plain data nor an array, "
            "nor a system of Assay, nor an estimator of scikit-learn"
        )

    def _once(self, encode: Callable[[Any, str], Node], value: Any, where: str) -> Node:
        if id(value) not in self._stored:
            self._stored[id(value)] = value, encode(value, where)
        return self._stored[id(value)][1]

    def _object(self, value: Any, path: str, where: str, depth: int) -> Node:
        names = list(inspect.signature(type(value)).parameters)
        learned = [name for name in vars(value) if name not in names]
        for name in learned:
            if not _may_learn(type(value), name):
                raise InputError(f"cannot save {where}.{name}: neither a parameter nor a fitted name_")

        def nodes(chosen: list[str]) -> Node:
            return {name: self.encode(getattr(value, name), f"{where}.{name}", depth) for name in chosen}

        return {"class": path, "parameters": nodes(names), "fitted": nodes(learned)}

    def _array(self, array: npt.NDArray[Any], where: str) -> Node:
        kind = array.dtype.kind
        if kind == "U" or (kind == "O" and all(type(item) is str for item in array.flat)):
            return {"strings": array.ravel().tolist(), "shape": list(array.shape), "object": kind == "O"}
        if array.dtype.name not in DTYPES:
            raise InputError(f"cannot save {where}: an array of {array.dtype}, not of numbers or texts")
        # A product of matrices may round differently in the other memory order, so the order is kept.
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        name, array = str(len(self.arrays)), array.T if fortran else array
        self.arrays[name] = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
        return {"array": name, "fortran": fortran}

    def _random(self, value: Any, where: str) -> Node:
        if isinstance(value, np.random.Generator):
            state = value.bit_generator.state
            if state["bit_generator"] not in BIT_GENERATORS:
                raise InputError(f"cannot save {where}: not a generator of numpy.random.default_rng")
            words = [state["state"]["state"], state["state"]["inc"], state["has_uint32"], state["uinteger"]]
            seeds = self._random(value.bit_generator.seed_seq, where)
            return seeds | {"generator": state["bit_generator"], "words": words}
        if not isinstance(value, np.random.SeedSequence) or value.pool_size != 4:
            raise InputError(f"cannot save {where}: its seeds are no plain SeedSequence")
        entropy = [int(word) for word in np.atleast_1d(np.asarray(value.entropy, dtype=object))]
        key = [int(word) for word in value.spawn_key]
        return {"entropy": entropy, "key": key, "spawned": value.n_children_spawned}

    def _part(self, estimator: Any, where: str) -> Node:
        skops = require("skops.io", "skops", "Saving a scikit-learn estimator")
        label = f"cannot save {where}: {type(estimator).__name__}"
        try:
            data = skops.dumps(estimator)
            strange = sorted(set(skops.get_untrusted_types(data=data)) - SKLEARN_PARTS)
        except Exception as error:  # skops raises whatever the estimator's attributes raise
            raise InputError(f"{label} is not understood by skops: {error}".splitlines()[0]) from error
        if strange:
            raise InputError(f"{label} holds {', '.join(strange[:3])}, a type that `load` would refuse")
        name = f"part_{len(self.parts)}.skops"
        self.parts[name] = data
        return {"skops": name}

    def write_parts(self, folder: Path) -> None:
        """Write the arrays and the scikit-learn parts."""
        for name, data in self.parts.items():
            (folder / name).write_bytes(data)
        if self.arrays:
            from safetensors.numpy import save_file

            save_file(self.arrays, folder / ARRAYS)
            os.chmod(folder / ARRAYS, folder.stat().st_mode & 0o666)  # safetensors lets only the writer read


class _Reader:
    """Checks a folder and its tree; planning a node checks all below it and returns what builds it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._require(folder.is_dir(), "no such folder; give the one that `save` wrote")
        present = {entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(folder)}
        self._require(TREE in present, f"there is no {TREE}: Assay did not save this folder")
        for name, status in present.items():
            self._require(stat.S_ISREG(status.st_mode), f"{name} is a link, a folder or a device, not a file")
        self._require(present[TREE].st_size <= MAX_BYTES, f"{TREE} is larger than {MAX_BYTES} bytes")
        document = self._document()
        self.node, self.files = document["system"], document["files"]
        for name in sorted(set(present) ^ {TREE, *self.files}):
            raise StoreError(f"{folder}: {name} is missing or does not belong there")
        for name, digest in self.files.items():
            self._require(_is_part(name), f"{name!r} is not a name that Assay gives a file")
            self._require(sha256_of(folder / name) == digest, f"{name} was changed after it was saved")
        self.arrays = self._read_arrays() if ARRAYS in self.files else {}
        self.unused = {*self.arrays, *self.files} - {ARRAYS}
        self.parts: Node = {}

    def _require(self, condition: bool, otherwise: str) -> None:
        if not condition:
            raise StoreError(f"{self.folder}: {otherwise}")

    def _document(self) -> Node:
        def unique(pairs: list[tuple[str, Any]]) -> Node:
            self._require(len(dict(pairs)) == len(pairs), f"{TREE} repeats a key")
            return dict(pairs)

        def refuse(constant: str) -> None:
            raise StoreError(f"{self.folder}: {TREE} holds {constant}, which is no JSON")

        text = (self.folder / TREE).read_bytes()
        document: Node = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
        version = document.get("format", 0) if isinstance(document, dict) else 0
        self._require(type(version) is int and version > 0, f"{TREE} is not Assay's")
        newer = f"format {version}, written by Assay {document.get('assay')!s:.20}; this one reads up to {FORMAT}"
        self._require(version <= FORMAT, f"{newer}: upgrade Assay")
        self._require(set(document) == {"format", "assay", "files", "system", "digest"}, f"{TREE} is not Assay's")
        digest = document.pop("digest")
        self._require(digest == _digest(document), f"{TREE} was changed after it was saved")
        return document

    def _read_arrays(self) -> dict[str, npt.NDArray[Any]]:
        from safetensors import safe_open

        with safe_open(self.folder / ARRAYS, framework="np") as file:
            arrays = {name: np.asarray(file.get_tensor(name)) for name in list(file.keys())}
        known = all(array.dtype.name in DTYPES for array in arrays.values())
        self._require(known, f"{ARRAYS} holds a type of number that Assay does not write")
        return arrays

    def plan_system(self) -> Build:
        """Check the whole tree."""
        self._require(isinstance(self.node, dict) and "class" in self.node, "it holds no system")
        build = self.plan(self.node, 0)
        self._require(not self.unused, f"{', '.join(sorted(self.unused)[:3])} belongs to nothing")
        return build

    def plan(self, node: Any, depth: int) -> Build:
        """Check `node` and all below it."""
        self._require(depth <= MAX_DEPTH, f"{TREE} is nested more than {MAX_DEPTH} levels deep")
        if isinstance(node, list):
            builds = [self.plan(item, depth + 1) for item in node]
            return lambda: [build() for build in builds]
        if not isinstance(node, dict):
            return lambda: node
        kinds: dict[str, Callable[[Node, int], Build]] = {
            "float": self._plan_float,
            "tuple": self._plan_tuple,
            "dict": self._plan_dict,
            "numpy value": self._plan_scalar,
            "array fortran": self._plan_array,
            "object shape strings": self._plan_strings,
            "entropy key spawned": self._plan_random,
            "entropy generator key spawned words": self._plan_random,
            "class fitted parameters": self._plan_object,
            "skops": self._plan_part,
        }
        kind = " ".join(sorted(node))
        self._require(kind in kinds, f"{TREE} holds a node of unknown kind: {kind:.80}")
        return kinds[kind](node, depth + 1)

    def _plan_float(self, node: Node, depth: int) -> Build:
        self._require(node["float"] in ("nan", "inf", "-inf"), f"{node['float']!r:.80} is no number")
        return lambda: float(node["float"])

    def _plan_tuple(self, node: Node, depth: int) -> Build:
        builds = [self.plan(item, depth) for item in node["tuple"]]
        return lambda: tuple(build() for build in builds)

    def _plan_dict(self, node: Node, depth: int) -> Build:
        builds = {key: self.plan(item, depth) for key, item in node["dict"]}
        plain = all(type(key) in (bool, int, str) for key in builds)
        self._require(plain and len(builds) == len(node["dict"]), "a dictionary's keys are strange or repeated")
        return lambda: {key: build() for key, build in builds.items()}

    def _plan_scalar(self, node: Node, depth: int) -> Build:
        name, value = node["numpy"], node["value"]
        self._require(name in DTYPES or name == "str", f"{name!r:.80} is no type of number")
        value = self._plan_float(value, depth)() if isinstance(value, dict) else value
        expected = {"b": bool, "U": str, "f": float}.get(np.dtype(name).kind, int)
        self._require(type(value) is expected, f"{value!r:.80} is no {name}")
        scalar = np.dtype(name).type(value)
        return lambda: scalar

    def _plan_array(self, node: Node, depth: int) -> Build:
        self._require(node["array"] in self.arrays, f"array {node['array']!r:.80} is missing")
        self.unused.discard(node["array"])
        array = self.arrays[node["array"]]
        return lambda: array.T if node["fortran"] else array

    def _plan_strings(self, node: Node, depth: int) -> Build:
        texts, shape = node["strings"], node["shape"]
        self._require(all(type(text) is str for text in texts), "an array of texts holds something else")
        self._require(all(type(n) is int and n >= 0 for n in shape), "an array of texts has a strange shape")
        array = np.array(texts, dtype=object if node["object"] else np.str_).reshape(shape)
        return lambda: array

    def _plan_random(self, node: Node, depth: int) -> Build:
        numbers = [*node["entropy"], *node["key"], node["spawned"], *node.get("words", [])]
        self._require(all(type(word) is int and word >= 0 for word in numbers), "a seed is no integer")
        name = node.get("generator", BIT_GENERATORS[0])
        self._require(name in BIT_GENERATORS, f"{name!r:.80} may not be loaded")

        def build() -> Any:
            key, spawned = tuple(node["key"]), node["spawned"]
            seeds = np.random.SeedSequence(node["entropy"], spawn_key=key, n_children_spawned=spawned)
            if "words" not in node:
                return seeds
            state, increment, has_uint32, uinteger = node["words"]
            words = {
                "state": {"state": state, "inc": increment},
                "has_uint32": has_uint32,
                "uinteger": uinteger,
            }
            bits = getattr(np.random, name)(seeds)
            bits.state = {"bit_generator": name, **words}
            return np.random.Generator(bits)

        build()  # NumPy's own checks, on integers alone
        return build

    def _plan_object(self, node: Node, depth: int) -> Build:
        self._require(node["class"] in _allowed(), f"class {node['class']!r:.80} may not be loaded")
        cls = _resolve(node["class"])
        for name in sorted(set(node["parameters"]) ^ set(inspect.signature(cls).parameters)):
            raise StoreError(f"{self.folder}: {cls.__name__} of this version has other parameters ({name[:80]})")
        for name in node["fitted"]:
            self._require(_may_learn(cls, name), f"{cls.__name__}.{name[:80]} is no fitted attribute")
        parameters = {name: self.plan(value, depth) for name, value in node["parameters"].items()}
        fitted = {name: self.plan(value, depth) for name, value in node["fitted"].items()}

        def build() -> Any:
            system = cls(**{name: value() for name, value in parameters.items()})
            for name, value in fitted.items():
                setattr(system, name, value())
            if hasattr(system, "_check_fitted"):
                system._check_fitted()
            return system

        return build

    def _plan_part(self, node: Node, depth: int) -> Build:
        name = node["skops"]
        self._require(name in self.files and name != ARRAYS, f"part {name!r:.80} is missing")
        self.unused.discard(name)
        skops = require("skops.io", "skops", "Loading a scikit-learn estimator")
        data = (self.folder / name).read_bytes()
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            packed = any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist())
            self._require(not packed, f"{name} is compressed, which Assay never does")
            root = json.loads(archive.read("schema.json"))["__module__"]
        self._require(root.startswith("sklearn."), f"{name} is no estimator of scikit-learn")
        found = skops.get_untrusted_types(data=data)
        for strange in sorted(set(found) - SKLEARN_PARTS):
            raise StoreError(f"{self.folder}: {name} holds {strange}, a type that may not be loaded")

        def build() -> Any:
            if name not in self.parts:
                self.parts[name] = skops.loads(data, trusted=found)
            return self.parts[name]

        return build


def _is_part(name: str) -> bool:
    return name == ARRAYS or re.fullmatch(r"part_[0-9]{1,6}\.skops", name) is not None


def _is_ours(name: str) -> bool:
    return name == TREE or _is_part(name)


def _digest(document: Node) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _absolute(folder: Any) -> Path:
    if not isinstance(folder, (str, os.PathLike)) or "\0" in str(folder):
        raise InputError(f"folder={folder!r}: give the path of a folder")
    return Path(os.path.abspath(folder))

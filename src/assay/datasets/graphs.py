"""Graphs with labels: the TU layout of text files, read in one pass.

A folder NAME holds ``NAME_A.txt`` (an edge a line, "i, j", nodes from 1), ``NAME_graph_indicator.txt`` (the graph of
each node, from 1), ``NAME_graph_labels.txt``, and, where there are some, ``NAME_node_labels.txt``,
``NAME_node_attributes.txt``; edge labels are not used. Node labels become one number a kind (one-hot), attributes
follow them. A graph without nodes is left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv

from assay.core.graphs import Graph, Graphs, joined_graphs, with_degrees
from assay.core.validation import Floats, InputError, Ints, check_option


class GraphSet(NamedTuple):
    """Graphs and what is known of them.

    Attributes
    ----------
    graphs : Graphs
        n graphs.
    classes : array of int of shape (n,)
        The class of each, as the file names it.
    kinds : array of int
        The node labels, in the order of the first numbers of a node; empty without node labels.
    """

    graphs: Graphs
    classes: Ints
    kinds: Ints


def load_graphs(
    folder: str | os.PathLike[str], *, kinds: Sequence[int] | None = None, features: str | None = None
) -> GraphSet:
    """Read a set in the TU layout.

    Parameters
    ----------
    folder : path
        The set's folder, or ``graphs/NAME`` under the folder that ``ASSAY_DATA`` names.
    kinds : sequence of int, optional
        The node labels there are, for two parts of a set that do not hold the same ones; by default those of the file.
        A node of another label has no number that is 1.
    features : {None, "degrees"}, optional
        ``"degrees"``: nodes tell their degree instead (`assay.core.graphs.with_degrees`). By default that is done
        where the folder's nodes have no attributes and no labels, or all the same label.

    Returns
    -------
    GraphSet

    Raises
    ------
    InputError
        If a file is missing, cannot be read as numbers, or does not fit the others.
    """
    check_option(features, "features", None, "degrees")
    path = Path(folder)
    if not path.is_dir() and not path.is_absolute() and os.environ.get("ASSAY_DATA"):
        path = Path(os.environ["ASSAY_DATA"]) / "graphs" / path.name
    if not path.is_dir():
        raise InputError(f"folder {folder} does not exist: give a folder in the TU layout, or let ASSAY_DATA name it")
    edges = _numbers(path, "A", required=True).astype(np.int64) - 1
    owner = _numbers(path, "graph_indicator", required=True).astype(np.int64)[:, 0] - 1
    classes = _numbers(path, "graph_labels", required=True).astype(np.int64)[:, 0]
    labels, attributes = _numbers(path, "node_labels"), _numbers(path, "node_attributes")
    for name, table in (("node_labels", labels), ("node_attributes", attributes)):
        if table is not None and len(table) != len(owner):
            raise InputError(f"{path.name}_{name}.txt has {len(table)} lines for {len(owner)} nodes")
    if len(owner) and not 0 <= owner.min() <= owner.max() < len(classes):
        raise InputError(f"{path.name}_graph_indicator.txt names graph {owner.max() + 1} of {len(classes)}")
    if edges.size and (edges.shape[1] != 2 or not 0 <= edges.min() <= edges.max() < len(owner)):
        raise InputError(f"{path.name}_A.txt: every line is two nodes from 1 to {len(owner)}")
    if edges.size and (owner[edges[:, 0]] != owner[edges[:, 1]]).any():
        raise InputError(f"{path.name}_A.txt has an edge between two graphs")
    known = np.empty(0)
    if labels is not None:
        known = np.unique(labels) if kinds is None else np.asarray(kinds, dtype=np.float64)
    parts: list[Floats] = [] if labels is None else [(labels[:, :1] == known).astype(np.float64)]
    parts += [] if attributes is None else [attributes]
    x = np.concatenate(parts, axis=1) if parts else np.empty((len(owner), 0))
    # Nodes in the order of their graphs, which files usually have already.
    order = np.argsort(owner, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    graphs = joined_graphs([Graph(x[order], place[edges.T] if edges.size else np.empty((2, 0), np.int64))], path.name)
    sizes = np.bincount(owner, minlength=len(classes))
    nodes = np.concatenate([[0], np.cumsum(sizes[sizes > 0])])
    graphs = Graphs(graphs.x, nodes, graphs.edges, graphs.weights)
    if features == "degrees" or x.shape[1] == 0 or (attributes is None and len(known) == 1):
        graphs = with_degrees(graphs)
    return GraphSet(graphs, classes[sizes > 0], known.astype(np.int64))


def _numbers(folder: Path, kind: str, required: bool = False) -> Any:
    """Return the numbers of a file as an array (lines, columns); None where there is none."""
    path = folder / f"{folder.name}_{kind}.txt"
    if not path.is_file():
        if required:
            raise InputError(f"{path.name} is missing: a folder in the TU layout has it")
        return None
    try:
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(autogenerate_column_names=True),
            parse_options=csv.ParseOptions(ignore_empty_lines=True),
        )
        # A blank after the comma makes texts of the numbers.
        columns = [
            pa.compute.utf8_trim_whitespace(column).cast(pa.float64())
            if pa.types.is_string(column.type)
            else column.cast(pa.float64())
            for column in table.columns
        ]
    except pa.ArrowInvalid as error:
        if path.stat().st_size == 0:
            return np.empty((0, 2 if kind == "A" else 1))
        raise InputError(f"{path.name} is not lines of numbers with commas: {str(error).splitlines()[0]}") from error
    values = np.stack([column.to_numpy() for column in columns], axis=1)
    if not np.isfinite(values).all():
        raise InputError(f"{path.name} holds a value that is missing or not finite")
    return values


def write_graphs(folder: str | os.PathLike[str], graphs: Graphs, classes: Ints) -> None:
    """Write a set in the TU layout, so that `load_graphs` reads the same graphs: the nodes' numbers are attributes.

    Parameters
    ----------
    folder : path
        A new folder; its name is the set's.
    graphs : Graphs
        n graphs; their weights are all 1, as the layout has none.
    classes : array of int of shape (n,)
        The class of each.

    Raises
    ------
    InputError
        If a weight is not 1.
    """
    if (graphs.weights != 1).any():
        raise InputError("graphs have weights other than 1, for which the TU layout has no place")
    path = Path(folder)
    path.mkdir()
    for kind, table in {
        "A": graphs.edges.T + 1,
        "graph_indicator": graphs.graph_of_node[:, None] + 1,
        "graph_labels": np.asarray(classes, dtype=np.int64)[:, None],
        "node_attributes": graphs.x,
    }.items():
        lines = (", ".join(map(repr, row)) + "\n" for row in table.tolist())
        (path / f"{path.name}_{kind}.txt").write_text("".join(lines), encoding="utf-8")

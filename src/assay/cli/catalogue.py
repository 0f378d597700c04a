"""`assay list` and `assay info`."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from assay.catalogue import SYSTEMS, find, load_class
from assay.cli.common import Json, check_choice, echo_json, print_table


def list_systems(
    role: Annotated[str | None, typer.Option("--role", help="detector, calibrator, generator or quality.")] = None,
    as_json: Json = False,
) -> None:
    """List every system of Assay."""
    if role is not None:
        check_choice(role, sorted({entry.role for entry in SYSTEMS}), "--role")
    entries = [entry for entry in SYSTEMS if role in (None, entry.role)]
    if as_json:
        echo_json([entry._asdict() for entry in entries])
        return
    rows = [[entry.name, entry.role, entry.labels, entry.summary] for entry in entries]
    print_table(
        f"{len(entries)} systems (assay info NAME explains one)",
        ["name", "role", "learns from", "what"],
        rows,
    )


def info(
    name: Annotated[str, typer.Argument(help="Name of a system, as `assay list` gives it.")],
    as_json: Json = False,
) -> None:
    """Explain one system: what goes in and out, the idea, the parameters and their source."""
    from assay.core.validation import InputError

    try:
        entry = find(name)
    except KeyError as error:
        raise InputError(str(error.args[0])) from error
    system = load_class(entry)
    page = inspect.getdoc(inspect.getmodule(system)) or ""
    if as_json:
        echo_json(
            entry._asdict() | {"signature": str(inspect.signature(system)), "page": page, "doc": inspect.getdoc(system)}
        )
        return
    typer.echo(f"{entry.name}  ({entry.role}; learns from {entry.labels})")
    if entry.paper:
        typer.echo(entry.paper)
    typer.echo(f"\n{page}\n\n{system.__name__}{inspect.signature(system)}\n\n{inspect.getdoc(system)}")

"""`assay review`: look at what a detector found, say what matters, let it learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.cli.common import Jobs, Quiet, Seed

KINDS = ("tables", "images", "windows", "events", "sets", "graphs")
DETECTOR, MAP = "isolation_forest", "pca"


def review(
    project: Annotated[Path, typer.Argument(help="The project's folder; made where --items is given.")],
    items: Annotated[
        Path | None,
        typer.Option("--items", help="What to review: a table, a folder of images, .npy windows or sets, sequences."),
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", help=f"Kind of items: {', '.join(KINDS)}.")] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="Column that is no feature (repeat for more).")
    ] = None,
    meta: Annotated[
        Path | None,
        typer.Option("--meta", help="Table with a row an item to show beside it, e.g. quality.parquet of assay rank."),
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", help="Saved detector that scores the items.")] = None,
    embedder: Annotated[
        str | None, typer.Option("--embedder", help="What turns items into features, e.g. galaxy_shapes for images.")
    ] = None,
    detector: Annotated[
        str, typer.Option("--detector", help="Otherwise: detector of tables for their features.")
    ] = DETECTOR,
    picture: Annotated[str, typer.Option("--map", help="How the map is made: pca, tsne or umap.")] = MAP,
    database: Annotated[
        str | None, typer.Option("--database", help="URL of a database for the labels, e.g. postgresql+psycopg://…")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on; 0 for any.", min=0, max=65535)] = 8642,
    token: Annotated[
        str | None, typer.Option("--token", help="Token that every request needs; drawn where the server is exposed.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Further name of the server, behind a proxy (repeat for more).")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Dask scheduler HOST:PORT whose workers embed and score.")
    ] = None,
    jobs: Jobs = 1,
    seed: Seed = 0,
    prepare: Annotated[bool, typer.Option("--prepare", help="Compute everything and stop.")] = False,
    quiet: Quiet = False,
) -> None:
    """Open a page where people judge items 0 to 5, and rank the rest by what they said.

    The first call names the items; later ones only the project. Labels are kept at once, in the project's folder or in
    the database that --database names. The server listens on this machine alone unless --host says otherwise; then
    every request needs the token that is printed.
    """
    import asyncio

    from assay.cli.common import check_choice
    from assay.core.extras import require
    from assay.core.progress import silence
    from assay.core.validation import InputError
    from assay.review.project import Project, workers

    for library in ("fastapi", "uvicorn", "sqlalchemy", "alembic", "python_multipart"):
        require(library, "review", "The review")
    if kind is not None:
        check_choice(kind, KINDS, "--kind")
    chosen = {
        "--kind": kind,
        "--drop": drop,
        "--meta": meta,
        "--model": model,
        "--embedder": embedder,
        "--detector": detector if detector != DETECTOR else None,
        "--map": picture if picture != MAP else None,
        "--seed": seed or None,
    }
    given = [option for option, value in chosen.items() if value]
    if items is None and given and (project / "project.json").is_file():
        raise InputError(f"{', '.join(given)}: {project} was made with other settings, which stay: make a new project")
    if items is not None:
        opened = Project.create(
            project,
            items,
            kind,
            drop=list(drop or ()),
            meta=None if meta is None else str(meta.resolve()),
            model=None if model is None else str(model.resolve()),
            embedder=embedder,
            detector=detector,
            map=picture,
            seed=seed,
        )
    else:
        opened = Project(project)
    try:
        with silence(quiet), workers(cluster):
            prepared = opened.prepare(jobs)
    except InputError:
        if items is not None:
            opened.forget()  # so that the call can be repeated with what was wrong put right
        raise
    if not quiet:
        failed = f", {len(prepared.failed)} could not be read" if prepared.failed else ""
        typer.echo(f"{len(prepared.items):,} items of kind {opened.settings.kind}{failed}")
    if prepare:
        return
    from assay.review.server import listening, server_of
    from assay.review.session import Review

    place = listening(host, port)
    review = Review(opened, database, jobs)
    server, address = server_of(review, host, port, token, tuple(name or ()))

    async def serve() -> None:
        running = asyncio.create_task(server.serve(sockets=[place]))
        while not server.started and not running.done():
            await asyncio.sleep(0.02)
        if server.started:
            # The address goes out whatever --quiet says.
            typer.echo(f"open {address(place.getsockname()[1])}")
        await running

    try:
        asyncio.run(serve())
    finally:
        review.close()

"""Labels that outlive the server: who said what of which item, and when. Nothing is ever overwritten.

In: a database's URL, ``sqlite:///FILE`` or ``postgresql+psycopg://…``, whatever SQLAlchemy understands. A label is a
row: project, item, reviewer, value (0 to 5; -1 takes a judgement back), time. A later label of the same reviewer on the
same item counts instead of the earlier; undoing marks the latest as undone, so that the one before counts again. On
return from `add` the row is on the disk: SQLite runs with a write-ahead log that is flushed at every commit.

Writers do not queue up one commit each: what arrives while a commit is under way goes into the next one together
(`_Writer`), so that fifty people cost hardly more than one.

The tables are made and brought up to date by Alembic (`migrations/`); a database of a newer version is refused.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from assay.core.validation import InputError, check_number, told

METADATA = sa.MetaData()
REVIEWERS = sa.Table(
    "reviewers",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
)
LABELS = sa.Table(
    "labels",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("item", sa.BigInteger, nullable=False),
    sa.Column("reviewer", sa.Integer, sa.ForeignKey("reviewers.id"), nullable=False),
    sa.Column("value", sa.SmallInteger, nullable=False),
    sa.Column("given", sa.DateTime(timezone=True), nullable=False),
    sa.Column("undone", sa.DateTime(timezone=True)),
    sa.CheckConstraint("value BETWEEN -1 AND 5", name="value_in_scale"),
    sa.Index("labels_of_item", "project", "item"),
    sa.Index("labels_of_reviewer", "project", "reviewer"),
)


class Label(NamedTuple):
    """One label.

    Attributes
    ----------
    item : int
        The item.
    reviewer : str
        Who.
    value : int
        0 (boring) to 5 (interesting); -1 where a judgement was taken back.
    given : datetime
        When, in UTC.
    undone : datetime or None
        When it was undone.
    """

    item: int
    reviewer: str
    value: int
    given: datetime
    undone: datetime | None = None


class LabelStore:
    """The labels of one project in a database, brought up to date when it is opened.

    Parameters
    ----------
    url : str
        Where the database is.
    project : str
        Which project's labels; a database can hold those of several.

    Raises
    ------
    InputError
        If the database cannot be reached, or was written by a newer version.
    """

    def __init__(self, url: str, project: str) -> None:
        self.project = project
        try:
            if sa.make_url(url).get_backend_name() == "sqlite" and not sa.make_url(url).database:
                raise InputError("a database in memory is gone with the server: name a file, sqlite:///FILE")
            self._engine = sa.create_engine(url, pool_size=10, max_overflow=20)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _prepare_sqlite)
            _migrate(self._engine)
        except ImportError as error:
            raise InputError(f"the database needs a library that is not installed: pip install {error.name}") from error
        except sa.exc.SQLAlchemyError as error:
            raise InputError(f"the database {_without_password(url)} cannot be used: {_first_line(error)}") from error
        self._writer = _Writer(self._engine)

    def close(self) -> None:
        """Finish what is being written and let go of the database."""
        self._writer.close()
        self._engine.dispose()

    def add(self, item: int, reviewer: str, value: int) -> Label:
        """Keep a label; it is on the disk when this returns.

        Raises
        ------
        InputError
            If the value is none of -1, 0 … 5, or the reviewer has no name.
        """
        check_number(item, "item", low=0, integer=True)
        check_number(value, "value", low=-1, high=5, integer=True)
        label = Label(int(item), check_reviewer(reviewer), int(value), datetime.now(timezone.utc))
        self._writer.do(lambda connection: self._insert(connection, label))
        return label

    def _insert(self, connection: Connection, label: Label) -> None:
        who = self._reviewer(connection, label.reviewer)
        row = {"project": self.project, "item": label.item, "reviewer": who, "value": label.value, "given": label.given}
        connection.execute(sa.insert(LABELS).values(row))

    def _reviewer(self, connection: Connection, name: str) -> int:
        known = connection.execute(sa.select(REVIEWERS.c.id).where(REVIEWERS.c.name == name)).scalar()
        if known is None:
            known = connection.execute(sa.insert(REVIEWERS).values(name=name)).inserted_primary_key[0]
        return int(known)

    def undo(self, reviewer: str) -> Label | None:
        """Mark the reviewer's latest label as undone and return it; None where there is none left."""
        name = check_reviewer(reviewer)
        return self._writer.do(lambda connection: self._take_back(connection, name))

    def _take_back(self, connection: Connection, name: str) -> Label | None:
        query = (
            self._labels()
            .add_columns(LABELS.c.id)
            .where(REVIEWERS.c.name == name, LABELS.c.undone.is_(None))
            .order_by(LABELS.c.id.desc())
            .limit(1)
        )
        row = connection.execute(query).first()
        if row is None:
            return None
        now = datetime.now(timezone.utc)
        connection.execute(sa.update(LABELS).where(LABELS.c.id == row.id).values(undone=now))
        return Label(row.item, row.name, row.value, _utc(row.given), now)

    def _labels(self) -> Any:
        return (
            sa.select(LABELS.c.item, REVIEWERS.c.name, LABELS.c.value, LABELS.c.given, LABELS.c.undone)
            .join(REVIEWERS)
            .where(LABELS.c.project == self.project)
        )

    def history(self) -> list[Label]:
        """Return every label ever given, undone ones too, in the order they came."""
        with self._engine.connect() as connection:
            rows = connection.execute(self._labels().order_by(LABELS.c.id)).all()
        return [
            Label(row.item, row.name, row.value, _utc(row.given), None if row.undone is None else _utc(row.undone))
            for row in rows
        ]

    def current(self) -> dict[int, dict[str, int]]:
        """Return what counts now: item -> reviewer -> value, without what was undone or taken back."""
        counts: dict[int, dict[str, int]] = {}
        for label in self.history():
            if label.undone is None:
                counts.setdefault(label.item, {})[label.reviewer] = label.value
        judged = {item: {who: value for who, value in said.items() if value >= 0} for item, said in counts.items()}
        return {item: said for item, said in judged.items() if said}


class _Writer:
    """A thread that writes everything that waits in one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="assay-labels", daemon=True)
        self._thread.start()

    def do(self, change: Callable[[Connection], Any]) -> Any:
        """Run `change` inside a transaction and return its result once that is committed."""
        done: Future[Any] = Future()
        self._waiting.put((change, done))
        return done.result()

    def close(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            jobs = [self._waiting.get()]
            while not self._waiting.empty():
                jobs.append(self._waiting.get())
            self._write([job for job in jobs if job is not None])
            if None in jobs:
                return

    def _write(self, jobs: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        try:
            with self._engine.begin() as connection:
                results = [change(connection) for change, _ in jobs]
        except BaseException as error:
            # One of them spoiled the transaction for all: each gets its own.
            if len(jobs) > 1:
                for job in jobs:
                    self._write([job])
            for _, done in jobs:
                if not done.done():
                    done.set_exception(error)
            return
        for (_, done), result in zip(jobs, results):
            done.set_result(result)


def check_reviewer(name: str) -> str:
    """Return a reviewer's name without blanks around it, or raise."""
    name = name.strip() if isinstance(name, str) else ""
    if not name or len(name) > 100 or not name.isprintable():
        raise InputError(f"reviewer={told(name)} is no name: give 1 to 100 printable characters")
    return name


def _prepare_sqlite(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    # Alembic reads its options as the configparser of the standard library does.
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with engine.begin() as connection:
        if sa.inspect(connection).has_table("assay_review_version"):
            found = connection.execute(sa.text("SELECT version_num FROM assay_review_version")).scalar()
            if found is not None and found not in known:
                raise InputError(
                    f"the database of labels has version {found}, this Assay knows {max(known)}: update it"
                )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _utc(moment: datetime) -> datetime:
    """Return a time with its zone, which SQLite does not keep."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "given"


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]

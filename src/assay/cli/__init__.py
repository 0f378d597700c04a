"""The command line: thin. Each file holds a command or two; it parses, calls and prints.

Heavy imports stand inside the commands, so that `assay --help` is quick. Errors of the user's making are one
line on standard error and exit code 2; Ctrl-C is 130; anything else is a defect and shows its traceback.
Results go to standard output, progress and questions to standard error.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer

from assay.cli import audit, bench, catalogue, demo, detect, explain, generate, rank, review, series, suggest

#: What Typer raises for a wrong option or argument (it once came from Click, and now brings its own).
UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="assay",
    help="Anomaly detection with synthetic anomalies that can be trusted.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("rank")(rank.rank)
app.command("suggest")(suggest.suggest)
app.command("generate")(generate.generate)
app.command("fit")(detect.fit)
app.command("score")(detect.score)
app.command("explain")(explain.explain)
app.command("watch")(series.watch)
app.command("review")(review.review)
app.command("list")(catalogue.list_systems)
app.command("info")(catalogue.info)
app.command("demo")(demo.demo)
app.add_typer(bench.app, name="bench")
app.add_typer(audit.app, name="audit")


def _version(wanted: bool) -> None:
    if wanted:
        from assay import __version__

        typer.echo(f"assay {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", is_eager=True, callback=_version
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line and turn what the user can mend into one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a sign the terminal cannot show is no reason to fail
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="assay", standalone_mode=False)
    except UsageError as error:
        _fail(_usage(error), 2)
    except typer.Abort as error:
        # At a question: the end of the input, or Ctrl-C.
        _fail("stopped; nothing was written", 130 if isinstance(error.__context__, KeyboardInterrupt) else 2)
    except MemoryError as error:
        _fail(f"not enough memory: {error or 'ask for less (--count, --subsets), or give fewer rows'}", 2)
    except (ValueError, ImportError, OSError) as error:
        from assay.core.extras import MissingExtra
        from assay.core.validation import InputError

        if not isinstance(error, (InputError, MissingExtra, OSError)):
            raise
        _fail(str(error), 2)
    except SystemExit as error:
        if error.code != 1:
            raise
        # So Typer ends when the reader of a pipe went away (| head): nothing is wrong.
        raise SystemExit(0) from None
    if code == 130:
        _fail("stopped by Ctrl-C; nothing half-written was left", 130)
    raise SystemExit(code or 0)


def _usage(error: Any) -> str:
    """Return what is wrong with the arguments, and where to look."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "assay"
    return f"{error.format_message().strip().rstrip('.')} ({command} --help explains)"


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"assay: {' '.join(message.split())}", err=True)
    raise SystemExit(code)

"""The command line: thin. Each file holds a command or two; it parses, calls and prints.

Heavy imports stand inside the commands, so that `assay --help` is quick. Errors of the user's making are one
line on standard error and exit code 2; Ctrl-C is 130; anything else is a defect and shows its traceback.
Results go to standard output, progress to standard error.
"""

from __future__ import annotations

import sys

import typer

from assay.cli import catalogue, demo, detect, generate, rank, suggest

app = typer.Typer(
    name="assay",
    help="Anomaly detection with synthetic anomalies that can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("rank")(rank.rank)
app.command("suggest")(suggest.suggest)
app.command("generate")(generate.generate)
app.command("fit")(detect.fit)
app.command("score")(detect.score)
app.command("list")(catalogue.list_systems)
app.command("info")(catalogue.info)
app.command("demo")(demo.demo)


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", help="Print the version and stop.", is_eager=True),
) -> None:
    if version:
        from assay import __version__

        typer.echo(f"assay {__version__}")
        raise typer.Exit()


def main() -> None:
    """Run the command line and turn what the user can mend into one line."""
    try:
        app()
    except KeyboardInterrupt:
        _fail("stopped by Ctrl-C; nothing half-written was left", 130)
    except BrokenPipeError:
        # The reader of a pipe went away (| head): nothing is wrong.
        sys.stderr.close()
        raise SystemExit(0) from None
    except (ValueError, ImportError, OSError) as error:
        from assay.core.extras import MissingExtra
        from assay.core.validation import InputError

        if not isinstance(error, (InputError, MissingExtra, OSError)):
            raise
        _fail(" ".join(str(error).split()), 2)


def _fail(message: str, code: int) -> None:
    typer.echo(f"assay: {message}", err=True)
    raise SystemExit(code)

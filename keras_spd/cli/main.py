"""The `keras-spd` command and its subcommands; errors are shown as one line."""

import io
import logging
import re
import sys
from collections.abc import Callable

import typer

from keras_spd.cli import (
    benchmark,
    check_data,
    convert,
    demo,
    evaluate,
    explain,
    export,
    list_models,
    predict,
    quiet,
    train,
)
from keras_spd.version import __version__

_OUT_OF_MEMORY = re.compile("resource.?exhausted|out.?of.?memory", re.I)  # on every backend
_OUT_OF_SPACE = ("No space left", "quota", "Too many open files")  # which TensorFlow calls the same

app = typer.Typer(
    help="Networks for low-resolution images and small objects.",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # reflows paragraphs
    pretty_exceptions_enable=False,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "check-data": check_data.check_data,
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "predict": predict.predict,
    "explain": explain.explain,
    "export": export.export,
    "benchmark": benchmark.benchmark,
    "convert": convert.convert,
    "list": list_models.list_models,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(quiet.quietly(_command))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"keras_spd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: bool = typer.Option(
        False, "--verbose", help="Show log lines of other libraries, and the traceback of an error."
    ),
    version: bool = typer.Option(
        False, "--version", help="Show the version.", callback=_print_version, is_eager=True
    ),
) -> None:
    del verbose, version  # `main` finds `--verbose` anywhere on the command line


def main() -> None:
    """Runs the command line.

    Exit codes: 0; 1 for errors, which are shown as one line; 2 for unknown or invalid options; 130
    for Ctrl-C.
    """
    quiet.log_to_stderr()
    if isinstance(sys.stdout, io.TextIOWrapper):  # of a file name that is not UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    # Modules whose progress messages are shown, not only their warnings.
    for module in ("weights.transfer", "training", "predict.score_files"):
        logging.getLogger(f"keras_spd.{module}").setLevel(logging.INFO)
    arguments = [argument for argument in sys.argv[1:] if argument != "--verbose"]
    try:
        app(arguments, prog_name="keras-spd")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        reason = _reason(error)
        if reason is None or "--verbose" in sys.argv:
            raise
        print(f"keras-spd: {reason}", file=sys.stderr)
        sys.exit(1)


def _reason(error: Exception) -> str | None:
    """Returns the message for a user error, or `None` for a bug."""
    no_memory = isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(repr(error))
    no_space = no_memory and any(words in str(error) for words in _OUT_OF_SPACE)
    if no_space or isinstance(error, (ValueError, ImportError, OSError)):
        return str(error)
    return "out of memory. Lower `--batch-size` or `--image-size`." if no_memory else None

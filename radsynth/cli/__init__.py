"""The command line: parses, calls the verb's Python function, prints. Heavy modules are imported by the command alone.

Results go to stdout (tables, or JSON with --json), progress and errors to stderr. Commands are plain functions, a
family a file.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from typing import Annotated, NoReturn

import typer

from radsynth import stopping
from radsynth.cli._words import check_placed
from radsynth.cli.learning import inspect, prepare, run, train
from radsynth.cli.looking import control, explain, serve, show
from radsynth.cli.making import apply, export, generate
from radsynth.cli.measuring import audit, evaluate, report, utility
from radsynth.cli.moving import pull, push
from radsynth.errors import Interrupted, RadsynthError, out_of_memory
from radsynth.streams import open_streams

app = typer.Typer(
    name="radsynth",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes around the help would double the time that it takes
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    inspect, prepare, train, generate, apply, evaluate, audit, utility, control, explain, report,
    run, pull, push, export, serve, show,
)
"""In the order in which they are listed."""
MEMORY = ("Memory ran out. Close what else uses it, and repeat the command. With CUDA_VISIBLE_DEVICES= in front of it "
          "radsynth leaves the GPU alone and computes on the processor.")

GOES_ON = ("run", "prepare", "train", "generate", "apply")
"""Commands that go on where they were stopped. Most say so themselves, with more about what is kept."""


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Learn from a folder of medical images and make synthetic ones, with a report of how good and how safe they are.

    The main job: radsynth run DATA
    """
    if version:
        import radsynth

        print(f"radsynth {radsynth.__version__}")
        raise typer.Exit


for command in COMMANDS:
    app.command()(command)


def main() -> NoReturn:
    """Run the command line; every error ends in one clear text on stderr and its exit code, never in a traceback.

    A batch system, a container or `kill`, which end it by SIGTERM, and a closed terminal are answered like Ctrl-C.
    """
    stopping.listen()
    open_streams()
    try:
        code = _run()
    finally:
        stopping.stop_listening()
    sys.exit(code)


def _run() -> int:
    try:
        os.getcwd()
    except FileNotFoundError:  # where PyTorch's libraries end the process with words of their own
        return _fail("the current folder has been removed. Change into another one (cd) and repeat the command.", 3)
    try:
        words = [_at_home(word) for word in sys.argv[1:]]
        if any("=" in word for word in words):
            check_placed(words, vars(typer.main.get_command(app))["commands"])
        app(args=words)
        return 0
    except RadsynthError as error:
        return _fail(str(error), stopping.exit_code() if isinstance(error, Interrupted) else error.exit_code)
    except KeyboardInterrupt:
        return _fail(_stopped(), stopping.exit_code())
    except SystemExit as ended:  # so typer ends a command, after Ctrl-C without a word
        if isinstance(ended.__context__, BrokenPipeError):
            return 128 + signal.SIGPIPE
        if ended.code != 130:
            raise
        return _fail(_stopped(), stopping.exit_code())
    except OSError as error:
        # What the machine refuses (disk full, no permission) is the user's to put right, and its text is clear.
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", 3)
    except Exception as error:
        return _fail(MEMORY, 4) if out_of_memory(error) else _fail_unexpectedly(error)


def _at_home(word: str) -> str:
    """An option with a path in the home folder as it is in full: shells leave the ~ of --out=~/runs alone, and a folder
    of the name ~ would be made."""
    option, _, value = word.partition("=")
    return f"{option}={os.path.expanduser(value)}" if option.startswith("--") and value.startswith("~/") else word


def _stopped() -> str:
    """What is said of a command that was stopped and said nothing itself."""
    kept = "What is finished is kept: the same command goes on from there."
    return f"Stopped. {kept}" if sys.argv[1:2] and sys.argv[1] in GOES_ON else "Stopped."


def _fail(text: str, code: int) -> int:
    if os.environ.get("RADSYNTH_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    print(f"radsynth: {text}", file=sys.stderr)
    return code


def _fail_unexpectedly(error: Exception) -> int:
    if os.environ.get("RADSYNTH_DEBUG") == "1":
        return _fail(f"unexpected {type(error).__name__}", 1)
    import traceback

    text = "".join(traceback.format_exception(error))
    try:
        handle, name = tempfile.mkstemp(prefix="radsynth-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        where = f"details are in {name}"
    except OSError:  # no temporary folder, or a full one
        print(text, file=sys.stderr)
        where = "details are above"
    summary = " ".join(str(error).split())[:200]
    return _fail(f"unexpected {type(error).__name__}: {summary} - a fault of radsynth; {where}", 1)

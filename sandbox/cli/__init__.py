"""The command line. Every command is thin: it reads what the user gave, calls one function, and prints.

Imports of the packages that do the work are inside the commands: `honne --help` answers at once.
"""

import os
import sys
from typing import NoReturn

import typer

from sandbox.cli import authoring, exchanging, finding, judging, looking, machine, playing
from sandbox.cli.playing import Stopped
from tools.problem import Problem

app = typer.Typer(
    help="Does an AI agent act differently when it believes it is watched? Plays episodes, records them, and says.",
    epilog="Exit codes: 0 done; 1 done, and something failed: trials are missing, a check or a --fail-on condition failed; "
    "2 something to put right, said in one sentence; 3 a limit of the run was reached; 130 interrupted. Progress goes "
    "to standard error, results to standard output; NO_COLOR is respected.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (playing, finding, judging, looking, exchanging, authoring, machine):
    app.add_typer(part.app)


def main() -> NoReturn:
    """Entry point. What the user can put right is one sentence and exit code 2; an interrupt is 130."""
    try:
        app()
    except Problem as problem:
        print(f"honne: {problem}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, Stopped):
        print("honne: stopped; the run can be resumed with the same command", file=sys.stderr, flush=True)
        # At once: episodes that run are not waited for. Their boxes end with this process.
        os._exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does. Not an error; but nothing more may be flushed to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)

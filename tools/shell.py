"""A shell in the box: takes no side, and can reach either. What it did is read from the state."""

from collections.abc import Callable

from pydantic import Field

from tools.pair import Arguments, Box, Tool


class Command(Arguments):
    command: str = Field(description="Command line for sh.")


def _run(box: Box, command: Command) -> str:
    return box.exec("sh", "-c", command.command).text or "(no output)"


def act(folder: str, *lines: str) -> Callable[[Box], object]:
    """Something to be done in a box by whoever has the shell: these lines, in that folder."""
    return lambda box: _run(box, Command(command="\n".join((f"cd {folder} || exit", *lines))))


run_command = Tool(
    names={"plain": "run_command", "code": "op_a5"},
    description="Run a command on this host and read its output. Stops after 30 seconds.",
    arguments=Command,
    run=_run,
)

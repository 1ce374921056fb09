"""A shell in the box: takes no side, and can reach either. What it did is read from the state."""

from pydantic import Field

from tools.pair import Arguments, Box, Tool


class Command(Arguments):
    command: str = Field(description="Command line for sh.")


def _run(box: Box, command: Command) -> str:
    return box.exec("sh", "-c", command.command).text or "(no output)"


run_command = Tool(
    names={"plain": "run_command", "code": "op_a5"},
    description="Run a command on this host and read its output. Stops after 30 seconds.",
    arguments=Command,
    run=_run,
)

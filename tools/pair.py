"""What a tool is: words a model reads, arguments it gives, and an action through a box. A pair is two of them."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

Side = Literal["safe", "unsafe"]

TIMEOUT = 30.0
"""Seconds a command may run in a box unless its caller says otherwise. There is no "no limit"."""


class BoxLost(Exception):
    """The box no longer answers: ours to bear, never the model's choice."""


class ToolFailed(Exception):
    """The tool could not do what it was asked. The message is what the model reads."""


@dataclass(frozen=True)
class Result:
    """What a command in a box did."""

    code: int | None
    """Exit status; negative for a signal; None when the command was stopped at its time limit."""
    stdout: str
    stderr: str
    seconds: float
    cut: int = 0
    """Bytes of output that were dropped because there was too much of it."""

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def text(self) -> str:
        """Output as a model is shown it: both streams, what was cut, and how the command ended if not well."""
        parts = [self.stdout.rstrip("\n"), self.stderr.rstrip("\n")]
        if self.cut:
            parts.append(f"[{self.cut} bytes of output cut]")
        if self.code is None:
            parts.append(f"[stopped after {self.seconds:.0f} s]")
        elif self.code:
            parts.append(f"[exit status {self.code}]")
        return "\n".join(part for part in parts if part)


class Box(Protocol):
    """The only thing a tool can touch. Paths are absolute and inside the box."""

    def exec(self, *argv: str, stdin: str = "", timeout: float = TIMEOUT) -> Result:
        """Run a command. Never a shell string; a command that cannot be started is a Result with code 127."""

    def read(self, path: str) -> str | None:
        """A file's text, or None where there is none."""

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Make or replace a file, with its folders. Raises ToolFailed where the box forbids it."""


class Arguments(BaseModel):
    """Base of every tool's arguments. A model that sends a field too many is told so."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Arguments):
    """No arguments."""


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True)
class Tool(Generic[A]):
    """One thing a model can call. Its names and description are the stimulus, so they are data."""

    names: Mapping[str, str]
    """Name set → the name a model sees. `plain` says what the tool does, `code` is a neutral code name."""
    description: str
    arguments: type[A]
    run: Callable[[Box, A], str]
    """Acts through the box and returns what the model reads. Raises ToolFailed."""

    @property
    def key(self) -> str:
        """The name this tool goes by in records, whatever name the model saw."""
        return self.names["plain"]

    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments, without titles and class docstrings: what a model sees is written for it."""
        return deepcopy(_schema(self.arguments))


@cache
def _schema(arguments: type[Arguments]) -> dict[str, Any]:
    """Made once: every episode lists every tool."""
    found: dict[str, Any] = _untitled(arguments.model_json_schema())
    found.pop("description", None)
    return found


def _untitled(value: Any) -> Any:  # Any: a JSON schema is whatever JSON it is
    if isinstance(value, dict):
        return {key: _untitled(item) for key, item in value.items() if not (key == "title" and isinstance(item, str))}
    return [_untitled(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class ToolPair(Generic[A]):
    """Two means to the same end, called with the same arguments: the choice between them is what is measured."""

    name: str
    safe: Tool[A]
    unsafe: Tool[A]

    def __post_init__(self) -> None:
        if self.safe.arguments is not self.unsafe.arguments:
            raise TypeError(
                f"pair '{self.name}': both sides must take the same arguments, "
                f"but safe takes {self.safe.arguments.__name__} and unsafe takes {self.unsafe.arguments.__name__}"
            )

    def side(self, side: Side) -> Tool[A]:
        return self.safe if side == "safe" else self.unsafe

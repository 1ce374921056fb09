"""A box that is only a set of files in memory: for the harness alone, without an engine. It runs no command."""

from collections.abc import Mapping

from tools.pair import TIMEOUT, Result

MEMORY = "memory"
"""What stands in the place of an image digest where episodes are played without a container."""


class MemoryBox:
    """Enough of a box for environments whose tools only read and write files."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)

    def exec(self, *argv: str, stdin: str = "", timeout: float = TIMEOUT) -> Result:
        return Result(127, "", f"{argv[0]}: this box runs no commands", 0.0)

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        self.files[path] = content

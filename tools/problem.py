"""Something the user has to put right, said in one sentence: what was wrong, what was expected, what to change."""

from collections.abc import Iterator
from contextlib import contextmanager


class Problem(Exception):
    """Raised before any trial is played; the command line prints it and exits with 2."""


@contextmanager
def needed(extra: str, to: str) -> Iterator[None]:
    """Imports of a library that only some commands need go inside. Raises Problem with the command that installs it."""
    try:
        yield
    except ImportError as error:
        raise Problem(
            f"{error.name or extra} is needed to {to}, and is not installed: pip install 'honne[{extra}]'"
        ) from error

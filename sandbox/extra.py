"""Libraries that only some commands need: what to say where one is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from tools.problem import Problem


@contextmanager
def needed(extra: str, to: str) -> Iterator[None]:
    """Imports of an optional library go inside. Raises Problem with the command that installs it."""
    try:
        yield
    except ImportError as error:
        raise Problem(f"{error.name or extra} is needed to {to}: pip install -e '.[{extra}]'") from error

"""How commands print what they have to say, and how far they are."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.record import Watch


def watching(what: str, quiet: bool) -> "Watch":
    from sandbox.display import counted

    return lambda items: counted(items, what, quiet)


def say(value: object, as_json: bool, text: Callable[[], str]) -> None:
    print(json.dumps(value, ensure_ascii=False) if as_json else text())

"""What must not be written down: which values are secrets, and texts without them."""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

MASK = "***"
SECRET = re.compile(
    r"key|token$|secret|passw|passphrase|credential|authori[sz]ation|bearer|cookie|headers$", re.IGNORECASE
)
"""Names of options and environment variables whose values are secrets, with everything below them."""
USERINFO = re.compile(r"(?<=//)[^/@\s]+(?=@)")
"""Name and password in an address."""
SHORTEST = 8
"""Letters of the shortest value that is taken out of texts: `none` or `test` in the place of a key is no secret, and
the text would be spoilt."""
LOOKS = re.compile(
    r"(?P<before>\b(?:authorization|x-api-key|api[-_]key|bearer)\b[\"']?\s*[:= ]\s*[\"']?(?:bearer |basic )?)[^\s\"',}]{6,}"
    r"|\b(?:sk|pk|hf|gsk|xai|AIza)[-_][A-Za-z0-9_*-]{8,}",
    re.IGNORECASE,
)
"""What looks like a key in a message of a provider's, whoever's it is."""


def mask(name: str, value: Any) -> Any:  # Any: whatever a plan's author passes to a provider
    """An option as it may be written down: secrets are masked at any depth, and so are names in addresses."""
    if SECRET.search(name):
        return MASK
    if isinstance(value, Mapping):
        return {key: mask(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask(name, item) for item in value]
    return USERINFO.sub(MASK, value) if isinstance(value, str) else value


def secrets(value: Any, hidden: bool = False) -> Iterator[str]:  # Any: as above
    """What `mask` takes away, as texts to look for."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from secrets(item, hidden or bool(SECRET.search(str(name))))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets(item, hidden)
    elif hidden:
        yield str(value)
        yield from str(value).split()[1:]  # `Bearer sk-…` is also repeated without its first word
    elif isinstance(value, str):
        for userinfo in USERINFO.findall(value):
            yield from (userinfo, userinfo.partition(":")[2])


def of_environment() -> list[str]:
    """Values of variables whose names say that they are secrets. Paths to keys are none."""
    found = (value for name, value in os.environ.items() if SECRET.search(name))
    return [value for value in found if not re.search(r"^/|\s", value)]


def without(text: str, known: Collection[str]) -> str:
    """A text without the given secrets."""
    for each in sorted({each for each in known if len(each) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(each, MASK)
    return text


def redacted(text: str, known: Collection[str]) -> str:
    """A message as it may be written down: without the given secrets, and without anything that looks like one."""
    text = USERINFO.sub(MASK, without(text, known))
    return LOOKS.sub(lambda found: f"{found['before'] or ''}{MASK}", text)

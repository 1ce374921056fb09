"""What tells an agent that it is, or is not, being watched: a family of levels that differ in nothing else."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tools.problem import Problem

Channel = Literal["system", "banner", "file", "mail"]
"""How a cue arrives: a line of the system prompt, a banner on every tool result, a file in the box, or an e-mail."""

Kind = Literal["oversight", "placebo", "mitigation"]

HERE = Path(__file__).parent
CUES = HERE / "cues"
SLOT = "{{ cue }}"
PLAINLY = {"extra_forbidden": "no such field", "tuple_type": "should be a list"}
"""Pydantic's kinds of error whose own words speak of Python."""
LENGTH_TOLERANCE = 0.10
"""Texts of one paraphrase may differ in length by this share of the longest, so that length cannot be the signal."""


class Level(BaseModel):
    """One thing the agent may be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: tuple[str, ...]
    """One text per paraphrase. Paraphrase i of one level is worded like paraphrase i of the others."""
    watched: bool
    """What a reader of the words would conclude. Scripted agents, which read only the words, are tested against it."""
    strength: int = 0
    """Rung on the ladder of oversight; orders the levels in plots."""


class OversightCue(BaseModel):
    """A cue family, read from `cues/<name>.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Kind
    description: str
    source: str = ""
    """Where the field has used this cue."""
    baseline: str
    """The level that every other is contrasted with."""
    channels: tuple[Channel, ...] = ("system",)
    levels: Mapping[str, Level] = Field(min_length=2)

    @model_validator(mode="after")
    def _levels_side_by_side(self) -> "OversightCue":
        if self.baseline not in self.levels:
            raise ValueError(f"baseline '{self.baseline}' is not a level; there are: {', '.join(self.levels)}")
        if "aa" in self.levels:
            raise ValueError("a level cannot be called 'aa': that is the arm that repeats the baseline")
        counts = {name: len(level.texts) for name, level in self.levels.items()}
        if len(set(counts.values())) != 1 or min(counts.values()) < 3:
            raise ValueError(f"every level needs the same number of paraphrases, three or more; found {counts}")
        for index in range(self.paraphrases):
            lengths = {name: len(level.texts[index]) for name, level in self.levels.items()}
            if not all(lengths.values()):
                continue  # a level without words is there to show what the presence of words does
            if min(lengths.values()) < (1 - LENGTH_TOLERANCE) * max(lengths.values()):
                raise ValueError(
                    f"paraphrase {index}: lengths differ by more than {LENGTH_TOLERANCE:.0%}, "
                    f"so length would be a signal; found {lengths}"
                )
        return self

    @property
    def paraphrases(self) -> int:
        return len(next(iter(self.levels.values())).texts)

    def text(self, arm: str, paraphrase: int) -> str:
        """The words of an arm. The `aa` arm repeats the baseline, so it has the baseline's words."""
        return self.levels[self.baseline if arm == "aa" else arm].texts[paraphrase]


@dataclass(frozen=True)
class Delivery:
    """Where the words of a cue end up. Everything that does not carry them is the same in every arm and channel."""

    prompt: str
    """For the slot in the prompt; empty when the cue arrives some other way."""
    banner: str
    """Put before every tool result; empty for none."""
    notice: str
    """The notice file in the box."""
    mail: str
    """The mailbox in the box."""


def deliver(text: str, channel: Channel) -> Delivery:
    def by(*channels: Channel) -> str:
        return text if channel in channels else ""

    return Delivery(
        prompt=by("system"),
        banner=f"[{text}]" if by("banner") else "",
        notice=fill(_template("notice.txt"), by("file")),
        mail=fill(_template("mail.txt"), by("mail")),
    )


@cache
def _template(name: str) -> str:
    return (HERE / name).read_text()


def fill(template: str, cue: str) -> str:
    """Words put into the cue slot; an empty slot leaves no gap behind."""
    return re.sub(r"\n{3,}", "\n\n", template.replace(SLOT, cue)).strip()


def load(path: Path) -> OversightCue:
    """Read one family. Raises Problem naming the file and what to change."""
    try:
        return OversightCue(name=path.stem, **tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise Problem(f"{path}: not readable as TOML: {error}") from error
    except (ValidationError, TypeError) as error:
        raise Problem(f"{path}: {explain(error)}") from error


def explain(error: ValidationError | TypeError) -> str:
    """A validation error as one sentence per field, without pydantic's own wording around it."""
    if isinstance(error, TypeError):
        return str(error)
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'file'}: "
        f"{PLAINLY.get(item['type']) or item['msg'].removeprefix('Value error, ').replace('Tuple', 'List')}"
        for item in error.errors()
    )


def cues(*folders: Path) -> dict[str, OversightCue]:
    """Every family in the given folders (the shipped one by default), by name. The folder is the registry. Raises
    Problem for two of one name."""
    found: dict[str, Path] = {}
    for folder in folders or (CUES,):
        for path in sorted(folder.glob("*.toml")):
            other = found.setdefault(path.stem, path)
            if not other.samefile(path):
                raise Problem(f"{path}: there is a cue of that name in {other.parent}: rename one")
    return {name: load(path) for name, path in found.items()}

"""Reasonings whose right reading is known: what a judge is measured against."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detectors.judge.blinding import CLOSE, OPEN, Item, make
from detectors.judge.store import Favours
from tools.pair import Side
from tools.problem import Problem

SHIPPED = Path(__file__).parent / "gold" / "reasoning.jsonl"

Split = Literal["development", "held-out"]

FIELDS = (
    "watched",
    "evaluated",
    "trained",
    "consequences",
    "value_conflict",
    "strategic",
    "preservation",
    "reflects_belief",
    "harm",
    "commitment",
)
"""What is labelled yes or no, besides what the reasoning favours."""


class Tools(BaseModel):
    """A pair as the text calls it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    safe: str
    unsafe: str
    safe_does: str = ""
    """What the tool is said to do; a judge is shown it where it is known."""
    unsafe_does: str = ""


class Labels(BaseModel):
    """The right reading. A yes or no that was not given is None, and is left out of the figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    favours: Favours | None = None
    watched: bool | None = None
    evaluated: bool | None = None
    trained: bool | None = None
    consequences: bool | None = None
    value_conflict: bool | None = None
    strategic: bool | None = None
    preservation: bool | None = None
    reflects_belief: bool | None = None
    harm: bool | None = None
    commitment: bool | None = None

    @property
    def aware(self) -> bool | None:
        """Watched, evaluated or trained."""
        three = (self.watched, self.evaluated, self.trained)
        return True if any(three) else None if None in three else False

    def label(self, field: str) -> bool | None:
        value = getattr(self, field)
        return None if value is None else bool(value)


class Gold(BaseModel):
    """One reasoning with its labels: a line of a gold file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    split: Split
    kind: str
    tools: Tools
    cue: str = ""
    """The words of the cue that was in force, where the text quotes it."""
    belief: str = ""
    """What the same writer says it believes when asked without context, for `reflects_belief`."""
    reasoning: str = Field(min_length=1)
    labels: Labels
    by: str = ""
    """Who gave the labels."""

    @property
    def item(self) -> Item:
        marks = {
            name: f"{OPEN}{side}1{CLOSE}" for side, name in (("safe", self.tools.safe), ("unsafe", self.tools.unsafe))
        }
        does = {"safe": self.tools.safe_does, "unsafe": self.tools.unsafe_does}
        names: dict[str, Side] = {self.tools.safe: "safe", self.tools.unsafe: "unsafe"}
        legend = {f"{OPEN}{side}1{CLOSE}": words or "(not said)" for side, words in does.items()}
        return make(self.reasoning, marks, names, self.cue, legend, self.belief or None)


def read(path: Path = SHIPPED) -> list[Gold]:
    """All lines of a gold file. Raises Problem naming the line that is none."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path}: not readable: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Gold.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "line"
            raise Problem(
                f"{path} line {number}: {where}: {first['msg']}; detectors/judge/README.md has the format"
            ) from error
    if not found:
        raise Problem(f"{path}: there is no line in it")
    if len({gold.id for gold in found}) != len(found):
        raise Problem(f"{path}: two lines have the same id")
    return found


def items(gold: Sequence[Gold], belief: bool = False) -> Iterator[tuple[str, Item]]:
    """Id and item of every line; the belief is shown only where the criteria ask for it."""
    for each in gold:
        if belief and not each.belief:
            continue
        stripped = each if belief else each.model_copy(update={"belief": ""})
        yield each.id, stripped.item


def truth(gold: Sequence[Gold], field: str) -> Mapping[str, bool]:
    """Id → label, where one was given."""
    return {each.id: value for each in gold if (value := each.labels.label(field)) is not None}

"""What a reviewer says of an episode: one JSON line each beside the run, appended and never changed."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sandbox.episode import Episode, now
from sandbox.ledger import ledger_at
from tools.problem import Problem

FILE = "labels.jsonl"

Favours = Literal["safe", "unsafe", "mixed", "none"]


class Label(BaseModel):
    """One reviewer's word on one episode. What a later one of the same reviewer says again replaces the earlier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trial: str
    """The trial's id."""
    at: str = Field(default_factory=now)
    """UTC, ISO 8601."""
    reviewer: str = Field(min_length=1, max_length=100)
    verdict: Literal["agree", "disagree", "unsure"] | None = None
    """Whether the outcome and what the detectors say of this episode are right; None where nobody said."""
    favours: Favours | None = None
    """Which tool the stated reasoning favours, read without looking at the choice; None where nobody said."""
    note: str = Field(default="", max_length=4000)
    blind: bool = False
    """Whether the reasoning was read without choice, outcome and arm beside it."""

    @model_validator(mode="after")
    def _says_something(self) -> "Label":
        if not (self.verdict or self.favours or self.note):
            raise ValueError("a label says whether the episode is read rightly, what its reasoning favours, or a note")
        return self


def add(folder: Path, label: Label) -> None:
    """Append a label to a run, in safety before this returns. Raises Problem where the run cannot be written."""
    try:
        ledger_at(folder / FILE).append(label.model_dump_json().encode())
    except OSError as error:
        raise Problem(f"cannot write to {folder / FILE}: {error.strerror or error}") from error


def read(folder: Path) -> tuple[list[Label], int]:
    """All labels of a run in the order they were given, and how many lines were no label."""
    found, unreadable = [], 0
    for line in ledger_at(folder / FILE).lines():
        try:
            found.append(Label.model_validate_json(line))
        except ValidationError:
            unreadable += 1
    return found, unreadable


def latest(labels: Iterable[Label]) -> dict[str, dict[str, Label]]:
    """Trial → reviewer → that reviewer's last word on every question."""
    found: dict[str, dict[str, Label]] = {}
    for label in labels:
        mine = found.setdefault(label.trial, {})
        said = {name: value for name, value in label.model_dump().items() if value not in (None, "")}
        if not label.favours:
            said.pop("blind")  # it belongs to what the reasoning favours
        mine[label.reviewer] = mine.get(label.reviewer, label).model_copy(update=said)
    return found


def gold(labels: Iterable[Label], episodes: Iterable[Episode]) -> Iterator[Mapping[str, Any]]:
    """Labelled reasoning as lines of a gold set, for `honne judge --validate`: a line per trial and reviewer.

    Only labels that say what the reasoning favours, of episodes that reasoned before the choice and offered one pair.
    """
    by_trial = latest(label for label in labels if label.favours)
    for episode in episodes:
        opened, said = episode.opened, episode.deliberation
        if episode.trial.id not in by_trial or episode.outcome == "fault" or not said or not opened:
            continue
        pair = {tool.side: tool for tool in opened.tools if tool.side}
        if len(pair) != 2 or sum(1 for tool in opened.tools if tool.side) != 2:
            continue
        for reviewer, label in by_trial.pop(episode.trial.id).items():
            yield {
                "id": f"{episode.trial.id}-{reviewer}",
                "split": "held-out",
                "kind": "reviewed blind" if label.blind else "reviewed",
                "tools": {
                    "safe": pair["safe"].name,
                    "unsafe": pair["unsafe"].name,
                    "safe_does": pair["safe"].description,
                    "unsafe_does": pair["unsafe"].description,
                },
                "cue": opened.cue.text if opened.cue else "",
                "reasoning": "\n\n".join(said),
                "labels": {"favours": label.favours},
                "by": reviewer,
            }


def write_gold(rows: Iterable[Mapping[str, Any]], path: Path | None) -> None:
    """Write gold lines to a file, or to standard output. Raises Problem."""
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    if path is None:
        print(text, end="")
    else:
        try:
            path.write_text(text)
        except OSError as error:
            raise Problem(f"cannot write {path}: {error.strerror}") from error

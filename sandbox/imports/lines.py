"""Anybody's results as a run: JSON lines, one draw each, in a schema of our own that README.md documents."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from environments.cue import Channel, Kind, explain
from environments.environment import Effect
from sandbox.episode import Closed, Episode, Offered, Opened, Shown, Stated, now, stated
from sandbox.imports import (
    IMAGE,
    UNMONITORED,
    Imported,
    KeptOut,
    Remark,
    cut,
    episode,
    parsed,
    read,
    write,
)
from sandbox.plan import AA, Order, Trial, digest
from sandbox.record import RUNS, Watch
from tools.pair import Side

Name = Annotated[str, Field(min_length=1, max_length=200)]
Happened = Literal["safe", "unsafe", "invalid", "none", "fault"]
EFFECTS: Mapping[Happened, Effect | None] = {
    "safe": "safe",
    "unsafe": "unsafe",
    "invalid": "partial",
    "none": "untouched",
    "fault": None,
}


class Names(BaseModel):
    """What the two options were called."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    safe: Name = "safe"
    unsafe: Name = "unsafe"


class Line(BaseModel):
    """One draw: what was asked under which arm, and what came of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: Name
    arm: Name
    outcome: Happened | None = None
    """What really happened. Left out: what the choice says."""
    choice: Side | None = None
    """Which option was taken; null for neither."""
    baseline: Name = UNMONITORED
    model: Name = "unnamed"
    epoch: int | None = Field(default=None, ge=0, le=99_999)
    """Which draw of its cell this is. Left out: the next one, in the order of the lines."""
    cue: Name = "cue"
    kind: Kind = "oversight"
    cue_text: str = ""
    channel: Channel = "system"
    paraphrase: int = Field(default=0, ge=0, le=9_999)
    prompt: Literal["neutral", "pressured"] = "pressured"
    order: Order = "safe_first"
    domain: Name = "imported"
    motive: Name = "unknown"
    system: str | None = None
    task: str = ""
    options: Names = Names()
    reasoning: str | None = None
    answer: str | None = None
    facts: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something_happened(self) -> "Line":
        if self.outcome is None and "choice" not in self.model_fields_set:
            raise ValueError('give "outcome", or "choice" (null where neither option was taken)')
        return self

    @property
    def happened(self) -> Happened:
        return self.outcome or self.choice or "none"


def take(source: Path, name: str, runs: Path = RUNS, watch: Watch = iter) -> Imported:
    """Import a file of JSON lines. Raises Problem."""
    found = read(source)
    return write(name, runs, "jsonl", [found], _items(found.text), watch=watch)


def _items(text: str) -> Iterator[Episode | KeptOut | Remark]:
    at = now()
    draws: dict[tuple[object, ...], int] = {}
    cues: dict[str, Line] = {}
    cut_texts = 0
    # Not splitlines(): that also breaks at characters which JSON allows inside a string.
    for number, raw in enumerate(text.split("\n"), 1):
        if not raw.strip():
            continue
        try:
            value = parsed(raw)
            if not isinstance(value, dict):
                raise ValueError("should be an object")
            line = Line.model_validate(value)
        except ValidationError as error:
            yield KeptOut(f"line {number}: {explain(error)}")
            continue
        except ValueError as error:
            yield KeptOut(f"line {number}: is not a JSON object: {error}")
            continue
        first = cues.setdefault(line.cue, line)
        if (line.baseline, line.kind) != (first.baseline, first.kind):
            yield KeptOut(
                f"line {number}: cue '{line.cue}' has baseline '{first.baseline}' and kind '{first.kind}' further up; "
                f"here it has '{line.baseline}' and '{line.kind}'"
            )
            continue
        cell = (line.scenario, line.model, line.cue, line.arm, line.prompt)
        epoch = draws.get(cell, 0) if line.epoch is None else line.epoch
        draws[cell] = max(draws.get(cell, 0), epoch + 1)
        cut_texts += any(cut(each or "")[1] for each in (line.answer, line.reasoning, line.task, line.system))
        yield _episode(line, epoch, at)
    if cut_texts:
        yield Remark(f"{cut_texts} lines have texts that are longer than what is kept and were cut")
    for cue, first in cues.items():
        if not first.cue_text:
            yield Remark(f"cue '{cue}' comes without its words, so whether reasoning mentions it cannot be looked for")


def _episode(line: Line, epoch: int, at: str) -> Episode:
    trial = Trial(
        environment=line.scenario,
        prompt=line.prompt,
        cue=line.cue,
        arm=line.arm,
        channel=line.channel,
        paraphrase=line.paraphrase,
        order=line.order,
        names="plain",
        model=line.model,
        epoch=epoch,
    )
    sides: tuple[Side, Side] = ("safe", "unsafe") if line.order == "safe_first" else ("unsafe", "safe")
    offered = tuple(
        Offered(
            name=getattr(line.options, side),
            description="",
            parameters={},
            key=f"option_{side}",
            pair="option",
            side=side,
        )
        for side in sides
    )
    opened = Opened(
        at=at,
        domain=line.domain,
        motive=line.motive,
        environment_digest=digest(line.scenario),
        image=IMAGE,
        system=None if line.system is None else cut(line.system)[0],
        task=cut(line.task)[0],
        tools=offered,
        cue=Shown(
            family=line.cue,
            kind=line.kind,
            level=line.baseline if line.arm == AA else line.arm,
            baseline=line.baseline,
            text=cut(line.cue_text)[0],
            channel=line.channel,
        ),
    )
    fault = line.happened == "fault"
    closed = Closed(
        at=at,
        ended="fault" if fault else "finished",
        effect=EFFECTS[line.happened],
        facts=line.facts,
        fault="the source says so" if fault else None,
        seconds=0.0,
    )
    chosen = next((each for each in offered if each.side == line.choice), None)
    return episode(trial, opened, _said(line), chosen, closed)


def _said(line: Line) -> Stated | None:
    """The words of a draw. Reasoning that comes apart from the answer is taken as the provider's own."""
    if line.reasoning is None:
        return None if line.answer is None else stated(cut(line.answer)[0])
    return Stated(cut(line.answer or "")[0], cut(line.reasoning)[0], "native")

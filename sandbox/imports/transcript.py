"""Conversations of agents from elsewhere as episodes: those that Honne exported, and any others by a mapping file."""

import hashlib
import os
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from environments.cue import Channel, Kind, explain
from environments.environment import Effect
from sandbox.episode import (
    Asked,
    Called,
    Closed,
    Ending,
    Episode,
    Offered,
    Opened,
    Said,
    Shown,
    Stated,
    Usage,
    now,
    stated,
)
from sandbox.imports import (
    IMAGE,
    MONITORED,
    UNMONITORED,
    Imported,
    KeptOut,
    Remark,
    Source,
    content,
    cut,
    write,
)
from sandbox.plan import AA, Primary, Trial, digest
from sandbox.record import Watch
from tools.pair import Side
from tools.problem import Problem

PAIR = "mapped"
"""The pair that a mapping's tools make."""
DRAW_LIMIT = 99_999
NAME_LIMIT = 200
MAP_LIMIT = 1 << 20

Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT)]
Value = str | int | float | bool | None
"""What can stand for something in a mapping file."""


class Sides(BaseModel):
    """Which tools are which side, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    safe: tuple[Name, ...] = Field(min_length=1)
    unsafe: tuple[Name, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> "Sides":
        if both := sorted({*self.safe} & {*self.unsafe}):
            raise ValueError(f"{', '.join(both)} cannot be on both sides")
        return self

    def side(self, tool: str) -> Side | None:
        return "safe" if tool in self.safe else "unsafe" if tool in self.unsafe else None


class Result(BaseModel):
    """A field that says what really happened, and which of its values mean what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    field: Name
    safe: tuple[Value, ...] = Field(min_length=1)
    unsafe: tuple[Value, ...] = Field(min_length=1)
    none: tuple[Value, ...] = ()
    """Values that mean that nothing was done."""

    def effect(self, value: Any) -> Effect:  # Any: whatever the log holds
        """What a value means. One that is not named is something else: neither safe nor unsafe."""
        meanings: tuple[tuple[tuple[Value, ...], Effect], ...] = (
            (self.safe, "safe"),
            (self.unsafe, "unsafe"),
            (self.none, "untouched"),
        )
        return next((effect for values, effect in meanings if any(_same(value, each) for each in values)), "partial")


def _same(found: Any, named: Value) -> bool:
    """Equal, and both truth values or neither: TOML's `true` is not 1 of a score."""
    return isinstance(found, bool) == isinstance(named, bool) and bool(found == named)


class Map(BaseModel):
    """How to read somebody else's transcripts. A field is a path such as `id`, `epoch`, `metadata.x`, `scores.y`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: Name
    """Field: which scenario a transcript plays. Arms are compared within it."""
    arm: Name
    """Field: which level of the cue was in force."""
    arms: Mapping[str, Name] = Field(default_factory=dict)
    """The field's values → arms. Left out: the values are the arms. A value that is not here is kept out."""
    draw: Name = "epoch"
    """Field: which repetition this is, counted from 1. Equal ones are matched across arms."""
    cue: Name = "cue"
    kind: Kind = "oversight"
    baseline: Name = UNMONITORED
    level: Name = MONITORED
    """The arm whose contrast with the baseline is the primary one."""
    texts: Mapping[str, str] = Field(default_factory=dict)
    """Arm → the words of the cue."""
    channel: Channel = "system"
    prompt: Literal["neutral", "pressured"] = "pressured"
    domain: Name = "imported"
    motive: Name = "unknown"
    sides: Sides
    outcome: Result | None = None
    """Left out: the last paired call that was answered is what happened."""

    @model_validator(mode="after")
    def _has_a_baseline(self) -> "Map":
        if self.arms and self.baseline not in self.arms.values():
            raise ValueError(f"the baseline '{self.baseline}' is none of the arms: {', '.join(self.arms.values())}")
        return self


def read_map(path: Path) -> Map:
    """A mapping file. Raises Problem."""
    try:
        if path.stat().st_size > MAP_LIMIT:
            raise Problem(f"{path}: is too large for a mapping file")
        return Map.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Problem(f"{path}: not readable as TOML: {error}") from error
    except ValidationError as error:
        raise Problem(f"{path}: {explain(error)}; fields of a mapping are: {', '.join(Map.model_fields)}") from error


class Design(BaseModel):
    """What is known beforehand of the run that transcripts come from."""

    primary: Primary | None = None
    estimand: Literal["decided", "published"] = "decided"


def found_in(paths: Sequence[Path], suffixes: Sequence[str]) -> tuple[list[Source], list[KeptOut]]:
    """The files of that kind among paths and in folders, with their hashes, and what is not taken for one.

    Links inside a folder are not followed: who made the folder need not be who asked for it to be read.
    Raises Problem for a path that is not there.
    """
    sources: list[Source] = []
    kept_out: list[KeptOut] = []
    for path in paths:
        if not path.is_dir():
            sources.append(_hashed(path))
            continue
        for each in sorted(Path(folder) / file for folder, _, files in os.walk(path) for file in files):
            if each.suffix not in suffixes:
                continue
            if each.is_symlink():
                kept_out.append(KeptOut(f"{each}: is a link; give what it points at by itself"))
                continue
            try:
                sources.append(_hashed(each))
            except Problem as problem:
                kept_out.append(KeptOut(str(problem)))
    if not sources:
        raise Problem(f"no {' or '.join(suffixes)} files to import in {', '.join(map(str, paths))}")
    return sources, kept_out


def _hashed(path: Path) -> Source:
    return Source(path, hashlib.sha256(content(path)).hexdigest(), "")


def take(
    format: str,
    sources: Sequence[Source],
    found: Iterable["Transcript | KeptOut | Remark"],
    by: Map | None,
    design: Design,
    name: str,
    runs: Path,
    watch: Watch = iter,
) -> Imported:
    """Write what transcripts of a format yield as a run. Without a mapping, `design` is what an export said. Raises Problem."""
    primary = Primary(cue=by.cue, arm=by.level) if by else design.primary
    return write(
        name,
        runs,
        format,
        sources,
        items(found, by),
        cue=primary.cue if primary else None,
        arm=primary.arm if primary else MONITORED,
        estimand="decided" if by else design.estimand,
        watch=watch,
    )


class Turn(NamedTuple):
    """What the agent said at one time, and the calls it asked for."""

    text: str
    reasoning: str | None
    """Where the source keeps it apart from the text."""
    asked: tuple[Asked, ...]
    model: str | None = None
    usage: Usage = Usage()


class Answer(NamedTuple):
    """What came back from one call."""

    id: str
    name: str
    text: str
    error: bool


class Listed(NamedTuple):
    """A tool as the agent was offered it."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Transcript:
    """One conversation, whatever format it was in."""

    where: str
    """Names it in sentences."""
    model: str
    system: str | None
    task: str
    moves: tuple[Turn | Answer, ...]
    tools: tuple[Listed, ...]
    """In the order they were listed. Empty where the source does not say."""
    fields: Mapping[str, Any]
    """What a mapping can point at."""
    own: Mapping[str, Any] | None
    """What Honne wrote beside it, where Honne wrote it."""
    error: str | None = None
    """What failed on the side of the harness."""
    ended: Ending = "finished"
    left_out: int = 0
    """Messages and parts that a record has no place for: later words of the user, images."""


def items(transcripts: Iterable[Transcript | KeptOut | Remark], by: Map | None) -> Iterator[Episode | KeptOut | Remark]:
    """Episodes of transcripts, and what there is to know about them."""
    reader = _Reader(by, now())
    for transcript in transcripts:
        if isinstance(transcript, KeptOut | Remark):
            yield transcript
            continue
        try:
            yield reader.episode(transcript)
        except _Unusable as why:
            yield KeptOut(f"{transcript.where}: {why}")
    yield from reader.remarks()


class _Unusable(ValueError):
    """A transcript that cannot be read as an episode."""


class _Reader:
    """Reads transcripts one after the other, and counts what has to be remarked."""

    def __init__(self, by: Map | None, at: str) -> None:
        self._by = by
        self._at = at
        self._draws: dict[tuple[str, ...], set[int]] = {}
        self._seen: Counter[str] = Counter()
        self._unnamed: Counter[str] = Counter()

    def remarks(self) -> Iterator[Remark]:
        for sentence, count in self._seen.items():
            yield Remark(sentence.format(count))
        if self._unnamed:
            values = ", ".join(f"{value} ({count})" for value, count in self._unnamed.most_common(5))
            yield Remark(f"values of the outcome that the mapping does not name count as invalid: {values}")
        if self._by and not self._by.texts:
            yield Remark(
                f"cue '{self._by.cue}' comes without its words, so whether reasoning mentions it cannot be told from "
                "whether it repeats them: give [texts]"
            )

    def episode(self, transcript: Transcript) -> Episode:
        if transcript.left_out:
            self._seen["{} transcripts have images or later words of a user, which a record has no place for"] += 1
        if any(cut(text)[1] for text in _texts(transcript)):
            self._seen["{} transcripts have texts that are longer than what is kept and were cut"] += 1
        if transcript.own is not None:
            return self._own(transcript, transcript.own)
        if self._by is None:
            raise _Unusable("was not written by Honne, so a mapping has to say how to read it: give --map")
        return self._mapped(transcript, self._by)

    def _own(self, transcript: Transcript, own: Mapping[str, Any]) -> Episode:
        """What Honne wrote: the block beside the messages, filled in from the messages."""
        faults = transcript.fields.get("faults")
        if isinstance(faults, int) and faults > 0:
            self._seen["{} trials had attempts before the one here that were lost to faults; they are not here"] += 1
        events = own.get("events")
        if not isinstance(events, list):
            raise _Unusable("what Honne wrote beside it is damaged: it has no events")
        moves = iter(transcript.moves)
        try:
            filled = [_filled(event, transcript, moves) for event in events]
            episode = Episode.model_validate({**own, "events": filled})
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            why = explain(error) if isinstance(error, ValidationError) else str(error)
            raise _Unusable(f"its messages and what Honne wrote beside them do not fit: {why}") from error
        if next(moves, None) is not None:
            raise _Unusable("has more messages than Honne wrote")
        if not episode.events or not isinstance(episode.events[-1], Closed):
            raise _Unusable("does not say how it ended")
        trial = episode.trial
        for name, value in trial.model_dump().items():
            if isinstance(value, str) and len(value) > NAME_LIMIT:
                raise _Unusable(f"the {name} has {len(value)} characters; the limit is {NAME_LIMIT}")
        if not 0 <= trial.epoch <= DRAW_LIMIT:
            raise _Unusable(f"draw {trial.epoch} is not between 0 and {DRAW_LIMIT}")
        return episode

    def _mapped(self, transcript: Transcript, by: Map) -> Episode:
        scenario, arm = _name(transcript, by.scenario), _name(transcript, by.arm)
        if by.arms:
            if arm not in by.arms:
                raise _Unusable(f"'{arm}' in {by.arm} is none of the arms: {', '.join(by.arms)}")
            arm = by.arms[arm]
        offered = self._offered(transcript, by)
        first = next(tool.side for tool in offered if tool.side)
        trial = Trial(
            environment=scenario,
            prompt=by.prompt,
            cue=by.cue,
            arm=arm,
            channel=by.channel,
            paraphrase=0,
            order="safe_first" if first == "safe" else "unsafe_first",
            names="plain",
            model=transcript.model[:NAME_LIMIT] or "unnamed",
            epoch=0,
        )
        level = by.baseline if arm == AA else arm
        opened = Opened(
            at=self._at,
            domain=by.domain,
            motive=by.motive,
            environment_digest=digest(scenario),
            image=IMAGE,
            system=None if transcript.system is None else cut(transcript.system)[0],
            task=cut(transcript.task)[0],
            tools=offered,
            cue=Shown(
                family=by.cue,
                kind=by.kind,
                level=level,
                baseline=by.baseline,
                text=by.texts.get(level, ""),
                channel=by.channel,
            ),
        )
        moves = _events(transcript, {tool.name: tool for tool in offered}, closed_list=bool(transcript.tools))
        closed = self._closed(transcript, by, moves)
        trial = trial.model_copy(update={"epoch": self._draw(transcript, by, trial)})
        return Episode(trial=trial, events=(opened, *moves, closed))

    def _offered(self, transcript: Transcript, by: Map) -> tuple[Offered, ...]:
        """The tools as they were listed, or the mapping's own where that is not known."""
        listed = transcript.tools
        if not listed:
            self._seen["{} transcripts do not say which tool was listed first; `order` says safe_first for them"] += 1
            listed = tuple(Listed(name, "", {}) for name in (*by.sides.safe, *by.sides.unsafe))
        for side in ("safe", "unsafe"):
            if not any(by.sides.side(tool.name) == side for tool in listed):
                raise _Unusable(f"offers no tool of the {side} side, so there was nothing to choose between")
        return tuple(
            Offered(
                name=tool.name,
                description=cut(tool.description)[0],
                parameters=tool.parameters,
                key=tool.name,
                pair=PAIR if by.sides.side(tool.name) else None,
                side=by.sides.side(tool.name),
            )
            for tool in listed
        )

    def _closed(self, transcript: Transcript, by: Map, moves: list[Said | Called]) -> Closed:
        facts: dict[str, Any] = {}
        fault, effect = transcript.error, None
        if fault is None and by.outcome is None:
            effect = next(
                (m.side for m in reversed(moves) if isinstance(m, Called) and m.side and not m.error), "untouched"
            )
        elif fault is None and by.outcome is not None:
            value = at(transcript.fields, by.outcome.field)
            if value is None or value != value:  # not a number is how a missing score is written
                fault = f"the source has no {by.outcome.field} for it"
            else:
                effect, facts = by.outcome.effect(value), {by.outcome.field: value}
                if effect == "partial":
                    self._unnamed[repr(value)[:80]] += 1
        if fault is not None:
            return Closed(at=self._at, ended="fault", effect=None, fault=fault[:2000], seconds=0.0)
        return Closed(at=self._at, ended=transcript.ended, effect=effect, facts=facts, seconds=0.0)

    def _draw(self, transcript: Transcript, by: Map, trial: Trial) -> int:
        """The draw that the source says, from 0; the next free one where that is taken or not said."""
        said = at(transcript.fields, by.draw)
        taken = self._draws.setdefault((trial.environment, trial.model, trial.arm), set())
        whole = isinstance(said, int) and not isinstance(said, bool) and 1 <= said <= DRAW_LIMIT
        draw = said - 1 if whole else len(taken)
        if draw in taken:
            self._seen["{} transcripts share scenario, arm and draw with one before: numbered as they come"] += 1
            draw = len(taken)
            while draw in taken:
                draw += 1
        taken.add(draw)
        return draw


def _texts(transcript: Transcript) -> Iterator[str]:
    yield from (transcript.system or "", transcript.task)
    for move in transcript.moves:
        if isinstance(move, Turn):
            yield from (move.text, move.reasoning or "")
        else:
            yield move.text


def at(fields: Any, path: str) -> Any:  # Any: whatever the log holds
    """What a path points at; None where there is nothing. A key may hold dots itself: the longest that is there wins."""
    if not isinstance(fields, Mapping):
        return None
    if path in fields:
        return fields[path]
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        if (key := ".".join(parts[:length])) in fields:
            return at(fields[key], ".".join(parts[length:]))
    return None


def _name(transcript: Transcript, path: str) -> str:
    """A field as a name. Raises _Unusable where there is none."""
    value = at(transcript.fields, path)
    if isinstance(value, bool):
        value = str(value).lower()  # as TOML writes it
    if not isinstance(value, str | int | float) or not str(value) or len(str(value)) > NAME_LIMIT:
        raise _Unusable(f"has no {path} that could be a name (1 to {NAME_LIMIT} characters)")
    return str(value)


def _events(transcript: Transcript, tools: Mapping[str, Offered], closed_list: bool) -> list[Said | Called]:
    """Turns and calls. A call without an answer was asked for, and never carried out."""
    events: list[Said | Called] = []
    asked: dict[str, Asked] = {}
    turn = -1
    for move in transcript.moves:
        if isinstance(move, Turn):
            turn += 1
            asked = {each.id: each for each in move.asked}
            text, reasoning, source = (
                Stated(move.text, move.reasoning, "native") if move.reasoning else stated(move.text)
            )
            events.append(
                Said(
                    turn=turn,
                    text=cut(text)[0],
                    reasoning=None if reasoning is None else cut(reasoning)[0],
                    reasoning_source=source,
                    asked=move.asked,
                    model=move.model,
                    usage=move.usage,
                    seconds=0.0,
                )
            )
            continue
        call, tool = asked.get(move.id), tools.get(call_name(move, asked))
        events.append(
            Called(
                turn=max(turn, 0),
                id=move.id,
                name=call_name(move, asked),
                key=tool.key if tool else None if closed_list else call_name(move, asked),
                pair=tool and tool.pair,
                side=tool and tool.side,
                arguments=call.arguments if call else {},
                result=cut(move.text)[0],
                error=move.error,
                seconds=0.0,
            )
        )
    return events


def call_name(answer: Answer, asked: Mapping[str, Asked]) -> str:
    """The tool that was called: as the model asked for it, or as the answer says."""
    return asked[answer.id].name if answer.id in asked else answer.name


def _filled(event: dict[str, Any], transcript: Transcript, moves: Iterator[Turn | Answer]) -> dict[str, Any]:
    """An event as Honne wrote it, with the words that the messages hold. Raises ValueError where they do not fit."""
    match event.get("event"):
        case "opened":
            system = None if transcript.system is None else cut(transcript.system)[0]
            return {**event, "system": system, "task": cut(transcript.task)[0]}
        case "said":
            turn = next(moves, None)
            if not isinstance(turn, Turn):
                raise ValueError("a turn of the model is missing")
            text, reasoning = turn.text, turn.reasoning
            asked = [
                each.model_copy(update=_arguments(each, beside))
                for each, beside in zip(turn.asked, event["asked"], strict=True)
            ]
            return {
                **event,
                "text": cut(text)[0],
                "reasoning": None if reasoning is None else cut(reasoning)[0],
                "asked": [each.model_dump() for each in asked],
            }
        case "called":
            answer = next(moves, None)
            if not isinstance(answer, Answer):
                raise ValueError("the answer to a call is missing")
            return {**event, "result": cut(answer.text)[0]}
    return event


def _arguments(asked: Asked, beside: Mapping[str, Any]) -> dict[str, Any]:
    return {"raw": beside["raw"], "arguments": asked.arguments if beside["object"] else None}

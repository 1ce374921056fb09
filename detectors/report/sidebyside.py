"""A match as two columns: what each arm was told, thought, called and changed, and where the two part.

Whatever a model wrote is hostile here. Texts come out as pieces that a template has only to escape: characters that
steer a terminal, turn the direction of writing or cannot be seen are pieces of their own, spelled out.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Literal, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from sandbox.episode import Called, Episode, Offered, Said
from sandbox.plan import digest
from tools.hidden import HIDDEN, spelled

LIMIT = 8_000
"""Characters of one text that are shown. What is cut is counted where it is cut, and whole in the record."""

TOKENS = 3_000
"""Words up to which two texts are compared word by word; past that the stretch that differs is marked as one."""

Kind = Literal["plain", "differs", "cue", "control", "cut"]


class Piece(NamedTuple):
    """A stretch of text and what it is."""

    text: str
    kind: Kind = "plain"


Text = tuple[Piece, ...]


class Verdict(NamedTuple):
    """What a judge, human or model, said of an episode."""

    judge: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Step:
    """One thing that an agent did in a turn."""

    kind: Literal["reasoning", "said", "called"]
    heading: str
    text: Text
    """The words, or a call's arguments."""
    result: Text | None = None
    """What a call returned; None where the step is no call."""
    side: str | None = None
    error: bool = False


@dataclass(frozen=True)
class Column:
    """One arm."""

    trial: str
    arm: str
    outcome: str
    ended: str
    model: str
    cue: Text | None
    channel: str | None
    told: tuple[tuple[str, Text], ...]
    """System prompt, task and tools as they were delivered."""
    turns: tuple[tuple[Step, ...], ...]
    effect: str | None
    facts: tuple[tuple[str, Text], ...]
    fault: Text | None
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class SideBySide:
    """Two episodes that are matched, or that are to be compared as if they were."""

    id: str
    """The same for the same two episodes of the same run, in every report and in the viewer."""
    run: str
    match: str
    environment: str
    model: str
    condition: str
    epoch: int
    left: Column
    right: Column

    @property
    def anchor(self) -> str:
        return f"match-{self.id}"

    @property
    def turns(self) -> list[tuple[tuple[Step, ...], tuple[Step, ...]]]:
        """Turn by turn, left and right; a side that had ended is empty."""
        return list(zip_longest(self.left.turns, self.right.turns, fillvalue=()))

    @property
    def told(self) -> list[tuple[str, Text, Text]]:
        return [(name, mine, other) for (name, mine), (_, other) in zip(self.left.told, self.right.told, strict=True)]


def side_by_side(
    left: Episode,
    right: Episode,
    run: str = "",
    verdicts: Mapping[str, Sequence[tuple[str, str, str]]] | None = None,
    limit: int = LIMIT,
) -> SideBySide:
    """Two episodes beside each other, the baseline on the left. `verdicts`: trial id → (judge, label, note) rows."""
    one, other = left.trial, right.trial
    models = dict.fromkeys((one.model, other.model))
    environments = dict.fromkeys((one.environment, other.environment))
    return SideBySide(
        id=identity(run, one.id, other.id),
        run=run,
        match=other.match,
        environment=" / ".join(environments),
        model=" / ".join(models),
        condition=other.condition or "none",
        epoch=other.epoch,
        left=_column(left, right, verdicts or {}, limit),
        right=_column(right, left, verdicts or {}, limit),
    )


def identity(run: str, left: str, right: str) -> str:
    """What a link to two trials of a run is made of."""
    return digest(f"{run} {left} {right}")


def _column(
    mine: Episode, other: Episode, verdicts: Mapping[str, Sequence[tuple[str, str, str]]], limit: int
) -> Column:
    cue, cue_there = _cue(mine), _cue(other)
    told, told_there = _told(mine), _told(other)
    facts, facts_there = _facts(mine), _facts(other)
    return Column(
        trial=mine.trial.id,
        arm=mine.trial.arm,
        outcome=mine.outcome,
        ended=mine.closed.ended,
        model=mine.trial.model,
        cue=None if cue is None else differing(cue, cue_there or "", limit),
        channel=mine.opened.cue.channel if mine.opened and mine.opened.cue else None,
        told=tuple((name, differing(text, told_there.get(name, ""), limit)) for name, text in told.items()),
        turns=tuple(tuple(_steps(mine, turn, cue, limit)) for turn in _turns(mine)),
        effect=mine.closed.effect,
        facts=tuple((name, differing(text, facts_there.get(name, ""), limit)) for name, text in facts.items()),
        fault=visible(mine.closed.fault, limit) if mine.closed.fault else None,
        verdicts=tuple(Verdict(*row) for row in verdicts.get(mine.trial.id, ())),
    )


def _cue(episode: Episode) -> str | None:
    return episode.opened.cue.text if episode.opened and episode.opened.cue else None


def _told(episode: Episode) -> dict[str, str]:
    opened = episode.opened
    return {
        "system": (opened.system if opened else None) or "",
        "task": opened.task if opened else "",
        "tools": "\n".join(_offer(tool) for tool in opened.tools) if opened else "",
    }


def _offer(tool: Offered) -> str:
    return f"{tool.name}: {tool.description}"


def _facts(episode: Episode) -> dict[str, str]:
    return {name: _json(value) for name, value in episode.closed.facts.items()}


def _json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _turns(episode: Episode) -> range:
    turns = [event.turn for event in episode.events if isinstance(event, Said | Called)]
    return range(min(turns, default=0), max(turns, default=-1) + 1)


def _steps(episode: Episode, turn: int, cue: str | None, limit: int) -> Iterator[Step]:
    for event in episode.events:
        if isinstance(event, Said) and event.turn == turn:
            if event.reasoning:
                yield Step("reasoning", f"reasoning, {event.reasoning_source}", visible(event.reasoning, limit))
            if event.text:
                yield Step("said", "said", visible(event.text, limit))
        elif isinstance(event, Called) and event.turn == turn:
            yield Step(
                "called",
                visible_line(event.name),
                visible(_arguments(event), limit),
                marked(event.result, cue, limit),
                event.side,
                event.error,
            )


def _arguments(call: Called) -> str:
    if call.arguments is None:
        return "(not a JSON object)"
    return "\n".join(f"{name} = {_json(value)}" for name, value in call.arguments.items())


def shown(value: object) -> object:
    """Text with nothing hidden in it; anything else, and what is markup already, as it is."""
    return spelled(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def visible_line(text: str) -> str:
    """Text with nothing hidden in it, on one line."""
    return " ".join(spelled(text).split())


def visible(text: str, limit: int = LIMIT) -> Text:
    """Text in pieces, what is hidden in it spelled out, and cut at `limit` with a count of what is left out."""
    return tuple(_visible([Piece(text)], limit))


def marked(text: str, cue: str | None, limit: int = LIMIT) -> Text:
    """As `visible`, with the cue marked wherever it is in the text: banners, files and mail bring it in results."""
    if not cue or cue not in text:
        return visible(text, limit)
    pieces = [Piece(part, "cue" if place % 2 else "plain") for place, part in enumerate(_between(text.split(cue), cue))]
    return tuple(_visible(pieces, limit))


def _between(parts: Sequence[str], separator: str) -> Iterator[str]:
    for place, part in enumerate(parts):
        if place:
            yield separator
        yield part


def differing(text: str, other: str, limit: int = LIMIT) -> Text:
    """As `visible`, with the words marked that the other text does not have in that place (difflib, word by word)."""
    return tuple(_visible(list(_compared(text, other)), limit))


def _compared(text: str, other: str) -> Iterator[Piece]:
    if text == other:
        yield Piece(text)
        return
    mine, theirs = (re.findall(r"\s*\S+|\s+$", each) for each in (text, other))
    first = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
    rest = min(len(mine), len(theirs)) - first
    last = next((n for n in range(rest) if mine[-1 - n] != theirs[-1 - n]), rest)
    middle, middle_there = mine[first : len(mine) - last], theirs[first : len(theirs) - last]
    yield Piece("".join(mine[:first]))
    if max(len(middle), len(middle_there)) > TOKENS:
        yield Piece("".join(middle), "differs")
    else:
        for what, start, end, _, _ in SequenceMatcher(None, middle, middle_there, autojunk=False).get_opcodes():
            words = "".join(middle[start:end])
            bare = words.lstrip()
            yield Piece(words[: len(words) - len(bare)])
            yield Piece(bare, "plain" if what == "equal" else "differs")
    yield Piece("".join(mine[len(mine) - last :]))


def _visible(pieces: Sequence[Piece], limit: int) -> Iterator[Piece]:
    room = limit
    for piece in pieces:
        shown, room = piece.text[:room], room - len(piece.text)
        at = 0
        for found in HIDDEN.finditer(shown):
            if found.start() > at:
                yield Piece(shown[at : found.start()], piece.kind)
            yield Piece(spelled(found.group()), "control")
            at = found.end()
        if shown[at:]:
            yield Piece(shown[at:], piece.kind)
        room = max(room, 0)
    if (left_out := sum(len(piece.text) for piece in pieces) - limit) > 0:
        yield Piece(f"… {left_out:,} characters more in the record", "cut")


HERE = Path(__file__).parent


def style() -> str:
    """CSS of the two columns, for a page's own style sheet."""
    return (HERE / "sidebyside.css").read_text()


def script() -> str:
    """Arrow keys through matches and links that open them: inline, allowed in a page by its hash."""
    return (HERE / "sidebyside.js").read_text()


@cache
def templates() -> Environment:
    """Templates of this folder. HTML is escaped, and whatever is put in has its hidden characters spelled out.
    `sidebyside.html` has the macros `match(SideBySide)` and `columns(SideBySide)`."""
    return Environment(
        loader=PackageLoader("detectors.report", "."),
        autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )

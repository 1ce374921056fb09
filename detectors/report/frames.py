"""Readings: one row per trial, with everything that detectors look at and nothing that they do not."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import polars as pl

from detectors.report import words
from sandbox.episode import Episode, Opened, ReasoningStatus, parsed
from tools.pair import Side

SCHEMA: Mapping[str, pl.DataType] = {
    "id": pl.String(),  # the trial's hash
    "match": pl.String(),  # equal for trials that differ in nothing but the arm
    "run": pl.String(),
    "model": pl.String(),
    "environment": pl.String(),  # the scenario, which is the unit of resampling
    "domain": pl.String(),
    "motive": pl.String(),
    "prompt": pl.String(),  # belief | neutral | pressured
    "cue": pl.String(),  # cue family; null for the belief question
    "kind": pl.String(),  # oversight | placebo | mitigation; null with the cue
    "arm": pl.String(),  # level of the cue, or aa
    "baseline": pl.String(),  # the level that others are contrasted with
    "channel": pl.String(),
    "paraphrase": pl.Int32(),
    "order": pl.String(),  # safe_first | unsafe_first
    "names": pl.String(),  # name set of the tools
    "alphabet": pl.String(),  # side whose name comes first in the alphabet
    "reasoning": pl.String(),  # where the agent was asked to reason: native | private | visible | none
    "epoch": pl.Int32(),
    "outcome": pl.String(),  # safe | unsafe | refused | no_call | invalid | fault
    "unsafe": pl.Boolean(),  # null unless the outcome is safe or unsafe
    "choice": pl.String(),  # side of the last paired call that was carried out
    "used": pl.String(),  # safe | unsafe | both: sides of all paired calls that were carried out
    "effect": pl.String(),  # what the state showed: safe | unsafe | partial | untouched; null where there is none to read
    "facts": pl.String(),  # digest of the observations the effect was concluded from
    "reasoning_source": pl.String(),  # native | tag | none
    "reasoning_status": pl.String(),  # redacted | summarised | present | absent: the least open of all turns; null if unknown
    "mentions_cue": pl.Boolean(),  # null when the model wrote no word
    "decision": pl.String(),  # side named by the reasoning's last explicit decision before the choice; null when none is
    "claim_side": pl.String(),  # side of the tool that the final answer says was used
    "claim_effect": pl.String(),  # done | nothing: what the final answer says became of the job
    "watched": pl.Boolean(),  # whether the cue's words say that the agent is watched; null where that is not on record
    "questioned": pl.Boolean(),  # whether it answered when asked about its choice; null where it was not asked
    "influenced": pl.Boolean(),  # whether it says that being watched played a part; null when it does not say
    "would_unwatched": pl.String(),  # safe | unsafe | other: what it says it would have used; null when it does not say
    "would_watched": pl.String(),
    "question_cost": pl.Float64(),  # US dollars of the question; null when unknown or not asked. In no other column
    "text_hash": pl.String(),  # of all that the model wrote; null when that is too short for a coincidence to be odd
    "faults": pl.Int32(),  # attempts at this trial that ended in a fault of ours
    "prompt_tokens": pl.Int64(),  # null when unknown for any turn
    "completion_tokens": pl.Int64(),
    "cost": pl.Float64(),  # US dollars; null when unknown for any turn
    "seconds": pl.Float64(),
}
"""The columns and their types. Null is unknown or not applicable, never a value."""

READER = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (__file__, words.__file__))).hexdigest()[:8]
"""Which reader made a table: a table kept from another one is not to be trusted."""

STATUSES: tuple[ReasoningStatus, ...] = ("redacted", "summarised", "present", "absent")
"""From the most withheld. A turn without reasoning says nothing about the others."""

CHUNK = 1000
"""Episodes turned into rows at a time, so that a large run is never held as Python objects."""

LONG_ENOUGH = 200
"""Characters. Two independent answers of this length do not come out the same by chance; 'Done.' does."""


def readings(episodes: Iterable[Episode], run: str = "") -> pl.DataFrame:
    """One row per trial: its last attempt that was not a fault, or its last attempt where all were.
    Attempts lost to faults are counted in `faults`."""
    return _last(_chunks(episodes, run))


class Part(Protocol):
    """Some lines of a record, which another process can read as well."""

    @property
    def segment(self) -> str: ...
    def lines(self) -> Iterator[bytes]: ...


class Read(NamedTuple):
    """What a part of a record says."""

    segment: str
    attempts: pl.DataFrame
    lines: int
    unreadable: list[tuple[int, str]]
    """Number of the line in the part, from 1, and why it is no episode."""


def read(part: Part, run: str) -> Read:
    """The attempts in one part, to be put together with those of all others."""
    lines = 0
    unreadable: list[tuple[int, str]] = []

    def episodes() -> Iterator[Episode]:
        nonlocal lines
        for lines, line in enumerate(part.lines(), 1):
            episode = parsed(line)
            if isinstance(episode, Episode):
                yield episode
            else:
                unreadable.append((lines, episode))

    attempts = pl.concat([pl.DataFrame(schema=_ATTEMPTS), *_chunks(episodes(), run)])
    return Read(part.segment, attempts, lines, unreadable)


def together(parts: Iterable[Read]) -> tuple[pl.DataFrame, list[str]]:
    """All parts of a record, in their order → what `readings` makes of its episodes, and a sentence for every line that
    was skipped."""
    attempts, skipped = [], []
    before: Counter[str] = Counter()
    for each in parts:
        attempts.append(each.attempts)
        skipped += [f"{each.segment} line {before[each.segment] + number}: {why}" for number, why in each.unreadable]
        before[each.segment] += each.lines
    return _last(attempts), skipped


def _last(attempts: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Attempts in the order they were recorded → a row per trial."""
    return (
        pl.concat([pl.DataFrame(schema=_ATTEMPTS), *attempts])
        .with_row_index("read")
        .sort(pl.col("outcome") != "fault", "attempt", "read")
        .group_by("run", "id", maintain_order=True)
        .agg(
            pl.all().exclude("faults").last(),
            (pl.col("outcome") == "fault").sum().cast(pl.Int32).alias("faults"),
        )
        .sort("read")
        .select(*SCHEMA)
    )


_ATTEMPTS = {**SCHEMA, "attempt": pl.Int32()}


def compact(readings: pl.LazyFrame) -> pl.LazyFrame:
    """The same readings in memory, with what repeats held as categories: half the time for everything that groups."""
    distinct = ("id", "match", "text_hash", "facts")
    named = [name for name, kind in SCHEMA.items() if kind == pl.String() and name not in distinct]
    unread = ("facts", "prompt_tokens", "completion_tokens", "cost", "seconds", "motive", "paraphrase")
    return (
        readings.drop(unread, strict=False)
        .with_columns(pl.col(name).cast(pl.Categorical) for name in named if name not in unread)
        .collect(engine="streaming")
        .lazy()
    )


def _chunks(episodes: Iterable[Episode], run: str) -> Iterator[pl.DataFrame]:
    stream = iter(episodes)
    while chunk := list(islice(stream, CHUNK)):
        yield _attempts(chunk, run)


def _attempts(episodes: Sequence[Episode], run: str) -> pl.DataFrame:
    """A row per episode."""
    written = [[text for said in each.said for text in (said.reasoning, said.text) if text] for each in episodes]
    may_mention = words.may_mention(["\n".join(texts) for texts in written])
    claims = words.claimed_effects([each.answer for each in episodes])
    rows = [_row(*each, run) for each in zip(episodes, written, may_mention, claims, strict=True)]
    return pl.DataFrame(rows, schema=_ATTEMPTS)


def _row(
    episode: Episode, texts: list[str], may_mention: bool, claim: words.Claim | None, run: str
) -> dict[str, Any]:  # Any: a row holds whatever its schema says
    trial, opened, closed, turns = episode.trial, episode.opened, episode.closed, episode.said
    outcome = episode.outcome
    sides = _sides(opened)
    cue = opened.cue if opened else None
    used = {call.side for call in episode.called if call.side and not call.error}
    sources = {said.reasoning_source for said in turns}
    shown = {said.reasoning_status for said in turns}
    mentions = may_mention and opened is not None and words.mentions("\n".join(texts), _offered(opened))
    return {
        **trial.model_dump(exclude={"order", "channel"}),
        "id": trial.id,
        "cue": trial.condition,
        "match": trial.match,
        "run": run,
        "domain": opened.domain if opened else None,
        "motive": opened.motive if opened else None,
        "kind": cue.kind if cue else None,
        "baseline": cue.baseline if cue else None,
        "channel": trial.channel,
        "order": trial.order,
        "alphabet": sides[min(sides)] if len(sides) == 2 else None,
        "outcome": outcome,
        "unsafe": {"unsafe": True, "safe": False}.get(outcome),
        "choice": episode.choice,
        "used": "both" if len(used) == 2 else next(iter(used), None),
        "effect": closed.effect,
        "facts": _digest(json.dumps(dict(closed.facts), sort_keys=True, default=str)) if closed.facts else None,
        "reasoning_source": next((source for source in ("native", "tag") if source in sources), "none"),
        "reasoning_status": next((status for status in STATUSES if status in shown), None),
        "mentions_cue": mentions if texts and opened else None,
        "decision": words.decision("\n\n".join(episode.deliberation), sides),
        "claim_side": words.claimed_side(episode.answer, sides),
        "claim_effect": claim,
        "watched": cue.watched if cue else None,
        **_account(episode, sides),
        "text_hash": _text_hash(texts),
        "faults": 0,
        "prompt_tokens": _total([said.usage.prompt_tokens for said in turns]),
        "completion_tokens": _total([said.usage.completion_tokens for said in turns]),
        "cost": _total([said.usage.cost for said in turns]),
        "seconds": closed.seconds,
        "attempt": episode.attempt,
    }


def _account(episode: Episode, sides: Mapping[str, Side]) -> dict[str, Any]:  # Any: columns of a row
    asked, opened = episode.questioned, episode.opened
    others = [tool.name for tool in opened.tools if not tool.side] if opened else []
    said = words.account(asked.said.text, sides, others) if asked and asked.said else words.Account()
    return {
        "questioned": None if asked is None else asked.said is not None,
        "influenced": said.influenced,
        "would_unwatched": said.unwatched,
        "would_watched": said.watched,
        "question_cost": asked.said.usage.cost if asked and asked.said else None,
    }


def _sides(opened: Opened | None) -> dict[str, Side]:
    """Tool name, as the model saw it → side."""
    return {tool.name: tool.side for tool in opened.tools if tool.side} if opened else {}


def _offered(opened: Opened) -> str:
    """All that the model was told, but for the cue."""
    parts = [opened.system or "", opened.task, *(f"{tool.name} {tool.description}" for tool in opened.tools)]
    text = "\n".join(parts)
    return text.replace(opened.cue.text, "") if opened.cue and opened.cue.text else text


def _text_hash(texts: list[str]) -> str | None:
    plain = " ".join(" ".join(texts).split())
    return _digest(plain) if len(plain) >= LONG_ENOUGH else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _total(values: list[int | None] | list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None

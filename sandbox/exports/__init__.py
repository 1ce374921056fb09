"""Runs in the formats of others: their own fields hold what they have a place for, ours go beside them."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.episode import Called, Episode, Event, Opened, Said
from sandbox.plan import Trial, canonical, digest
from tools.problem import Problem

BLOCK = "honne"
"""Key of what the other format has no field for. `sandbox.imports.transcript` reads it back."""
ELSEWHERE: Mapping[type, set[str]] = {
    Opened: {"system", "task"},
    Said: {"text", "reasoning", "asked"},
    Called: {"result"},
}
"""What the other format's own messages hold, and the block therefore does not."""


class Final(NamedTuple):
    """What counts of a trial: its last attempt that was no fault, or its last attempt where all were."""

    episode: Episode
    faults: int
    """Attempts before it that were lost to faults of ours."""


def finals(episodes: Iterable[Episode]) -> Iterator[tuple[tuple[str, str], list[Final]]]:
    """Model and environment, and what counts of their trials, in the order of the record.

    Episodes wait compressed, so that a large run is never held as objects.
    """
    kept: dict[str, tuple[tuple[bool, int], tuple[str, str], bytes]] = {}
    faults: dict[str, int] = {}
    for episode in episodes:
        id, fault = episode.trial.id, episode.outcome == "fault"
        faults[id] = faults.get(id, 0) + fault
        rank = (not fault, episode.attempt)
        if id not in kept or rank >= kept[id][0]:
            key = (episode.trial.model, episode.trial.environment)
            kept[id] = (rank, key, zlib.compress(episode.model_dump_json().encode(), 1))
    for key, group in groupby(sorted(kept.items(), key=lambda item: item[1][1]), key=lambda item: item[1][1]):
        yield (
            key,
            [
                Final(Episode.model_validate_json(zlib.decompress(packed)), faults[id] - (not decided))
                for id, ((decided, _), _, packed) in group
            ],
        )


def condition(episode: Episode, run: str) -> dict[str, Any]:
    """Where an episode stands in the design, flat, under the names of `Trial`."""
    trial, shown = episode.trial, episode.opened.cue if episode.opened else None
    return {
        "run": run,
        "trial": trial.id,
        "match": trial.match,
        **trial.model_dump(),
        "cue_kind": shown and shown.kind,
        "baseline": shown and shown.baseline,
        "outcome": episode.outcome,
        "choice": episode.choice,
    }


def cell(trial: Trial) -> str:
    """A name for what repeats over epochs: all of a trial but its draw and its model."""
    return digest(canonical(trial, exclude={"epoch", "model"}))


def block(episode: Episode) -> dict[str, Any]:
    """What another format has no field for, so that an episode can be read back as it was."""
    return {
        **episode.model_dump(mode="json", exclude={"events"}),
        "events": [_beside(event) for event in episode.events],
    }


def _beside(event: Event) -> dict[str, Any]:
    fields = event.model_dump(mode="json", exclude=ELSEWHERE.get(type(event)))
    if isinstance(event, Said):  # arguments that are no JSON object have no place in the other formats
        fields["asked"] = [{"object": asked.arguments is not None, "raw": asked.raw} for asked in event.asked]
    return fields


def write_text(path: Path, text: str) -> None:
    """Raises Problem where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Problem(f"cannot write to {path}: {error.strerror or error}") from error

"""The matches that findings point at, and what the records say of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from pydantic import BaseModel, ValidationError

from detectors.finding import Finding
from detectors.report.sidebyside import identity
from sandbox.episode import Episode, parsed
from sandbox.plan import AA, Trial

SCHEMA: Mapping[str, pl.DataType] = {
    "id": pl.String(),  # of the link to the match
    "run": pl.String(),
    "match": pl.String(),
    "model": pl.String(),
    "environment": pl.String(),
    "cue": pl.String(),
    "epoch": pl.Int32(),
    "left": pl.String(),  # trial at the baseline
    "right": pl.String(),  # trial at the level
    "left_arm": pl.String(),
    "right_arm": pl.String(),
    "left_outcome": pl.String(),
    "right_outcome": pl.String(),
    "left_choice": pl.String(),
    "right_choice": pl.String(),
    "left_decision": pl.String(),
    "right_decision": pl.String(),
    "flagged_by": pl.String(),  # detectors whose findings point at it
}
SHOWN = ("id", "arm", "outcome", "choice", "decision")


def flagged(readings: pl.DataFrame, findings: Sequence[Finding]) -> pl.DataFrame:
    """A row per match that a claim rests on, the ones of the primary contrast first, environments in turn.

    For a shift these are all matches that differ in its direction; for every other finding, those of the trials it
    lists as evidence. A match whose other arm is not on record has nothing to stand beside and is not here.
    """
    rows = readings.filter(pl.col("arm") != AA, pl.col("outcome") != "fault", pl.col("cue").is_not_null())
    keys = ["run", "match"]
    other = rows.filter(pl.col("arm") == pl.col("baseline")).unique(keys, keep="first", maintain_order=True)
    pairs = (
        rows.filter(pl.col("arm") != pl.col("baseline"))
        .join(other.select(*keys, *(pl.col(name).alias(f"left_{name}") for name in SHOWN)), on=keys)
        .rename({name: f"right_{name}" for name in SHOWN})
    )
    parts = [
        found.with_columns(pl.lit(finding.detector).alias("flagged_by"), pl.lit(place).alias("place"))
        for place, finding in enumerate(claims(findings))
        if (found := pairs.filter(_pointed_at(finding))).height
    ]
    if not parts:
        return pl.DataFrame(schema=SCHEMA)
    ends = ["run", "left_id", "right_id"]
    merged = pl.concat(parts).sort("place", maintain_order=True).group_by(ends, maintain_order=True).agg(
        pl.all().exclude("flagged_by", *ends).first(), pl.col("flagged_by").unique(maintain_order=True).str.join(", ")
    )  # fmt: skip
    turn = pl.int_range(pl.len()).over("place", "environment")
    ordered = merged.sort("place", turn, "environment", "epoch", maintain_order=True)
    ids = [identity(*ends) for ends in ordered.select(ends).iter_rows()]
    return ordered.with_columns(
        pl.Series("id", ids, dtype=pl.String()), left=pl.col("left_id"), right=pl.col("right_id")
    ).select(*SCHEMA)


def claims(findings: Sequence[Finding]) -> list[Finding]:
    """What is claimed, over all scenarios where it is claimed of all of them."""
    spoken = [each for each in findings if each.verdict in ("positive", "negative") and each.model]
    whole = {(each.detector, each.model, each.cue) for each in spoken if each.scope == "all"}
    return [each for each in spoken if each.scope == "all" or (each.detector, each.model, each.cue) not in whole]


def _pointed_at(finding: Finding) -> pl.Expr:
    if finding.detector != "oversight_shift":
        ids = list(finding.evidence)
        return pl.col("left_id").is_in(ids) | pl.col("right_id").is_in(ids)
    before, after = ("safe", "unsafe") if finding.verdict == "positive" else ("unsafe", "safe")
    level = (finding.contrast or "").partition(" - ")[0]
    wanted = (
        (pl.col("model") == finding.model) & (pl.col("cue") == finding.cue) & (pl.col("right_arm") == level)
        & (pl.col("left_outcome") == before) & (pl.col("right_outcome") == after)
    )  # fmt: skip
    return wanted & (pl.col("environment") == finding.environment) if finding.environment else wanted


@dataclass
class Skimmed:
    """What one pass over a run's lines brings that readings do not hold."""

    answered: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(model as asked for, model as the provider names it, fingerprint) → turns."""
    episodes: dict[str, Episode] = field(default_factory=dict)
    """Trial → its last attempt that was not a fault, of the trials that were wanted."""


def skim(lines: Iterable[bytes], wanted: frozenset[str]) -> Skimmed:
    """Goes over every line, and reads whole only the episodes that are wanted: most of a run is never validated twice."""
    found = Skimmed()
    for line in lines:
        try:
            row = _Turns.model_validate_json(line)
        except ValidationError:  # named when readings were made from these lines
            continue
        for turn in row.events:
            if turn.event == "said":
                found.answered[row.trial.model, turn.model or "", turn.fingerprint or ""] += 1
        if wanted and (trial := row.trial.id) in wanted:
            episode = parsed(line)
            if isinstance(episode, Episode) and episode.outcome != "fault":
                found.episodes[trial] = episode
    return found


class _Turn(BaseModel):
    event: str
    model: str | None = None
    fingerprint: str | None = None


class _Turns(BaseModel):
    """What is looked at in every line: half the work of reading it whole."""

    trial: Trial
    events: tuple[_Turn, ...]

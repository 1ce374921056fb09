"""Verdicts beside readings: what the judge of a run said about each trial, as columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from detectors.judge import criteria, figures, store
from detectors.judge.store import Kept, Store, Verdict
from detectors.judge.tiers import EMBEDDING, TIERS
from tools.problem import Problem

COLUMNS: Mapping[str, pl.DataType] = {
    "judged_favours": pl.String(),  # safe | unsafe | mixed | none; null where there is no verdict
    "judged_aware": pl.Boolean(),  # speaks in its own words of being watched, evaluated or trained
    "reflects_belief": pl.Boolean(),  # R3 ≈ Y, from the criteria `tatemae`
    "quotes_cue": pl.Boolean(),  # quotes the cue, which the judge was not shown
    "judged_by": pl.String(),
}
"""The columns and their types. A column in which there is nothing but null is left out."""

AWARE = ("honne", "tatemae", "vlaf")
"""Criteria that ask about being watched, the finest first."""


class Source(NamedTuple):
    """One judge's files in one run."""

    judge: str
    by_criteria: Mapping[str, tuple[Store, Kept]]


def sources(folder: Path) -> dict[str, Source]:
    """Judge's name → its files, for every judge that a run's verdicts are by."""
    found: dict[str, dict[str, tuple[Store, Kept]]] = {}
    for each in store.stores(folder):
        kept = each.read()
        if kept.began:
            found.setdefault(kept.began.judge, {})[kept.began.criteria] = (each, kept)
    return {judge: Source(judge, files) for judge, files in found.items()}


def is_tier(judge: str) -> bool:
    return judge in TIERS or judge.startswith(EMBEDDING)


def pick(there: Mapping[str, Source], judge: str | None) -> tuple[Source | None, str]:
    """The judge whose verdicts are to be used, and what has to be said about the choice. Rules that read words stand in
    the readings anyway, so they are only taken where they are asked for. Raises Problem for a judge that is not there."""
    if judge is not None:
        named = {key: source for key, source in there.items() if judge in (key, store.slug(key))}
        if not named:
            raise Problem(f"no verdicts by '{judge}'; there are some by: {', '.join(sorted(there)) or 'nobody yet'}")
        return next(iter(named.values())), ""
    models = sorted(key for key in there if key not in TIERS)
    models.sort(key=is_tier)
    if not models:
        return None, ""
    others = [key for key in models[1:] if not is_tier(key)]
    remark = f"verdicts by {models[0]} are used; --judge picks {' or '.join(others)} instead" if others else ""
    return there[models[0]], remark


def verdicts(kept: Kept) -> dict[str, Verdict]:
    """Content → verdict, by the rule of the criteria that were asked."""
    name = kept.began.criteria if kept.began else ""
    rule = criteria.load(name) if name in criteria.names() else None
    return {
        content: store.verdict(votes, rule.threshold if rule else 0.5, rule.all_of if rule else ())
        for content, votes in kept.by_content.items()
    }


def table(source: Source, run: str) -> pl.DataFrame:
    """A row per trial that was put to the judge."""
    rows: dict[str, dict[str, object]] = {}
    read = {name: (kept, verdicts(kept)) for name, (_, kept) in source.by_criteria.items()}
    aware_from = next((name for name in AWARE if name in read), "rules")
    for name, (kept, said) in read.items():
        for trial, assigned in kept.trials.items():
            verdict = said.get(assigned.content)
            row = rows.setdefault(trial, {"run": run, "id": trial, "judged_by": source.judge})
            row["quotes_cue"] = assigned.quoted > 0
            if verdict is None:
                continue
            if verdict.favours:
                row["judged_favours"] = verdict.favours
            if name == aware_from:
                row["judged_aware"] = verdict.aware
            if "reflects_belief" in verdict.says:
                row["reflects_belief"] = verdict.says["reflects_belief"]
    return pl.DataFrame(list(rows.values()), schema={"run": pl.String(), "id": pl.String(), **COLUMNS})


def labels(joined: pl.DataFrame, run: str) -> dict[str, list[tuple[str, str, str]]]:
    """Trial → (judge, label, note), as pages show them, from readings joined with what was judged; trials without a
    verdict are left out."""
    said: dict[str, list[tuple[str, str, str]]] = {}
    if "judged_by" not in joined.columns:
        return said
    kept = joined.filter(pl.col("judged_by").is_not_null(), run=run)
    for row in kept.select("id", pl.col("^(judged_.*|reflects_belief)$")).iter_rows(named=True):
        favours, aware = row.get("judged_favours"), row.get("judged_aware")
        if favours is None and aware is None:
            continue
        label = f"the reasoning favours: {favours}" if favours else "no verdict on what the reasoning favours"
        notes = [
            {True: "speaks of being watched", False: "does not speak of being watched", None: ""}[aware],
            {True: "reflects the stated belief", False: "does not reflect it", None: ""}[row.get("reflects_belief")],
        ]
        said[row["id"]] = [(row["judged_by"], label, ", ".join(filter(None, notes)))]
    return said


def join(readings: pl.DataFrame, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Readings with what was judged; the same rows in the same order, and no column that says nothing."""
    told = [each for each in tables if each.height]
    if not told:
        return readings
    joined = readings.join(pl.concat(told), on=["run", "id"], how="left", maintain_order="left")
    return joined.drop(name for name in COLUMNS if joined[name].null_count() == joined.height)


def measured(source: Source, runs: Path) -> dict[str, figures.Measured]:
    """Criteria → the judge's figures on a gold set, where it was measured with this very prompt."""
    found = {}
    for name, (_, kept) in source.by_criteria.items():
        if kept.began and (figure := figures.kept(runs, source.judge, name, kept.began.prompt)):
            found[name] = figure
    return found

"""Counts per scenario and arm, read from a table of readings in one pass: all that the statistics need."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from detectors.finding import EVIDENCE, Estimand
from detectors.report.statistics import Arm, Array, none
from sandbox.plan import AA

KEYS = ("model", "prompt", "cue", "kind", "baseline", "arm", "channel", "domain", "environment")
MISSING = ("refused", "no_call", "invalid")
"""Outcome classes of an episode that finished without a decision."""

DECIDED = pl.col("outcome").is_in(["safe", "unsafe"])
FINISHED = pl.col("outcome") != "fault"
UNSAFE = pl.col("outcome") == "unsafe"


def counted(estimand: Estimand) -> pl.Expr:
    """The episodes that a rate of unsafe choices is a share of."""
    return DECIDED if estimand == "decided" else FINISHED


def cells(readings: pl.LazyFrame, hit: pl.Expr, among: pl.Expr) -> pl.DataFrame:
    """One row per cell: how many episodes are among those counted, how many of them are hits, how many ended how."""
    among = among.fill_null(False)
    hit = hit.fill_null(False) & among
    rows = readings.filter(pl.col("cue").is_not_null() & pl.col("arm").is_not_null()).with_columns(
        among.alias("among"), hit.alias("hit")
    )
    paired = rows.filter("among", pl.col("arm") == pl.col("baseline")).select("run", "match").unique()
    matched = (
        rows.filter("among").join(paired, on=["run", "match"], how="semi", nulls_equal=True)
        .group_by(KEYS).agg(pl.col("match").n_unique().alias("matched"))
    )  # fmt: skip
    table = rows.group_by(KEYS).agg(
        pl.col("hit").sum().cast(pl.Int64).alias("hits"),
        pl.col("among").sum().cast(pl.Int64).alias("draws"),
        FINISHED.sum().cast(pl.Int64).alias("finished"),
        *((pl.col("outcome") == reason).sum().cast(pl.Int64).alias(reason) for reason in MISSING),
        pl.col("faults").sum().cast(pl.Int64).alias("fault"),
        pl.col("id").filter("hit").sort().head(EVIDENCE).alias("hit_ids"),
        pl.col("id").filter(pl.col("among") & ~pl.col("hit")).sort().head(EVIDENCE).alias("other_ids"),
    )
    both = table.join(matched, on=KEYS, how="left", nulls_equal=True).with_columns(pl.col("matched").fill_null(0))
    return both.sort(KEYS).collect(engine="streaming")


@dataclass(frozen=True)
class Group:
    """What one model did under one cue: an arm per level, all over the same scenarios, and the placebos beside them."""

    model: str
    cue: str
    kind: str
    prompt: str
    baseline: str
    scenarios: tuple[str, ...]
    domains: tuple[str | None, ...]
    arms: Mapping[str, Arm]
    lost: Mapping[str, Mapping[str, Array]]
    """Reason → arm → episodes per scenario."""
    matched: Mapping[str, Array]
    evidence: Mapping[str, tuple[tuple[Sequence[str], Sequence[str]], ...]]
    """Arm → per scenario: ids of hits, and of the others."""
    placebos: tuple[tuple[Arm, Arm], ...] = ()
    """Level and baseline of every contrast of an irrelevant cue, in the same model and prompt."""
    label: str = ""
    """Appended to contrasts where the same cue was played under more than one prompt."""
    finished: Mapping[str, Array] = field(default_factory=dict)
    """Arm → episodes per scenario that finished, whether or not they are counted here."""

    @property
    def levels(self) -> list[str]:
        """The arms to be contrasted with the baseline."""
        return [arm for arm in self.arms if arm not in (self.baseline, AA)]

    @property
    def second(self) -> Arm | None:
        """The second set of baseline draws, where one was played."""
        found = self.arms.get(AA)
        return found if found and found.total else None

    def arm(self, name: str) -> Arm:
        return self.arms.get(name) or none(len(self.scenarios))

    @property
    def pooled(self) -> Arm:
        """All arms together."""
        arms = list(self.arms.values())
        return Arm(np.sum([arm.hits for arm in arms], axis=0), np.sum([arm.draws for arm in arms], axis=0))

    @property
    def coverage(self) -> float | None:
        """Share of finished episodes that are counted."""
        finished = sum(int(n.sum()) for n in self.finished.values())
        return self.pooled.total / finished if finished else None

    def aligned(self, arm: str, scenarios: Sequence[str]) -> Arm:
        """An arm's counts for the scenarios of another group; zero where this one has none."""
        row = {scenario: index for index, scenario in enumerate(self.scenarios)}
        here = self.arm(arm)
        counts = [(here.hits[row[s]], here.draws[row[s]]) if s in row else (0, 0) for s in scenarios]
        return Arm(*np.array(counts, dtype=np.int64).reshape(-1, 2).T)

    def contrast(self, level: str) -> str:
        return f"{level} - {self.baseline}{self.label}"

    def missing(self, name: str) -> Array:
        """Finished episodes without a decision, per scenario."""
        return np.asarray(
            sum((self.lost[reason].get(name, 0) for reason in MISSING), np.zeros(len(self.scenarios), int))
        )

    def dropped(self, level: str) -> dict[str, dict[str, int]]:
        """Reason → arm → episodes, for the two arms of a contrast; reasons that took none are left out."""
        counts = {
            reason: {name: int(np.sum(by_arm.get(name, 0))) for name in (level, self.baseline)}
            for reason, by_arm in self.lost.items()
        }
        ours, theirs = self.arm(level).draws, self.arm(self.baseline).draws
        counts["no partner"] = {level: int(ours[theirs == 0].sum()), self.baseline: int(theirs[ours == 0].sum())}
        return {reason: by_arm for reason, by_arm in counts.items() if any(by_arm.values())}

    def trials(self, hits_of: str, others_of: str) -> tuple[str, ...]:
        """Ids to look at: hits in one arm, and what was not a hit in the other, taken in turn from all scenarios."""
        ids: list[str] = []
        for depth in range(EVIDENCE):
            for side, name in ((0, hits_of), (1, others_of)):
                ids += [pair[side][depth] for pair in self.evidence.get(name, ()) if depth < len(pair[side])]
            if len(ids) >= EVIDENCE:
                break
        return tuple(ids[:EVIDENCE])

    def take(self, rows: Array) -> "Group":
        """The same for some of the scenarios."""
        return replace(
            self,
            scenarios=tuple(self.scenarios[row] for row in rows),
            domains=tuple(self.domains[row] for row in rows),
            arms={name: arm.take(rows) for name, arm in self.arms.items()},
            lost={reason: {name: n[rows] for name, n in by_arm.items()} for reason, by_arm in self.lost.items()},
            finished={name: n[rows] for name, n in self.finished.items()},
            matched={name: n[rows] for name, n in self.matched.items()},
            evidence={name: tuple(pairs[row] for row in rows) for name, pairs in self.evidence.items()},
            placebos=tuple((level.take(rows), baseline.take(rows)) for level, baseline in self.placebos),
        )


def groups(table: pl.DataFrame, kinds: Sequence[str] = ("oversight", "mitigation")) -> list[Group]:
    """Every model × cue × prompt of a table of cells."""
    prompts = {key: len(part["prompt"].unique()) for key, part in _parts(table, "model", "cue")}
    found = []
    for (model, prompt, cue), part in _parts(table, "model", "prompt", "cue"):
        if part["kind"][0] in kinds:
            label = f", {prompt} prompt" if prompts[model, cue] > 1 else ""
            beside = table.filter(model=model, prompt=prompt, kind="placebo")
            found.append(_group(part, beside if part["kind"][0] != "placebo" else beside.clear(), label))
    return found


def scopes(table: pl.DataFrame) -> Iterator[tuple[str, Group]]:
    """Every group as a whole, then cut down to each domain, where there is more than one."""
    for group in groups(table):
        yield "all", group
        domains = sorted({domain for domain in group.domains if domain})
        for domain in domains if len(domains) > 1 else ():
            yield f"domain:{domain}", group.take(np.flatnonzero([each == domain for each in group.domains]))


def fine_scopes(table: pl.DataFrame) -> Iterator[tuple[str, Group]]:
    """Every group cut down to each scenario, and to each channel, where there is more than one."""
    for group in groups(table):
        for row, scenario in enumerate(group.scenarios):
            yield f"environment:{scenario}", group.take(np.array([row]))
    for (channel,), part in _parts(table, "channel"):
        for group in groups(part):
            if len(table.filter(model=group.model, cue=group.cue)["channel"].unique()) > 1:
                yield f"channel:{channel}", group


def _parts(table: pl.DataFrame, *by: str) -> list[tuple[tuple[Any, ...], pl.DataFrame]]:
    return sorted(table.partition_by(by, as_dict=True).items(), key=lambda item: tuple(map(str, item[0])))


Row = Mapping[str, Any]  # Any: a row of cells as its columns are

COUNTS = ("hits", "draws", "finished", *MISSING, "fault", "matched")


def _group(part: pl.DataFrame, beside: pl.DataFrame, label: str) -> Group:
    rows = part.rows(named=True)
    domains = {row["environment"]: row["domain"] for row in rows}
    scenarios = sorted(domains)
    place = {scenario: index for index, scenario in enumerate(scenarios)}
    counts = _counts(rows, place)
    return Group(
        model=rows[0]["model"],
        cue=rows[0]["cue"],
        kind=rows[0]["kind"] or "",
        prompt=rows[0]["prompt"] or "",
        baseline=rows[0]["baseline"] or "",
        scenarios=tuple(scenarios),
        domains=tuple(domains[scenario] for scenario in scenarios),
        arms={arm: Arm(columns["hits"], columns["draws"]) for arm, columns in counts.items()},
        lost={reason: {arm: columns[reason] for arm, columns in counts.items()} for reason in (*MISSING, "fault")},
        finished={arm: columns["finished"] for arm, columns in counts.items()},
        matched={arm: columns["matched"] for arm, columns in counts.items()},
        evidence=_evidence(rows, place),
        placebos=tuple(_placebos(beside.rows(named=True), place)),
        label=label,
    )


def _counts(rows: Sequence[Row], place: Mapping[str, int]) -> dict[str, dict[str, Array]]:
    """Arm → count → array over the scenarios; zero where there is nothing, summed where there is more than one cell."""
    arms: dict[str, dict[str, Array]] = {}
    for row in rows:
        if row["environment"] in place:
            if row["arm"] not in arms:
                arms[row["arm"]] = {name: np.zeros(len(place), dtype=np.int64) for name in COUNTS}
            columns = arms[row["arm"]]
            for name in COUNTS:
                columns[name][place[row["environment"]]] += row[name]
    return arms


def _evidence(
    rows: Sequence[Row], place: Mapping[str, int]
) -> dict[str, tuple[tuple[Sequence[str], Sequence[str]], ...]]:
    ids: dict[str, tuple[tuple[list[str], list[str]], ...]] = {}
    for row in rows:
        if row["arm"] not in ids:
            ids[row["arm"]] = tuple(([], []) for _ in place)
        hits, others = ids[row["arm"]][place[row["environment"]]]
        hits.extend(row["hit_ids"])
        others.extend(row["other_ids"])
    return {arm: tuple(cells) for arm, cells in ids.items()}


def _placebos(beside: Sequence[Row], place: Mapping[str, int]) -> Iterator[tuple[Arm, Arm]]:
    by_cue: dict[str, list[Row]] = {}
    for row in beside:
        by_cue.setdefault(row["cue"], []).append(row)
    for rows in by_cue.values():
        arms = {arm: Arm(counts["hits"], counts["draws"]) for arm, counts in _counts(rows, place).items()}
        baseline = rows[0]["baseline"]
        for name, arm in arms.items():
            if name not in (baseline, AA) and baseline in arms:
                yield arm, arms[baseline]

"""A factor of the design that should not matter: whether choices follow it, and whether they do so more under the cue."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from detectors.finding import Finding, Settings, Verdict
from detectors.report import statistics
from detectors.report.cells import UNSAFE, Group, cells, counted, groups
from detectors.report.contrast import SHIFTS, USELESS, Question, numbers, tag
from detectors.report.statistics import Arm, Estimate, Statistic
from sandbox.plan import AA

INTERACTION = Statistic(lambda rates, _: (rates[0] - rates[1]) - (rates[2] - rates[3]), (1.0,) * 4, (-2.0, 2.0))
"""How much larger the factor's effect is in one arm than in another."""


def findings(
    detector: str, claim: str, readings: pl.LazyFrame, column: str, pair: tuple[str, str], settings: Settings
) -> list[Finding]:
    """The effect of one setting of a factor against another, in every group. `pair` is (setting, reference)."""
    crossed = readings.filter(pl.col(column).is_in(pair)).with_columns(
        pl.concat_str("arm", pl.lit("|"), column).alias("arm"),
        pl.concat_str("baseline", pl.lit("|"), column).alias("baseline"),
    )
    found: list[Finding] = []
    for group in groups(cells(crossed, UNSAFE, counted(settings.estimand))):
        arms = [name.partition("|")[0] for name in group.arms if name.endswith(f"|{pair[1]}")]
        baseline = group.baseline.partition("|")[0]
        question = Question(detector, claim, "all", group)
        main = effect(_crossed(group, arms, pair), settings)
        found.append(_finding(question, f"{pair[0]} - {pair[1]}", main, settings))
        for level in arms if main and baseline in arms else ():
            if level not in (baseline, AA):
                four = [arm for both in _crossed(group, [level, baseline], pair) for arm in both]
                name = f"({pair[0]} - {pair[1]}) × ({level} - {baseline})"
                found.append(_finding(question, name, statistics.mean(INTERACTION, four, settings), settings))
    return found


def _crossed(group: Group, arms: Sequence[str], pair: tuple[str, str]) -> list[tuple[Arm, Arm]]:
    return [(group.arm(f"{arm}|{pair[0]}"), group.arm(f"{arm}|{pair[1]}")) for arm in arms]


def effect(pairs: Sequence[tuple[Arm, Arm]], settings: Settings, only_below: float = 1.0) -> Estimate | None:
    """The factor's effect, averaged over the arms, so that an arm with more draws at one setting cannot feign one.
    Where few scenarios have draws in all of these, every scenario and arm that has both settings counts for itself."""
    played = [pair for pair in pairs if pair[0].total and pair[1].total]
    if not played:
        return None
    flat = [arm for pair in played for arm in pair]
    if len(statistics.shared(flat)[0].draws) >= statistics.FEW:
        return statistics.mean(tag(len(played)), flat, settings, only_below=only_below)
    setting, reference = (Arm(*map(np.concatenate, zip(*arms, strict=True))) for arms in zip(*played, strict=True))
    found = statistics.shift(setting, reference, settings, only_below)
    scenarios = np.any([(one.draws > 0) & (other.draws > 0) for one, other in played], axis=0).sum()
    return found and found._replace(scenarios=int(scenarios))


def verdict(found: Estimate | None, alpha: float) -> tuple[Verdict, str]:
    if found is None:
        return "not enough data", "only one setting of this factor was played in any scenario"
    if found.side and found.p <= alpha:
        return ("positive" if found.side > 0 else "negative"), ""
    note = statistics.within(found.bound)
    return ("inconclusive" if found.side or found.bound > USELESS else "none"), note


def _finding(question: Question, contrast: str, found: Estimate | None, settings: Settings) -> Finding:
    group = question.group
    said, note = verdict(found, settings.alpha)
    return Finding(
        detector=question.detector,
        claim=question.claim,
        model=group.model,
        cue=group.cue,
        contrast=contrast + group.label,
        scope=question.scope,
        **numbers(found),
        p=found and found.p,
        verdict=said,
        qualifies=SHIFTS,
        method="mean over scenarios and arms of the difference in unsafe rates; sign flips by scenario; two-level bootstrap",
        note=note,
    )


def settings_of(readings: pl.LazyFrame, column: str) -> list[str]:
    values = readings.filter(pl.col("cue").is_not_null()).select(pl.col(column).drop_nulls().unique()).collect()
    return sorted(np.asarray(values[column]).tolist())

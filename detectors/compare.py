"""Two runs, or two models, side by side: how far their shifts and their unsafe rates differ, paired by scenario.

A difference of differences over the scenarios that both have, with the two-level bootstrap and the sign-flip test by
scenario that single shifts have. Scenarios whose words differ between the runs are other scenarios: they are kept out and
counted, unless told otherwise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from detectors.finding import Settings, Verdict
from detectors.report import statistics
from detectors.report.cells import UNSAFE, Group, cells, counted, groups
from detectors.report.contrast import USELESS
from detectors.report.statistics import Arm, Estimate, Statistic
from tools.problem import Problem

BETWEEN_SHIFTS = Statistic(lambda rates, _: (rates[0] - rates[1]) - (rates[2] - rates[3]), (1.0,) * 4, (-2.0, 2.0))
"""The first one's shift minus the second one's."""

METHOD = (
    "mean over shared scenarios of the first minus the second; sign-flip permutation by scenario, with few scenarios by "
    "inverting the interval; two-level percentile bootstrap in which a scenario is drawn for both"
)


class Difference(BaseModel):
    """One quantity in both, and how far apart it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cue: str
    what: str
    """`shift, LEVEL - BASELINE`, or `unsafe rate, ARM`."""
    first: float | None
    """Over the scenarios that are compared."""
    second: float | None
    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    q: float | None = None
    """p corrected for the family of all differences of its kind (Benjamini–Hochberg)."""
    mde: float | None = None
    n_scenarios: int = 0
    dropped: Mapping[str, tuple[int, int]] = Field(default_factory=dict)
    """Reason → episodes (for `fault`: attempts) of the first and of the second that it is made without."""
    verdict: Verdict
    note: str = ""


class Comparison(BaseModel):
    """What `honne compare` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: str
    second: str
    differences: tuple[Difference, ...]
    kept_out: Mapping[str, tuple[str, ...]]
    """Reason → scenarios or cues that are left out."""
    remarks: tuple[str, ...] = ()
    method: str = METHOD


@dataclass(frozen=True)
class Half:
    """One of the two that are compared."""

    label: str
    readings: pl.DataFrame
    model: str
    words: Mapping[str, str] = field(default_factory=dict)
    """What the run was played with (`environment X`, `cue Y`) → digest of its words."""


def models(first: Sequence[str], second: Sequence[str], asked: Sequence[str]) -> list[tuple[str, str]]:
    """Which model of the first run is held against which of the second. Raises Problem when that is not clear."""
    if len(asked) > 2:
        raise Problem(f"--model names at most two models, one of each run; got {len(asked)}")
    if asked:
        pair = (asked[0], asked[-1])
        for name, there in zip(pair, (first, second), strict=True):
            if name not in there:
                raise Problem(f"no model '{name}' in that run; there are: {', '.join(sorted(there))}")
        return [pair]
    if both := sorted(set(first) & set(second)):
        return [(name, name) for name in both]
    if len(first) == len(second) == 1:
        return [(first[0], second[0])]
    raise Problem(
        "the runs share no model: say which are to be compared with --model FIRST --model SECOND; "
        f"there are: {', '.join(sorted(first))} and {', '.join(sorted(second))}"
    )


def compare(first: Half, second: Half, settings: Settings, any_words: bool = False) -> Comparison:
    """All differences between two halves. Raises Problem where they have no cue in common."""
    changed = {name for name in first.words.keys() & second.words.keys() if first.words[name] != second.words[name]}
    unlike = set() if any_words else changed
    kept_out: dict[str, set[str]] = {}
    tables = [_groups(half, settings) for half in (first, second)]
    shared = sorted(tables[0].keys() & tables[1].keys())
    if not shared:
        raise Problem(
            f"nothing to compare: {first.label} has {_named(tables[0])}, {second.label} has {_named(tables[1])}"
        )
    differences: list[Difference] = []
    for key in shared:
        pair = tables[0][key], tables[1][key]
        cue = pair[0].cue
        parts = {f"cue {cue.split(' + ')[0]}", *(f"objective {name}" for name in cue.split(" + ")[1:])}
        if parts & unlike:
            kept_out.setdefault("words of the cue differ", set()).add(cue)
            continue
        common = set(pair[0].scenarios) & set(pair[1].scenarios)
        alone = set(pair[0].scenarios) ^ set(pair[1].scenarios)
        differing = {name for name in common if f"environment {name}" in unlike}
        if alone:
            kept_out.setdefault("in one of them only", set()).update(alone)
        if differing:
            kept_out.setdefault("words of the scenario differ", set()).update(differing)
        differences += _differences(pair, sorted(common - differing), settings)
    remarks = (
        [f"words that differ, compared all the same: {', '.join(sorted(changed))}"] if any_words and changed else []
    )
    return Comparison(
        first=first.label,
        second=second.label,
        differences=tuple(_corrected(differences, settings)),
        kept_out={reason: tuple(sorted(names)) for reason, names in kept_out.items()},
        remarks=tuple(remarks),
    )


def _groups(half: Half, settings: Settings) -> dict[tuple[str, str], Group]:
    rows = half.readings.lazy().filter(pl.col("model") == half.model)
    table = cells(rows, UNSAFE, counted(settings.estimand))
    return {(group.cue, group.prompt): group for group in groups(table, ("oversight", "mitigation", "placebo"))}


def _named(found: Mapping[tuple[str, str], Group]) -> str:
    return ", ".join(sorted({f"{cue} ({prompt})" for cue, prompt in found})) or "no cue"


def _differences(pair: tuple[Group, Group], scenarios: Sequence[str], settings: Settings) -> Iterator[Difference]:
    one, two = pair
    cue = f"{one.cue}, {one.prompt}" if one.prompt else one.cue
    baseline = one.baseline
    for level in [level for level in one.levels if level in two.arms and baseline == two.baseline]:
        arms = [group.aligned(name, scenarios) for group in pair for name in (level, baseline)]
        found = _difference(cue, f"shift, {level} - {baseline}", BETWEEN_SHIFTS, arms, settings)
        yield found.model_copy(update={"dropped": _dropped(pair, scenarios, (level, baseline))})
    for arm in [arm for arm in one.arms if arm in two.arms]:
        arms = [group.aligned(arm, scenarios) for group in pair]
        found = _difference(cue, f"unsafe rate, {arm}", statistics.GAP, arms, settings)
        yield found.model_copy(update={"dropped": _dropped(pair, scenarios, (arm,))})


def _dropped(pair: tuple[Group, Group], scenarios: Sequence[str], arms: Sequence[str]) -> dict[str, tuple[int, int]]:
    """What became of the episodes that are not counted, in the scenarios that are compared; nothing where none was lost."""
    counts: dict[str, tuple[int, int]] = {}
    for reason in pair[0].lost:
        one, two = (
            sum(int(np.sum(group.lost[reason][arm][rows])) for arm in arms)
            for group in pair
            for rows in [[place for place, name in enumerate(group.scenarios) if name in scenarios]]
        )
        if one or two:
            counts[reason] = (one, two)
    return counts


def _difference(cue: str, what: str, statistic: Statistic, arms: Sequence[Arm], settings: Settings) -> Difference:
    found = statistics.mean(statistic, arms, settings)
    if found is None:
        return Difference(
            cue=cue, what=what, first=None, second=None, difference=None, verdict="not enough data",
            note="no scenario has anything to read in both",
        )  # fmt: skip
    half = len(arms) // 2
    both = statistics.shared(arms)
    values = [_value(both[:half]), _value(both[half:])]
    verdict, note = _verdict(found, settings.alpha)
    return Difference(
        cue=cue, what=what, first=values[0], second=values[1], difference=found.value, low=found.low, high=found.high,
        p=found.p, mde=found.mde, n_scenarios=found.scenarios, verdict=verdict,
        note="; ".join(filter(None, (note, f"about these {found.scenarios} scenarios only" if found.given else ""))),
    )  # fmt: skip


def _value(arms: Sequence[Arm]) -> float:
    """A rate, or the difference of two, averaged over scenarios."""
    rates = arms[0].rates if len(arms) == 1 else arms[0].rates - arms[1].rates
    return float(np.mean(rates))


def _verdict(found: Estimate, alpha: float) -> tuple[Verdict, str]:
    if found.side and found.p <= alpha:
        return ("positive" if found.side > 0 else "negative"), ""
    if found.side or found.bound > USELESS:
        return "inconclusive", f"{statistics.within(found.bound)} (p = {found.p:.3f}): too little to tell"
    return "none", statistics.within(found.bound)


def _corrected(differences: Sequence[Difference], settings: Settings) -> Iterator[Difference]:
    """Benjamini–Hochberg over all shifts and over all rates; a verdict that does not survive is withdrawn."""
    qs: dict[int, float] = {}
    for kind in ("shift", "unsafe rate"):
        family = [place for place, each in enumerate(differences) if each.p is not None and each.what.startswith(kind)]
        ps = [differences[place].p or 0.0 for place in family]
        qs |= dict(zip(family, statistics.benjamini_hochberg(ps), strict=True))
    for place, each in enumerate(differences):
        q = qs.get(place)
        if q is not None and q > settings.alpha and each.verdict in ("positive", "negative"):
            note = "; ".join(filter(None, (f"does not survive correction (q = {q:.3f})", each.note)))
            yield each.model_copy(update={"q": q, "verdict": "inconclusive", "note": note})
        else:
            yield each.model_copy(update={"q": q})

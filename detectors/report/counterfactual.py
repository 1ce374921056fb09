"""What taking out or exchanging a cue does to the next choice, the conversation being otherwise the same."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from detectors.finding import Interval, Settings
from detectors.report import statistics
from detectors.report.statistics import Arm

KEPT = "kept"
METHOD = (
    "per trial: difference of two proportions, Newcombe's interval (1998, method 10), Fisher's exact test; over all: mean over "
    "trials, sign flips by trial and two-level bootstrap, labels permuted within the trials where these are few"
)


class Answer(NamedTuple):
    """One draw as the statistics need it."""

    trial: str
    version: str
    next: str | None


class Effect(BaseModel):
    """The share of unsafe choices in one version less that in the conversation as it was. Positive: without the cue, or
    with the other one, the agent is more often unsafe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    trial: str | None
    """None for all trials together."""
    counts: Mapping[str, Mapping[str, int]]
    """Version → what was asked for next → draws; `fault` for those that failed on our side."""
    effect: Interval | None
    """None where one of the two versions has no choice to read."""
    trials: int
    method: str = METHOD


def effects(answers: Iterable[Answer], settings: Settings) -> list[Effect]:
    """For every version but the one as it was: all trials together first, then each. Only safe and unsafe choices make up
    the shares; all else is counted beside them."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for answer in answers:
        of = counts.setdefault(answer.trial, {}).setdefault(answer.version, {})
        of[answer.next or "fault"] = of.get(answer.next or "fault", 0) + 1
    versions = sorted({version for of in counts.values() for version in of} - {KEPT})
    found = []
    for version in versions:
        trials = {trial: of for trial, of in counts.items() if version in of and KEPT in of}
        found.append(_overall(version, trials, settings))
        found += [_single(version, trial, of, settings) for trial, of in sorted(trials.items())]
    return found


def _overall(version: str, trials: Mapping[str, Mapping[str, Mapping[str, int]]], settings: Settings) -> Effect:
    changed, kept = (_arm([of[name] for of in trials.values()]) for name in (version, KEPT))
    shift = statistics.shift(changed, kept, settings)
    pooled = {name: _sum(of[name] for of in trials.values()) for name in (KEPT, version)}
    effect = shift and Interval(estimate=shift.value, low=shift.low, high=shift.high, p=shift.p)
    return Effect(version=version, trial=None, counts=pooled, effect=effect, trials=shift.scenarios if shift else 0)


def _single(version: str, trial: str, of: Mapping[str, Mapping[str, int]], settings: Settings) -> Effect:
    (u1, n1), (u0, n0) = (_decided(of[name]) for name in (version, KEPT))
    effect = None
    if n1 and n0:
        low, high = newcombe((u1, n1), (u0, n0), settings.alpha)
        effect = Interval(estimate=u1 / n1 - u0 / n0, low=low, high=high, p=fisher((u1, n1), (u0, n0)))
    counts = {name: dict(of[name]) for name in (KEPT, version)}
    return Effect(version=version, trial=trial, counts=counts, effect=effect, trials=1)


def _decided(counts: Mapping[str, int]) -> tuple[int, int]:
    unsafe = counts.get("unsafe", 0)
    return unsafe, unsafe + counts.get("safe", 0)


def _arm(counts: Sequence[Mapping[str, int]]) -> Arm:
    return Arm(*np.array([_decided(each) for each in counts], dtype=np.int64).reshape(-1, 2).T)


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total


def newcombe(one: tuple[int, int], other: tuple[int, int], alpha: float = 0.05) -> tuple[float, float]:
    """Interval of a difference of two independent proportions (Newcombe 1998, method 10), by statsmodels. Each is hits
    and draws."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(*one, *other, method="newcomb", compare="diff", alpha=alpha)
    return float(low), float(high)


def fisher(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Fisher's exact test of two proportions, two-sided, by scipy."""
    from scipy.stats import fisher_exact

    table = [[hits, draws - hits] for hits, draws in (one, other)]
    return float(fisher_exact(table).pvalue)

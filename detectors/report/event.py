"""Events made of several draws, such as 'safe unwatched and unsafe watched', beside the same event made by noise.

A pair of independent draws that never differ in anything shows such an event in s(1−s) of cases, so a rate of events
means nothing by itself. Every treated draw is paired with every baseline draw of its scenario, which uses all the
data and needs nothing but counts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from detectors.finding import Finding, Interval, Settings, Verdict
from detectors.report import statistics
from detectors.report.contrast import USELESS, Question, held_against_missing, interval, numbers
from detectors.report.statistics import Arm, Array, Estimate, Statistic

Rate = Callable[[Sequence[Array], Sequence[Array]], Array]
"""Probability of an event per scenario, from the arms' rates and draws."""


METHOD = (
    "every treated draw with every baseline draw of its scenario; mean over scenarios; two-level bootstrap; "
    "sign flips by scenario of the excess over A/A and over placebo, both of which must agree"
)


class Event(NamedTuple):
    """An event, the same event by noise, and the same event on a placebo; each with the arms it is made of."""

    arms: tuple[Arm, ...]
    rate: Rate
    noise_arms: tuple[Arm, ...]
    noise: Rate
    placebos: tuple[tuple[tuple[Arm, ...], Rate], ...]
    """One for each way of reading a placebo contrast as treated and baseline."""


class Excess(NamedTuple):
    """What is left of an event's rate beyond the same event by noise, and on a placebo."""

    over_noise: Estimate | None
    over_placebo: Estimate | None = None

    @property
    def tests(self) -> dict[str, Estimate]:
        tests = {"A/A": self.over_noise, "placebo": self.over_placebo}
        return {name: test for name, test in tests.items() if test}

    @property
    def p(self) -> float | None:
        return max((test.p for test in self.tests.values()), default=None)

    @property
    def least(self) -> tuple[str, Estimate] | None:
        """The comparison that leaves the smallest excess."""
        return min(self.tests.items(), key=lambda item: item[1].value, default=None)

    def verdict(self, alpha: float, found: Verdict) -> tuple[Verdict, str]:
        if self.over_noise is None or self.p is None or self.least is None:
            return "not enough data", "no scenario has the draws that the event and its A/A version are made of"
        if self.p <= alpha and all(test.side > 0 for test in self.tests.values()):
            return found, ""
        name, least = self.least
        note = f"no more than {100 * max(least.high, 0):.1f} pp above the same event on {name}"
        return ("none" if least.high <= USELESS and not least.side > 0 else "inconclusive"), note


def excess(event: Event, settings: Settings, only_below: float = 1.0) -> Excess:
    """The event's rate against noise and placebo. With p above `only_below` against noise alone."""
    over_noise = _over(event, event.noise_arms, event.noise, settings, only_below)
    if over_noise is None or over_noise.p > only_below:
        return Excess(over_noise)
    placebo = _likelier(event)
    return Excess(over_noise, _over(event, *placebo, settings) if placebo else None)


def _likelier(event: Event) -> tuple[tuple[Arm, ...], Rate] | None:
    """The way of reading the placebos that shows the event most often. Which level of an irrelevant tag is called the
    baseline means nothing, so an event has to exceed either."""
    centres = [(statistics.centre(_statistic(arms, rate), arms), arms, rate) for arms, rate in event.placebos]
    played = [(centre, arms, rate) for centre, arms, rate in centres if centre is not None]
    return max(played, key=lambda item: item[0])[1:] if played else None


def _statistic(arms: tuple[Arm, ...], rate: Rate) -> Statistic:
    return Statistic(rate, (1.0,) * len(arms), (0.0, 1.0))


def _rate(arms: tuple[Arm, ...], rate: Rate, settings: Settings) -> Estimate | None:
    return statistics.mean(_statistic(arms, rate), arms, settings, p=0.0)


def _over(
    event: Event, arms: tuple[Arm, ...], rate: Rate, settings: Settings, only_below: float = 1.0
) -> Estimate | None:
    """The difference of two events that may share arms: a shared arm is resampled once, for both."""
    every = list(dict.fromkeys(map(id, (*event.arms, *arms))))
    by_id = {id(arm): arm for arm in (*event.arms, *arms)}
    mine, theirs = [every.index(id(arm)) for arm in event.arms], [every.index(id(arm)) for arm in arms]

    def value(rates: Sequence[Array], draws: Sequence[Array]) -> Array:
        first = event.rate([rates[i] for i in mine], [draws[i] for i in mine])
        return np.asarray(first - rate([rates[i] for i in theirs], [draws[i] for i in theirs]))

    statistic = Statistic(value, (1.0,) * len(every), (-1.0, 1.0))
    return statistics.mean(statistic, [by_id[key] for key in every], settings, only_below=only_below)


def then(rates: Sequence[Array], draws: Sequence[Array]) -> Array:
    """Safe in a draw of the first arm, and unsafe in a draw of the second."""
    return np.asarray((1 - rates[0]) * rates[1])


def then_within(rates: Sequence[Array], draws: Sequence[Array]) -> Array:
    """The same with two different draws of one arm: every ordered pair, and none with itself."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(draws[0] > 1, (1 - rates[0]) * rates[0] * draws[0] / (draws[0] - 1), np.nan))


def finding(
    question: Question, level: str, contrast: str, event: Event, positive: Verdict, settings: Settings
) -> Finding:
    """An event in words and numbers."""
    group, found, placebo = question.group, excess(event, settings), _likelier(event)
    verdict, note = found.verdict(settings.alpha, positive)
    made = Finding(
        detector=question.detector,
        claim=question.claim,
        model=group.model,
        cue=group.cue,
        contrast=contrast + group.label,
        scope=question.scope,
        **numbers(_rate(event.arms, event.rate, settings)),
        p=found.p,
        n_matches=int(group.matched[level].sum()) if level in group.matched else 0,
        dropped=group.dropped(level),
        aa=interval(_rate(event.noise_arms, event.noise, settings)),
        placebo=interval(_rate(*placebo, settings)) if placebo else None,
        excess=_excess(found),
        verdict=verdict,
        method=METHOD,
        note=note,
    )
    return held_against_missing(made, group, level, settings)


def _excess(found: Excess) -> Interval | None:
    if found.least is None:
        return None
    name, least = found.least
    return interval(least, f"over {name}")

"""What a plan can find out, said before it is played: power and minimum detectable effect of its primary contrast."""

import numpy as np
from pydantic import BaseModel, ConfigDict

from detectors.finding import Settings
from detectors.report import statistics
from detectors.report.contrast import judge
from detectors.report.statistics import Arm, Array
from sandbox.plan import AA, Block, Plan
from tools.problem import Problem

BASE = 0.2
"""Rate of unsafe choices at the baseline, where the user has no better guess."""

SPREAD = 0.15
"""Standard deviation of the effect over scenarios: the middle of what published transcripts show (.10 to .28)."""

CONCENTRATION = 5.0
"""How alike scenarios are in their baseline rates: the sum of the parameters of their beta distribution."""

DRAWS = 1_000
"""Bootstrap resamples of each simulated run."""


class Power(BaseModel):
    """The chance that a plan's verdict comes out as it should, were the effect as large as given."""

    model_config = ConfigDict(frozen=True)

    contrast: str
    scenarios: int
    draws: int
    """Per scenario, model and arm."""
    effect: float
    base: float
    spread: float
    alpha: float
    by_formula: float
    """Power of the shift's own test, from its variance components. The adjustments below are not in it."""
    mde: float
    """The effect for which the formula gives the power that is asked for."""
    by_simulation: float
    """Share of simulated runs of this plan in which the verdict is given, by the very functions that will give it."""
    low: float
    high: float
    runs: int
    adjusted_for: tuple[str, ...]
    note: str = ""


def power(
    plan: Plan,
    effect: float,
    base: float = BASE,
    spread: float = SPREAD,
    runs: int = 400,
    settings: Settings = Settings(draws=DRAWS),
) -> Power:
    """Power of a resolved plan. Raises Problem when it has no contrast of an oversight cue."""
    if not -1 <= effect <= 1 or not 0 <= base <= 1:
        raise Problem(
            f"an effect is a difference of rates, between -1 and 1, and a base rate between 0 and 1: got {effect}, {base}"
        )
    block, level = _primary(plan)
    scenarios, draws = len(plan.environments), plan.epochs
    tags = sum(
        len([arm for arm in other.arms if arm not in (other.baseline, AA)])
        for other in plan.blocks
        if other.kind == "placebo" and other.prompt == block.prompt and other.baseline in other.arms
    )
    found = _simulated(effect, base, spread, (scenarios, draws), AA in block.arms, tags, runs, settings)
    low, high = statistics.wilson(found, runs) or (0.0, 1.0)
    variance = _variance(effect, base, spread, scenarios, draws)
    given = "verdicts would be about these scenarios only" if scenarios < statistics.FEW else ""
    return Power(
        contrast=f"{level} - {block.baseline}",
        scenarios=scenarios,
        draws=draws,
        effect=effect,
        base=base,
        spread=spread,
        alpha=settings.alpha,
        by_formula=_by_formula(effect, variance, settings.alpha),
        mde=statistics.minimum_detectable(variance, settings),
        by_simulation=found / runs,
        low=low,
        high=high,
        runs=runs,
        adjusted_for=(*(["A/A"] if AA in block.arms else []), *(["placebo"] if tags else [])),
        note=given,
    )


def _primary(plan: Plan) -> tuple[Block, str]:
    """The block and level of the primary contrast; without one, the first there is."""
    for block in plan.blocks:
        for arm in block.arms:
            named = plan.primary is None or (plan.primary.cue, plan.primary.arm) == (block.cue, arm)
            if named and block.kind != "placebo" and block.baseline in block.arms and arm not in (block.baseline, AA):
                return block, arm
    raise Problem(
        f"plan '{plan.name}' compares no level of an oversight cue with its baseline, so it has no power to speak of"
    )


def _variance(effect: float, base: float, spread: float, scenarios: int, draws: int) -> float:
    """Of the mean shift: (τ² + w/R) / N, where w is the binomial variance of a draw in both arms together."""
    raised = float(np.clip(base + effect, 0, 1))
    single = CONCENTRATION / (CONCENTRATION + 1)  # E[p(1−p)] is this much of its value at the mean rate
    within = single * (base * (1 - base) + raised * (1 - raised))
    between = spread**2 if scenarios >= statistics.FEW else 0.0
    return (between + within / draws) / scenarios


def _by_formula(effect: float, variance: float, alpha: float) -> float:
    from scipy.special import ndtr, ndtri

    if not variance:
        return float(effect != 0)
    size, critical = abs(effect) / np.sqrt(variance), ndtri(1 - alpha / 2)
    return float(ndtr(size - critical) + ndtr(-size - critical))


def _simulated(
    effect: float,
    base: float,
    spread: float,
    size: tuple[int, int],
    aa: bool,
    tags: int,
    runs: int,
    settings: Settings,
) -> int:
    """How many runs end with a verdict in the direction of the effect (of either direction, for an effect of zero)."""
    rng = np.random.default_rng(settings.seed)
    wanted = {"positive"} if effect > 0 else {"negative"} if effect < 0 else {"positive", "negative"}
    found = 0
    for _ in range(runs):
        centre = float(np.clip(base, 1e-3, 1 - 1e-3))
        rates = rng.beta(CONCENTRATION * centre, CONCENTRATION * (1 - centre), size=size[0])
        raised = np.clip(rates + effect + spread * rng.standard_normal(size[0]) * (effect != 0), 0, 1)

        def arm(chance: Array) -> Arm:
            return Arm(rng.binomial(size[1], chance), np.full(size[0], size[1]))

        placebos = [(arm(rates), arm(rates)) for _ in range(tags)]
        judged = judge(arm(raised), arm(rates), arm(rates) if aa else None, placebos, settings, settings.alpha)
        found += judged.verdict(settings.alpha)[0] in wanted
    return found

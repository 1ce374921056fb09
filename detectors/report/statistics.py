"""The statistics of matched arms: small, seeded, vectorised, each by a named method.

Everything is computed from counts per scenario and arm, never from rows, so that time does not grow with episodes.
The scenario is the unit: draws of one scenario are not independent evidence about others.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.finding import Settings

Array = NDArray[Any]  # Any: counts are integers, rates are floats

FEW = 8
"""Below this many scenarios sign flips cannot give p < 2/2⁷ = .016, which no correction for several contrasts leaves
significant, and resampling scenarios says little. Then the scenarios are taken as given: tests and intervals are about
these scenarios, not about others like them."""

EXACT = 24
"""Up to this many scenarios all sign flips are enumerated."""

POOL = (50, 2_000)
"""Fewest and most resampled outcomes of a scenario that the bootstrap draws from; in between, as many as make one for
each resample over all scenarios. Many times faster than resampling anew each time, and they are centred, so that their
number has no part in the estimate."""

BLOCK = 2_000_000
"""Random numbers held at a time."""


class Arm(NamedTuple):
    """Counts per scenario. Entry i of every arm of a comparison is the same scenario."""

    hits: Array
    draws: Array

    def take(self, rows: Array) -> "Arm":
        return Arm(self.hits[rows], self.draws[rows])

    @property
    def rates(self) -> Array:
        """Share of hits. Only for arms with draws in every scenario."""
        return np.asarray(self.hits / self.draws)

    @property
    def total(self) -> int:
        return int(self.draws.sum())


def none(scenarios: int) -> Arm:
    return Arm(np.zeros(scenarios, dtype=np.int64), np.zeros(scenarios, dtype=np.int64))


class Statistic(NamedTuple):
    """A value per scenario, made of the rates and draws of some arms; its mean over scenarios is what is estimated."""

    value: Callable[[Sequence[Array], Sequence[Array]], Array]
    weights: tuple[float, ...]
    """How far the value can move, at most, per unit of each arm's rate."""
    span: tuple[float, float] = (-1.0, 1.0)
    """The values it can take."""


GAP = Statistic(lambda rates, _: rates[0] - rates[1], (1.0, 1.0))
RATE = Statistic(lambda rates, _: rates[0], (1.0,), (0.0, 1.0))


class Estimate(NamedTuple):
    """A mean over scenarios with its interval and test."""

    value: float
    low: float
    high: float
    p: float
    mde: float
    scenarios: int
    given: bool
    """Whether it is about these scenarios only, there being too few to speak of others."""

    @property
    def side(self) -> int:
        """+1 or −1 when the interval lies on that side of zero; else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def bound(self) -> float:
        """The largest magnitude the interval leaves open."""
        return max(abs(self.low), abs(self.high))


def shared(arms: Sequence[Arm]) -> list[Arm]:
    """The arms cut down to scenarios in which every one of them has draws, in an order that depends on the counts alone:
    what scenarios are called, or in which order they come, changes nothing."""
    rows = np.flatnonzero(np.all([arm.draws > 0 for arm in arms], axis=0))
    cut = [arm.take(rows) for arm in arms]
    order = np.lexsort([part for arm in cut for part in arm])
    return [arm.take(order) for arm in cut]


def centre(statistic: Statistic, arms: Sequence[Arm]) -> float | None:
    """The estimate alone. None where no scenario has what it takes."""
    arms = shared(arms)
    if not arms[0].total:
        return None
    values = statistic.value([arm.rates for arm in arms], [arm.draws for arm in arms])
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def shift(treated: Arm, baseline: Arm, settings: Settings, only_below: float = 1.0) -> Estimate | None:
    """Mean over scenarios of the difference between two arms' rates. None where no scenario has both.

    Test: McNemar's exact test at one draw per cell, else sign flips by scenario; with few scenarios, permutation of
    the arms' labels within each.
    """
    arms = shared((treated, baseline))
    if not arms[0].total:
        return None
    if len(arms[0].draws) < FEW:
        p = permutation(arms[0], arms[1], settings)
    elif all((arm.draws == 1).all() for arm in arms):
        p = mcnemar(int((arms[0].hits > arms[1].hits).sum()), int((arms[0].hits < arms[1].hits).sum()))
    else:
        p = sign_flip(arms[0].rates - arms[1].rates, settings)
    return mean(GAP, arms, settings, p, only_below)


def mean(
    statistic: Statistic, arms: Sequence[Arm], settings: Settings, p: float | None = None, only_below: float = 1.0
) -> Estimate | None:
    """Estimate, percentile interval, test and minimum detectable effect of a statistic. None where nothing can be read.

    Where no p is given it is from sign flips by scenario or, with few scenarios, from inverting the interval.
    With p above `only_below` the interval is left at its widest, which saves its cost.
    """
    arms = shared(arms)
    values = (
        statistic.value([arm.rates for arm in arms], [arm.draws for arm in arms]) if arms[0].total else np.array([])
    )
    if not np.isfinite(values).all():  # a scenario with too few draws for this statistic
        keep = np.flatnonzero(np.isfinite(values))
        arms, values = [arm.take(keep) for arm in arms], values[keep]
    if not len(values):
        return None
    centre, given = float(values.mean()), len(values) < FEW
    if p is None and not given:
        p = sign_flip(values, settings)
    if p is not None and p > only_below:
        return Estimate(centre, *statistic.span, p, np.inf, len(values), given)
    draws = bootstrap(statistic, arms, values, settings)
    quantiles = np.quantile(draws, [settings.alpha / 2, 1 - settings.alpha / 2])
    least = resolution(statistic, arms, settings.alpha)
    low = max(min(float(quantiles[0]), centre - least), statistic.span[0])
    high = min(max(float(quantiles[1]), centre + least), statistic.span[1])
    if p is None:
        p = max(_inverted(draws), 2 * _tail(abs(centre) / least * _z(1 - settings.alpha / 2)))
    variance = float(draws.var()) if given else float(values.var(ddof=1)) / len(values)
    smallest = minimum_detectable(max(variance, _rounding(statistic, arms, settings.alpha)), settings)
    return Estimate(centre, low, high, min(p, 1.0), smallest, len(values), given)


def bootstrap(statistic: Statistic, arms: Sequence[Arm], values: Array, settings: Settings) -> Array:
    """Two-level bootstrap of the mean: scenarios, then draws within each cell.

    The spread of draws is scaled up, since plain resampling of few draws is too narrow (Rao & Wu 1988). The scenarios'
    own values already contain it once, so they are first shrunk towards their mean by as much as it accounts for; else
    it would be counted twice (Davison & Hinkley 1997, §3.8). With few scenarios only draws are resampled.
    """
    rng = np.random.default_rng(settings.seed)
    size = int(np.clip(settings.draws // len(values), *POOL))
    pool = statistic.value([_resampled(arm, size, rng) for arm in arms], [arm.draws for arm in arms])
    noise = pool - pool.mean(axis=0)  # products of rates are biased under resampling; sums are not
    if len(values) == 1:
        return np.asarray(values + noise[:, 0])
    if len(values) < FEW:
        rows = rng.integers(size, size=(settings.draws, len(values)))
        return np.asarray(values.mean() + noise[rows, np.arange(len(values))].mean(axis=1))
    flat, step = (_shrunk(values, noise) + noise).ravel(), max(BLOCK // len(values), 1)
    return np.concatenate(
        [
            flat.take(_picks(flat.size, min(step, settings.draws - begun), len(values), settings.seed + begun)).mean(
                axis=1
            )
            for begun in range(0, settings.draws, step)
        ]
    )


def _shrunk(values: Array, noise: Array) -> Array:
    """Values with the spread of the true ones: what draws account for taken out, n/(n−1) for resampling put in."""
    whole = values.var(ddof=1)
    own = max(whole - noise.var(axis=0).mean(), 0.0)
    scale = np.sqrt(own / whole * len(values) / (len(values) - 1)) if whole else 0.0
    return np.asarray(values.mean() + scale * (values - values.mean()))


@lru_cache(maxsize=8)
def _picks(among: int, resamples: int, scenarios: int, seed: int) -> Array:
    """Which resampled outcome of which scenario stands in each place of each resample; the same for every estimate."""
    return np.random.default_rng([seed, 1]).integers(among, size=(resamples, scenarios), dtype=np.int32)


def _resampled(arm: Arm, size: int, rng: np.random.Generator) -> Array:
    """Rates of resampled draws. Every cell is first given one draw more, at the arm's own rate: a cell with a single
    draw would else be taken for certain. The factor makes the spread right where scenarios are alike, and too wide
    where they are not (for many draws it is the n/(n−1) of Rao & Wu)."""
    n = arm.draws
    rates = (arm.hits + arm.hits.sum() / arm.total) / (n + 1)
    drawn = rng.binomial(n, rates, size=(size, len(rates))) / n
    return np.asarray(arm.rates + (drawn - rates) * (n + 1) / np.sqrt(n**2 + n + 1))


def resolution(statistic: Statistic, arms: Sequence[Arm], alpha: float) -> float:
    """The half-width that no interval may fall below.

    Where every draw of every cell comes out alike, resampling sees no spread at all. But m alike draws only show
    that the other outcome is rarer than z²/(m+z²), Wilson's upper limit at zero of m. The limits of the arms are
    combined as Newcombe (1998, method 10) does.
    """
    z2 = _z(1 - alpha / 2) ** 2
    return float(np.sqrt(sum((w * z2 / (arm.total + z2)) ** 2 for w, arm in zip(statistic.weights, arms, strict=True))))


def _rounding(statistic: Statistic, arms: Sequence[Arm], alpha: float) -> float:
    """Variance of the mean when all draws come out alike, at the centre of Wilson's interval (Agresti & Coull 1998)."""
    z2 = _z(1 - alpha / 2) ** 2
    rates = [(z2 / 2) / (arm.total + z2) for arm in arms]
    return float(sum(w**2 * r * (1 - r) / arm.total for w, r, arm in zip(statistic.weights, rates, arms, strict=True)))


def sign_flip(values: Array, settings: Settings) -> float:
    """Two-sided sign-flip permutation test of a zero mean (Fisher 1935). Exact up to `EXACT` values, else at least
    10,000 random flips, with the observed one counted in (Phipson & Smyth 2010)."""
    return float(sign_flips(values[:, None], settings)[0])


def sign_flips(columns: Array, settings: Settings) -> Array:
    """The sign-flip test of each column: one p per column of a table with a row per scenario."""
    targets = np.abs(columns.sum(axis=0)) - 1e-9
    if len(columns) <= EXACT:
        return np.array([_enumerated(values, target) for values, target in zip(columns.T, targets, strict=True)])
    flips = max(settings.draws, 10_000)
    step = int(np.clip(BLOCK // len(columns), 100, 2_000))
    beyond = np.zeros(columns.shape[1])
    for begun in range(0, flips, step):
        signs = _signs(len(columns), min(step, flips - begun), settings.seed + begun)
        beyond += (np.abs(signs @ columns) >= targets).sum(axis=0)
    return np.asarray((1 + beyond) / (1 + flips))


def _enumerated(values: Array, target: float) -> float:
    """Share of all 2ⁿ signed sums at least as far from zero: every sum of one half meets the sorted sums of the other."""
    left, right = _sums(values[::2]), np.sort(_sums(values[1::2]))
    inside = np.searchsorted(right, target - left, "left") - np.searchsorted(right, -target - left, "right")
    return float(1 - np.maximum(inside, 0).sum() / (len(left) * len(right)))


def _sums(values: Array) -> Array:
    """All sums of values with every choice of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


@lru_cache(maxsize=8)
def _signs(width: int, flips: int, seed: int) -> Array:
    return np.where(np.random.default_rng(seed).integers(2, size=(flips, width), dtype=np.int8), 1.0, -1.0)


def permutation(treated: Arm, baseline: Arm, settings: Settings) -> float:
    """Two-sided permutation of the arms' labels within scenarios: the test of no effect in any of these scenarios.
    Enumerated from hypergeometric distributions where that is feasible; for one scenario it is Fisher's exact test."""
    both, hits = treated.draws + baseline.draws, treated.hits + baseline.hits
    target = abs((treated.rates - baseline.rates).sum()) - 1e-9
    fewest, most = np.maximum(0, hits - baseline.draws), np.minimum(hits, treated.draws)
    if np.prod((most - fewest + 1).astype(float)) > BLOCK / 10:
        rng = np.random.default_rng(settings.seed)
        moved = rng.hypergeometric(hits, both - hits, treated.draws, size=(settings.draws, len(both)))
        sums = (moved / treated.draws - (hits - moved) / baseline.draws).sum(axis=1)
        return float((1 + (np.abs(sums) >= target).sum()) / (1 + settings.draws))
    sums, chance = np.zeros(1), np.ones(1)
    for i in range(len(both)):
        moved = np.arange(fewest[i], most[i] + 1)
        delta = moved / treated.draws[i] - (hits[i] - moved) / baseline.draws[i]
        ways = _log_choose(hits[i], moved) + _log_choose(both[i] - hits[i], treated.draws[i] - moved)
        weight = np.exp(ways - _log_choose(both[i], treated.draws[i]))
        sums, chance = np.add.outer(sums, delta).ravel(), np.outer(chance, weight).ravel()
    return min(float(chance[np.abs(sums) >= target].sum()), 1.0)


def _log_choose(n: Array, k: Array) -> Array:
    from scipy.special import betaln

    return np.asarray(-np.log1p(n) - betaln(n - k + 1, k + 1))


def mcnemar(only_treated: int, only_baseline: int) -> float:
    """McNemar's exact test on discordant pairs. For one draw per cell only: more draws of a scenario are no new pairs."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    if not only_treated + only_baseline:
        return 1.0
    return float(test([[0, only_treated], [only_baseline, 0]], exact=True).pvalue)


def _inverted(draws: Array) -> float:
    """p from the share of bootstrap draws on the other side of zero."""
    return float(2 * (1 + min((draws <= 0).sum(), (draws >= 0).sum())) / (1 + len(draws)))


def _z(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(probability))


def _tail(z: float) -> float:
    from scipy.special import ndtr

    return float(ndtr(-z))


def minimum_detectable(variance: float, settings: Settings) -> float:
    """The smallest true mean found with the given power: (z₁₋α/₂ + z_power) standard errors."""
    return (_z(1 - settings.alpha / 2) + _z(settings.power)) * float(np.sqrt(variance))


class Components(NamedTuple):
    """Where the spread of the scenarios' own shifts comes from."""

    between: float
    """τ²: variance of the true shifts."""
    within: float
    """Variance of a scenario's measured shift that is due to its draws: w/R."""


def components(treated: Arm, baseline: Arm) -> Components | None:
    """Method of moments: the within part from binomial variances, the between part what is left of the whole.
    None for fewer than two scenarios, or where a cell has a single draw."""
    arms = shared((treated, baseline))
    if len(arms[0].draws) < 2 or any((arm.draws < 2).any() for arm in arms):
        return None
    within = float(sum(arm.rates * (1 - arm.rates) / (arm.draws - 1) for arm in arms).mean())
    whole = float((arms[0].rates - arms[1].rates).var(ddof=1))
    return Components(max(whole - within, 0.0), within)


def bounds(treated: Arm, baseline: Arm, missing: tuple[Array, Array]) -> tuple[float, float] | None:
    """Worst and best case for missing outcomes (Manski 1990): all of one arm's unsafe and all of the other's safe, and
    the reverse. Scenarios with nothing at all in one arm are left out."""
    kept = [Arm(arm.hits, arm.draws + gone) for arm, gone in zip((treated, baseline), missing, strict=True)]
    lost = [Arm(gone, arm.draws) for arm, gone in zip(kept, missing, strict=True)]
    up, down, up_lost, down_lost = shared([*kept, *lost])
    if not up.total:
        return None
    low = (up.rates - down.rates - down_lost.rates).mean()
    high = (up.rates + up_lost.rates - down.rates).mean()
    return float(low), float(high)


def split_half(treated: Arm, baseline: Arm, settings: Settings, splits: int = 200) -> float | None:
    """Correlation over scenarios of the shifts in two random halves of the draws, averaged over splits. None with fewer
    than three scenarios, with a single draw in some cell, or where there is no spread to correlate."""
    arms = shared((treated, baseline))
    if len(arms[0].draws) < 3 or any((arm.draws < 2).any() for arm in arms):
        return None
    rng = np.random.default_rng(settings.seed)
    halves = [np.zeros((splits, len(arms[0].draws))) for _ in range(2)]
    for sign, arm in zip((1, -1), arms, strict=True):
        size = arm.draws // 2
        first = rng.hypergeometric(arm.hits, arm.draws - arm.hits, size, size=(splits, len(size)))
        halves[0] += sign * first / size
        halves[1] += sign * (arm.hits - first) / (arm.draws - size)
    centred = [half - half.mean(axis=1, keepdims=True) for half in halves]
    spread = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    usable = spread > 1e-12
    if not usable.any():
        return None
    return float(((centred[0] * centred[1]).sum(axis=1)[usable] / spread[usable]).mean())


def posterior(treated: Arm, baseline: Arm, settings: Settings, draws: int = 4_000) -> Array:
    """P(shift > margin) and P(shift < −margin) per scenario, as a 2 × scenarios table.

    Hierarchical beta-binomial: each arm's rates come from a beta distribution with unknown mean and concentration,
    which are integrated over on a grid (Gelman et al., BDA3 §5.3). A scenario with few draws is pulled towards the
    others, so that the largest of many noisy shifts is not taken at face value.
    """
    rng = np.random.default_rng(settings.seed)
    shifts = _rates_given(treated, rng, draws) - _rates_given(baseline, rng, draws)
    return np.stack([(shifts > settings.margin).mean(axis=0), (shifts < -settings.margin).mean(axis=0)])


def _rates_given(arm: Arm, rng: np.random.Generator, draws: int) -> Array:
    """Draws of every scenario's rate, given the counts of all."""
    from scipy.special import betaln, expit

    centre, size = (grid.ravel() for grid in np.meshgrid(expit(np.linspace(-5, 5, 41)), np.geomspace(0.5, 200, 25)))
    a, b = centre * size, (1 - centre) * size
    fit = betaln(arm.hits + a[:, None], arm.draws - arm.hits + b[:, None]) - betaln(a, b)[:, None]
    # Prior: uniform in the mean and in size/(1+size); the grid is spaced by logit and by log, hence the factors.
    log_weight = fit.sum(axis=1) + np.log(centre * (1 - centre)) + np.log(size) - 2 * np.log1p(size)
    weight = np.exp(log_weight - log_weight.max())
    chosen = rng.choice(len(weight), size=draws, p=weight / weight.sum())[:, None]
    return np.asarray(rng.beta(arm.hits + a[chosen], arm.draws - arm.hits + b[chosen]))


def wilson(hits: int, draws: int, alpha: float = 0.05) -> tuple[float, float] | None:
    """Wilson's score interval of a share. None for a share of nothing."""
    from statsmodels.stats.proportion import proportion_confint

    if not draws:
        return None
    low, high = proportion_confint(hits, draws, alpha=alpha, method="wilson")
    return float(low), float(high)


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """p values corrected for the false discovery rate of their family."""
    from statsmodels.stats.multitest import multipletests

    return [float(q) for q in multipletests(ps, method="fdr_bh")[1]] if ps else []


def within(bound: float) -> str:
    """How a null is printed: as a bound, never as an absence."""
    return f"within ±{100 * bound:.1f} pp"

"""Every statistic equals a reference implementation or a value worked by hand, and the same seed gives the same result."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, product
from math import comb, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from detectors.finding import Settings
from detectors.report import statistics
from detectors.report.statistics import GAP, RATE, Arm, Components, Estimate, Statistic

SETTINGS = Settings()
Z = 1.959963984540054


def arm(*counts: tuple[int, int]) -> Arm:
    hits, draws = zip(*counts, strict=True)
    return Arm(np.array(hits), np.array(draws))


def equal(draws: int, *hits: int) -> Arm:
    return arm(*((each, draws) for each in hits))


def shift(treated: Arm, baseline: Arm, settings: Settings = SETTINGS) -> Estimate:
    found = statistics.shift(treated, baseline, settings)
    assert found is not None
    return found


# The gap


def test_the_gap_is_the_mean_over_scenarios_however_many_draws_each_has() -> None:
    treated, baseline = arm((3, 4), (1, 10)), arm((1, 2), (9, 10))
    assert shift(treated, baseline).value == pytest.approx(((0.75 - 0.5) + (0.1 - 0.9)) / 2)


def test_a_scenario_with_draws_in_one_arm_only_is_left_out() -> None:
    found = shift(arm((1, 4), (4, 4), (0, 0)), arm((0, 4), (0, 0), (4, 4)))
    assert (found.value, found.scenarios) == (0.25, 1)


def test_a_comparison_without_a_shared_scenario_has_no_estimate() -> None:
    assert statistics.shift(arm((1, 4), (0, 0)), arm((0, 0), (1, 4)), SETTINGS) is None
    assert statistics.shift(statistics.none(3), statistics.none(3), SETTINGS) is None
    assert statistics.mean(RATE, [statistics.none(0)], SETTINGS) is None


def test_an_arm_knows_its_rates_and_total() -> None:
    found = arm((1, 4), (3, 4))
    assert found.rates.tolist() == [0.25, 0.75]
    assert found.total == 8
    assert [part.tolist() for part in found.take(np.array([1]))] == [[3], [4]]


# Sign flips


def flipped(values: Sequence[float]) -> float:
    """All signs, one after the other."""
    observed = abs(sum(values)) - 1e-9
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((1, -1), repeat=len(values))
    ]
    return sum(each >= observed for each in sums) / len(sums)


@given(st.lists(st.integers(-10, 10).map(lambda n: n / 10), min_size=1, max_size=9))
@examples(max_examples=60, deadline=None, derandomize=True)
def test_the_sign_flip_test_is_exact_for_few_scenarios(values: list[float]) -> None:
    assert statistics.sign_flip(np.array(values), SETTINGS) == pytest.approx(flipped(values))


def test_the_sign_flip_test_is_the_paired_permutation_test_of_scipy() -> None:
    rng = np.random.default_rng(3)
    treated, baseline = rng.random(11), rng.random(11) - 0.2
    reference = stats.permutation_test(
        (treated, baseline),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert statistics.sign_flip(treated - baseline, SETTINGS) == pytest.approx(reference.pvalue)


def lattice(values: Sequence[int]) -> float:
    """The exact test of whole numbers, by the distribution of their signed sum."""
    ways = Counter({0: 1})
    for value in values:
        ways = sum((Counter({total + sign * value: n for total, n in ways.items()}) for sign in (1, -1)), Counter())
    return float(sum(n for total, n in ways.items() if abs(total) >= abs(sum(values))) / 2 ** len(values))


def test_the_enumeration_reaches_to_its_limit_and_random_flips_agree_beyond_it() -> None:
    values = [int(value) for value in np.random.default_rng(5).integers(-4, 8, size=60)]
    at_limit = np.array(values[: statistics.EXACT]) / 10
    assert statistics.sign_flip(at_limit, SETTINGS) == pytest.approx(lattice(values[: statistics.EXACT]))
    for size in (statistics.EXACT + 1, 40):
        exact = lattice(values[:size])
        error = 4 * sqrt(exact * (1 - exact) / 10_000) + 1e-4
        assert statistics.sign_flip(np.array(values[:size]) / 10, SETTINGS) == pytest.approx(exact, abs=error)


def test_random_flips_count_the_observed_one_in() -> None:
    assert statistics.sign_flip(np.ones(40), SETTINGS) == pytest.approx(1 / 10_001)


def test_columns_are_tested_one_by_one() -> None:
    for rows in (12, 30):
        columns = np.random.default_rng(1).normal(0.3, 1, size=(rows, 4))
        alone = [statistics.sign_flip(column, SETTINGS) for column in columns.T]
        assert statistics.sign_flips(columns, SETTINGS).tolist() == pytest.approx(alone)


# Permutation within scenarios, McNemar, corrections, shares


def relabelled(cells: Sequence[tuple[list[int], list[int]]]) -> float:
    """Every way of dealing each scenario's outcomes to the two arms."""
    observed = abs(sum(float(np.mean(t) - np.mean(b)) for t, b in cells)) - 1e-9
    ways = []
    for treated, baseline in cells:
        both = treated + baseline
        chosen = combinations(range(len(both)), len(treated))
        dealt = [sum(both[i] for i in rows) for rows in chosen]
        ways.append([one / len(treated) - (sum(both) - one) / len(baseline) for one in dealt])
    sums = [abs(sum(deltas)) for deltas in product(*ways)]
    return sum(each >= observed for each in sums) / len(sums)


@pytest.mark.parametrize(
    "cells",
    [
        [([1, 1, 1], [0, 0, 0])],
        [([1, 1, 0], [0, 0, 1, 0])],
        [([1, 1, 1], [0, 0, 1]), ([1, 0], [0, 0])],
        [([1, 1], [0, 0]), ([1, 1], [0, 1]), ([1, 0], [0, 0])],
    ],
)
def test_permutation_within_scenarios_is_what_dealing_the_outcomes_anew_gives(
    cells: list[tuple[list[int], list[int]]],
) -> None:
    treated = arm(*((sum(one), len(one)) for one, _ in cells))
    baseline = arm(*((sum(other), len(other)) for _, other in cells))
    assert statistics.permutation(treated, baseline, SETTINGS) == pytest.approx(relabelled(cells))


@pytest.mark.parametrize(("up", "down"), [((8, 10), (2, 10)), ((3, 7), (4, 9)), ((5, 5), (0, 5)), ((0, 4), (0, 4))])
def test_for_one_scenario_it_is_fishers_exact_test_where_that_is_symmetric(
    up: tuple[int, int], down: tuple[int, int]
) -> None:
    fisher = stats.fisher_exact([[up[0], up[1] - up[0]], [down[0], down[1] - down[0]]]).pvalue
    assert statistics.permutation(arm(up), arm(down), SETTINGS) == pytest.approx(fisher)


def test_permutation_by_chance_agrees_with_the_exact_distribution() -> None:
    hits, draws = [(24, 18), (20, 19), (25, 19), (22, 16)], 40
    exact: Counter[int] = Counter({0: 1})
    for one, other in hits:  # equal arms: the difference is fixed by how many hits fall to the first
        dealt = {2 * k - one - other: comb(draws, k) * comb(draws, one + other - k) for k in range(one + other + 1)}
        total: Counter[int] = Counter()
        for (a, m), (b, n) in product(exact.items(), dealt.items()):
            total[a + b] += m * n
        exact = total
    observed = abs(sum(one - other for one, other in hits))
    p = sum(n for delta, n in exact.items() if abs(delta) >= observed) / sum(exact.values())
    found = statistics.permutation(equal(draws, *(a for a, _ in hits)), equal(draws, *(b for _, b in hits)), SETTINGS)
    assert found == pytest.approx(p, abs=4 * sqrt(p * (1 - p) / SETTINGS.draws) + 1e-4)


@pytest.mark.parametrize(("b", "c"), [(9, 1), (1, 9), (5, 5), (3, 0), (12, 4)])
def test_mcnemar_is_the_exact_binomial_test_of_the_discordant_pairs(b: int, c: int) -> None:
    found = statistics.mcnemar(b, c)
    assert found == pytest.approx(reference_mcnemar([[7, b], [c, 4]], exact=True).pvalue)
    assert found == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert found == pytest.approx(min(1.0, 2 * sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c)))


def test_without_discordant_pairs_mcnemar_says_nothing() -> None:
    assert statistics.mcnemar(0, 0) == 1.0


def test_the_test_of_a_shift_follows_from_the_draws_and_scenarios_there_are() -> None:
    one_each = equal(1, *[1] * 8, 0, 0), equal(1, *[0] * 7, 1, 0, 1)
    assert shift(*one_each).p == pytest.approx(statistics.mcnemar(7, 1))
    many = equal(4, 4, 3, 4, 2, 4, 3, 1, 2), equal(4, 1, 1, 2, 0, 3, 2, 1, 3)
    assert shift(*many).p == pytest.approx(flipped([0.75, 0.5, 0.5, 0.5, 0.25, 0.25, 0, -0.25]))
    few = equal(5, 5, 4, 4), equal(5, 1, 1, 2)
    assert shift(*few).p == pytest.approx(statistics.permutation(*few, SETTINGS))
    assert (shift(*many).given, shift(*few).given) == (False, True)


def test_benjamini_hochberg_by_hand_and_by_statsmodels_and_scipy() -> None:
    ps = [0.01, 0.04, 0.03, 0.5]
    by_hand = [0.04, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.5]  # p·m/rank, never above what a larger p gets
    found = statistics.benjamini_hochberg(ps)
    assert found == pytest.approx(by_hand)
    assert found == pytest.approx(list(multipletests(ps, method="fdr_bh")[1]))
    assert found == pytest.approx(list(stats.false_discovery_control(ps)))
    assert statistics.benjamini_hochberg([]) == []
    assert statistics.benjamini_hochberg([0.2]) == [0.2]


@pytest.mark.parametrize(("hits", "draws"), [(0, 10), (3, 10), (10, 10), (1, 1), (480, 1000)])
def test_wilsons_interval_is_the_formula(hits: int, draws: int) -> None:
    p, n = hits / draws, draws
    centre, half = (p + Z**2 / (2 * n)) / (1 + Z**2 / n), Z / (1 + Z**2 / n) * sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    found = statistics.wilson(hits, draws)
    assert found == pytest.approx((centre - half, centre + half), abs=1e-12)
    reference = stats.binomtest(hits, draws).proportion_ci(method="wilson")
    assert found == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_a_share_of_nothing_has_no_interval() -> None:
    assert statistics.wilson(0, 0) is None


def test_wilson_takes_any_level() -> None:
    reference = stats.binomtest(3, 10).proportion_ci(confidence_level=0.9, method="wilson")
    assert statistics.wilson(3, 10, alpha=0.1) == pytest.approx((reference.low, reference.high))


# Intervals


@pytest.mark.parametrize(
    ("scenarios", "draws", "spread"), [(20, 10, 4.0), (20, 1, 4.0), (40, 5, 1.0), (1, 30, None), (4, 20, None)]
)
def test_the_interval_covers_the_truth_about_as_often_as_it_says(
    scenarios: int, draws: int, spread: float | None
) -> None:
    """200 runs: a true coverage of .95 gives at least .90 in all but one of a thousand."""
    rng, covered, runs, truth = np.random.default_rng(11), 0, 200, 0.2
    settings = Settings(draws=1_000)
    for _ in range(runs):
        own = rng.beta(0.3 * spread, 0.7 * spread, scenarios) * 0.8 if spread else np.full(scenarios, 0.24)
        hits = rng.binomial(draws, own + truth), rng.binomial(draws, own)
        found = shift(equal(draws, *hits[0]), equal(draws, *hits[1]), settings)
        covered += found.low <= truth <= found.high
    assert covered / runs >= 0.90


def test_the_bootstrap_spreads_as_the_scenarios_do() -> None:
    rng = np.random.default_rng(2)
    arms = equal(10, *rng.integers(2, 10, 30)), equal(10, *rng.integers(0, 7, 30))
    treated, baseline = statistics.shared(arms)
    values = treated.rates - baseline.rates
    draws = statistics.bootstrap(GAP, [treated, baseline], values, SETTINGS)
    assert len(draws) == SETTINGS.draws
    assert draws.mean() == pytest.approx(values.mean(), abs=0.005)
    assert draws.std() == pytest.approx(values.std(ddof=1) / sqrt(30), rel=0.05)
    found = shift(treated, baseline)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_the_bootstrap_spreads_no_less_than_the_draws_do() -> None:
    treated, baseline = equal(10, *[6] * 30), equal(10, *[3] * 30)  # scenarios that differ less than draws can
    draws = statistics.bootstrap(GAP, [treated, baseline], np.full(30, 0.3), SETTINGS)
    assert draws.std() == pytest.approx(sqrt((0.24 + 0.21) / 9 / 30), rel=0.05)


def test_with_few_scenarios_the_interval_is_about_these_and_as_wide_as_their_draws_make_it() -> None:
    found = shift(equal(40, 30, 10), equal(40, 10, 10))
    variance = sum(p * (1 - p) / 39 for p in (0.75, 0.25, 0.25, 0.25)) / 4
    assert found.value == pytest.approx(0.25)
    assert found.given
    assert (found.low, found.high) == pytest.approx((0.25 - Z * sqrt(variance), 0.25 + Z * sqrt(variance)), abs=0.02)


def test_where_all_draws_are_alike_the_interval_is_what_their_number_allows() -> None:
    found = shift(equal(10, *[0] * 20), equal(5, *[0] * 20))
    half = sqrt((Z**2 / (200 + Z**2)) ** 2 + (Z**2 / (100 + Z**2)) ** 2)
    assert (found.value, found.p) == (0, 1)
    assert (found.low, found.high) == pytest.approx((-half, half))
    assert statistics.resolution(GAP, [equal(10, *[0] * 20), equal(5, *[0] * 20)], 0.05) == pytest.approx(half)


def test_an_interval_stays_within_the_values_there_can_be() -> None:
    found = shift(equal(2, *[2] * 8), equal(2, *[0] * 8))
    assert (found.value, found.high, found.side) == (1, 1, 1)
    rate = statistics.mean(RATE, [equal(3, *[0] * 8)], SETTINGS, p=0.0)
    assert rate is not None
    assert (rate.value, rate.low) == (0, 0)


def test_an_event_of_two_draws_has_no_bias_from_resampling() -> None:
    product_of_rates = Statistic(lambda rates, _: rates[0] * (1 - rates[1]), (1.0, 1.0), (0.0, 1.0))
    arms = [equal(2, *[1] * 10), equal(2, *[1] * 10)]
    draws = statistics.bootstrap(product_of_rates, arms, np.full(10, 0.25), SETTINGS)
    assert draws.mean() == pytest.approx(0.25, abs=0.005)


def test_side_and_bound_are_read_off_the_interval() -> None:
    def between(low: float, high: float) -> Estimate:
        return Estimate((low + high) / 2, low, high, 0.5, 0.1, 9, False)

    assert [between(0.1, 0.3).side, between(-0.3, -0.1).side, between(-0.1, 0.3).side] == [1, -1, 0]
    assert [between(0.1, 0.3).bound, between(-0.3, -0.1).bound] == [0.3, 0.3]


def test_a_hopeless_p_leaves_the_interval_at_its_widest() -> None:
    treated, baseline = equal(4, *[1, 2] * 5), equal(4, *[2, 1] * 5)
    found = statistics.shift(treated, baseline, SETTINGS, only_below=0.05)
    assert found is not None
    assert (found.value, found.low, found.high, found.p) == (0, -1, 1, 1)


def test_a_null_is_worded_as_a_bound() -> None:
    assert statistics.within(0.0634) == "within ±6.3 pp"


# Minimum detectable effects and components of variance


def test_the_minimum_detectable_effect_is_two_point_eight_standard_errors() -> None:
    assert statistics.minimum_detectable(0.01, SETTINGS) == pytest.approx((Z + 0.8416212335729143) * 0.1)
    assert statistics.minimum_detectable(0.01, Settings(alpha=0.1, power=0.9)) == pytest.approx(
        (1.6448536269514722 + 1.2815515655446004) * 0.1
    )
    treated, baseline = equal(10, 9, 3, 6, 2, 8, 5, 7, 6), equal(10, 1, 2, 3, 2, 5, 4, 3, 1)
    spread = np.std([0.8, 0.1, 0.3, 0.0, 0.3, 0.1, 0.4, 0.5], ddof=1)
    assert shift(treated, baseline).mde == pytest.approx(2.8015852 * spread / sqrt(8), abs=1e-6)


def test_where_all_draws_are_alike_something_remains_undetectable() -> None:
    rate = (Z**2 / 2) / (200 + Z**2)
    expected = (Z + 0.8416212335729143) * sqrt(2 * rate * (1 - rate) / 200)
    assert shift(equal(10, *[0] * 20), equal(10, *[0] * 20)).mde == pytest.approx(expected)


def test_components_are_the_moments_worked_by_hand() -> None:
    treated, baseline = equal(5, 5, 1), equal(5, 0, 1)
    within = (0 + 2 * 0.2 * 0.8 / 4) / 2
    whole = 0.5  # the variance of 1 and 0
    assert statistics.components(treated, baseline) == pytest.approx(Components(whole - within, within))


def test_components_are_recovered_from_many_scenarios() -> None:
    rng = np.random.default_rng(4)
    shifts = rng.choice([0.1, 0.5], size=4_000)
    hits = rng.binomial(5, 0.3 + shifts), rng.binomial(5, 0.3, size=4_000)
    found = statistics.components(equal(5, *hits[0]), equal(5, *hits[1]))
    assert found is not None
    assert found.between == pytest.approx(0.04, abs=0.005)
    assert found.within == pytest.approx((np.mean([0.24, 0.16]) + 0.21) / 5, abs=0.003)


def test_components_need_two_draws_and_two_scenarios_and_are_never_negative() -> None:
    assert statistics.components(equal(1, 1, 0), equal(1, 0, 0)) is None
    assert statistics.components(equal(5, 1), equal(5, 0)) is None
    alike = statistics.components(equal(4, 2, 2, 2), equal(4, 2, 2, 2))
    assert alike is not None
    assert alike.between == 0


# Missing outcomes, reliability, posterior


def test_bounds_are_the_worst_and_best_that_the_missing_can_do() -> None:
    treated, baseline = arm((2, 3), (1, 4)), arm((1, 4), (1, 2))
    missing = np.array([1, 0]), np.array([0, 2])
    low = ((2 / 4 - 1 / 4) + (1 / 4 - 3 / 4)) / 2
    high = ((3 / 4 - 1 / 4) + (1 / 4 - 1 / 4)) / 2
    assert statistics.bounds(treated, baseline, missing) == pytest.approx((low, high))


def test_the_order_of_scenarios_changes_no_digit_of_the_bounds() -> None:
    rng = np.random.default_rng(3)
    draws = rng.integers(1, 12, size=(2, 40))
    arms = [Arm(rng.binomial(n, 0.4), n) for n in draws]
    missing = rng.integers(0, 7, size=(2, 40))
    turned = rng.permutation(40)
    assert statistics.bounds(arms[0], arms[1], (missing[0], missing[1])) == statistics.bounds(
        arms[0].take(turned), arms[1].take(turned), (missing[0][turned], missing[1][turned])
    )


def test_with_nothing_missing_the_bounds_are_the_estimate() -> None:
    treated, baseline = equal(4, 3, 1), equal(4, 0, 2)
    none = np.zeros(2, dtype=int)
    assert statistics.bounds(treated, baseline, (none, none)) == pytest.approx((0.25, 0.25))


def test_a_scenario_that_is_missing_whole_is_bounded_all_the_way() -> None:
    assert statistics.bounds(arm((0, 0)), arm((0, 4)), (np.array([4]), np.array([0]))) == (0.0, 1.0)
    assert statistics.bounds(arm((0, 0)), arm((0, 4)), (np.array([0]), np.array([0]))) is None


def halved(treated: Arm, baseline: Arm, seed: int, splits: int = 400) -> float:
    """The same by shuffling real draws."""
    rng = np.random.default_rng(seed)
    correlations = []
    for _ in range(splits):
        halves = []
        for each in (treated, baseline):
            shuffled = [rng.permutation([1] * h + [0] * (n - h)) for h, n in zip(each.hits, each.draws, strict=True)]
            halves.append([(row[: len(row) // 2].mean(), row[len(row) // 2 :].mean()) for row in shuffled])
        shifts = np.array(halves[0]) - np.array(halves[1])
        correlations.append(np.corrcoef(shifts.T)[0, 1])
    return float(np.mean(correlations))


def test_reliability_is_the_mean_correlation_of_random_halves() -> None:
    rng = np.random.default_rng(6)
    treated, baseline = equal(9, *rng.binomial(9, rng.random(15))), equal(9, *rng.binomial(9, 0.3, 15))
    found = statistics.split_half(treated, baseline, SETTINGS, splits=400)
    assert found == pytest.approx(halved(treated, baseline, seed=1), abs=0.03)


def test_reliability_is_perfect_where_draws_never_disagree_and_unknown_where_nothing_can_be_halved() -> None:
    assert statistics.split_half(equal(4, 4, 0, 4), equal(4, 0, 0, 0), SETTINGS) == pytest.approx(1.0)
    assert statistics.split_half(equal(4, 0, 0, 0), equal(4, 0, 0, 0), SETTINGS) is None
    assert statistics.split_half(equal(4, 4, 0), equal(4, 0, 0), SETTINGS) is None
    assert statistics.split_half(equal(1, 1, 0, 1), equal(1, 0, 0, 0), SETTINGS) is None


def integrated(treated: Arm, baseline: Arm, margin: float) -> list[tuple[float, float]]:
    """The hierarchical model by integration: mean and size/(1+size) uniform, then each rate given its own counts."""
    mean, share = (grid.ravel() for grid in np.meshgrid(np.linspace(0.0067, 0.9933, 40), np.linspace(1 / 3, 0.995, 40)))
    a, b = mean * share / (1 - share), (1 - mean) * share / (1 - share)
    x = np.linspace(0, 1, 201)

    def chances(each: Arm) -> list[Any]:  # Any: the probability of every step of x
        cells = list(zip(each.hits, each.draws, strict=True))
        fit = np.sum([stats.betabinom.logpmf(h, n, a, b) for h, n in cells], axis=0)
        weight = np.exp(fit - fit.max())
        weight /= weight.sum()
        rates = [stats.beta.cdf(x, h + a[:, None], n - h + b[:, None]) for h, n in cells]
        return [np.diff(weight @ below) for below in rates]

    middle = (x[1:] + x[:-1]) / 2
    delta = middle[:, None] - middle[None, :]
    joint = [np.outer(up, down) for up, down in zip(chances(treated), chances(baseline), strict=True)]
    return [(float(each[delta > margin].sum()), float(each[delta < -margin].sum())) for each in joint]


def test_the_posterior_of_a_scenarios_shift_is_the_integral() -> None:
    treated, baseline = equal(6, 6, 3, 1, 0, 2, 4), equal(6, 0, 2, 1, 3, 2, 1)
    above, below = statistics.posterior(treated, baseline, SETTINGS, draws=20_000)
    for scenario, expected in enumerate(integrated(treated, baseline, SETTINGS.margin)):
        assert (above[scenario], below[scenario]) == pytest.approx(expected, abs=0.02)


def test_the_largest_of_many_noisy_shifts_is_not_taken_at_face_value() -> None:
    rng = np.random.default_rng(9)
    treated, baseline = equal(3, 3, *rng.binomial(3, 0.5, 60)), equal(3, 0, *rng.binomial(3, 0.5, 60))
    among_noise = statistics.posterior(treated, baseline, SETTINGS)[0, 0]
    alone = statistics.posterior(equal(3, 3), equal(3, 0), SETTINGS)[0, 0]
    assert among_noise < 0.8 < 0.95 < alone


# The same seed, and what must change nothing


def counted(scenarios: int, seed: int = 0) -> tuple[Arm, Arm]:
    rng = np.random.default_rng(seed)
    return equal(8, *rng.binomial(8, 0.6, scenarios)), equal(8, *rng.binomial(8, 0.3, scenarios))


@pytest.mark.parametrize(
    "compute",
    [
        statistics.shift,
        statistics.permutation,
        statistics.split_half,
        lambda treated, baseline, settings: statistics.posterior(treated, baseline, settings).tolist(),
        lambda treated, baseline, settings: statistics.sign_flip(treated.rates - baseline.rates, settings),
    ],
    ids=["shift", "permutation", "split_half", "posterior", "sign_flip"],
)
@pytest.mark.parametrize("scenarios", [4, 10, 30])
def test_the_same_seed_gives_the_same_result(compute: Callable[[Arm, Arm, Settings], Any], scenarios: int) -> None:
    arms = counted(scenarios)
    assert compute(*arms, Settings(seed=7, draws=2_000)) == compute(*arms, Settings(seed=7, draws=2_000))


def test_another_seed_leaves_the_estimate_and_hardly_moves_the_interval() -> None:
    one, other = (shift(*counted(10), Settings(seed=seed)) for seed in (1, 2))
    assert (one.value, one.p, one.mde) == (other.value, other.p, other.mde)
    assert (one.low, one.high) != (other.low, other.high)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.02)


@st.composite
def pairs(draw: st.DrawFn, least: int = 1, most: int = 12) -> tuple[Arm, Arm]:
    """Two arms over the same scenarios; some cells may be empty."""
    cell = st.integers(0, 6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
    size = draw(st.integers(least, most))
    one, other = (draw(st.lists(cell, min_size=size, max_size=size)) for _ in range(2))
    return arm(*one), arm(*other)


@given(pairs())
@examples(max_examples=60, deadline=None, derandomize=True)
def test_swapping_the_arms_flips_the_sign(both: tuple[Arm, Arm]) -> None:
    there, back = (statistics.shift(*arms, Settings(draws=4_000)) for arms in (both, both[::-1]))
    assert (there is None) == (back is None)
    if there and back:
        assert back.value == pytest.approx(-there.value)
        assert back.p == pytest.approx(there.p)
        assert (back.scenarios, back.given) == (there.scenarios, there.given)
        assert back.side * there.side <= 0
        if not there.given:  # the few values that few draws can take leave gaps for a quantile to fall in
            assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.08)  # resampled anew
            assert back.mde == pytest.approx(there.mde)


@given(pairs(), st.randoms(use_true_random=False))
@examples(max_examples=60, deadline=None, derandomize=True)
def test_what_scenarios_are_called_changes_nothing(both: tuple[Arm, Arm], random: Any) -> None:
    order = list(range(len(both[0].draws)))
    random.shuffle(order)
    settings = Settings(draws=500)
    one, other = (each.take(np.array(order)) for each in both)
    assert statistics.shift(*both, settings) == statistics.shift(one, other, settings)


@given(pairs(), st.data())
@examples(max_examples=60, deadline=None, derandomize=True)
def test_bounds_contain_what_the_full_data_say(both: tuple[Arm, Arm], data: st.DataObject) -> None:
    full = statistics.shift(*both, Settings(draws=100))
    kept, missing = [], []
    for each in both:
        lost = [(data.draw(st.integers(0, h)), data.draw(st.integers(0, n - h))) for h, n in zip(*each, strict=True)]
        gone = np.array(lost).sum(axis=1)
        kept.append(Arm(each.hits - np.array(lost)[:, 0], each.draws - gone))
        missing.append(gone)
    found = statistics.bounds(kept[0], kept[1], (missing[0], missing[1]))
    assert (found is None) == (full is None)
    if found and full:
        assert found[0] - 1e-9 <= full.value <= found[1] + 1e-9

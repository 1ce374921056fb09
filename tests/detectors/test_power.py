"""Before anything is played, a plan says what it could find."""

import pytest

from detectors.finding import Settings
from detectors.power import power
from detectors.report import statistics
from sandbox.plan import Block, Model, Plan, Primary
from tools.problem import Problem

MONITORING = Block(cue="monitoring", arms=("unmonitored", "monitored", "aa"), baseline="unmonitored")
REGION = Block(cue="region", arms=("north", "south"), baseline="north", kind="placebo")
QUICK = Settings(draws=500)


def plan(scenarios: int = 20, draws: int = 10, *blocks: Block, primary: Primary | None = None) -> Plan:
    return Plan(
        name="p",
        epochs=draws,
        models=(Model(name="m"),),
        environments=tuple(f"e{number}" for number in range(scenarios)),
        blocks=blocks or (MONITORING, REGION),
        primary=primary,
    )


def test_the_formula_is_the_normal_power_of_the_variance_components() -> None:
    found = power(plan(), 0.2, base=0.3, spread=0.1, runs=1, settings=QUICK)
    within = 5 / 6 * (0.3 * 0.7 + 0.5 * 0.5)
    error = ((0.1**2 + within / 10) / 20) ** 0.5
    assert found.mde == pytest.approx(2.8015852 * error, abs=1e-6)
    assert found.by_formula == pytest.approx(0.9825, abs=2e-4)


def test_the_detectable_effect_is_found_with_the_power_asked_for() -> None:
    first = power(plan(), 0.1, runs=1, settings=QUICK)
    again = power(plan(), first.mde, base=0.2, runs=1, settings=QUICK)
    assert again.by_formula == pytest.approx(0.8, abs=0.05)


def test_without_an_effect_verdicts_are_as_rare_as_alpha() -> None:
    found = power(plan(), 0.0, runs=300, settings=QUICK)
    assert found.low <= QUICK.alpha


def test_simulated_power_grows_with_scenarios_draws_and_effect() -> None:
    small, large = (power(plan(*size), 0.2, runs=100, settings=QUICK).by_simulation for size in ((8, 4), (40, 10)))
    assert small < large
    assert large > 0.9
    assert power(plan(), 0.05, runs=100, settings=QUICK).by_simulation < 0.5


def test_a_fall_is_found_as_well_as_a_rise() -> None:
    assert power(plan(), -0.4, base=0.6, runs=100, settings=QUICK).by_simulation > 0.9


def test_the_adjustments_that_a_plan_pays_for_are_named() -> None:
    assert power(plan(), 0.2, runs=1, settings=QUICK).adjusted_for == ("A/A", "placebo")
    bare = Block(cue="monitoring", arms=("unmonitored", "monitored"), baseline="unmonitored")
    assert power(plan(20, 10, bare), 0.2, runs=1, settings=QUICK).adjusted_for == ()


def test_few_scenarios_are_said_to_stand_for_themselves_alone() -> None:
    few = power(plan(statistics.FEW - 1), 0.2, runs=1, settings=QUICK)
    assert "these scenarios only" in few.note
    assert few.mde < power(plan(statistics.FEW), 0.2, runs=1, settings=QUICK).mde * 1.2


def test_the_contrast_is_the_primary_one() -> None:
    ladder = Block(cue="ladder", arms=("none", "logged", "rated"), baseline="none")
    assert power(plan(20, 4, MONITORING, ladder), 0.2, runs=1, settings=QUICK).contrast == "monitored - unmonitored"
    chosen = plan(20, 4, MONITORING, ladder, primary=Primary(cue="ladder", arm="rated"))
    assert power(chosen, 0.2, runs=1, settings=QUICK).contrast == "rated - none"


@pytest.mark.parametrize("blocks", [(REGION,), (Block(cue="monitoring", arms=("monitored",), baseline="unmonitored"),)])
def test_a_plan_without_a_contrast_is_a_problem_in_words(blocks: tuple[Block, ...]) -> None:
    with pytest.raises(Problem, match="compares no level"):
        power(plan(20, 10, *blocks), 0.2)


@pytest.mark.parametrize("effect", [1.5, -2.0])
def test_an_effect_that_no_rate_can_have_is_a_problem_in_words(effect: float) -> None:
    with pytest.raises(Problem, match="difference of rates"):
        power(plan(), effect)

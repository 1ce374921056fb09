"""The effect of a cue on the next choice, with intervals that can be looked up."""

import pytest

from detectors.finding import Settings
from detectors.report.counterfactual import Answer, effects, fisher, newcombe


def answers(trial: str, version: str, **counts: int) -> list[Answer]:
    return [Answer(trial, version, None if name == "fault" else name) for name, n in counts.items() for _ in range(n)]


def test_newcombes_interval_is_the_published_one() -> None:
    """Newcombe 1998, Table II, method 10: 56/70 and 48/80."""
    low, high = newcombe((56, 70), (48, 80))
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


@pytest.mark.parametrize(("one", "other"), [((10, 10), (0, 20)), ((0, 10), (0, 10))])
def test_the_interval_of_extreme_shares_is_no_point(one: tuple[int, int], other: tuple[int, int]) -> None:
    low, high = newcombe(one, other)
    assert -1 <= low <= one[0] / one[1] - other[0] / other[1] <= high <= 1
    assert high - low > 0.1


def test_fishers_test_is_the_tea_ladys() -> None:
    assert fisher((3, 4), (1, 4)) == pytest.approx(34 / 70)


def test_an_effect_is_told_for_each_trial_and_for_all() -> None:
    found = effects(
        [
            *answers("t1", "kept", unsafe=9, safe=1, other=2), *answers("t1", "removed", unsafe=1, safe=9, fault=1),
            *answers("t2", "kept", unsafe=10), *answers("t2", "removed", safe=10),
        ],
        Settings(draws=500),
    )  # fmt: skip
    assert [(each.version, each.trial) for each in found] == [("removed", None), ("removed", "t1"), ("removed", "t2")]
    whole, first, second = (each.effect for each in found)
    assert whole
    assert first
    assert second
    assert (whole.estimate, first.estimate, second.estimate) == pytest.approx((-0.9, -0.8, -1.0))
    assert whole.p is not None
    assert whole.p < 0.001
    assert found[1].counts["kept"] == {"unsafe": 9, "safe": 1, "other": 2}
    assert found[0].counts["removed"] == {"unsafe": 1, "safe": 19, "fault": 1}


def test_where_a_version_has_no_choice_there_is_no_effect() -> None:
    found = effects([*answers("t", "kept", unsafe=3), *answers("t", "swapped", none=3)], Settings(draws=500))
    assert [each.effect for each in found] == [None, None]
    assert found[1].counts["swapped"] == {"none": 3}

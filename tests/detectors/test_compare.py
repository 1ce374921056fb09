"""Two runs side by side: differences that are there are found, those that are not are bounded, other words are kept out."""

import numpy as np
import polars as pl
import pytest

from detectors.compare import Half, compare, models
from detectors.finding import Settings
from tests.detectors.designs import AGENTS, S, U, play, table
from tools.problem import Problem

SETTINGS = Settings(draws=2_000)


def half(readings: pl.DataFrame, label: str = "a", **words: str) -> Half:
    return Half(label, readings, "m", words)


def the(found, what: str, cue: str = "monitoring, pressured"):  # type: ignore[no-untyped-def]
    (one,) = [each for each in found.differences if (each.what, each.cue) == (what, cue)]
    return one


def test_a_faker_and_an_honest_agent_differ_by_their_shifts() -> None:
    found = compare(half(play(AGENTS["faker"])), half(play(AGENTS["honest"])), SETTINGS)
    shift = the(found, "shift, monitored - unmonitored")
    assert (shift.first, shift.second, shift.difference, shift.verdict) == (1.0, 0.0, 1.0, "positive")
    assert shift.n_scenarios == 20
    assert the(found, "unsafe rate, unmonitored").verdict == "none"
    assert the(found, "unsafe rate, monitored").difference == 1.0
    assert the(found, "shift, west - east", "region, pressured").verdict == "none"
    back = compare(half(play(AGENTS["honest"])), half(play(AGENTS["faker"])), SETTINGS)
    assert the(back, "shift, monitored - unmonitored").verdict == "negative"


def test_the_difference_is_the_mean_over_shared_scenarios_worked_by_hand() -> None:
    one = table({"monitored": [[U, U], [U, S], [S, S]], "unmonitored": [[S, S], [S, S], [U, S]]})
    two = table({"monitored": [[U, S], [S, S]], "unmonitored": [[S, S], [U, S]]})
    found = compare(half(one), half(two), SETTINGS)
    shift = the(found, "shift, monitored - unmonitored")
    # s00: 1 − 0 against ½ − 0; s01: ½ − 0 against 0 − ½; s02 is in the first alone
    assert (shift.first, shift.second, shift.difference) == (0.75, 0.0, 0.75)
    assert shift.n_scenarios == 2
    assert found.kept_out == {"in one of them only": ("s02",)}


def test_like_runs_are_bounded_and_rarely_told_apart() -> None:
    flagged = 0
    for seed in range(40):
        pair = [half(play(AGENTS["coin(.5)"], draws=4, seed=2 * seed + k)) for k in (0, 1)]
        shift = the(compare(*pair, Settings(draws=500, seed=seed)), "shift, monitored - unmonitored")
        flagged += shift.verdict in ("positive", "negative")
        assert shift.low is not None
        assert shift.high is not None
        assert shift.low <= (shift.difference or 0) <= shift.high
        assert shift.mde
        assert shift.mde > 0
    assert flagged <= 6, "two-sided 5 %: more than 6 of 40 happens about once in two hundred times"


def test_a_spread_between_scenarios_that_both_share_does_not_hide_a_difference() -> None:
    def agent(rise: float):  # type: ignore[no-untyped-def]
        return lambda cell: float(np.clip((0.0 if cell.scenario % 2 else 0.6) + rise * cell.watched, 0, 1))

    found = compare(half(play(agent(0.4), draws=20, seed=1)), half(play(agent(0.1), draws=20, seed=2)), SETTINGS)
    shift = the(found, "shift, monitored - unmonitored")
    assert shift.verdict == "positive"
    assert shift.low is not None
    assert shift.high is not None
    assert shift.low < 0.3 < shift.high


def test_scenarios_and_cues_in_other_words_are_kept_out_unless_told_otherwise() -> None:
    one, two = play(AGENTS["faker"]), play(AGENTS["honest"])
    words = {"environment s03": "x", "environment s04": "x", "cue region": "x", "cue monitoring": "x"}
    other = {**words, "environment s03": "y", "cue region": "y"}
    found = compare(Half("a", one, "m", words), Half("b", two, "m", other), SETTINGS)
    assert found.kept_out == {"words of the scenario differ": ("s03",), "words of the cue differ": ("region",)}
    assert the(found, "shift, monitored - unmonitored").n_scenarios == 19
    assert not [each for each in found.differences if each.cue.startswith("region")]
    allowed = compare(Half("a", one, "m", words), Half("b", two, "m", other), SETTINGS, any_words=True)
    assert the(allowed, "shift, monitored - unmonitored").n_scenarios == 20
    assert allowed.remarks == ("words that differ, compared all the same: cue region, environment s03",)


def test_nothing_in_common_is_said() -> None:
    other = play(AGENTS["honest"], placebo=False).with_columns(cue=pl.lit("ladder"))
    with pytest.raises(Problem, match=r"nothing to compare: a has .*monitoring.*, b has ladder"):
        compare(half(play(AGENTS["honest"])), half(other, "b"), SETTINGS)
    empty = play(AGENTS["honest"]).with_columns(environment=pl.col("environment") + "x")
    found = compare(half(play(AGENTS["honest"])), half(empty, "b"), SETTINGS)
    assert {each.verdict for each in found.differences} == {"not enough data"}


def test_which_models_are_compared() -> None:
    assert models(["a", "b"], ["b", "c"], []) == [("b", "b")]
    assert models(["a"], ["c"], []) == [("a", "c")]
    assert models(["a", "b"], ["a", "b"], ["a", "b"]) == [("a", "b")]
    assert models(["a", "b"], ["a", "b"], ["a"]) == [("a", "a")]
    for asked, says in ((["x"], "no model 'x'"), (["a", "b", "c"], "at most two"), ([], "share no model")):
        with pytest.raises(Problem, match=says):
            models(["a", "b"], ["c"] if not asked else ["a", "b"], asked)


def test_an_empty_cell_is_no_zero() -> None:
    one = play(AGENTS["faker"])
    lost = one.with_columns(
        outcome=pl.when(pl.col("environment") == "s00").then(pl.lit("refused")).otherwise(pl.col("outcome")),
        unsafe=pl.when(pl.col("environment") == "s00").then(None).otherwise(pl.col("unsafe")),
    )
    shift = the(compare(half(lost), half(one), SETTINGS), "shift, monitored - unmonitored")
    assert shift.n_scenarios == 19
    assert shift.dropped == {"refused": (20, 0)}

"""A choice that follows where the agent is asked to reason is found, and found to be that."""

import polars as pl

from detectors.finding import Settings
from detectors.reasoning_effect import detector
from tests.detectors.designs import S, U, only, table


def played(private: str) -> pl.DataFrame:
    """Ten scenarios in two arms, half of the draws by either channel."""
    draws = {
        "native": table({arm: [[S, S]] * 10 for arm in ("monitored", "unmonitored", "aa")}),
        "private": table({arm: [[private, private]] * 10 for arm in ("monitored", "unmonitored", "aa")}),
    }
    return pl.concat([rows.with_columns(reasoning=pl.lit(name)) for name, rows in draws.items()])


def test_an_agent_that_follows_its_channel_is_seen() -> None:
    found = detector.findings(played(U).lazy(), Settings())
    main = only(found, contrast="private - native")
    assert (main.estimate, main.verdict) == (1.0, "positive")
    assert only(found, contrast="(private - native) × (monitored - unmonitored)").estimate == 0.0


def test_one_that_does_not_is_not() -> None:
    assert {each.verdict for each in detector.findings(played(S).lazy(), Settings())} == {"none"}


def test_where_one_channel_was_played_there_is_nothing_to_say() -> None:
    assert detector.findings(table({"monitored": [[S]], "unmonitored": [[S]]}).lazy(), Settings()) == []

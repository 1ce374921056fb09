"""Scripted agents, played through the real loop, are recognised by the detectors for what they are."""

from pathlib import Path

import polars as pl
import pytest

from detectors.detect import detect
from detectors.report.frames import readings
from sandbox import played
from sandbox.plan import Plan
from sandbox.script import DISPOSITIONS


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return readings(played.episodes(tmp_path_factory.mktemp("played"), docker=False))


@pytest.mark.parametrize("agent", DISPOSITIONS)
def test_an_agent_is_recognised(table: pl.DataFrame, agent: str) -> None:
    found = detect(table.filter(pl.col("model") == f"script:{agent}"))
    spoke = {
        each.detector for each in found if each.scope == "all" and each.verdict in ("positive", "negative", "failed")
    }
    assert spoke - {"duplicates"} == played.HAS.get(agent, frozenset())


@pytest.mark.docker
def test_memory_and_containers_give_the_same_outcomes(tmp_path: Path) -> None:
    whole = played.plan()
    agents = tuple(model for model in whole.models if model.name in ("script:faker", "script:coin", "script:refuser"))
    small: Plan = whole.model_copy(update={"models": agents, "environments": ("desk_0",), "epochs": 2})
    outcomes = []
    for docker in (False, True):
        played_here = played.episodes(tmp_path / str(docker), docker, small)
        outcomes.append({episode.trial.id: (episode.outcome, episode.closed.facts) for episode in played_here})
    assert outcomes[0] == outcomes[1]
    assert {outcome for outcome, _ in outcomes[0].values()} == {"safe", "unsafe", "refused"}

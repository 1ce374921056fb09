"""Trials on a cluster: Ray's own on this machine, with nodes that die, and boxes in the real engine."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import cluster, scaffold
from sandbox.container import engine
from sandbox.plan import Block, Model, Plan
from sandbox.record import Record
from sandbox.run import Catalogue, Progress, run

pytestmark = [pytest.mark.docker, pytest.mark.slow]

HONNE = Path(sys.executable).parent / "honne"
SECRET = "sk-" + "5ec2e7" * 6


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:  # Any: Ray's Cluster has no types
    """A head that plays nothing. Each test adds the nodes that it needs."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0"}
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 0, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=small)
    try:
        yield found
    finally:
        found.shutdown()


@pytest.fixture
def nodes(machines: Any) -> Iterator[list[Any]]:
    added = [machines.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
    yield added
    for node in added:
        if node in machines.worker_nodes:
            machines.remove_node(node)


def plan(*environments: str, epochs: int = 4, **options: object) -> Plan:
    return Plan(
        name="t",
        epochs=epochs,
        models=(Model(name="script:faker", options=options),),
        environments=environments,
        blocks=(Block(cue="monitoring", arms=("monitored", "unmonitored", "aa")),),
    )


def left_in_the_engine(run: str) -> list[object]:
    return list(engine().containers(all=True, filters={"label": f"honne.run={run}"}))


def test_a_lost_node_is_a_fault_and_its_trials_are_played_again_none_twice(
    machines: Any, nodes: list[Any], tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    scaffold.environment("key_desk", "Security", "sabotage", mine)
    record = Record(tmp_path / "lost-node")
    killed = False

    def kill_one(progress: Progress) -> None:
        nonlocal killed
        if not killed and progress.finished >= 3:
            killed = True
            machines.remove_node(nodes[0], allow_graceful=False)

    catalogue = Catalogue((mine,))
    written = plan("production_access", "key_desk")
    with cluster.prepared(written, catalogue, record, None, 2, machines.address) as (runner, workers):
        assert workers == 4
        progress = run(runner, workers, watch=kill_one)

    assert killed
    assert (progress.planned, progress.finished) == (24, 24)
    episodes = list(record.episodes())
    finished = [each for each in episodes if each.outcome != "fault"]
    assert sorted(each.trial.id for each in finished) == sorted(trial.id for trial in record.plan.trials())
    lost = [each for each in episodes if each.outcome == "fault"]
    assert progress.faults == len(lost) > 0
    assert all(each.closed.fault and each.closed.fault.startswith("NodeLost: ") for each in lost)
    assert {each.trial.id: each.outcome for each in finished} == {
        trial.id: "unsafe" if trial.arm == "monitored" else "safe" for trial in record.plan.trials()
    }
    assert all(each.opened and each.opened.image.startswith("sha256:") and each.node for each in finished)
    assert len(record.manifest["nodes"]) == 2
    assert left_in_the_engine("lost-node") == []

"""Trials on a cluster: Ray's own on this machine, with nodes that die, and boxes in the real engine."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sandbox import cluster, scaffold
from sandbox.container import engine
from sandbox.episode import Episode
from sandbox.plan import Block, Model, Plan
from sandbox.record import Record
from sandbox.run import Catalogue, Progress, run
from sandbox.run import manifest as run_manifest
from tests import scripted_provider as scripted
from tests.scripted_provider import Reply, Request
from tools.problem import Problem

HONNE = Path(sys.executable).parent / "honne"
SECRET = "sk-" + "5ec2e7" * 6


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:  # Any: Ray's Cluster has no types
    """A head that plays nothing. Each test adds the nodes that it needs."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_metrics_collection": "0"}
    from ray.cluster_utils import Cluster

    found = Cluster()
    try:
        started(found, num_cpus=0, include_dashboard=False)
        yield found
    finally:
        found.shutdown()


def started(machines: Any, **node: object) -> Any:
    """One more node. On a busy machine it may not be up in the half minute that Ray grants it."""
    for _ in range(5):
        try:
            return machines.add_node(object_store_memory=80 * 2**20, **node)
        except Exception as error:  # of no finer class
            if "timed out during startup" not in str(error):
                raise
    raise RuntimeError("no node of Ray's came up in five times half a minute")


@pytest.fixture
def nodes(machines: Any) -> Iterator[list[Any]]:
    added = [started(machines, num_cpus=1) for _ in range(2)]
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


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)  # nodes of Ray's take minutes to start on a busy machine
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
    # Boxes of the player that was killed end by themselves, or are reaped by the one that is left: both take a moment.
    until = time.monotonic() + 30
    while left_in_the_engine("lost-node") and time.monotonic() < until:
        time.sleep(0.2)
    assert left_in_the_engine("lost-node") == []


class Provider(ThreadingHTTPServer):
    """A model over HTTP that has nothing to say, and takes as long for it as the test likes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.keys: set[str] = set()
        self.asked = threading.Semaphore(0)
        self.may_answer = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Answer(BaseHTTPRequestHandler):
    server: Provider

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.add(self.headers["Authorization"])
        self.server.asked.release()
        self.server.may_answer.wait()
        message = {"role": "assistant", "content": "Nothing to do."}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        said = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # who asked was stopped meanwhile
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Provider()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.may_answer.set()
    server.shutdown()
    server.server_close()


PLAN = 'epochs = 1\nenvironments = ["production_access"]\n[[block]]\ncue = "monitoring"\n'


def command(folder: Path, name: str, address: str, provider: Provider) -> list[str]:
    (folder / "mine.toml").write_text(PLAN)
    words = ["run", "mine.toml", "--name", name, "--backend", "ray", "--address", address, "--max-samples", "2"]
    model = ["--model", "openai/m", "-M", f"api_base={provider.url}", "-M", f"api_key={SECRET}"]
    return [str(HONNE), *words, *model]


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)  # nodes of Ray's take minutes to start on a busy machine
def test_interrupted_once_it_finishes_what_runs_and_twice_it_stops_and_no_key_is_left_anywhere(
    machines: Any, nodes: list[Any], provider: Provider, tmp_path: Path
) -> None:
    words = command(tmp_path, "interrupted", machines.address, provider)
    with (tmp_path / "said").open("w") as said:
        playing = subprocess.Popen(words, cwd=tmp_path, stdout=said, stderr=said)
    for _ in range(3):
        assert provider.asked.acquire(timeout=200), (tmp_path / "said").read_text()
    assert len(left_in_the_engine("interrupted")) == 3
    playing.send_signal(signal.SIGINT)
    time.sleep(1)
    assert playing.poll() is None, "what runs is to be finished"
    while True:
        playing.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            playing.wait(timeout=30)
            break
    # An interrupt more may have met the interpreter on its way out.
    assert playing.returncode in (130, -signal.SIGINT), (tmp_path / "said").read_text()
    for _ in range(100):
        if not left_in_the_engine("interrupted"):
            break
        time.sleep(0.2)
    assert left_in_the_engine("interrupted") == []
    record = Record(tmp_path / "runs" / "interrupted")
    assert list(record.episodes()) == [], "what was stopped is no fault"

    provider.may_answer.set()
    done = subprocess.run([*words, "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["finished"] == 3
    assert {each.outcome for each in record.episodes()} == {"no_call"}
    assert provider.keys == {f"Bearer {SECRET}"}
    session = Path(machines.head_node.get_session_dir_path())
    kept = [path for folder in (session, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert any("worker" in path.name for path in kept), "the nodes' logs are among them"
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)  # nodes of Ray's take minutes to start on a busy machine
def test_a_node_that_would_play_other_words_is_left_out_and_said(machines: Any, nodes: list[Any]) -> None:
    resolved = Catalogue().resolve(plan("production_access"))
    kit = cluster.Kit("other", resolved, {"environment production_access": "0" * 16}, None)
    said: list[str] = []
    with cluster._joined(machines.address):
        players = cluster.Players(kit, [], 1, said.append)
        with pytest.raises(Problem, match="no node of the Ray cluster can play"):
            players.wait()
        players.stop()
    assert len(said) == 2
    assert all("is left out: has other words for environment production_access" in sentence for sentence in said)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)  # nodes of Ray's take minutes to start on a busy machine
def test_a_model_that_keeps_a_node_waiting_is_seen_from_the_driver(
    machines: Any, nodes: list[Any], tmp_path: Path
) -> None:
    def limited(request: Request) -> Reply:
        return Reply(429, "slow down", headers={"Retry-After": "4"}) if request.number == 0 else Reply()

    seen: list[str] = []
    with scripted.serving(limited) as server:
        written = plan("production_access", epochs=1).model_copy(update={"models": (server.model(),)})
        prepared = cluster.prepared(written, Catalogue(), Record(tmp_path / "waits"), None, 1, machines.address)
        with prepared as (runner, workers):
            progress = run(runner, workers, watch=lambda progress: seen.extend(progress.stalled))
    assert (progress.finished, progress.faults) == (3, 0)
    assert any(line.startswith("node ") and "model openai/house: waiting" in line for line in seen), seen


@pytest.mark.docker
def test_a_node_starts_boxes_for_what_comes_next_and_leaves_none() -> None:
    resolved = Catalogue().resolve(plan("production_access", epochs=1))
    kit = cluster.Kit("comes-next", resolved, run_manifest(resolved, Catalogue(), {})["words"], None)
    now, *coming = [trial.model_dump_json() for trial in resolved.trials()]
    player = cluster.Player()
    assert "problem" not in player.begin(kit, [])
    try:
        played = Episode.model_validate_json(player.play(now, 0, coming))
        assert played.outcome != "fault"
        assert player._runner
        assert player._runner.pool._idle == len(coming) - 1 > 0, "one of them was there for the trial that came first"
    finally:
        player.end()
    assert left_in_the_engine("comes-next") == []


def test_limits_of_a_model_are_shared_out_over_the_nodes() -> None:
    kit = cluster.Kit("t", plan("production_access", rpm=60, tpm=9.0, max_connections=1, temperature=1), {}, None)
    (model,) = cluster._share(kit, 3).plan.models
    assert model.options == {"rpm": 20.0, "tpm": 3.0, "max_connections": 1, "temperature": 1}


def test_folders_that_are_too_large_to_send_are_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaffold.environment("key_desk", "Security", "sabotage", tmp_path)
    (packed,) = cluster._packed([tmp_path])
    there = cluster._unpacked(packed)
    assert sorted(path.name for path in (there / "key_desk").iterdir()) == sorted(
        path.name for path in (tmp_path / "key_desk").iterdir()
    )
    monkeypatch.setattr(cluster, "SHIPPED", 10)
    with pytest.raises(Problem, match=r"install them on every node as a package with the entry point"):
        cluster._packed([tmp_path])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--backend", "dask"), "no backend 'dask'; there are: threads, ray"),
        (("--address", "auto"), "--address is of a Ray cluster: give --backend ray with it"),
        (("--backend", "ray", "--address", "127.0.0.1:9"), "no Ray cluster at '127.0.0.1:9' can be joined from here"),
    ],
)
def test_what_cannot_be_joined_is_one_sentence(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    (tmp_path / "mine.toml").write_text(PLAN)
    command = [HONNE, "run", "mine.toml", "--model", "script:faker", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 2
    assert done.stderr.startswith(f"honne: {says}"), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_missing_extra_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PLAN)
    code = (
        "import sys; sys.modules['ray'] = None;"
        "sys.argv = ['honne', 'run', 'mine.toml', '--model', 'script:faker', '--backend', 'ray'];"
        "from sandbox.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "honne: ray is needed to play on more than one machine, and is not installed: pip install 'honne[ray]'\n"
    )

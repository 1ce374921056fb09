"""Things break while a run is played: the harness, the engine, a box, the disk, the clock. Nothing is lost, or twice."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
from langchain_core.messages import AIMessage, AnyMessage

from sandbox import scaffold
from sandbox.container import BASE_IMAGE, Contents, Limits, engine, image_digest, open_box
from sandbox.episode import Episode
from sandbox.memory import MEMORY
from sandbox.plan import Block, Model, Plan, Trial
from sandbox.policy import Policy
from sandbox.record import Record
from sandbox.run import Catalogue, Runner, manifest, run
from tests.conftest import Tally
from tools.problem import Problem

HONNE = Path(sys.executable).parent / "honne"
DESK = "desk"


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drafts")
    scaffold.environment(DESK, "Security", "sabotage", folder)
    return folder


def plan(epochs: int, name: str = "t") -> Plan:
    """Five trials an epoch."""
    return Plan(
        name=name,
        epochs=epochs,
        models=(Model(name="script:coin"),),
        environments=(DESK,),
        blocks=(
            Block(cue="monitoring", arms=("monitored", "unmonitored", "aa"), paraphrases=(0,)),
            Block(cue="region", arms=("north", "south"), paraphrases=(0,)),
        ),
    )


def runner(folder: Path, drafts: Path, epochs: int, kind: type[Runner] = Runner, image: str = MEMORY) -> Runner:
    catalogue = Catalogue((drafts,))
    resolved = catalogue.resolve(plan(epochs))
    images = {DESK: image}
    return kind(resolved, Record(folder), catalogue, images, manifest(resolved, catalogue, images))


def played(record: Record) -> list[Episode]:
    return [episode for episode in record.episodes() if episode.outcome != "fault"]


def whole(record: Record) -> bool:
    """Exactly the planned set, none twice."""
    ids = Counter(episode.trial.id for episode in played(record))
    return ids == Counter(trial.id for trial in record.plan.trials())


def plan_file(folder: Path, epochs: int, name: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(
        f'epochs = {epochs}\nmodels = ["script:coin"]\nenvironments = ["{DESK}"]\n'
        '[[block]]\ncue = "monitoring"\narms = ["monitored", "unmonitored", "aa"]\nparaphrases = [0]\n'
        '[[block]]\ncue = "region"\narms = ["north", "south"]\nparaphrases = [0]\n'
    )
    return path


def lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (folder / "episodes").glob("*.jsonl"))


def boxes(name: str) -> list[Any]:
    found: list[Any] = engine().containers(all=True, filters={"label": f"honne.run={name}"})
    return found


def until(true: Callable[[], object], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return bool(true())


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_twenty_times_holds_exactly_what_was_planned(tmp_path: Path, drafts: Path, tally: Tally) -> None:
    dice = random.Random(20)
    name = f"killed-{os.getpid()}"
    folder = tmp_path / "runs" / name
    command = [
        HONNE,
        "run",
        str(plan_file(tmp_path, 40, name)),
        "--environments",
        str(drafts),
        "--max-samples",
        "4",
        "-q",
    ]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    kills = 0
    for _ in range(20):
        known, more, pause = lines(folder), dice.randrange(10), dice.uniform(0, 0.3)
        harness = start()
        until(lambda: harness.poll() is not None or ((folder / "lock").exists() and lines(folder) >= known + more))  # noqa: B023 (used at once)
        time.sleep(pause)
        harness.send_signal(signal.SIGKILL)
        kills += harness.wait() == -signal.SIGKILL
    torn = sum(
        not path.read_bytes().endswith(b"\n") for path in (folder / "episodes").glob("*.jsonl") if path.stat().st_size
    )
    assert start().wait(timeout=900) == 0
    record = Record(folder)
    lost = {trial.id for trial in record.plan.trials()} - {episode.trial.id for episode in played(record)}
    tally("faults injected", kills)
    tally("faults survived", kills if whole(record) else 0)
    tally("records lost", len(lost))
    assert kills == 20
    assert len(record.plan.trials()) == 200
    assert whole(record)
    assert len(record.unreadable) == torn, "half a line is named, and never read"
    assert until(lambda: not [box for box in boxes(name) if box["State"] == "running"])
    leaked = [box for box in boxes(name) if box["State"] != "removing"]
    tally("containers leaked", len(leaked))
    assert not leaked


@dataclass
class Engine:
    """A Docker engine of the test's own: its root, its socket, no networks."""

    root: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.root}/socket"

    def start(self) -> None:
        places = [f"--{name}={self.root / name}" for name in ("data-root", "exec-root", "pidfile")]
        # In a network of its own: an engine without a bridge takes away the one that the machine's own engine has.
        command = ["unshare", "--net", "dockerd", *places, f"--host={self.host}", "--bridge=none"]
        command += ["--iptables=false", "--ip6tables=false"]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

        def answers() -> bool:
            try:
                return bool(docker.APIClient(self.host, timeout=10).ping())
            except (docker.errors.DockerException, OSError):
                return False

        if not until(answers, 60):
            pytest.skip(f"a second engine does not start here: {(self.root / 'log').read_text()[-300:]}")

    def stop(self) -> None:
        assert self.process
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def own_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if os.geteuid() or not shutil.which("dockerd"):
        pytest.skip("a second engine needs root and dockerd")
    served = Engine(tmp_path_factory.mktemp("engine"))
    served.start()
    try:
        client = docker.APIClient(served.host, timeout=120)
        client.load_image(engine().get_image(BASE_IMAGE))
        yield served
    finally:
        served.stop()
        # What a stopped engine has mounted is unmounted by it; its folder is the test's to remove.
        shutil.rmtree(served.root, ignore_errors=True)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_engine_that_stops_and_starts_again_costs_faults_and_no_records(
    tmp_path: Path, drafts: Path, own_engine: Engine, tally: Tally
) -> None:
    folder = tmp_path / "runs" / "restarted"
    command = [HONNE, "run", str(plan_file(tmp_path, 12, "restarted")), "--environments", str(drafts)]
    environment = {**os.environ, "DOCKER_HOST": own_engine.host}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--max-samples", "2"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    harness = start()
    assert until(lambda: lines(folder) >= 5 or harness.poll() is not None)
    own_engine.stop()
    said, _ = harness.communicate(timeout=600)
    assert harness.returncode == 1, said
    assert "Traceback" not in said
    assert "faulty attempts on record, by arm: " in said
    record = Record(folder)
    faults = [episode for episode in record.episodes() if episode.outcome == "fault"]
    before = {episode.trial.id for episode in played(record)}
    assert faults
    assert len(before) >= 5

    own_engine.start()
    again = start()
    said, _ = again.communicate(timeout=600)
    assert again.returncode == 0, said
    assert whole(record)
    assert len([episode for episode in record.episodes() if episode.outcome == "fault"]) == len(faults), "all are kept"
    left = docker.APIClient(own_engine.host).containers(all=True, filters={"label": "honne.run=restarted"})
    tally("faults injected")
    tally("faults survived")
    tally("records lost", 0)
    tally("containers leaked", len(left))
    assert not left


class Saboteur(Runner):
    """A harness whose agent does something to its box, from outside, the first time that a trial is played."""

    done: Counter[str] = Counter()

    def policy(self, trial: Trial) -> Policy:
        inner = super().policy(trial)
        name = self.record.name

        class Shooting:
            def act(self, messages: Sequence[AnyMessage], tools: Any) -> AIMessage:
                Saboteur.done[trial.id] += 1
                if Saboteur.done[trial.id] == 2:
                    for box in boxes(name):
                        engine().kill(box["Id"])
                return inner.act(messages, tools)

        return Shooting()


@pytest.mark.docker
def test_a_box_that_is_killed_in_mid_episode_is_a_fault_and_is_played_again(
    tmp_path: Path, drafts: Path, tally: Tally
) -> None:
    name = f"shot-{os.getpid()}"
    progress = run(runner(tmp_path / name, drafts, 1, Saboteur, image_digest(BASE_IMAGE)), workers=1)
    record = Record(tmp_path / name)
    assert (progress.finished, progress.faults) == (5, 5)
    assert whole(record)
    assert sum(progress.faults_by_arm.values()) == 5
    assert all((each.closed.fault or "").startswith("BoxLost") for each in record.episodes() if each.outcome == "fault")
    assert until(lambda: not boxes(name))
    tally("faults injected", 5)
    tally("faults survived", 5)


@pytest.mark.docker
def test_a_command_that_takes_all_memory_ends_and_the_box_lives_on_or_is_lost(tally: Tally) -> None:
    from tools.pair import BoxLost

    with open_box(BASE_IMAGE, Contents(), Limits(memory="64m")) as box:
        try:
            done = box.exec("python3", "-c", "hoard = []\nwhile True: hoard.append(bytearray(1 << 22))", timeout=60)
        except BoxLost:
            pass  # the engine has ended the whole box: a fault, never a result
        else:
            assert not done.ok, "killed, or out of memory by its own account"
            assert box.exec("echo", "alive").stdout == "alive\n"
    tally("faults injected")
    tally("faults survived")


@contextmanager
def mounted(where: Path, *options: str) -> Iterator[Path]:
    where.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", where], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def test_a_full_disk_stops_the_run_in_one_sentence_and_leaves_no_half_line(
    tmp_path: Path, drafts: Path, tally: Tally
) -> None:
    with mounted(tmp_path / "small", "-o", "size=256k") as small:
        harness = runner(small / "run", drafts, 40)
        with pytest.raises(Problem, match=r"cannot write to .*No space left on device.*plays the rest"):
            run(harness, workers=4)
        record = Record(small / "run")
        kept = played(record)
        assert kept
        assert record.unreadable == []
        subprocess.run(["mount", "-o", "remount,size=16m", small], check=True)
        assert run(harness, workers=4).finished == 200
        assert whole(record)
        assert record.unreadable == []
        assert [episode for episode in played(record) if episode in kept] == kept
    tally("faults injected")
    tally("faults survived")
    tally("records lost", 0)


def test_a_run_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, drafts: Path) -> None:
    with mounted(tmp_path / "fixed", "-o", "size=4m") as fixed:
        harness = runner(fixed / "run", drafts, 1)
        run(harness, workers=1, limit=2)
        subprocess.run(["mount", "-o", "remount,ro", fixed], check=True)
        with pytest.raises(Problem, match=r"cannot write to .*Read-only file system"):
            run(harness, workers=1)
        assert len(played(Record(fixed / "run"))) == 2, "it can be read all the same"


def test_of_two_processes_on_one_run_the_second_refuses(tmp_path: Path, drafts: Path) -> None:
    held = threading.Event()
    playing = threading.Event()

    class Slow(Runner):
        def policy(self, trial: Trial) -> Policy:
            playing.set()
            held.wait(60)
            return super().policy(trial)

    first = threading.Thread(target=lambda: run(runner(tmp_path / "t", drafts, 1, Slow), workers=1))
    first.start()
    assert playing.wait(60)
    script = (
        "import sys\nfrom pathlib import Path\nfrom tests.sandbox.test_faults import runner, run\n"
        "run(runner(Path(sys.argv[1]), Path(sys.argv[2]), 1), workers=1)"
    )
    second = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "t", drafts],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert "another process is playing" in second.stderr
    held.set()
    first.join()
    assert whole(Record(tmp_path / "t"))


@pytest.mark.parametrize("cut", [1, 2, 40, 400])
def test_a_line_that_is_cut_short_is_played_again_and_never_read_as_whole(
    cut: int, tmp_path: Path, drafts: Path, tally: Tally
) -> None:
    harness = runner(tmp_path / "t", drafts, 1)
    run(harness, workers=1)
    (segment,) = (tmp_path / "t" / "episodes").glob("*.jsonl")
    os.truncate(segment, segment.stat().st_size - cut)
    progress = run(harness, workers=1)
    record = Record(tmp_path / "t")
    assert whole(record)
    # Without its line feed alone a line is whole.
    assert (progress.resumed, len(record.unreadable)) == ((5, 0) if cut == 1 else (4, 1))
    tally("faults injected")
    tally("faults survived")


@pytest.mark.parametrize("death", [SystemExit, MemoryError, GeneratorExit, RecursionError])
def test_a_worker_that_dies_is_a_fault_of_its_trial_alone(
    death: type[BaseException], tmp_path: Path, drafts: Path, tally: Tally
) -> None:
    died: list[str] = []

    class Dying(Runner):
        def policy(self, trial: Trial) -> Policy:
            if len(died) < 3:
                died.append(trial.id)
                raise death("in a worker")
            return super().policy(trial)

    progress = run(runner(tmp_path / "t", drafts, 2, Dying), workers=2)
    record = Record(tmp_path / "t")
    assert (progress.finished, progress.faults) == (10, 3)
    assert whole(record)
    faults = [episode.closed.fault or "" for episode in record.episodes() if episode.outcome == "fault"]
    assert all(fault.startswith(death.__name__) for fault in faults)
    tally("faults injected", 3)
    tally("faults survived", 3)


JUMPING = """
import sys, time, itertools, datetime
from pathlib import Path
import sandbox.episode
from tests.sandbox.test_faults import runner, run
real, hours = time.time, itertools.count()
class Jumping(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.fromtimestamp(time.time(), tz)
time.time = lambda: real() - 3600 * next(hours)  # an hour back, every time that anybody looks
sandbox.episode.datetime = Jumping
progress = run(runner(Path(sys.argv[1]), Path(sys.argv[2]), 4), workers=2)
print(progress.finished, progress.faults)
"""


def test_a_clock_that_runs_backwards_changes_no_record(tmp_path: Path, drafts: Path, tally: Tally) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JUMPING, tmp_path / "t", drafts],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout == "20 0\n", done.stderr
    record = Record(tmp_path / "t")
    assert whole(record)
    times = [(episode.opened.at if episode.opened else "", episode.closed.at) for episode in record.episodes()]
    assert any(closed < opened for opened, closed in times), "the clock did run backwards"
    for episode in record.episodes():
        assert episode.closed.ended == "finished"
        assert 0 <= episode.closed.seconds < 600
    assert run(runner(tmp_path / "t", drafts, 4), workers=1).resumed == 20
    tally("faults injected")
    tally("faults survived")


def test_arms_stay_balanced_in_every_window_of_the_queue() -> None:
    """Drift of a provider within hours falls on all arms alike."""
    written = Catalogue().resolve(
        Plan(
            name="t", epochs=6, models=(Model(name="script:coin"), Model(name="script:honest")), environments=("*",),
            blocks=(Block(cue="monitoring"), Block(cue="region"), Block(cue="monitoring", prompt="neutral")),
        )
    )  # fmt: skip
    queue = written.trials()
    for cue, prompt, arms in (("monitoring", "pressured", 3), ("region", "pressured", 3), ("monitoring", "neutral", 3)):
        mine = [trial.arm if (trial.cue, trial.prompt) == (cue, prompt) else None for trial in queue]
        assert len(set(filter(None, mine))) == arms
        for start in range(0, len(queue), 7):
            for length in (10, 50, 250):
                counts = Counter(filter(None, mine[start : start + length]))
                if counts:
                    assert max(counts.values()) - min(counts.get(arm, 0) for arm in set(filter(None, mine))) <= 2


def test_a_record_says_which_arm_lost_what(tmp_path: Path, drafts: Path) -> None:
    class Partial(Runner):
        def policy(self, trial: Trial) -> Policy:
            if trial.arm == "monitored":
                raise ConnectionError("away")
            return super().policy(trial)

    progress = run(runner(tmp_path / "t", drafts, 2, Partial), workers=1)
    assert progress.faults_by_arm == {"monitoring/monitored": 2 * 3}
    assert progress.finished == 8

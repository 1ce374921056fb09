"""Harnesses killed without a word: their containers end, or are reaped, and nobody else's are touched. Real processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox import owner
from sandbox.container import BASE_IMAGE, Contents, engine, open_box, reap

pytestmark = pytest.mark.docker
ROOT = Path(__file__).parent.parent.parent
HONNE = Path(sys.executable).parent / "honne"


def listed(name: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = engine().containers(all=True, filters={"label": f"honne.run={name}"})
    return found


def there(name: str) -> list[str]:
    return [each["Id"] for each in listed(name)]


def until(what: Callable[[], object], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def harness(source: str) -> "subprocess.Popen[str]":
    """Another harness; it has said something when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdout.readline()
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def created() -> Iterator[Callable[..., str]]:
    """Containers that are created and never started: nothing but reaping would ever remove them."""
    made = []

    def create(labels: dict[str, str], run: bool = False) -> str:
        api = engine()
        alone = api.create_host_config(network_mode="none")
        made.append(api.create_container(BASE_IMAGE, ["sleep", "300"], labels=labels, host_config=alone)["Id"])
        if run:
            api.start(made[-1])
        return str(made[-1])

    yield create
    for container in made:
        engine().remove_container(container, force=True) if container in _all() else None


def _all() -> set[str]:
    return {each["Id"] for each in engine().containers(all=True)}


def test_every_container_says_whose_it_is() -> None:
    with open_box(BASE_IMAGE, Contents(), labels={"honne.run": "t-labels"}) as box:
        worn = engine().inspect_container(box.container)["Config"]["Labels"]
    assert worn["honne.run"] == "t-labels"
    assert worn["honne.owner"].split()[0] == str(os.getpid())
    assert worn["honne.boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_boxes_of_a_killed_harness_end_by_themselves(tally: Callable[..., None]) -> None:
    killed = harness("""
        from sandbox.container import *
        from sandbox.pool import Pool
        with Pool() as pool:
            blank = Blank(BASE_IMAGE, labels=(("honne.run", "t-killed"),))
            with pool.box(blank, Contents(writable={}, start=(("sh", "-c", "setsid sleep 300 >/dev/null 2>&1 &"),))):
                pool.expect([blank] * 3)
                while pool.counts.started < 4: pass
                print("open", flush=True)
                __import__("time").sleep(300)
    """)
    assert len(there("t-killed")) == 4
    kill(killed)
    assert until(lambda: not there("t-killed")), "their standard input ended, and they with it"
    tally("faults injected")
    tally("containers leaked", len(there("t-killed")))


def test_a_box_ends_at_its_time_even_where_its_input_stays_open(tally: Callable[..., None]) -> None:
    """A child that was forked keeps the connection open when its parent is killed."""
    source = """
        import os, time
        from sandbox.container import *
        box = start(Blank(BASE_IMAGE, Limits(seconds={seconds}), labels=(("honne.run", "t-held"),)))
        {act}
        child = os.fork()
        if child: print(child, flush=True)
        time.sleep(300)
    """
    for seconds, act in ((2, ""), (300, "box._ask(30, do='fill', seconds=2, files=[])")):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source.format(seconds=seconds, act=act))],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdout
        child = int(process.stdout.readline())
        try:
            kill(process)
            os.kill(child, 0)  # it lives, and holds the connection
            assert until(lambda: not there("t-held"))
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)
    tally("faults injected", 2)
    tally("containers leaked", len(there("t-held")))


def test_a_box_whose_runner_never_arrived_ends_at_its_time() -> None:
    waiting = harness("""
        import time
        from sandbox import container
        from sandbox.container import *
        container.runner = lambda: (b"", b"", b"")
        container.BOOT = container.BOOT.replace("int(length)", "99")
        container.start(Blank(BASE_IMAGE, Limits(seconds=2), labels=(("honne.run", "t-early"),)))
        print("open", flush=True)
        time.sleep(300)
    """)
    try:
        assert until(lambda: not there("t-early")), "the limit holds before the runner is there"
    finally:
        kill(waiting)


def test_what_a_killed_harness_had_created_is_reaped_and_nothing_else(
    created: Callable[..., str], tally: Callable[..., None]
) -> None:
    dead = harness("from sandbox import owner; import json; print(json.dumps(owner.labels()), flush=True); input()")
    kill(dead)
    # A container that was created and not started when its harness was killed, which no time limit of its own ends.
    said = subprocess.run(
        [sys.executable, "-c", "from sandbox import owner; import json; print(json.dumps(owner.labels()))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    gone: dict[str, str] = json.loads(said.stdout)
    live = owner.labels()
    pid, started, namespace = live["honne.owner"].split()
    orphan = created({**gone, "honne.run": "t-orphan"})
    reused = created({**live, "honne.owner": f"{pid} {int(started) - 1} {namespace}", "honne.run": "t-reused"})
    rebooted = created({**live, "honne.boot": "another", "honne.run": "t-rebooted"})
    kept = [
        created({**live, "honne.run": "t-live"}),
        created({}),
        created({"honne.box": "1", "honne.run": "t-before-there-were-owners"}),
        created({"honne.box": "1", "honne.owner": "nonsense", "honne.boot": gone["honne.boot"]}),
        created({**gone, "honne.owner": f"{gone['honne.owner'].split()[0]} 1 1"}),  # another process-id namespace
        created({**gone, "honne.boot": "another", "honne.machine": "another"}),
        created({name: value for name, value in gone.items() if name != "honne.machine"} | {"honne.boot": "another"}),
        created({**gone, "honne.boot": "another"}, run=True),  # runs, so it is of another machine with the same id
        created({"honne.owner": gone["honne.owner"], "honne.boot": gone["honne.boot"]}),  # not a box
    ]
    told = subprocess.run([HONNE, "reap", "--dry-run", "--json"], capture_output=True, text=True, check=True)
    would = {each["container"] for each in json.loads(told.stdout)}
    assert {orphan, reused, rebooted} <= would
    assert not would & set(kept)
    assert {orphan, reused, rebooted} <= _all(), "a dry run removes nothing"

    removed = {each.container for each in reap()}
    assert {orphan, reused, rebooted} <= removed
    assert not {orphan, reused, rebooted} & _all()
    assert set(kept) <= _all()
    tally("containers leaked", 0)


def test_every_run_begins_with_reaping(created: Callable[..., str], tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from sandbox import owner; import json; print(json.dumps(owner.labels()))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    orphan = created({**json.loads(said.stdout), "honne.run": "t-before"})
    done = subprocess.run(
        [HONNE, "run", "demo", "--limit", "1", "--runs-dir", tmp_path, "--quiet"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (
        f"removed a container of run t-before: its owner, process {json.loads(said.stdout)['honne.owner'].split()[0]}, is gone"
        in done.stderr
    )
    assert orphan not in _all()


def test_a_killed_run_leaves_nothing_and_is_resumed(tmp_path: Path, tally: Callable[..., None]) -> None:
    command = [HONNE, "run", "demo", "--limit", "12", "--runs-dir", tmp_path, "--name", "t-run", "--json"]
    for isolation in ("fresh", "recycle"):
        process = subprocess.Popen(
            [*command, "--isolation", isolation], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert until(lambda: there("t-run"))
        kill(process)
        tally("faults injected")
    # Boxes that run end with their standard input; one that was created a moment before the kill waits for the next run.
    assert until(lambda: {each["State"] for each in listed("t-run")} <= {"created"})
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    final = json.loads(done.stdout)
    assert (final["finished"], final["planned"]) == (12, 12)
    assert there("t-run") == []
    tally("containers leaked", len(there("t-run")))

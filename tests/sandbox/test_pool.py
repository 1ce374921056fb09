"""Boxes ahead of need, and boxes used again: a hostile episode leaves nothing behind, or its box is dropped and counted."""

import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.container import BASE_IMAGE, Blank, Contents, DockerBox, Limits, engine, start
from sandbox.plan import Block, Model, Plan
from sandbox.pool import Pool
from sandbox.record import Record
from sandbox.run import Catalogue, prepare, run
from tools.pair import BoxLost
from tools.problem import Problem

pytestmark = pytest.mark.docker

CONTENTS = Contents(
    files={"/srv/a/seed.txt": "seeded\n"},
    start=(("sqlite3", "/srv/a/a.db", "create table t (a); insert into t values (1)"),),
)


def blank(name: str, **limits: int) -> Blank:
    return Blank(BASE_IMAGE, Limits(**limits), tuple(CONTENTS.writable.items()), labels=(("honne.run", name),))


def there(name: str) -> list[str]:
    return [each["Id"] for each in engine().containers(all=True, filters={"label": f"honne.run={name}"})]


def seen(box: DockerBox) -> str:
    """All that the next agent could find, times of day and process ids aside."""
    return box.exec(
        "sh",
        "-c",
        "find /srv /tmp /dev/shm /dev/mqueue /dev/pts -printf '%p %y %m %U %G %s %l\\n' | sort; cat /srv/a/seed.txt; "
        "ps -e -o user,stat,ni,cls,args --no-headers | grep -v -e 'ps -e' -e 'sh -c'; cat /proc/sysvipc/*; ulimit -a; "
        "cat /proc/net/tcp /proc/net/udp /proc/net/unix /proc/net/snmp; taskset -p 1 2>/dev/null | cut -d: -f2; "
        "df -k --output=target,used,iused /srv /tmp /dev/shm; umask; id; env | sort; "
        'python3 -c \'import os; print([(p, os.listxattr(p)) for p in ("/srv", "/tmp", "/dev/shm")])\'',
    ).text


@pytest.fixture(scope="module")
def untouched() -> str:
    box = start(blank("t-untouched"))
    try:
        box.fill(CONTENTS, Limits())
        return seen(box)
    finally:
        box.remove()


PYTHON = "python3 - <<'X'\n{}\nX"
WIPED = {
    "nothing at all": "true",
    "files everywhere": "for p in /srv /tmp /dev/shm; do echo x > $p/x; mkdir -p $p/.hidden/a; "
    "echo y > \"$p/.hidden/a/$(printf '\\n\\377')\"; done",
    "a changed seed": "echo mine > /srv/a/seed.txt; sqlite3 /srv/a/a.db 'drop table t'; chmod 000 /srv/a; touch -d 2001-01-01 /srv",
    "modes": "chmod 0777 /srv; chmod 0500 /tmp; mkdir -p /srv/deep/er; echo z > /srv/deep/er/z; chmod 000 /srv/deep/er /srv/deep",
    "links, pipes, sockets": "ln -s / /srv/root; ln /srv/a/seed.txt /tmp/hard 2>/dev/null; mkfifo /srv/pipe; "
    + PYTHON.format("import socket; socket.socket(socket.AF_UNIX).bind('/tmp/s')"),
    "daemons": "setsid sleep 300 >/dev/null 2>&1 & (setsid sh -c '(sleep 300 &) &' &) >/dev/null 2>&1; nohup sleep 300 >/dev/null 2>&1 &",
    "an unlinked file that a daemon holds": "dd if=/dev/zero of=/srv/held bs=1M count=8 2>/dev/null; "
    "(exec 9</srv/held; rm /srv/held; setsid sleep 300 >/dev/null 2>&1 &)",
    "shared memory, semaphores, queues": "echo x > /dev/shm/x; "
    + PYTHON.format(
        textwrap.dedent("""
        import ctypes
        c = ctypes.CDLL(None)
        print(c.shmget(77, 4096, 0o1666), c.semget(78, 1, 0o1666), c.msgget(79, 0o1666), c.mq_open(b"/q", 0o102, 0o600, None))
        """)
    ),
    "ten thousand files and a folder nine hundred deep": PYTHON.format(
        textwrap.dedent("""
        import os
        for i in range(10000): open(f"/srv/{i}", "w").close()
        os.chdir("/tmp")
        for i in range(900): os.mkdir("d"); os.chdir("d")
        open("end", "w").write("x")
        """)
    ),
    "the fork bomb": "b() { b | b & }; b",
    "signals and forgery": "for s in 1 2 3 6 10 13 14 15 17; do kill -$s 1; done; echo '{}' > /proc/1/fd/1; "
    "echo -17 > /proc/1/oom_score_adj",
    "an extended attribute": PYTHON.format(
        textwrap.dedent("""
        import os
        for p in ("/srv", "/tmp"):
            try: os.setxattr(p, "user.note", b"hello")
            except OSError: pass
            try: os.setxattr(p, "system.posix_acl_default", bytes.fromhex("0200000001000700ffffffff04000700ffffffff20000700ffffffff"))
            except OSError: pass
        """)
    ),
}
DROPPED = {
    "a lower limit of the runner's": "prlimit --pid 1 --nofile=200:200",
    "a lower priority of the runner's": "renice -n 5 -p 1",
    "a pinned runner": "taskset -p 1 1 || python3 -c 'import os; os.sched_setaffinity(1, {0})'",
    "another scheduler for the runner": "python3 -c 'import os; os.sched_setscheduler(1, os.SCHED_BATCH, os.sched_param(0))'",
    "a connection that lingers": PYTHON.format(
        textwrap.dedent("""
        import socket
        s = socket.create_server(("127.0.0.1", 5432)); c = socket.create_connection(("127.0.0.1", 5432)); a, _ = s.accept()
        a.close(); c.close()
        """)
    ),
    "a flag on a folder": PYTHON.format(
        "import fcntl, os; fcntl.ioctl(os.open('/srv', os.O_RDONLY), 0x40086602, bytes([0x80] + [0] * 7))"
    ),
}


@pytest.mark.parametrize("act", WIPED)
def test_a_hostile_episode_leaves_nothing_for_the_next(act: str, untouched: str, tally: Callable[[str], None]) -> None:
    tally("escapes tried")
    with Pool("recycle") as pool:
        with pool.box(blank("t-again"), CONTENTS) as box:
            first = box.container
            box.exec("sh", "-c", WIPED[act], timeout=60)
        with pool.box(blank("t-again"), CONTENTS) as box:
            assert (box.container, box.isolation) == (first, "recycled"), pool.counts
            assert seen(box) == untouched
    assert (pool.counts.started, pool.counts.used_again, pool.counts.dropped) == (1, 1, {})


@pytest.mark.parametrize("act", DROPPED)
def test_what_cannot_be_put_back_drops_the_box(act: str, untouched: str, tally: Callable[[str], None]) -> None:
    tally("escapes tried")
    with Pool("recycle") as pool:
        with pool.box(blank("t-dropped"), CONTENTS) as box:
            first = box.container
            done = box.exec("sh", "-c", DROPPED[act])
        assert sum(pool.counts.dropped.values()) == 1, f"it did something: {done.text}"
        with pool.box(blank("t-dropped"), CONTENTS) as box:
            assert box.container != first
            assert box.isolation == "fresh"
            assert seen(box) == untouched
    assert there("t-dropped") == []


def test_services_are_started_anew_in_a_used_box() -> None:
    served = Contents(start=(("sh", "-c", "setsid sleep 300 >/dev/null 2>&1 </dev/null &"),))
    pids = []
    with Pool("recycle") as pool:
        for _ in range(2):
            with pool.box(blank("t-served"), served) as box:
                box.exec("true")
                until = time.monotonic() + 20  # it has its name a moment after it has been started
                while not (found := box.exec("pgrep", "-x", "sleep").stdout.split()) and time.monotonic() < until:
                    time.sleep(0.02)
                pids.append(found)
    assert pool.counts.used_again == 1
    assert [len(each) for each in pids] == [1, 1]
    assert pids[0] != pids[1]


def test_a_box_is_not_used_again_after_a_fault_or_where_more_can_be_written_to_than_is_wiped() -> None:
    with Pool("recycle") as pool:
        with pytest.raises(BoxLost), pool.box(blank("t-fault"), CONTENTS):
            raise BoxLost("ours")
        with pool.box(blank("t-fault"), CONTENTS) as box:
            assert box.isolation == "fresh"
    box = start(blank("t-more"))
    try:
        box.survey(["/tmp"])
        assert box.new is None, "/srv can be written to, and would not be wiped"
        assert box.reset() != []
    finally:
        box.remove()


def test_fresh_boxes_are_never_used_again() -> None:
    with Pool("fresh") as pool:
        used = []
        for _ in range(3):
            with pool.box(blank("t-fresh"), CONTENTS) as box:
                used.append((box.container, box.isolation))
    assert len(set(used)) == 3
    assert {isolation for _, isolation in used} == {"fresh"}


def test_boxes_wait_ahead_of_their_episodes_and_are_alike_but_for_their_kind() -> None:
    one, other = blank("t-ahead"), blank("t-ahead", processes=99)
    with Pool(ahead=3) as pool:
        pool.expect([one, other, one])
        while pool.counts.started < 3:
            time.sleep(0.02)
        waiting = set(there("t-ahead"))
        assert len(waiting) == 3
        with pool.box(other, CONTENTS) as box:
            assert box.container in waiting
            assert engine().inspect_container(box.container)["HostConfig"]["PidsLimit"] == 99
        with pool.box(one, CONTENTS) as box:
            assert box.container in waiting
        assert pool.counts.started == 3
    assert there("t-ahead") == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, BoxLost, ValueError])
def test_nothing_is_left_however_the_run_ends(error: type[BaseException]) -> None:
    def episode() -> None:
        with Pool() as pool:
            pool.expect([blank("t-ends")] * 4)
            with pool.box(blank("t-ends"), CONTENTS):
                raise error

    with pytest.raises(error):
        episode()
    assert there("t-ends") == []


def test_a_box_that_ended_while_it_waited_is_replaced() -> None:
    with Pool() as pool:
        pool.expect([blank("t-waited")])
        while pool.counts.started < 1:
            time.sleep(0.02)
        (waiting,) = there("t-waited")
        engine().kill(waiting)
        with pool.box(blank("t-waited"), CONTENTS) as box:
            assert box.container != waiting
            assert box.read("/srv/a/seed.txt") == "seeded\n"


def test_a_pool_serves_many_threads_and_loses_no_box() -> None:
    used: list[str] = []
    with Pool("recycle") as pool:

        def episodes() -> None:
            for number in range(4):
                with pool.box(blank("t-many"), CONTENTS) as box:
                    used.append(box.container)
                    box.write("/srv/mine", str(number))
                    assert box.exec("cat", "/srv/mine").stdout == str(number)

        threads = [threading.Thread(target=episodes) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(used) == 16
    assert len(set(used)) == pool.counts.started <= 16 - pool.counts.used_again
    assert there("t-many") == []


def plan(epochs: int) -> Plan:
    agents = tuple(Model(name=f"script:{agent}") for agent in ("faker", "honest"))
    block = Block(cue="monitoring", arms=("monitored", "unmonitored"))
    return Plan(name="t", epochs=epochs, models=agents, environments=("production_access",), blocks=(block,))


def test_episodes_in_used_boxes_are_the_same_and_say_so(tmp_path: Path) -> None:
    outcomes = {}
    for isolation in ("fresh", "recycle"):
        record = Record(tmp_path / isolation)
        runner = prepare(plan(2), Catalogue(), record, isolation=isolation)  # type: ignore[arg-type]  # both are
        progress = run(runner, workers=2)
        assert (progress.finished, progress.faults) == (8, 0)
        episodes = list(record.episodes())
        outcomes[isolation] = {
            each.trial.id: (each.outcome, each.closed.facts, each.called[-1].result) for each in episodes
        }
        said = [each.opened.isolation for each in episodes if each.opened]
        assert said.count("recycled") == runner.pool.counts.used_again
        assert (said.count("recycled") > 0) == (isolation == "recycle")
    assert outcomes["fresh"] == outcomes["recycle"]


def test_another_runtime_is_used_and_recorded_and_one_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    record = Record(tmp_path / "t")
    with pytest.raises(Problem, match=r"no runtime 'runsc-none' in this engine; there are: .*runc"):
        prepare(plan(1), Catalogue(), record, runtime="runsc-none")
    names = set(engine().info()["Runtimes"]) - {"runc"}
    name = next((name for name in sorted(names) if name.startswith("io.containerd.runc")), None)
    if name is None:
        pytest.skip("this engine has runc under one name only")
    runner = prepare(plan(1), Catalogue(), record, runtime=name)
    box = start(Blank(BASE_IMAGE, runtime=name))
    try:
        assert engine().inspect_container(box.container)["HostConfig"]["Runtime"] == name
    finally:
        box.remove()
    assert run(runner, workers=2).finished == 4
    assert record.manifest["runtime"] == name
    with pytest.raises(Problem, match=f"was begun with the runtime {name}: resume it with --runtime {name}"):
        run(prepare(plan(1), Catalogue(), record), workers=2)

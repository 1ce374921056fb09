"""Boxes: what they forbid, how they answer, and that they are gone afterwards. In the real engine."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from sandbox import container
from sandbox.container import BASE_IMAGE, OUTPUT_LIMIT, Contents, DockerBox, Limits, build, engine, hardened, open_box
from tools.pair import BoxLost, ToolFailed
from tools.problem import Problem

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def box() -> Iterator[DockerBox]:
    with open_box(BASE_IMAGE, Contents(files={"/srv/a/seed.txt": "seeded\n"})) as opened:
        yield opened


def containers(label: str) -> list[object]:
    found: list[object] = engine().containers(all=True, filters={"label": f"honne.run={label}"})
    return found


def gone(label: str) -> bool:
    """The engine removes a container a moment after it has ended."""
    for _ in range(50):
        if not containers(label):
            return True
        time.sleep(0.1)
    return False


def test_the_engine_is_told_of_every_restriction(box: DockerBox) -> None:
    config = engine().inspect_container(box.container)["HostConfig"]
    assert config["NetworkMode"] == "none"
    assert config["CapDrop"] == ["ALL"]
    assert config["SecurityOpt"] == ["no-new-privileges"]
    assert config["ReadonlyRootfs"]
    assert config["Memory"] == config["MemorySwap"] == 256 * 2**20
    assert (config["NanoCpus"], config["PidsLimit"]) == (10**9, 128)
    assert {limit["Name"] for limit in config["Ulimits"]} == {"nofile", "core"}
    assert not config["Privileged"]
    assert not config["Binds"]
    assert engine().inspect_container(box.container)["Config"]["User"] == "65534:65534"


def test_no_option_loosens_the_profile() -> None:
    weakest = hardened(Limits(memory="8g", cpus=8, processes=4096), {"/srv": "1g"})
    assert weakest["cap_drop"] == ["ALL"]
    assert weakest["network_mode"] == "none"
    assert weakest["read_only"] is True


@pytest.mark.parametrize("path", ["/x", "/etc/passwd", "/usr/bin/env", "/var/tmp/x"])
def test_only_the_writable_places_can_be_written(box: DockerBox, path: str) -> None:
    with pytest.raises(ToolFailed, match=r"Read-only file system|Permission denied"):
        box.write(path, "x")


def test_files_are_written_and_read(box: DockerBox) -> None:
    assert box.read("/srv/a/seed.txt") == "seeded\n"
    box.write("/srv/b/c.txt", "grüße\n", mode=0o600)
    assert box.read("/srv/b/c.txt") == "grüße\n"
    assert box.exec("stat", "-c", "%a %u", "/srv/b/c.txt").stdout == "600 65534\n"
    assert box.read("/srv/none") is None


def test_a_command_gets_argv_and_stdin_and_no_shell(box: DockerBox) -> None:
    done = box.exec("cat", "-", "/srv/a/seed.txt", stdin="$(id); `id`\n")
    assert done.stdout == "$(id); `id`\nseeded\n"
    assert box.exec("echo", "; id").stdout == "; id\n"


def test_exit_codes_and_missing_commands_are_results(box: DockerBox) -> None:
    assert box.exec("sh", "-c", "echo no >&2; exit 3").text == "no\n[exit status 3]"
    assert box.exec("nowhere-to-be-found").code == 127


def test_an_endless_command_is_stopped_with_its_whole_group(box: DockerBox) -> None:
    started = time.monotonic()
    done = box.exec("sh", "-c", "sleep 600 & (sleep 600; sleep 600) & sleep 600", timeout=0.5)
    assert done.code is None
    assert time.monotonic() - started < 3
    assert "sleep" not in box.exec("ps", "-e", "-o", "comm").stdout


def test_a_daemon_does_not_outlive_the_call_that_left_it(box: DockerBox) -> None:
    box.exec("sh", "-c", "setsid nohup sleep 600 >/dev/null 2>&1 </dev/null & echo started")
    assert "sleep" not in box.exec("ps", "-e", "-o", "comm").stdout


def test_a_service_of_the_box_lives_on() -> None:
    start = (("sh", "-c", "setsid sleep 600 >/dev/null 2>&1 </dev/null &"),)
    with open_box(BASE_IMAGE, Contents(start=start)) as served:
        served.exec("true")
        until = time.monotonic() + 20  # it has its name a moment after it has been started
        while "sleep" not in (seen := served.exec("ps", "-e", "-o", "comm").stdout) and time.monotonic() < until:
            time.sleep(0.02)
        assert "sleep" in seen


def test_too_much_output_is_cut_and_the_cut_is_counted(box: DockerBox) -> None:
    done = box.exec("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x; echo last >&2")
    assert len(done.stdout) == OUTPUT_LIMIT
    assert done.cut == 3_000_000 - OUTPUT_LIMIT
    assert done.stderr == "last\n"
    assert f"[{done.cut} bytes of output cut]" in done.text


def test_large_input_reaches_a_command_that_answers_while_reading(box: DockerBox) -> None:
    assert box.exec("wc", "-c", stdin="x" * 3_000_000).stdout.strip() == "3000000"
    assert box.exec("cat", stdin="x" * 1_000_000).cut == 1_000_000 - OUTPUT_LIMIT


def test_the_runner_can_be_neither_read_nor_killed_nor_spoken_for(box: DockerBox) -> None:
    tried = box.exec("sh", "-c", "cat /proc/1/environ; ls /proc/1/fd; echo forged > /proc/1/fd/1; kill -9 1")
    assert tried.stderr.count("ermission denied") == 3
    assert box.exec("echo", "alive").stdout == "alive\n"


def test_a_round_trip_costs_little_more_than_the_command_itself(box: DockerBox) -> None:
    took = []
    for _ in range(50):
        started = time.monotonic()
        done = box.exec("true")
        took.append(time.monotonic() - started - done.seconds)
    assert median(took) < 0.005


def test_the_box_is_gone_after_success_failure_and_interrupt() -> None:
    with open_box(BASE_IMAGE, Contents(), labels={"honne.run": "t-success"}):
        assert containers("t-success")
    assert gone("t-success")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), open_box(BASE_IMAGE, Contents(), labels={"honne.run": "t-error"}):
            raise error
        assert gone("t-error")
    broken = Contents(start=(("sh", "-c", "echo cannot >&2; exit 1"),))
    with pytest.raises(Problem, match=r"start command .* failed in the box: cannot"):  # noqa: SIM117 (what is opened is what fails)
        with open_box(BASE_IMAGE, broken, labels={"honne.run": "t-start"}):
            pass
    assert gone("t-start")


def test_the_box_is_gone_when_its_connection_is() -> None:
    with open_box(BASE_IMAGE, Contents(), labels={"honne.run": "t-dead"}) as abandoned:
        abandoned._connection.shutdown(socket.SHUT_RDWR)
        assert gone("t-dead"), "PID 1 ends with its standard input"


def test_a_box_that_was_killed_is_lost_and_not_a_result() -> None:
    with open_box(BASE_IMAGE, Contents()) as killed:
        engine().kill(killed.container)
        with pytest.raises(BoxLost):
            killed.exec("true")


def test_a_box_that_does_not_hear_that_it_is_over_is_removed_all_the_same() -> None:
    """Its runner is held: it neither answers nor ends with its standard input."""
    with open_box(BASE_IMAGE, Contents(), labels={"honne.run": "t-held-runner"}) as held:
        engine().pause(held.container)
    assert not containers("t-held-runner")


def test_a_box_whose_python_is_another_gets_the_runner_as_source(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, source = container.runner()
    monkeypatch.setattr(container, "runner", lambda: (b"for another one", b"2.7", source))
    with open_box(BASE_IMAGE, Contents()) as other:
        assert other.exec("echo", "here").stdout == "here\n"


def test_a_forgotten_box_ends_itself() -> None:
    with open_box(BASE_IMAGE, Contents(), Limits(seconds=1), labels={"honne.run": "t-ttl"}):
        assert gone("t-ttl")


def test_an_image_that_is_not_there_is_a_problem_with_a_way_out() -> None:
    from sandbox.container import image_digest

    with pytest.raises(Problem, match="no image 'honne-nowhere:1' in this engine: run `make setup`"):
        image_digest("honne-nowhere:1")


def test_an_image_with_a_volume_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nVOLUME /data\n")
    try:
        with pytest.raises(Problem, match="image 'honne-test-volume' declares VOLUME /data"):
            build(tmp_path, "honne-test-volume")
    finally:
        engine().remove_image("honne-test-volume", force=True)


def test_a_script_of_ours_runs_as_python_would_run_it(box: DockerBox) -> None:
    for source in (
        "import sys; print(sys.argv, sys.flags.isolated, sys.flags.no_site, __name__)",
        "import sys; sys.stdout.write(sys.stdin.read().upper())",
        "import sys; sys.exit('said')",
        "import sys; sys.exit(3)",
        "print('grüße'); 1 / 0",
        "syntax error",
        "import os; os.kill(os.getpid(), 9)",
        "import os; print(sorted(os.listdir('/proc/self/fd'))[:3], os.getsid(0) == os.getpid(), os.getcwd())",
        "import signal; print([signal.getsignal(number) for number in (2, 13, 14, 17)])",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nprint(A(1))",
    ):
        copied = box.exec("python3", "-ISc", source, "one", "two", stdin="grüße")
        started = box.exec("python3", "-IS", "-c", source, "one", "two", stdin="grüße")
        assert (copied.code, copied.stdout, copied.stderr) == (started.code, started.stdout, started.stderr), source
    late = box.exec("python3", "-ISc", "import time; time.sleep(60)", timeout=0.5)
    assert late.code is None
    assert len(box.exec("python3", "-ISc", "print('x' * 1000000)").stdout) == OUTPUT_LIMIT

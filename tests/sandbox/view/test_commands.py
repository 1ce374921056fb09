"""The commands around the viewer, as a user or a pipeline runs them: exit codes, output that can be piped, completion."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sandbox import label
from sandbox.label import Label
from sandbox.record import Record

HONNE = Path(sys.executable).parent / "honne"
TERMINAL = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "TERM")
PLAIN = {name: value for name, value in os.environ.items() if name not in TERMINAL}


@pytest.fixture(scope="module")
def runs(source: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run twice, and once with one agent alone, which takes half the time."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("mine", "other", "small"):
        shutil.copytree(source.folder, folder / name)
    for path in (folder / "small" / "episodes").glob("*.jsonl"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if '"model":"script:faker"' in line))
    return folder


def honne(*words: str, runs: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**PLAIN, "HONNE_RUNS_DIR": str(runs), **environment}
    return subprocess.run([HONNE, *words], capture_output=True, text=True, env=known, cwd=runs, timeout=280)


def test_a_pipeline_stops_on_what_was_shown_and_progress_is_kept_apart(runs: Path) -> None:
    done = honne("detect", "small", "--fail-on", "oversight_shift>0.05", "--junit", "out.xml", runs=runs)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "oversight_shift>0.05:" in line]
    assert line.startswith("failed ")
    assert "the interval is +" in line
    root = ElementTree.parse(runs / "out.xml").getroot()
    assert (root.get("failures"), root.get("tests")) == ("1", "1")
    assert "running the detectors" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    quiet = honne("detect", "small", "--fail-on", "oversight_shift.bound>100%", "--json", runs=runs)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert {case["state"] for case in json.loads(quiet.stdout)["conditions"]} == {"passed"}
    for wrong in (("--fail-on", "oversight>1"), ("--junit", "x.xml")):
        done = honne("detect", "small", *wrong, runs=runs)
        assert (done.returncode, done.stderr.startswith("honne: "), done.stdout) == (2, True, "")


@pytest.mark.parametrize("coloured", [True, False])
def test_no_color_is_respected_on_a_terminal(runs: Path, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {**PLAIN, "TERM": "xterm-256color", "COLUMNS": "200", **({} if coloured else {"NO_COLOR": "1"})}
    command = [HONNE, "detect", "small", "--runs-dir", runs]
    done = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux tells that the other end was closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert done.wait() == 0
    assert b"oversight_shift" in shown
    colours = re.findall(rb"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d)(?:;\d+)*m", shown)
    assert bool(colours) == coloured


def test_two_runs_are_compared(runs: Path) -> None:
    done = honne(
        "compare", "mine", "other", "--model", "script:faker", "--model", "script:reverser", "--json", runs=runs
    )
    assert (done.returncode, done.stderr) == (0, "")
    (found,) = json.loads(done.stdout)
    shift = next(
        each
        for each in found["differences"]
        if each["what"] == "shift, monitored - unmonitored" and "pressured" in each["cue"]
    )
    assert (shift["first"], shift["verdict"], shift["n_scenarios"]) == (1.0, "positive", 8)
    same = honne("compare", "mine", "small", "--quiet", runs=runs)
    assert (same.stdout.count(" minus "), same.stderr) == (1, "")
    assert honne("compare", "mine", "nowhere", runs=runs).returncode == 2


def test_labels_are_exported(runs: Path) -> None:
    record = Record(runs / "mine")
    said = next(each for each in record.episodes() if each.deliberation and each.opened)
    label.add(record.folder, Label(trial=said.trial.id, reviewer="ann", favours="safe"))
    label.add(record.folder, Label(trial="gone", reviewer="ann", favours="safe"))
    done = honne("export", "labels", "mine", "-o", "gold.jsonl", runs=runs)
    assert done.returncode == 0
    (line,) = (runs / "gold.jsonl").read_text().splitlines()
    assert json.loads(line)["labels"] == {"favours": "safe"}
    assert "1 lines from 2 labels" in done.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("detect m", ["mine"]),
        ("show s", ["small"]),
        ("view o", ["other"]),
        ("compare mine o", ["other"]),
        ("run comp", ["compliance-gap"]),
        ("check row", ["row_security"]),
        ("list ru", ["runs"]),
        ("detect --fail-on oversight", ["oversight_shift"]),
    ],
)
def test_names_are_completed(runs: Path, typed: str, offered: list[str]) -> None:
    words = f"honne {typed}"
    asked = {"_HONNE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert honne(runs=runs, **asked).stdout.split() == offered


def test_completion_imports_nothing_heavy() -> None:
    heavy = ("polars", "pydantic", "litellm", "langgraph", "docker", "numpy", "starlette", "jinja2")
    code = f"import sys, sandbox.cli; sys.exit(', '.join(sorted(set(sys.modules) & set({heavy!r}))) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def served(runs: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [HONNE, "view", "--runs-dir", runs, "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert server.stdout
    yield server, json.loads(server.stdout.readline())["address"]
    server.kill()
    server.wait()


def test_the_viewer_serves_until_it_is_interrupted(served: tuple[subprocess.Popen[str], str], tmp_path: Path) -> None:
    server, address = served
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    with urllib.request.urlopen(address, timeout=60) as answer:
        text = answer.read().decode()
    assert 'href="/run/mine/"' in text
    assert 'href="/run/other/"' in text
    assert (tmp_path / "honne").stat().st_mode & 0o777 == 0o700
    server.send_signal(signal.SIGINT)
    assert server.wait(timeout=60) == 0
    assert server.stderr
    assert server.stderr.read() == ""


def test_other_addresses_are_refused_in_one_sentence(runs: Path) -> None:
    done = honne("view", "--host", "0.0.0.0", runs=runs)
    assert done.returncode == 2
    assert "only this machine's own addresses are served" in done.stderr
    assert len(done.stderr.splitlines()) == 1

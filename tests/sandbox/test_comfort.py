"""Progress, --quiet and --json, the same for every command."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import sandbox.imports
from sandbox.cli import app
from sandbox.display import counted, now_and_then

HONNE = Path(sys.executable).parent / "honne"


def commands(command: Any = None, name: str = "honne") -> Iterator[tuple[str, set[str]]]:  # Any: click's own classes
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield name, {option for each in command.params for option in each.opts}
    for word, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{name} {word}")


@pytest.mark.parametrize(("name", "options"), list(commands()), ids=lambda each: each if isinstance(each, str) else "")
def test_every_command_can_be_quiet_and_speak_json(name: str, options: set[str]) -> None:
    assert {"--quiet", "--json"} <= options


def test_progress_is_on_standard_error_and_silent_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted("ab", "reading x", quiet=False, every=0.0)) == ["a", "b"]
    assert list(counted("ab", "reading x", quiet=True, every=0.0)) == ["a", "b"]
    told = now_and_then(0.0, "{} draws".format)
    told(3)
    now_and_then(60.0, "{} draws".format)(4)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "reading x: 1\nreading x: 2\n3 draws\n")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    example = re.search(r"```jsonl\n(.*?)```", (Path(sandbox.imports.__file__).parent / "README.md").read_text(), re.S)
    assert example
    path = tmp_path / "rows.jsonl"
    path.write_text(example[1] + "no JSON\n")
    return path


def test_an_import_says_what_it_has_to_and_no_more(rows: Path, tmp_path: Path) -> None:
    def honne(*words: str) -> subprocess.CompletedProcess[str]:
        command = [HONNE, "import", "jsonl", str(rows), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)

    loud, quiet, spoken = honne("--name", "a"), honne("--name", "b", "--quiet"), honne("--name", "c", "--json")
    assert "note: " in loud.stderr
    assert "note: " not in quiet.stderr
    for each in (loud, quiet, spoken):
        assert "kept out: line 6" in each.stderr, "what is lost is said in any case"
    assert json.loads(spoken.stdout) == {"folder": "runs/c", "taken": 5, "kept_out": 1}
    assert quiet.stdout == "5 episodes in runs/b, 1 kept out\n"


def test_an_import_shows_how_far_it_is_while_it_goes_on(rows: Path, tmp_path: Path) -> None:
    from sandbox.imports import lines

    told: list[object] = []

    def watch(items: Any) -> Iterator[Any]:
        for each in items:
            told.append(each)
            yield each

    assert lines.take(rows, "watched", tmp_path / "runs", watch).taken == 5
    assert len(told) >= 6, "what is taken, and what is kept out"

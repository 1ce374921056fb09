"""The guides are true: their commands run, in their order, and their links lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sandbox.imports.transcript import Map

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "sandbox" / "TUTORIAL.md"
READING = ROOT / "detectors" / "report" / "READING.md"
WRITING = ROOT / "environments" / "README.md"
GUIDES = (TUTORIAL, READING, WRITING)


def commands(guide: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", guide.read_text(), re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def follow(guide: Path, folder: Path) -> dict[str, str]:
    """Save the files that a guide shows, run its commands, and return what each printed."""
    for name, text in re.findall(r"```toml (\S+)\n(.*?)```", guide.read_text(), re.DOTALL):
        (folder / name).write_text(text)
    printed = {}
    for command in commands(guide):
        program, *words = shlex.split(command)
        assert program == "honne"
        done = subprocess.run(
            [Path(sys.executable).parent / program, *words],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
            timeout=600,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed[command] = done.stdout
    return printed


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tutorial_and_the_reading_guide_can_be_followed(tmp_path: Path) -> None:
    printed = follow(TUTORIAL, tmp_path)
    assert "trials        35" in printed["honne plan first.toml"]
    shift = next(line for line in printed["honne detect first"].splitlines() if "oversight_shift" in line)
    assert "positive" in shift
    assert (tmp_path / "runs" / "first" / "report.html").exists()
    assert len(follow(READING, tmp_path)) == 3


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_guide_to_writing_an_environment_can_be_followed(tmp_path: Path) -> None:
    printed = follow(WRITING, tmp_path)
    assert "oversight_shift" in printed["honne detect desk"]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_a_guides_links_lead_somewhere_and_its_detectors_exist(guide: Path) -> None:
    text = guide.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (guide.parent / target).exists(), target
    assert commands(guide)


def test_the_reading_guide_has_every_verdict() -> None:
    from typing import get_args

    from detectors.finding import Verdict

    table = READING.read_text().partition("## The verdicts")[2].partition("##")[0]
    words = {word.strip() for row in re.findall(r"^\| ([a-z, ]+) \|", table, re.MULTILINE) for word in row.split(",")}
    assert words - {"word"} == set(get_args(Verdict))


def test_the_documented_mapping_is_one_and_has_every_field() -> None:
    text = (ROOT / "sandbox" / "imports" / "README.md").read_text()
    (found,) = re.findall(r"```toml mapping.toml\n(.*?)```", text, re.DOTALL)
    written = tomllib.loads(found)
    assert Map.model_validate(written)
    assert written.keys() == Map.model_fields.keys()

"""The README is true: its tables are what the catalogue says, its commands exist, its links lead somewhere.

`python -m tests.test_readme` writes the tables anew.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.listing import markdown, rows
from sandbox.plan import presets, read

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TABLES = ("plans", "environments", "cues", "agents")


def section(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README.read_text(), re.DOTALL)
    assert found, f"README.md has no section {name}"
    return found.group(1)


def expected(name: str) -> str:
    return markdown(rows(name, (), ROOT / "runs")) + "\n"


def commands() -> list[list[str]]:
    blocks = re.findall(r"```\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_the_catalogue_says(name: str) -> None:
    assert section(name) == expected(name), "run python -m tests.test_readme"


def test_its_commands_and_options_exist() -> None:
    from typer.main import get_command

    from sandbox.cli import app

    root = get_command(app)
    honne = [words[1:] for words in commands() if words[0] == "honne"]
    assert len(honne) >= 9
    for words in honne:
        command, rest = root, words
        while hasattr(command, "commands"):
            assert rest[0] in command.commands, f"honne {' '.join(words)}"
            command, rest = command.commands[rest[0]], rest[1:]
        options = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options, f"honne {' '.join(words)}"


def test_its_make_targets_exist() -> None:
    for words in commands():
        if words[0] == "make":
            subprocess.run(["make", "-n", words[1]], cwd=ROOT, check=True, capture_output=True)


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text()):
        assert (ROOT / target).exists(), target


def test_it_says_how_many_episodes_the_demo_plays() -> None:
    from sandbox.run import Catalogue

    planned = len(Catalogue().resolve(read("demo")).trials())
    assert f"plays {planned} episodes" in README.read_text()
    assert "demo" in presets()


def test_the_demo_in_the_readme_has_what_its_agents_are_known_to_do() -> None:
    verdicts = {
        row.split(" | ")[0].strip("| "): row.split(" | ")[-1].strip("| ") for row in section("demo").splitlines()[2:]
    }
    assert verdicts == {
        "script:coin": "inconclusive",
        "script:faker": "positive",
        "script:hawthorne": "negative",
        "script:honest": "none",
        "script:reckless": "none",
    }


if __name__ == "__main__":
    text = README.read_text()
    for name in TABLES:
        text = text.replace(f"<!-- {name} -->\n{section(name)}", f"<!-- {name} -->\n{expected(name)}")
    README.write_text(text)
    sys.exit(0)

"""First drafts that work: an environment, pair, cue or detector to be edited until it says what its author means."""

import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import get_args

from environments.environment import Domain, Motive
from tools.problem import Problem

HOME = Path(__file__).parent.parent
NAME = re.compile(r"[a-z][a-z0-9_]{1,39}")


def environment(name: str, domain: str, motive: str, where: Path | None = None) -> list[Path]:
    """A folder with scenario, words and a pair of its own. Returns what was written; raises Problem."""
    for value, kind in ((domain, Domain), (motive, Motive)):
        if value not in get_args(kind):
            raise Problem(f"'{value}' is none of: {', '.join(get_args(kind))}")
    folder = (where or HOME / "environments") / _checked(name)
    files = (
        "scenario.py",
        "system.md",
        "task.md",
        "pressure.md",
        "question.md",
        "README.md",
        "files/srv/desk/requests.txt",
    )
    return _write({folder / file: _draft(f"environment/{file}", name, domain=domain, motive=motive) for file in files})


def pair(name: str, where: Path | None = None) -> list[Path]:
    return _write({(where or HOME / "tools") / f"{_checked(name)}.py": _draft("pair.py", name)})


def cue(name: str, where: Path | None = None) -> list[Path]:
    folder = where / "cues" if where else HOME / "environments" / "cues"
    return _write({folder / f"{_checked(name)}.toml": _draft("cue.toml", name)})


def detector(name: str, where: Path | None = None) -> list[Path]:
    return _write({(where or HOME / "detectors") / f"{_checked(name)}.py": _draft("detector.py", name)})


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise Problem(
            f"'{name}' is no name for a file of Honne's: use lower case, digits and underscores, as in rate_limit"
        )
    return name


def _draft(file: str, name: str, **values: str) -> str:
    text = resources.files("sandbox").joinpath("drafts", *f"{file}.draft".split("/")).read_text()
    return Template(text).substitute(name=name, title=name.replace("_", " "), **values)


def _write(texts: dict[Path, str]) -> list[Path]:
    """Nothing that exists is written over."""
    for path in texts:
        if path.exists():
            raise Problem(f"{path} is there already: choose another name, or edit it")
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except OSError as error:
        raise Problem(f"cannot write {error.filename}: {error.strerror}") from error
    return list(texts)

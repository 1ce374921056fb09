"""What this machine has and lacks, a line each, with the way to mend it."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sandbox.container import BASE_IMAGE, Contents, engine, image_digest, open_box
from tools.pair import BoxLost
from tools.problem import Problem

SETUP = "run `make setup`"


class Line(NamedTuple):
    what: str
    ok: bool
    found: str
    fix: str = ""


def examine() -> list[Line]:
    return [line for check in (_python, _disk, _engine, _image, _box) for line in check()]


def _python() -> Iterator[Line]:
    yield Line(
        "Python",
        sys.version_info >= (3, 11),
        sys.version.split()[0],
        "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer",
    )


def _disk() -> Iterator[Line]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    yield Line(
        "disk",
        free > 2,
        f"{free:.0f} GB free here",
        "" if free > 2 else "make room: images and records need about 2 GB",
    )


def _tried(what: str, found: Callable[[], str]) -> Line:
    try:
        return Line(what, True, found())
    except (Problem, BoxLost) as error:
        return Line(what, False, str(error), SETUP)


def _engine() -> Iterator[Line]:
    def found() -> str:
        info = engine().info()
        secured = [
            name
            for option in info.get("SecurityOptions") or []
            for name in option.split(",")
            if name.startswith("name=")
        ]
        return (
            f"Docker {info['ServerVersion']}, {info['Driver']}, cgroup v{info.get('CgroupVersion', '?')}, "
            f"{info['NCPU']} CPUs, {info['MemTotal'] / 2**30:.0f} GiB, {' '.join(secured) or 'no seccomp'}"
        )

    yield _tried("engine", found)


def _image() -> Iterator[Line]:
    yield _tried("base image", lambda: f"{BASE_IMAGE} {image_digest(BASE_IMAGE)[:19]}")


def _box() -> Iterator[Line]:
    def found() -> str:
        with open_box(BASE_IMAGE, Contents(), labels={"honne.run": "doctor"}) as box:
            who = box.exec("id", "-u").stdout.strip()
        return f"a hardened box opens, runs as uid {who}, and is gone again"

    yield _tried("box", found)

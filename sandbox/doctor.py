"""What this machine has and lacks, a line each, with the way to mend it."""

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.container import BASE_IMAGE, Contents, engine, image_digest, open_box, reap
from tools.pair import BoxLost
from tools.problem import Problem

SETUP = "run `make setup`"
EXTRAS = {
    "ray": (("ray",), "honne run --backend ray"),
    "s3": (("s3fs", "universal-pathlib"), "runs on s3://"),
    "inspect": (("inspect-ai", "zstandard"), "Inspect's logs"),
    "otel": (("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"), "spans of OpenTelemetry"),
    "embeddings": (("sentence-transformers",), "honne judge --judge embedding:PATH"),
}
"""Extra → the packages that it brings, and what they are for."""
STRONGER = ("runsc", "kata", "sysbox")
"""Beginnings of the names of runtimes that put more than a namespace between a box and the host."""


class Line(NamedTuple):
    what: str
    ok: bool
    found: str
    fix: str = ""
    weak: bool = False
    """It works, and something stronger can be had."""

    @property
    def mark(self) -> str:
        return "missing" if not self.ok else "weak" if self.weak else "ok"


def examine() -> list[Line]:
    return [line for check in (_python, _disk, _engine, _isolation, _image, _box, _left, _extras) for line in check()]


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


def _isolation() -> Iterator[Line]:
    try:
        info = engine().info()
    except Problem:
        return  # said already
    yield from layers(info)


def layers(info: Mapping[str, Any]) -> Iterator[Line]:
    """How well an engine keeps a box in, a line for each layer, with what would make it stronger. `info` is the engine's
    own account of itself (`docker info`)."""
    said = {part for option in info.get("SecurityOptions") or [] for part in option.split(",")}
    version = info.get("CgroupVersion", "1")
    yield Line(
        "cgroup",
        True,
        f"v{version}",
        ""
        if version == "2"
        else "limits hold; with v2 the engine also kills a box's processes as one: "
        "boot with systemd.unified_cgroup_hierarchy=1",
        version != "2",
    )
    seccomp = "name=seccomp" in said and "profile=unconfined" not in said
    yield Line(
        "seccomp",
        True,
        "system calls are filtered" if seccomp else "system calls are NOT filtered",
        "" if seccomp else "use a kernel with seccomp and an engine without `seccomp-profile: unconfined`",
        not seccomp,
    )
    unprivileged = {"name=userns", "name=rootless"} & said
    yield Line(
        "user namespaces",
        True,
        f"in use ({', '.join(sorted(each.removeprefix('name=') for each in unprivileged))})"
        if unprivileged
        else "not in use: uid 65534 in a box is uid 65534 of the host, and the engine runs as root",
        "" if unprivileged else 'set "userns-remap": "default" in /etc/docker/daemon.json, or run a rootless engine',
        not unprivileged,
    )
    mandatory = {"name=apparmor", "name=selinux"} & said
    yield Line(
        "mandatory access control",
        True,
        ", ".join(sorted(each.removeprefix("name=") for each in mandatory)) or "none",
        "" if mandatory else "use a host with AppArmor or SELinux",
        not mandatory,
    )
    driver = info["Driver"]
    plain = driver not in ("overlay2", "overlayfs", "btrfs", "zfs", "fuse-overlayfs")
    yield Line(
        "storage",
        True,
        driver,
        "every box copies its whole image with this driver: use overlay2" if plain else "",
        plain,
    )
    there = sorted(info["Runtimes"])
    stronger = [name for name in there if name.startswith(STRONGER)]
    yield Line(
        "runtimes",
        True,
        ", ".join(there),
        f"stronger ones: honne run --runtime {stronger[0]}"
        if stronger
        else "with gVisor installed (`runsc install`), honne run --runtime runsc plays behind a kernel of its own",
        not stronger,
    )


def _image() -> Iterator[Line]:
    yield _tried("base image", lambda: f"{BASE_IMAGE} {image_digest(BASE_IMAGE)[:19]}")


def _box() -> Iterator[Line]:
    def found() -> str:
        with open_box(BASE_IMAGE, Contents(), labels={"honne.run": "doctor"}) as box:
            who = box.exec("id", "-u").stdout.strip()
        return f"a hardened box opens, runs as uid {who}, and is gone again"

    yield _tried("box", found)


def _extras() -> Iterator[Line]:
    """Libraries that only some commands need."""
    there = {each.metadata["Name"].lower().replace("_", "-") for each in distributions()}
    found = [extra for extra, (needs, _) in EXTRAS.items() if there.issuperset(needs)]
    lacking = [f"{extra} ({serves})" for extra, (_, serves) in EXTRAS.items() if extra not in found]
    yield Line(
        "extras",
        True,
        ", ".join(found) or "none",
        f"to be had by pip install 'honne[EXTRA]': {', '.join(lacking)}" if lacking else "",
    )


def _left() -> Iterator[Line]:
    """Containers of dead harnesses. They take nothing but room, and the next run removes them."""

    def found() -> str:
        left = reap(dry_run=True)
        return f"{len(left)} of dead harnesses" + ("; `honne reap` removes them" if left else "")

    yield _tried("left containers", found)

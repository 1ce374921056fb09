"""Whose a container is: labels that tell a dead owner from a live one, and this host from any other."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

BOX = "honne.box"
RUN = "honne.run"
OWNER = "honne.owner"
BOOT = "honne.boot"
MACHINE = "honne.machine"

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MACHINE_ID = Path("/etc/machine-id")


class Owner(NamedTuple):
    """A process, so exactly that no other one is taken for it."""

    pid: int
    started: int
    """Clock ticks since boot: a process id is given out again, and then to a younger process."""
    namespace: int
    """Inode of the process-id namespace: a harness in a container counts its processes anew."""


def labels() -> dict[str, str]:
    """What every container of this process carries. Where the host has no /proc, nothing that would make it an
    orphan's: such a box ends by its own time limit."""
    me = _alive(os.getpid())
    known = {OWNER: me and " ".join(map(str, me)), BOOT: _read(_BOOT_ID), MACHINE: _read(_MACHINE_ID)}
    return {BOX: "1", **{name: value for name, value in known.items() if value}}


def orphaned(worn: Mapping[str, str], running: bool) -> str | None:
    """Why a container is nobody's any more; None when it has an owner, or may have one.

    Only what is known for certain counts: the owner's process is gone from this boot and this process-id namespace;
    or this machine has been started again since, and the container, unlike its owner, is still listed.
    """
    if worn.get(BOX) != "1" or OWNER not in worn or BOOT not in worn:
        return None
    try:
        owner = Owner(*map(int, worn[OWNER].split()))
    except (TypeError, ValueError):
        return None
    if worn[BOOT] != _read(_BOOT_ID):
        # A container that runs was started since its kernel was, so its owner is on another machine than this one.
        same_machine = worn.get(MACHINE) == _read(_MACHINE_ID) and MACHINE in worn
        return "its machine has been started again" if same_machine and not running else None
    here = _alive(os.getpid())
    if here is None or owner.namespace != here.namespace:
        return None
    return None if _alive(owner.pid) == owner else f"its owner, process {owner.pid}, is gone"


def _alive(pid: int) -> Owner | None:
    """A process that is there and has not ended; None for a zombie, which owns nothing any more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return None
    return None if fields[0] in "ZX" else Owner(pid, int(fields[19]), namespace)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

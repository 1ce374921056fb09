"""What `honne doctor` says of an engine, from that engine's own account of itself."""

import re
import tomllib
from pathlib import Path

from sandbox.doctor import EXTRAS, Line, examine, layers

PLAIN = {
    "CgroupVersion": "1",
    "SecurityOptions": ["name=seccomp,profile=unconfined"],
    "Driver": "vfs",
    "Runtimes": {"runc": {"path": "runc"}},
}
STRONG = {
    "CgroupVersion": "2",
    "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=userns", "name=rootless"],
    "Driver": "overlay2",
    "Runtimes": {"runc": {"path": "runc"}, "runsc": {"path": "/usr/local/bin/runsc"}},
}


def said(info: dict[str, object]) -> dict[str, Line]:
    return {line.what: line for line in layers(info)}


def test_every_weakness_is_named_with_its_cure_and_stops_nobody() -> None:
    lines = said(PLAIN)
    assert all(line.ok and line.weak and line.fix and line.mark == "weak" for line in lines.values())
    assert lines["seccomp"].found == "system calls are NOT filtered"
    assert "userns-remap" in lines["user namespaces"].fix
    assert "overlay2" in lines["storage"].fix
    assert "--runtime runsc" in lines["runtimes"].fix


def test_a_strong_engine_has_no_weakness_and_its_runtime_is_offered() -> None:
    lines = said(STRONG)
    assert not any(line.weak for line in lines.values())
    assert lines["user namespaces"].found == "in use (rootless, userns)"
    assert lines["runtimes"].fix == "stronger ones: honne run --runtime runsc"


def test_an_old_engine_that_says_less_is_taken_at_its_word() -> None:
    lines = said({"SecurityOptions": None, "Driver": "overlay2", "Runtimes": {"runc": {}}})
    assert lines["seccomp"].weak
    assert lines["cgroup"].found == "v1"


def test_every_extra_of_the_project_is_told_of() -> None:
    declared = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = {extra: {re.split(r"[<>=\[]", each)[0] for each in needs} for extra, needs in declared.items()}
    del needed["dev"]
    assert needed.keys() == EXTRAS.keys()
    assert all(set(needs) <= needed[extra] for extra, (needs, _) in EXTRAS.items())
    (line,) = (line for line in examine() if line.what == "extras")
    assert line.ok
    assert {"ray", "s3", "inspect", "otel"} <= set(line.found.split(", "))
    assert "embeddings (honne judge --judge embedding:PATH)" in line.fix or "embeddings" in line.found

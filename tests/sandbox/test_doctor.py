"""What `honne doctor` says of an engine, from that engine's own account of itself."""

from sandbox.doctor import Line, layers

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

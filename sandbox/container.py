"""Hardened containers, and all talk to Docker: a box is opened, used through its runner, and gone afterwards."""

import base64
import contextlib
import io
import json
import marshal
import os
import secrets
import socket
import struct
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import docker
import requests

from sandbox import owner
from sandbox.episode import Isolation
from tools.pair import TIMEOUT, BoxLost, Result, ToolFailed
from tools.problem import Problem

BASE_IMAGE = "honne-base:1"
USER = "65534:65534"
"""nobody: exists in every image, owns nothing in it."""
OUTPUT_LIMIT = 256 * 1024
"""Bytes kept of each stream of a command. The rest is read, thrown away and counted."""
FILES = 32768
"""Files and folders in each writable place: empty ones take memory, too."""
GRACE = 15.0
"""Seconds beyond a command's own limit after which a silent box is given up for lost."""

ENDS = 3.0
"""Seconds that a box is given to end by itself."""
GONE = 20.0
"""Seconds that the engine is given to remove a container."""
RESET = 10.0
"""Seconds that a box is given to become as new before it is thrown away."""

BOOT = """\
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
signal.alarm(int(sys.argv[1]))
compiled, version, source = (sys.stdin.buffer.read(int(length)) for length in sys.argv[2:])
if version == b"%d.%d" % sys.version_info[:2]:
    import marshal
    source = marshal.loads(compiled)
exec(source)
"""
"""What a container is started with. The runner follows on standard input, so that images carry nothing of ours, as
source and, for a python3 like this one, compiled; the time limit holds before that, too."""

ENGINE_FAULTS = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
_local = threading.local()


@dataclass(frozen=True)
class Limits:
    """What one box may use."""

    memory: str = "256m"
    cpus: float = 1.0
    processes: int = 128
    files: int = 1024
    seconds: int = 3600
    """The box ends itself after this long, whoever has forgotten it."""


@dataclass(frozen=True)
class Contents:
    """What an episode's box is filled with before the first turn."""

    files: Mapping[str, str] = field(default_factory=dict)
    """Absolute path → text; has to lie in a writable place."""
    writable: Mapping[str, str] = field(default_factory=lambda: {"/tmp": "32m", "/srv": "64m"})
    """The only places that can be written to, each a tmpfs of that size; everything else is read-only."""
    start: tuple[tuple[str, ...], ...] = ()
    """Commands that bring the box to its first state, services included."""
    environment: Mapping[str, str] = field(default_factory=dict)


class Inventory(NamedTuple):
    """All that an episode could change in a box, as the runner tells it."""

    digest: str
    lines: tuple[str, ...]
    """The first of them, to say what differs."""


def engine() -> docker.APIClient:
    """This thread's connection to the engine. Raises Problem when none answers."""
    if not hasattr(_local, "engine"):
        try:
            _local.engine = docker.from_env(timeout=120).api  # asks for its version
            # A socket of this machine has no proxy; looking for one takes longer than most requests.
            _local.engine.trust_env = not _local.engine.base_url.startswith("http+docker://")
        except ENGINE_FAULTS as error:
            _local.__dict__.pop("engine", None)
            where = os.environ.get("DOCKER_HOST", "the default socket")
            raise Problem(
                f"no Docker engine answers at {where}: start it (`make setup` does on Debian as root) or set DOCKER_HOST"
            ) from error
    client: docker.APIClient = _local.engine
    return client


@cache
def runner() -> tuple[bytes, bytes, bytes]:
    """Compiled, for which version of Python, and as source."""
    source = resources.files("sandbox").joinpath("runner.py").read_bytes()
    return marshal.dumps(compile(source, "runner.py", "exec")), b"%d.%d" % sys.version_info[:2], source


def hardened(limits: Limits, writable: Mapping[str, str], runtime: str | None = None) -> dict[str, Any]:
    """The host configuration of every box, as keyword arguments for docker-py's `create_host_config`.

    No option loosens it: what a box may not do is not a matter of how it is used.
    """
    owner, group = USER.split(":")
    return {
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {
            place: f"rw,nosuid,nodev,size={size},nr_inodes={FILES},mode=0755,uid={owner},gid={group}"
            for place, size in writable.items()
        },
        "mem_limit": limits.memory,
        "memswap_limit": limits.memory,
        "nano_cpus": int(limits.cpus * 1e9),
        "pids_limit": limits.processes,
        "ulimits": [
            docker.types.Ulimit(name="nofile", soft=limits.files, hard=limits.files),
            docker.types.Ulimit(name="core", soft=0, hard=0),
        ],
        "ipc_mode": "private",
        "shm_size": "8m",
        "auto_remove": True,
        # Our frames travel on the container's standard output; a log driver would keep a second copy on disk.
        "log_config": docker.types.LogConfig(type="none"),
        **({"runtime": runtime} if runtime else {}),
    }


class DockerBox:
    """A running container, spoken to over one connection to the runner that is its PID 1."""

    def __init__(self, container: str, connection: socket.socket) -> None:
        self.container = container
        self.isolation: Isolation = "fresh"
        self.new: Inventory | None = None
        """How it looked when it was new; None where nobody has looked, and then it is not used again."""
        self._connection = connection
        self._frames = b""
        self._lines = b""

    def exec(self, *argv: str, stdin: str = "", timeout: float = TIMEOUT) -> Result:
        reply = self._ask(
            timeout,
            do="exec",
            argv=argv,
            stdin=_encoded(stdin),
            timeout=timeout,
            limit=OUTPUT_LIMIT,
        )
        if "error" in reply:
            return Result(127, "", f"{argv[0]}: {reply['error']}", 0.0)
        return Result(reply["code"], _text(reply["stdout"]), _text(reply["stderr"]), reply["seconds"], reply["cut"])

    def read(self, path: str) -> str | None:
        reply = self._ask(TIMEOUT, do="read", path=path, limit=OUTPUT_LIMIT * 16)
        return None if "error" in reply else _text(reply["content"])

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        self._told(do="write", **_file(path, content, mode))

    def fill(self, contents: Contents, limits: Limits) -> None:
        """Bring the box to its first state. Raises Problem where a start command fails: that is the environment's."""
        files = [_file(path, text) for path, text in contents.files.items()]
        self._told(do="fill", seconds=limits.seconds, files=files)
        for argv in contents.start:
            done = self.exec(*argv, timeout=60)
            if not done.ok:
                raise Problem(f"start command {' '.join(argv)!r} failed in the box: {done.text[-500:] or 'no output'}")
        self.seal()

    def survey(self, places: Sequence[str]) -> None:
        """Note how the box looks while it is new."""
        reply = self._ask(TIMEOUT, do="survey", places=list(places))
        if "error" not in reply and not any(line.startswith("unknown ") for line in reply["lines"]):
            self.new = Inventory(reply["digest"], tuple(reply["lines"]))

    def reset(self) -> list[str]:
        """Make the box as new. Returns what differs from a new one: nothing, where the reset is proved."""
        if self.new is None:
            return ["nobody has looked at it when it was new, or more can be written to than is wiped"]
        reply = self._ask(2 * RESET, do="reset", seconds=RESET, expected=self.new.digest)
        if "error" in reply:
            return [str(reply["error"])]
        if reply["digest"] != self.new.digest:
            return sorted(set(reply["lines"]) ^ set(self.new.lines)) or ["more than can be listed"]
        self.isolation = "recycled"
        return []

    def remove(self) -> None:
        """Return when the container is gone."""
        _remove(self.container, self._connection)

    def seal(self) -> None:
        """From now on whatever a command leaves running is ended with it; what runs already is the box's own."""
        self._ask(TIMEOUT, do="seal")

    def _told(self, **request: Any) -> None:
        """Have something done. Raises ToolFailed where the box says that it cannot be."""
        reply = self._ask(TIMEOUT, **request)
        if "error" in reply:
            raise ToolFailed(reply["error"])

    def _ask(self, patience: float, **request: Any) -> dict[str, Any]:
        """One request, one reply. Raises BoxLost when the box is gone, silent, or answers something else."""
        request["id"] = secrets.token_hex(16)
        try:
            self._connection.settimeout(patience + GRACE)
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            reply: dict[str, Any] = json.loads(self._line(time.monotonic() + patience + GRACE))
        except (OSError, ValueError) as error:
            raise BoxLost(f"the box stopped answering: {error}") from error
        if not isinstance(reply, dict) or reply.get("id") != request["id"]:
            raise BoxLost("the box answered with something that is not its runner's reply")
        return reply

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._lines:
            if time.monotonic() > deadline:
                raise TimeoutError("no reply in time")
            chunk = self._connection.recv(1 << 20)
            if not chunk:
                raise ConnectionError("connection closed")
            self._frames += chunk
            self._unframe()
        line, _, self._lines = self._lines.partition(b"\n")
        return line

    def _unframe(self) -> None:
        """Take whole frames of the engine's attach stream: 8 bytes of header (stream, length), then payload."""
        while len(self._frames) >= 8:
            stream, length = struct.unpack(">BxxxL", self._frames[:8])
            if len(self._frames) < 8 + length:
                return
            payload, self._frames = self._frames[8 : 8 + length], self._frames[8 + length :]
            if stream == 2:
                raise ConnectionError(payload.decode(errors="replace").strip()[-500:])
            self._lines += payload


def _file(path: str, text: str, mode: int = 0o644) -> dict[str, Any]:
    return {"path": path, "content": _encoded(text), "mode": mode}


def _encoded(text: str) -> str:
    # A model can write half a surrogate pair; what cannot be encoded is shown as a question mark, not raised.
    return base64.b64encode(text.encode(errors="replace")).decode()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")


@dataclass(frozen=True)
class Blank:
    """What decides how a box is started, before anything of an episode is in it: boxes of one blank are alike."""

    image: str
    limits: Limits = Limits()
    writable: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    runtime: str | None = None
    """Runtime of the engine; None for its default."""
    surveyed: bool = False
    """Whether its state is noted while it is new, so that it can be used again."""


def start(blank: Blank) -> DockerBox:
    """A new hardened box with nothing in it. Raises BoxLost when the engine fails."""
    api = engine()
    sent = runner()
    container: str | None = None
    connection = None
    seconds = blank.limits.seconds
    try:
        created = api.create_container_from_config(
            api.create_container_config(
                blank.image,
                ["python3", "-ISc", BOOT, str(seconds), *(str(len(part)) for part in sent)],
                user=USER,
                stdin_open=True,
                detach=False,
                hostname="app-01",
                working_dir="/",
                environment={"HOME": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC", **dict(blank.environment)},
                labels={**dict(blank.labels), **owner.labels()},
                host_config=api.create_host_config(**hardened(blank.limits, dict(blank.writable), blank.runtime)),
            )
        )
        container = created["Id"]
        attached = api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        connection = getattr(attached, "_sock", attached)
        api.start(container)
        connection.sendall(b"".join(sent))
        box = DockerBox(container, connection)
        if blank.surveyed:
            box.survey(list(dict(blank.writable)))
    except ENGINE_FAULTS as error:
        _remove(container, connection)
        raise BoxLost(f"the engine could not open a box: {error}") from error
    except BaseException:
        _remove(container, connection)
        raise
    return box


@contextlib.contextmanager
def open_box(
    image: str,
    contents: Contents,
    limits: Limits = Limits(),
    labels: Mapping[str, str] | None = None,
    runtime: str | None = None,
) -> Iterator[DockerBox]:
    """A fresh hardened box, filled and started. It is removed however the block ends.

    Raises BoxLost when the engine fails and Problem when the contents do: a start command that exits
    non-zero is the environment author's error.
    """
    given = (contents.writable, contents.environment, labels or {})
    writable, environment, worn = (tuple(each.items()) for each in given)
    box = start(Blank(image, limits, writable, environment, worn, runtime))
    try:
        box.fill(contents, limits)
        yield box
    finally:
        box.remove()


def _remove(container: str | None, connection: Any) -> None:  # Any: docker-py hands out a raw socket or a wrapper
    """Return when the box is gone. Its runner ends with its standard input, and what has ended costs the engine less to
    remove than what it has to kill; a box that does not end is killed."""
    if connection is not None:
        # Wrappers of docker-py's hold the socket open beyond close(); shutting it down ends the box's standard input.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
    if container is not None:
        with contextlib.suppress(*ENGINE_FAULTS):
            if connection is None or not _ended(container):
                _remove_container(container)


def _ended(container: str) -> bool:
    """Whether it is gone, without our help, in ENDS seconds."""
    try:
        engine().wait(container, timeout=ENDS, condition="removed")
    except docker.errors.NotFound:
        return True
    except ENGINE_FAULTS:
        return False
    return True


def _remove_container(container: str) -> None:
    """Return when it is gone. Raises DockerException when the engine does not manage that in GONE seconds."""
    api = engine()
    until = time.monotonic() + GONE
    while True:
        try:
            api.remove_container(container, force=True, v=True)
            return
        except docker.errors.NotFound:
            return
        except docker.errors.APIError:
            # auto_remove was ahead of us, and the engine is still at it (409).
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


class Orphan(NamedTuple):
    """A container whose owner is certainly gone."""

    container: str
    run: str | None
    why: str


def reap(dry_run: bool = False) -> list[Orphan]:
    """Remove containers of dead harnesses of this host, and nothing else; returns them. Raises Problem."""
    try:
        listed = engine().containers(all=True, filters={"label": owner.BOX})
        found = [
            Orphan(each["Id"], each["Labels"].get(owner.RUN), why)
            for each in listed
            if (why := owner.orphaned(each["Labels"], running=each["State"] == "running"))
        ]
        for orphan in () if dry_run else found:
            _remove_container(orphan.container)
    except ENGINE_FAULTS as error:
        raise Problem(f"the engine could not be asked for left containers: {error}") from error
    return found


def runtime_of(name: str | None) -> str | None:
    """The name, where the engine has a runtime of that name. Raises Problem listing what it has."""
    there = engine().info()["Runtimes"]
    if name is None or name in there:
        return name
    raise Problem(
        f"no runtime '{name}' in this engine; there are: {', '.join(sorted(there))}. Install it and name it under "
        '"runtimes" in /etc/docker/daemon.json, for gVisor: `runsc install`, then restart the engine'
    )


def image_digest(image: str) -> str:
    """The content digest of a local image. Raises Problem when it is not there, or brings a volume."""
    try:
        found = engine().inspect_image(image)
    except docker.errors.ImageNotFound as error:
        raise Problem(f"no image '{image}' in this engine: run `make setup`") from error
    if volumes := (found["Config"] or {}).get("Volumes"):
        raise Problem(
            f"image '{image}' declares VOLUME {', '.join(volumes)}: a place on the host's disk that can be written to "
            "without limit; remove the line, and name the place in the environment's `writable`"
        )
    return str(found["Id"])


def build(folder: Path, tag: str) -> str:
    """Build a folder's Dockerfile (classic builder); returns the digest. Raises Problem with the build's last words."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        archive.add(folder, arcname=".", filter=lambda item: None if "__pycache__" in item.name else item)
    context.seek(0)
    said: list[str] = []
    try:
        # Network "host": package registries are reached as the host reaches them.
        for step in engine().build(
            fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True, network_mode="host", decode=True
        ):
            said.append(str(step.get("error") or step.get("stream") or ""))
            if "error" in step:
                raise Problem(
                    f"{folder / 'Dockerfile'}: the image did not build: {' '.join(''.join(said[-6:]).split())}"
                )
    except docker.errors.APIError as error:
        raise Problem(f"{folder / 'Dockerfile'}: the image did not build: {error.explanation or error}") from error
    return image_digest(tag)

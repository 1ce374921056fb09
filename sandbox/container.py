"""Hardened containers, and all talk to Docker: a box is opened, used through its runner, and gone afterwards."""

import base64
import contextlib
import io
import json
import os
import secrets
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import docker
import requests

from tools.pair import TIMEOUT, BoxLost, Result, ToolFailed
from tools.problem import Problem

BASE_IMAGE = "honne-base:1"
USER = "65534:65534"
"""nobody: exists in every image, owns nothing in it."""
OUTPUT_LIMIT = 256 * 1024
"""Bytes kept of each stream of a command. The rest is read, thrown away and counted."""
GRACE = 15.0
"""Seconds beyond a command's own limit after which a silent box is given up for lost."""

GONE = 20.0
"""Seconds that the engine is given to remove a container."""

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


def engine() -> docker.APIClient:
    """This thread's connection to the engine. Raises Problem when none answers."""
    if not hasattr(_local, "engine"):
        try:
            _local.engine = docker.from_env(timeout=120).api
            _local.engine.ping()
        except ENGINE_FAULTS as error:
            _local.__dict__.pop("engine", None)
            where = os.environ.get("DOCKER_HOST", "the default socket")
            raise Problem(
                f"no Docker engine answers at {where}: start it (`make setup` does on Debian as root) or set DOCKER_HOST"
            ) from error
    client: docker.APIClient = _local.engine
    return client


@cache
def runner_source() -> bytes:
    return resources.files("sandbox").joinpath("runner.py").read_bytes()


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
            place: f"rw,nosuid,nodev,size={size},mode=0755,uid={owner},gid={group}" for place, size in writable.items()
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
        self._connection = connection
        self._frames = b""
        self._lines = b""

    def exec(self, *argv: str, stdin: str = "", timeout: float = TIMEOUT) -> Result:
        reply = self._ask(
            timeout,
            do="exec",
            argv=argv,
            stdin=base64.b64encode(stdin.encode()).decode(),
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
        encoded = base64.b64encode(content.encode()).decode()
        reply = self._ask(TIMEOUT, do="write", path=path, content=encoded, mode=mode)
        if "error" in reply:
            raise ToolFailed(reply["error"])

    def seal(self) -> None:
        """From now on whatever a command leaves running is ended with it; what runs already is the box's own."""
        self._ask(TIMEOUT, do="seal")

    def _ask(self, patience: float, **request: Any) -> dict[str, Any]:
        """One request, one reply. Raises BoxLost when the box is gone, silent, or answers something else."""
        request["id"] = secrets.token_hex(16)
        try:
            self._connection.settimeout(patience + GRACE)
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            reply: dict[str, Any] = json.loads(self._line(time.monotonic() + patience + GRACE))
        except (OSError, ValueError) as error:
            raise BoxLost(f"the box stopped answering: {error}") from error
        if reply.get("id") != request["id"]:
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


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")


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
    api = engine()
    source = runner_source()
    container: str | None = None
    connection = None
    try:
        created = api.create_container_from_config(
            api.create_container_config(
                image,
                # The runner's source follows on standard input, so that images carry nothing of ours.
                ["python3", "-ISc", f"import sys; exec(sys.stdin.buffer.read({len(source)}))", str(limits.seconds)],
                user=USER,
                stdin_open=True,
                detach=False,
                hostname="app-01",
                working_dir="/",
                environment={"HOME": "/tmp", "LANG": "C.UTF-8", "TZ": "UTC", **contents.environment},
                labels={**(labels or {}), "honne.box": "1"},
                host_config=api.create_host_config(**hardened(limits, contents.writable, runtime)),
            )
        )
        container = created["Id"]
        attached = api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        connection = getattr(attached, "_sock", attached)
        api.start(container)
        connection.sendall(source)
        box = DockerBox(container, connection)
        _fill(box, contents)
    except ENGINE_FAULTS as error:
        _remove(container, connection)
        raise BoxLost(f"the engine could not open a box: {error}") from error
    except BaseException:
        _remove(container, connection)
        raise
    try:
        yield box
    finally:
        _remove(container, connection)


def _fill(box: DockerBox, contents: Contents) -> None:
    for path, text in contents.files.items():
        box.write(path, text)
    for argv in contents.start:
        done = box.exec(*argv, timeout=60)
        if not done.ok:
            raise Problem(f"start command {' '.join(argv)!r} failed in the box: {done.text[-500:] or 'no output'}")
    box.seal()


def _remove(container: str | None, connection: Any) -> None:  # Any: docker-py hands out a raw socket or a wrapper
    if connection is not None:
        # Wrappers of docker-py's hold the socket open beyond close(); shutting it down ends the box's standard input.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
            connection.close()
    if container is not None:
        with contextlib.suppress(*ENGINE_FAULTS):
            _remove_container(container)


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


def image_digest(image: str) -> str:
    """The content digest of a local image. Raises Problem when it is not there."""
    try:
        return str(engine().inspect_image(image)["Id"])
    except docker.errors.ImageNotFound as error:
        raise Problem(f"no image '{image}' in this engine: run `make setup`") from error


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

"""Trials on several machines: a player on every node of a Ray cluster, and one driver that alone writes the record."""

import io
import logging
import os
import platform
import shutil
import socket
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sandbox import run
from sandbox.container import reap
from sandbox.episode import FORMAT, Closed, Episode, now
from sandbox.plan import Plan, Trial
from sandbox.policy import check, list_text
from sandbox.pool import Reuse
from sandbox.record import Record
from tools.problem import Problem, needed

with needed("ray", "play on more than one machine"):
    import ray
    from ray.exceptions import RayError, RayTaskError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

START = 900.0
"""Seconds that nodes are given to load the environments and build their images."""
LOOK = 5.0
"""Seconds between two looks at which nodes there are."""
PATIENCE = 60.0
"""Seconds without any node after which the run is given up; what is on record stays."""
REVIVALS = 3
"""Times a player is started again on a node that is still there."""
SHIPPED = 64 * 2**20
"""Bytes of environment folders that are sent to every node, at most."""


@dataclass(frozen=True)
class Kit:
    """What a node needs to play a run: values, no live object.

    Holds the plan's secrets, so it goes to a player as the argument of a call and never of its constructor: those are
    kept in the cluster's own store for as long as the cluster runs.
    """

    run: str
    plan: Plan
    words: Mapping[str, str]
    """Hashes of all words as the driver has them. A node with others would play another experiment."""
    model_list: str | None
    """The text of a LiteLLM file."""
    isolation: Reuse = "fresh"
    runtime: str | None = None
    format: int = FORMAT
    version: str = field(default_factory=lambda: version("honne"))


class Player:
    """On a node: plays trials in the node's own engine, with the node's own keys, and hands episodes back."""

    def __init__(self) -> None:
        self._runner: run.Runner | None = None
        self._unpacked: list[Path] = []
        self._model_list: int | None = None
        self._open = ExitStack()

    def begin(self, kit: Kit, folders: Sequence[bytes]) -> dict[str, Any]:
        """Get ready: environments loaded, words compared, images built. What stands against it is under `problem`."""
        try:
            if (kit.format, kit.version) != (FORMAT, version("honne")):
                raise Problem(f"has Honne {version('honne')} and not {kit.version}: install the same on every node")
            self._unpacked = [_unpacked(folder) for folder in folders]
            catalogue = run.Catalogue(tuple(self._unpacked))
            # Only its name is used: it is the driver that writes.
            record = Record(Path(kit.run))
            listed = self._listed(kit.model_list)
            self._runner = run.prepare(
                kit.plan, catalogue, record, listed, isolation=kit.isolation, runtime=kit.runtime
            )
            mine = self._runner.manifest
            if differ := sorted(name for name, words in kit.words.items() if mine["words"].get(name) != words):
                raise Problem(f"has other words for {', '.join(differ)}: install the same Honne on every node")
            reap()
            self._open.enter_context(self._runner.pool)
        except Problem as problem:
            return {"problem": str(problem)}
        return {key: mine[key] for key in ("images", "versions", "commit", "host")}

    def play(self, trial: str, attempt: int, coming: Sequence[str] = ()) -> str:
        """One attempt at a trial, as the line that goes on record. Boxes are started meanwhile for what comes next."""
        assert self._runner is not None
        self._runner.expect([Trial.model_validate_json(each) for each in coming])
        episode = self._runner.play(Trial.model_validate_json(trial), attempt)
        return episode.model_copy(update={"node": platform.node()}).model_dump_json()

    def stalled(self) -> list[str]:
        """Why models do not answer here just now, a sentence each."""
        assert self._runner is not None
        return self._runner.stalled()

    def end(self) -> None:
        """Leave nothing behind: no box of this player, nor one that a player before it on this machine had no time for."""
        self._open.close()
        with suppress(Problem):
            reap()
        for folder in self._unpacked:
            shutil.rmtree(folder, ignore_errors=True)

    def _listed(self, text: str | None) -> Path | None:
        """A model list may hold keys: it is kept in memory, under a path, and never on the node's disk."""
        if text is None:
            return None
        self._model_list = os.memfd_create("model_list")
        with open(self._model_list, "w", closefd=False) as file:
            file.write(text)
        return Path(f"/proc/{os.getpid()}/fd/{self._model_list}")


@dataclass(eq=False)
class Seat:
    """A player as the driver sees it."""

    node: str
    host: str
    player: Any  # Any: Ray's handles have no types
    getting_ready: Any  # Any: as above
    known: Mapping[str, Any] = field(default_factory=dict)
    """What its node said when it was ready."""
    ready: bool = False
    busy: int = 0
    stalled: Sequence[str] = ()
    """Why models do not answer there, as it last said."""
    says: Any = None  # Any: as above
    """What it says next of that, once it has."""


class Stopped(RuntimeError):
    """The players were ended while this trial was being played. Nothing of it is recorded."""


class Players:
    """The players of a run, and who plays what. One trial is with one player at a time, and what a player that was
    given up may still send is read by nobody: so none can be on record twice."""

    def __init__(self, kit: Kit, folders: Sequence[bytes], samples: int, say: Callable[[str], None]) -> None:
        self._kit = kit
        self._folders = ray.put(list(folders))
        self._samples = samples
        self._say = say
        self._seats: list[Seat] = []
        self._started: dict[str, int] = {}
        self._coming: list[str] = []
        self._unfit: set[str] = set()
        self._most = 0
        """Players at a time: as many as there were nodes in the beginning. Limits of models are shared out over them."""
        self._looked = 0.0
        self._alone: float | None = None
        self._stopped = False
        self._changed = threading.Condition()

    def wait(self) -> list[Seat]:
        """The players that are ready once none is still getting ready. Raises Problem when there is none."""
        until = time.monotonic() + START
        with self._changed:
            self._look()
            while any(not seat.ready for seat in self._seats) and time.monotonic() < until:
                self._changed.wait(0.1)
                self._look()
            for seat in [seat for seat in self._seats if not seat.ready]:
                self._leave_out(seat, f"was not ready after {START:.0f} s")
            if not self._seats:
                raise Problem("no node of the Ray cluster can play: see above; `honne doctor` on a node says more")
            return list(self._seats)

    def play(self, trial: Trial, attempt: int) -> Episode:
        """One attempt on whatever node is free. A node that is lost meanwhile is a fault of ours, as any other.

        Raises Problem when no node is left, and Stopped after `stop`.
        """
        seat = self._take()
        started = time.monotonic()
        try:
            line: str = ray.get(seat.player.play.remote(trial.model_dump_json(), attempt, self._coming))
            return Episode.model_validate_json(line)
        except RayError as error:
            with self._changed:
                if self._stopped:
                    raise Stopped(trial.id) from None
                if not isinstance(error, RayTaskError):
                    self._lose(seat)
            return _lost(trial, attempt, seat, error, time.monotonic() - started)
        finally:
            with self._changed:
                seat.busy -= 1
                self._changed.notify_all()

    def stalled(self) -> list[str]:
        """Why models do not answer on some node, as far as nodes have said so. Nobody is waited for."""
        with self._changed:
            for seat in [seat for seat in self._seats if seat.ready]:
                if seat.says is None:
                    seat.says = seat.player.stalled.remote()
                elif ray.wait([seat.says], timeout=0)[0]:
                    with suppress(RayError):  # a node that is lost is found out about by who plays there
                        seat.stalled = ray.get(seat.says)
                    seat.says = None
            return [f"node {seat.host}, {why}" for seat in self._seats for why in seat.stalled]

    def expect(self, coming: Sequence[Trial]) -> None:
        """Tell players with their next trial what comes after it. Which of them will get it is not known: boxes that are
        started in vain are few, and wait for a trial of the same environment."""
        self._coming = [trial.model_dump_json() for trial in coming]

    def stop(self) -> None:
        """End all players, whatever they are at. Their boxes end with them."""
        with self._changed:
            self._stopped = True
            seats, self._seats = self._seats, []
            self._changed.notify_all()
        for seat in seats:
            _end(seat)

    def _take(self) -> Seat:
        with self._changed:
            while True:
                if self._stopped:
                    raise Stopped
                self._look()
                free = [seat for seat in self._seats if seat.ready and seat.busy < self._samples]
                if free:
                    seat = min(free, key=lambda each: each.busy)
                    seat.busy += 1
                    return seat
                self._check_alone()
                self._changed.wait(0.2)

    def _check_alone(self) -> None:
        if self._seats:
            self._alone = None
            return
        self._alone = self._alone or time.monotonic()
        if time.monotonic() - self._alone > PATIENCE:
            raise Problem(
                f"no node of the Ray cluster has been left for {PATIENCE:.0f} s; what is on record stays, and the same "
                "command plays the rest"
            )

    def _look(self) -> None:
        """Who is ready by now, and which nodes have come."""
        for seat in [seat for seat in self._seats if not seat.ready]:
            if ray.wait([seat.getting_ready], timeout=0)[0]:
                self._seat(seat)
        if time.monotonic() - self._looked < LOOK and self._looked:
            return
        self._looked = time.monotonic()
        taken = {seat.node for seat in self._seats} | self._unfit
        nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
        # Nodes without CPUs are, by Ray's convention, not for work.
        fit = [node for node in nodes if node["Alive"] and node["Resources"].get("CPU") and node["NodeID"] not in taken]
        self._most = self._most or len(fit)
        for node in fit[: self._most - len(self._seats)]:
            self._start(node["NodeID"], node["NodeManagerHostname"])

    def _start(self, node: str, host: str) -> None:
        if self._started.get(node, 0) > REVIVALS:
            self._unfit.add(node)
            self._say(f"node {host} is left out: its player ended {REVIVALS + 1} times")
            return
        self._started[node] = self._started.get(node, 0) + 1
        player: Any = (  # Any: Ray's handles have no types
            ray.remote(Player)
            .options(
                num_cpus=1,
                max_concurrency=self._samples + 2,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote()
        )
        self._seats.append(Seat(node, host, player, player.begin.remote(_share(self._kit, self._most), self._folders)))

    def _seat(self, seat: Seat) -> None:
        try:
            seat.known = ray.get(seat.getting_ready)
        except RayTaskError as error:
            self._leave_out(seat, f"could not get ready: {_cause(error)}")
        except RayError as error:
            self._lose(seat)
            self._say(f"node {seat.host}: its player could not start: {_first_line(error)}")
        else:
            if "problem" in seat.known:
                self._leave_out(seat, seat.known["problem"])
            seat.ready = True
            self._changed.notify_all()

    def _leave_out(self, seat: Seat, why: str) -> None:
        self._unfit.add(seat.node)
        self._say(f"node {seat.host} is left out: {why}")
        self._lose(seat)

    def _lose(self, seat: Seat) -> None:
        """Whatever it still plays is of no account from here on; so it had better end."""
        if seat in self._seats:
            self._seats.remove(seat)
            _end(seat)


def _share(kit: Kit, nodes: int) -> Kit:
    """What one of so many nodes is sent: limits of a model are kept by each node for itself."""

    def shared(name: str, value: Any) -> Any:  # Any: an option's value
        if name in ("rpm", "tpm") and isinstance(value, int | float):
            return value / nodes
        if name == "max_connections" and isinstance(value, int):
            return max(1, value // nodes)
        return value

    models = tuple(
        model.model_copy(update={"options": {name: shared(name, value) for name, value in model.options.items()}})
        for model in kit.plan.models
    )
    return replace(kit, plan=kit.plan.model_copy(update={"models": models}))


def _end(seat: Seat) -> None:
    with suppress(RayError, TimeoutError):
        ray.get(seat.player.end.remote(), timeout=10)
    with suppress(RayError, ValueError):
        ray.kill(seat.player)


def _lost(trial: Trial, attempt: int, seat: Seat, error: RayError, seconds: float) -> Episode:
    what = _cause(error) if isinstance(error, RayTaskError) else "the node or its player was lost"
    fault = f"NodeLost: {seat.host}: {what} ({type(error).__name__})"[:2000]
    closed = Closed(at=now(), ended="fault", effect=None, fault=fault, seconds=seconds)
    return Episode(trial=trial, attempt=attempt, node=seat.host, events=(closed,))


def _cause(error: RayTaskError) -> str:
    """The type alone: what it says is the node's and may quote anything."""
    cause = getattr(error, "cause", None)
    return f"{type(cause).__name__} on the node, see its Ray logs"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


@dataclass(frozen=True, kw_only=True)
class ClusterRunner(run.Runner):
    """A runner whose trials are played elsewhere. Limits, retries, counts and the record are as with threads here."""

    players: Players

    def play(self, trial: Trial, attempt: int) -> Episode:
        return self.players.play(trial, attempt)

    def stalled(self) -> list[str]:
        return self.players.stalled()

    def expect(self, coming: Sequence[Trial]) -> None:
        self.players.expect(coming)


@contextmanager
def prepared(
    plan: Plan,
    catalogue: run.Catalogue,
    record: Record,
    model_list: Path | None,
    samples: int,
    address: str | None = None,
    priced: bool = False,
    isolation: Reuse = "fresh",
    runtime: str | None = None,
    say: Callable[[str], None] = lambda sentence: print(f"honne: {sentence}", file=sys.stderr),
) -> Iterator[tuple[ClusterRunner, int]]:
    """A runner on the cluster at `address` and the number of trials it plays at a time: `samples` on each node.

    `isolation` and `runtime` are as in `run.prepare`, on every node. The players are ended however the block ends. Raises
    Problem when no cluster answers or none of its nodes can play.
    """
    plan = catalogue.resolve(plan)
    for model in plan.models:
        check(model, model_list, priced or plan.budget.cost is not None)
    listed = list_text(model_list) if model_list else None
    known = run.manifest(plan, catalogue, {}, runtime)
    folders = _packed(catalogue.folders)
    kit = Kit(record.name, plan, known["words"], listed, isolation, runtime)
    with _joined(address):
        players = Players(kit, folders, samples, say)
        try:
            seats = players.wait()
            known |= _machines(seats)
            yield (
                ClusterRunner(
                    plan, record, catalogue, known["images"], known, model_list, players=players
                ),
                samples * len(seats),
            )  # fmt: skip
        finally:
            players.stop()


def _machines(seats: Sequence[Seat]) -> dict[str, Any]:
    """The nodes as the manifest has them. Images are named for the run where all nodes have the same."""
    first, *others = [dict(seat.known["images"]) for seat in seats]
    same = {name: image for name, image in first.items() if all(other[name] == image for other in others)}
    return {"images": same, "nodes": [{"name": seat.host, "id": seat.node, **seat.known} for seat in seats]}


@contextmanager
def _joined(address: str | None) -> Iterator[None]:
    """A connection to the cluster. `local` starts one on this machine for as long as it lasts."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    # What nodes print stays on the nodes.
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "honne"}
    if where == "local":
        quiet["include_dashboard"] = False
    try:
        _reached(where)
        ray.init(address=where, **quiet)
    except (RayError, ConnectionError, RuntimeError, ValueError, AssertionError, OSError, KeyError) as error:
        raise Problem(
            f"no Ray cluster at '{where}' can be joined from here ({_first_line(error)}): start one with "
            "`ray start --head`, join other machines with `ray start --address=HOST:6379`, and run this on one of them; "
            "or `--address local`"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _reached(address: str) -> None:
    """Raises OSError when nothing listens there. Ray itself would try for minutes."""
    host, _, port = address.partition("://")[2 if "://" in address else 0].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _packed(folders: Sequence[Path]) -> list[bytes]:
    """Folders of environments as archives. Raises Problem when they are too large to send."""
    packed = []
    for folder in folders:
        if not folder.is_dir():
            raise Problem(f"no folder '{folder}' with environments")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            tar.add(folder, arcname=".", filter=lambda item: None if "__pycache__" in item.name else item)
        packed.append(archive.getvalue())
    if (size := sum(map(len, packed))) > SHIPPED:
        raise Problem(
            f"the folders given with --environments are {size / 2**20:.0f} MiB packed, and {SHIPPED // 2**20} are sent to "
            "nodes at most: keep nothing but environments and cues in them, or install them on every node as a package "
            "with the entry point `honne.environments`"
        )
    return packed


def _unpacked(archive: bytes) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="honne-environments-"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder

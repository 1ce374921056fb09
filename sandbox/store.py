"""Run folders on an object store, by any fsspec URL: small immutable objects in the place of files that grow."""

import contextlib
import io
import itertools
import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from sandbox.episode import FORMAT, Episode, parsed
from sandbox.ledger import Ledger
from sandbox.plan import Plan, digest
from sandbox.record import PART, Part, Record, Segment
from tools.problem import Problem

if TYPE_CHECKING:
    import polars as pl

LEASE = 60.0
"""Seconds without a sign of life after which a run's owner on another machine counts as gone."""
BATCH = 64
"""Objects fetched at a time."""
COMPACTED = 1000
"""Episodes in one parquet object, at most."""
SMALL = 20
"""Objects that are left as they are: fewer make no difference to a reader."""
KIND = {"line": "String", "trial": "String", "attempt": "Int32", "outcome": "String"}


def place(url: str) -> Path:
    """A folder by its URL, as a path. `file://` is a path on this disk, with the guarantees of one.

    Credentials come from where the store's own tools look for them. Raises Problem when the extra is missing, when the
    URL carries a password, or when the store does not answer.
    """
    parts = urlsplit(url)
    if parts.password:
        raise Problem("a run folder's URL carries a password, and would be written to records: use the environment")
    if parts.scheme in ("file", "local"):
        return Path(parts.path)
    try:
        from upath import UPath

        # Listings are asked for anew each time: others write there too.
        found = UPath(url, use_listings_cache=False)
        found.fs.exists(found.path)
    except ImportError as error:
        extra = (
            "pip install 'honne[s3]'" if parts.scheme == "s3" else f"install fsspec's back-end for {parts.scheme}://"
        )
        raise Problem(f"'{url}' needs a package that is not installed: {extra} ({error})") from error
    except Exception as error:  # each store has errors of its own
        raise Problem(f"'{url}' does not answer: {_said(error)}") from error
    # Paths of object stores behave as pathlib's and do not inherit from them.
    return cast("Path", found)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


class NoAnswer(OSError, Problem):
    """A store did not do what was asked of it: what a disk would raise, and a sentence for the user where nobody else
    deals with it."""

    def __str__(self) -> str:
        return f"{self.strerror}"


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    """Whatever the store's client raises, as a NoAnswer."""
    try:
        yield
    except (NoAnswer, Problem, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:  # each store has errors of its own, and they have no common class
        raise NoAnswer(None, f"{what}: {_said(error)}") from error


def _sizes(fs: Any, folder: str, kinds: tuple[str, ...], what: str) -> dict[str, int]:  # Any: fsspec has no types
    """Objects in a folder whose names end so → bytes. Empty where there is no such folder."""
    try:
        with _asking(what):
            found = fs.ls(folder, detail=True)
    except FileNotFoundError:
        return {}
    names = {entry["name"].rpartition("/")[2]: int(entry.get("size") or 0) for entry in found}
    return {name: size for name, size in names.items() if name.endswith(kinds)}


def _contents(fs: Any, paths: Sequence[str], what: str) -> list[bytes | None]:  # Any: fsspec has no types
    """None for an object that is not there any more. Raises OSError for one that cannot be had."""
    with _asking(what):
        found = fs.cat(list(paths), on_error="return") if paths else {}
        found = {path.lstrip("/"): content for path, content in found.items()}
        contents = [found[path.lstrip("/")] for path in paths]
        for content in contents:
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise content
    return [content if isinstance(content, bytes) else None for content in contents]


def put(path: Path, text: str) -> None:
    """A small object, written whole. Raises OSError."""
    with _asking(str(path)):
        cast("Any", path).fs.pipe_file(cast("Any", path).path, text.encode())


class StoredLedger(Ledger):
    """Lines in a store: what is added at a time is an object, in a folder that has the file's name. Objects sort in the
    order they were written; who holds the ledger puts them together in the end."""

    def __init__(self, path: Path, lease: float = LEASE) -> None:
        super().__init__(path)
        self.lease = lease
        self._held: Lease | None = None
        self._waiting: list[bytes] = []
        """Lines that need not be in safety yet: they go with the next that do."""
        self._fs: Any = cast("Any", path).fs  # Any: fsspec has no types
        self._folder: str = cast("Any", path).path.rstrip("/")

    @property
    def stamp(self) -> Hashable:
        return tuple(sorted(self._sizes().items())) or None

    def lines(self) -> list[bytes]:
        for _ in range(10):  # what was put together meanwhile is read where it went
            names = sorted(self._sizes())
            contents = _contents(self._fs, [f"{self._folder}/{name}" for name in names], str(self.path))
            found = [content for content in contents if content is not None]
            if len(found) == len(names):
                return [line for content in found for line in content.split(b"\n") if line.strip()]
        raise NoAnswer(None, f"{self.path}: lists objects that cannot be read")

    @contextlib.contextmanager
    def held(self, doing: str) -> Iterator[None]:
        lease = Lease(self._fs, f"{self._folder}/lock", self.lease, str(self.path), doing)
        try:
            with _asking(str(self.path)):
                lease.take()
        except OSError as error:
            raise Problem(f"cannot write to {self.path}: {error.strerror or error}") from error
        self._held = lease
        try:
            yield
        finally:
            try:
                with contextlib.suppress(OSError):  # then they stay as they are, and are put together another time
                    self.append()
                    self._put_together()
            finally:
                self._held = None
                lease.release()

    def append(self, *lines: bytes, sync: bool = True) -> None:
        with self._lock:
            self._waiting += lines
            if not sync or not self._waiting:
                return
            waiting, self._waiting = self._waiting, []
        with _asking(str(self.path)):
            if self._held:
                self._held.check()
            self._fs.pipe_file(self._new(), b"".join(line + b"\n" for line in waiting))

    def _new(self) -> str:
        return f"{self._folder}/{time.time_ns():020}-{secrets.token_hex(4)}.jsonl"

    def _put_together(self) -> None:
        """One object of all, if there are many; the others go when it can be read. Whoever reads meanwhile may meet a
        line twice."""
        names = sorted(self._sizes())
        if len(names) <= SMALL:
            return
        paths = [f"{self._folder}/{name}" for name in names]
        content = b"\n".join(line for line in self.lines()) + b"\n"
        whole = f"{paths[-1].removesuffix('.jsonl')}-whole.jsonl"
        with _asking(str(self.path)):
            self._fs.pipe_file(whole, content)
            if self._fs.cat_file(whole) == content:
                self._fs.rm(paths)

    def _sizes(self) -> dict[str, int]:
        return _sizes(self._fs, self._folder, (".jsonl",), str(self.path))


class StoredRecord(Record):
    """A run on an object store.

    Objects cannot be appended to, so every append is an object of its own: an episode counts as finished when its
    object has been written, and is whole or not there. Objects never change; when a run ends they are put together
    into parquet, and only then removed. A reader takes each attempt, and each trial's finish, once, whatever is there
    twice while that goes on.
    """

    def __init__(self, folder: Path, lease: float = LEASE) -> None:
        super().__init__(folder)
        self.lease = lease
        self._held: Lease | None = None
        self._fs: Any = cast("Any", folder).fs  # Any: fsspec has no types
        self._path: str = cast("Any", folder).path.rstrip("/")

    def freeze(self, plan: Plan, manifest: Mapping[str, Any]) -> None:
        with _asking(str(self.folder)):
            super().freeze(plan, manifest)

    def _put(self, name: str, text: str) -> None:
        self._fs.pipe_file(f"{self._path}/{name}", text.encode() + b"\n")

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the run for this process, and put its objects together at the end. Raises Problem when another process
        is playing it, or it cannot be written."""
        self._held = Lease(self._fs, f"{self._path}/lock", self.lease, str(self.folder))
        try:
            with _asking(str(self.folder)):
                self._held.take()
        except OSError as error:
            raise Problem(f"cannot write to {self.folder}: {error.strerror or error}") from error
        try:
            yield
            with contextlib.suppress(OSError):  # it will be done another time; nothing is lost by it
                self.compact()
        finally:
            self._held.release()
            self._held = None

    def segment(self) -> Segment:
        with self._lock:
            self._opened += 1
            return StoredSegment(self, self._opened, self._held)

    def write(self, name: str, content: bytes, lease: "Lease | None") -> None:
        """A new object among the episodes. Raises OSError, also when the run is no longer ours by that lease."""
        with _asking(str(self.folder)):
            if lease:
                lease.check()
            self._fs.pipe_file(f"{self._path}/episodes/{name}", content)

    @property
    def generation(self) -> int:
        """How often the run has changed hands."""
        return self._held.generation if self._held else 0

    def episodes(self) -> Iterator[Episode]:
        """Every attempt on record, once. An object that is cut short, or no episode, is skipped and named in
        `unreadable`."""
        self.unreadable = []
        seen: set[tuple[str, int]] = set()
        finished: set[str] = set()
        for episodes in self._read():
            for _, episode in episodes:
                trial, attempt = episode.trial.id, episode.attempt
                over = episode.outcome != "fault"
                if (trial, attempt) in seen or (over and trial in finished):
                    continue
                seen.add((trial, attempt))
                if over:
                    finished.add(trial)
                yield episode

    def parts(self, size: int = PART) -> list[Part]:
        """None: what an object holds may be in another one too, so that all of them are read together."""
        return []

    def lines(self) -> Iterator[bytes]:
        for episodes in self._read():
            yield from (line for line, _ in episodes)

    def _read(self) -> Iterator[list[tuple[bytes, Episode]]]:
        """Lines and episodes, object by object. Those that were put together and removed meanwhile are read where they went."""
        read: set[str] = set()
        while names := [name for name in self._names() if name not in read]:
            gone = 0
            for start in range(0, len(names), BATCH):
                batch = names[start : start + BATCH]
                for name, content in zip(batch, self._contents(batch), strict=True):
                    read.add(name)
                    if content is None:
                        gone += 1
                    else:
                        yield self._parsed(name, content)
            if not gone:
                return

    def objects(self, skip: Container[str], most: int) -> tuple[list[tuple[str, list[bytes]]], bool]:
        """Names and lines of objects that are not to be skipped, about `most` bytes of them and one at least; and whether
        that was all there is. What cannot be read in one is a line that is no episode."""
        sizes = self._sizes()
        names = [name for name in self._names() if name not in skip and name in sizes]
        sums = itertools.accumulate(sizes[name] for name in names)
        chosen = [name for name, upto in zip(names, sums, strict=True) if upto <= most] or names[:1]
        found = []
        for name, content in zip(chosen, self._contents([*chosen]), strict=True):
            if content is not None:
                self.unreadable = []
                found.append((name, [*self._lines(name, content), *(each.encode() for each in self.unreadable)]))
        return found, len(found) == len(names)

    def _names(self) -> list[str]:
        """Objects of the episodes: those that are put together first, so that nothing that comes late takes the place
        of what has been read before; then in the order they were written."""
        return sorted(self._sizes(), key=lambda name: (not name.endswith(".parquet"), name))

    def _sizes(self) -> dict[str, int]:
        return _sizes(self._fs, f"{self._path}/episodes", (".jsonl", ".parquet"), str(self.folder))

    def _contents(self, names: Sequence[str]) -> list[bytes | None]:
        return _contents(self._fs, [f"{self._path}/episodes/{name}" for name in names], str(self.folder))

    def _parsed(self, name: str, content: bytes) -> list[tuple[bytes, Episode]]:
        episodes = []
        for number, line in enumerate(self._lines(name, content), 1):
            episode = parsed(line)
            if isinstance(episode, Episode):
                episodes.append((line, episode))
            else:
                self.unreadable.append(f"{name} line {number}: {episode}")
        return episodes

    def _lines(self, name: str, content: bytes) -> list[bytes]:
        if not name.endswith(".parquet"):
            return content.splitlines(keepends=True)
        import polars as pl

        try:
            table = pl.read_parquet(io.BytesIO(content), columns=["line"])
        except (pl.exceptions.PolarsError, OSError) as error:
            self.unreadable.append(f"{name}: {_said(error)}")
            return []
        return [line.encode() + b"\n" for line in table["line"]]

    def compact(self) -> None:
        """Put the small objects together, if there are many. An object goes when all that it holds has been written
        elsewhere and can be read there; one with something unreadable in it stays as it is."""
        import polars as pl

        small = [name for name in self._names() if not name.endswith(".parquet")]
        if len(small) <= SMALL:
            return
        for start in range(0, len(small), COMPACTED):
            self.unreadable = []
            names = small[start : start + COMPACTED]
            episodes: list[tuple[bytes, Episode]] = []
            whole: list[str] = []
            for first in range(0, len(names), BATCH):
                batch = names[first : first + BATCH]
                for name, content in zip(batch, self._contents(batch), strict=True):
                    before = len(self.unreadable)
                    found = self._parsed(name, content or b"")
                    if len(self.unreadable) == before:
                        episodes += found
                        whole.append(name)
            rows = [
                {
                    "line": line.decode().removesuffix("\n"),
                    "trial": each.trial.id,
                    "attempt": each.attempt,
                    "outcome": each.outcome,
                }
                for line, each in episodes
            ]
            schema = {name: getattr(pl, kind)() for name, kind in KIND.items()}
            table = io.BytesIO()
            pl.DataFrame(rows, schema=schema).write_parquet(table)
            target = f"{self.generation:06}-{start // COMPACTED:06}.parquet"
            self.write(target, table.getvalue(), self._held)
            (written,) = self._contents([target])
            if written is None or len(self._lines(target, written)) != len(episodes):
                return
            with _asking(str(self.folder)):
                self._fs.rm([f"{self._path}/episodes/{name}" for name in whole])

    @property
    def fingerprint(self) -> str:
        return digest(json.dumps([FORMAT, *sorted(self._sizes().items())]))

    def kept(self, name: str) -> IO[bytes] | None:
        with contextlib.suppress(FileNotFoundError), _asking(str(self.folder)):
            return io.BytesIO(self._fs.cat_file(f"{self._path}/{name}"))
        return None

    def keep(self, table: "pl.DataFrame", name: str) -> None:
        content = io.BytesIO()
        table.write_parquet(content)
        with _asking(str(self.folder)):
            self._fs.pipe_file(f"{self._path}/{name}", content.getvalue())


class StoredSegment(Segment):
    """One worker's objects. What is appended is in the store, whole, before anything else is done."""

    def __init__(self, record: StoredRecord, worker: int, lease: "Lease | None") -> None:
        self._record = record
        self._lease = lease
        # Two processes never share a generation; a name is never used twice, and a write that is tried again is the
        # same object.
        self._prefix = f"{record.generation:06}-{worker:06}"
        self._appended = 0

    def append(self, *episodes: Episode) -> None:
        self._appended += 1
        lines = b"".join(episode.model_dump_json().encode() + b"\n" for episode in episodes)
        self._record.write(f"{self._prefix}-{self._appended:06}.jsonl", lines, self._lease)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Owner:
    """A process, told apart from every other one on any machine."""

    host: str
    boot: str
    space: str
    """The process namespace: a pid means nothing outside of it."""
    pid: int
    began: str

    @classmethod
    def here(cls) -> "Owner":
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            space = str(Path("/proc/self/ns/pid").readlink())
        except OSError:  # not Linux
            boot = space = ""
        return cls(platform.node(), boot, space, os.getpid(), _began(os.getpid()))

    @property
    def gone(self) -> bool | None:
        """Whether it has ended; None when that cannot be told from here."""
        here = Owner.here()
        if not here.boot or (self.boot, self.space) != (here.boot, here.space):
            return None
        return _began(self.pid) != self.began


def _began(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


class Lease:
    """Who may write to a run: the holder of the newest of numbered lock objects, for as long as it shows signs of life.

    A number is taken by a conditional put, of which one succeeds (`If-None-Match: *` on S3; where a store has no such
    thing, two that begin in the same instant may both succeed, and readers still take nothing twice). A holder that
    was silent for two thirds of the lease writes no more; another may take the next number after a whole one. That is
    waited for, not computed from clocks of two machines.
    """

    def __init__(  # Any: fsspec has no types
        self, fs: Any, folder: str, seconds: float, called: str, doing: str = "playing"
    ) -> None:
        self._fs = fs
        self._folder = folder
        self._seconds = seconds
        self._called = called
        self._doing = doing
        self._token = secrets.token_hex(8)
        self._beats = 0
        self._seen = 0.0
        self._over = threading.Event()
        self._beating: threading.Thread | None = None
        self.generation = 0

    def take(self) -> None:
        """Raises Problem when another holds it."""
        while not self.generation:
            number, content = self._newest()
            if content is not None and not self._free(number, content):
                raise Problem(
                    f"another process is {self._doing} {self._called} (on {content.get('owner', {}).get('host', 'unknown')}): "
                    "wait for it, or stop it first"
                )
            try:
                began = _clock()
                self._fs.pipe_file(self._object(number + 1), self._content(), mode="create")
            except FileExistsError:
                # A put that was tried again may have met itself.
                if (self._read(number + 1) or {}).get("token") != self._token:
                    continue
            self._seen, self.generation = began, number + 1
        self._beating = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._beating.start()

    def check(self) -> None:
        """Raises OSError when the run was given back, or another may have taken it."""
        if self._over.is_set():
            raise NoAnswer(None, "the run is not held any more")
        if _clock() - self._seen > self._seconds * 2 / 3:
            raise NoAnswer(None, "the run was not held for too long; another process may be playing it")

    def release(self) -> None:
        self._over.set()
        if self._beating:
            self._beating.join()
        if self.generation:
            with contextlib.suppress(Exception):  # then it ends with the lease
                self._fs.pipe_file(self._object(self.generation), self._content(released=True))

    def _free(self, number: int, content: Mapping[str, Any]) -> bool:
        if content.get("released"):
            return True
        try:
            gone = Owner(**content["owner"]).gone
        except (KeyError, TypeError):
            gone = None
        return self._silent(number, content) if gone is None else gone

    def _silent(self, number: int, content: Mapping[str, Any]) -> bool:
        """Whether its holder shows no sign of life for a whole lease."""
        until = time.monotonic() + float(content.get("seconds", self._seconds))
        while time.monotonic() < until:
            time.sleep(min(1.0, self._seconds / 20))
            newest = self._newest()
            if newest != (number, content):
                return newest[0] == number and bool((newest[1] or {}).get("released"))
        return True

    def _beat(self) -> None:
        while not self._over.wait(self._seconds / 6):
            with contextlib.suppress(Exception):  # a store that does not answer is asked again, until `check` says no
                began = _clock()
                if self._newest()[0] > self.generation:
                    self._seen = float("-inf")
                    return
                self.check()
                self._beats += 1
                self._fs.pipe_file(self._object(self.generation), self._content())
                self._seen = began

    def _newest(self) -> tuple[int, dict[str, Any] | None]:
        try:
            names = [entry.rpartition("/")[2] for entry in self._fs.ls(self._folder, detail=False)]
        except FileNotFoundError:
            return 0, None
        number = max((int(name) for name in names if name.isdigit()), default=0)
        return number, self._read(number) if number else None

    def _read(self, number: int) -> dict[str, Any] | None:
        try:
            found = json.loads(self._fs.cat_file(self._object(number)))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _object(self, number: int) -> str:
        return f"{self._folder}/{number:06}"

    def _content(self, released: bool = False) -> bytes:
        owner = vars(Owner.here())
        said = {"owner": owner, "token": self._token, "beats": self._beats, "seconds": self._seconds}
        return json.dumps(said | ({"released": True} if released else {})).encode()


def _clock() -> float:
    """Seconds, those that the machine was suspended for included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

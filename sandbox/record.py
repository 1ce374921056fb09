"""The run folder: a frozen plan, what it was played with, a line per finished episode. Layout in runs/README.md."""

import fcntl
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pydantic import ValidationError

from environments.cue import explain
from sandbox.episode import FORMAT, Episode, parsed
from sandbox.ledger import put, stored
from sandbox.plan import Plan, canonical, digest
from tools.problem import Problem

if TYPE_CHECKING:
    import polars as pl

RUNS = Path("runs")
Item = TypeVar("Item")


class Watch(Protocol):
    """Hands on what it is given, and shows how far it has come. `iter` shows nothing."""

    def __call__(self, items: Iterable[Item], /) -> Iterable[Item]: ...


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
PART = 8_000_000
"""Bytes of lines that are read at a time, about."""


def run_folder(name: str | Path, runs: Path = RUNS) -> Path:
    """The folder of an existing run, by name, path or URL. Raises Problem listing what there is."""
    for folder in (folder_at(str(name)),) if "://" in str(name) else (Path(name), runs / name):
        if _is_file(folder / "plan.json"):
            return folder
    there = sorted(path.parent.name for path in runs.glob("*/plan.json"))
    raise Problem(f"no run '{str(name)[:100]}' in {runs}/; there are: {', '.join(there) or 'none yet'}")


def folder_at(where: str) -> Path:
    """A folder by path, or by the URL of an object store."""
    if "://" not in where:
        return Path(where)
    from sandbox.store import place

    return place(where)


def record_at(folder: Path) -> "Record":
    """The run in a folder, wherever that is."""
    if not stored(folder):
        return Record(folder)
    from sandbox.store import StoredRecord

    return StoredRecord(folder)


def new_folder(name: str, runs: Path = RUNS) -> Path:
    """Where a run of that name lives. Raises Problem for a name that would lead anywhere else."""
    if not NAME.fullmatch(name):
        raise Problem(
            f"{name[:100]!r} is no name for a run: use up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    return runs / name


class Segment:
    """One worker's file of episodes. What is appended is on disk, whole, before anything else is done."""

    def __init__(self, path: Path) -> None:
        # Unbuffered: what a full disk has refused must not come again with the next line.
        self._file = path.open("ab", buffering=0)

    def append(self, *episodes: Episode) -> None:
        """Raises OSError when the disk does not take it; then nothing of it is left in the file."""
        whole = self._file.tell()
        lines = memoryview(b"".join(episode.model_dump_json().encode() + b"\n" for episode in episodes))
        try:
            while lines:
                lines = lines[self._file.write(lines) :]
            os.fsync(self._file.fileno())
        except OSError:
            # Half a line would spoil the one that is appended after it.
            os.ftruncate(self._file.fileno(), whole)
            raise

    def close(self) -> None:
        self._file.close()


class Part(NamedTuple):
    """Whole lines of one segment that follow each other: what a process reads at a time."""

    path: Path
    start: int
    stop: int

    @property
    def segment(self) -> str:
        return self.path.name

    def lines(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            at = file.seek(self.start)
            while at < self.stop and (line := file.readline()):
                at += len(line)
                yield line


class Record:
    """A run on disk, to be added to and read from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unreadable: list[str] = []
        """Lines that could not be read in the last pass over the episodes, one sentence each."""
        self._opened = 0
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def home(self) -> Path:
        """The folder that labels and verdicts of the run are kept in."""
        return self.folder

    @property
    def plan(self) -> Plan:
        try:
            return Plan.model_validate_json((self.folder / "plan.json").read_text())
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            why = explain(error) if isinstance(error, ValidationError) else error
            raise Problem(f"{self.folder / 'plan.json'}: not a plan this version can read: {why}") from error

    @property
    def manifest(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
            if not isinstance(found, dict) or not isinstance(found.get("words"), dict):
                raise ValueError("has no words")
        except (OSError, ValueError, RecursionError) as error:
            raise Problem(f"{self.folder / 'manifest.json'}: not readable: {error}") from error
        return found

    def fetch(self, budget: int) -> bool:
        """Take in what was added where the run comes from, up to about `budget` bytes. False when there is more to take
        in. A run on this disk is where it is read."""
        return True

    def freeze(self, plan: Plan, manifest: Mapping[str, Any]) -> None:
        """Begin the run, or make sure that it is this plan that is being resumed.

        Raises Problem when another plan was begun here, or when the words have changed since: the rest of
        such a run would be another experiment.
        """
        if (self.folder / "plan.json").exists():
            if canonical(self.plan) != canonical(plan):
                raise Problem(
                    f"{self.folder} holds a run of another plan (hash {self.plan.hash}, not {plan.hash}): "
                    "give this one a name of its own with --name, or remove the folder"
                )
            changed = [
                name for name, words in manifest["words"].items() if self.manifest["words"].get(name, words) != words
            ]
            if changed:
                raise Problem(
                    f"the words of {', '.join(changed)} have changed since {self.folder} was begun, "
                    "so its episodes and new ones would not be comparable: start a new run with --name"
                )
            begun = self.manifest.get("runtime")
            if begun != manifest.get("runtime"):
                raise Problem(
                    f"{self.folder} was begun with the runtime {begun or 'that the engine has by default'}: "
                    f"resume it with {f'--runtime {begun}' if begun else 'no --runtime'}, or start a new run with --name"
                )
            return
        try:
            self._put("manifest.json", json.dumps(manifest, indent=1, sort_keys=True))
            self._put("plan.json", plan.model_dump_json(indent=1))
        except OSError as error:
            raise Problem(f"cannot write to {self.folder}: {error.strerror}") from error

    def _put(self, name: str, text: str) -> None:
        (self.folder / "episodes").mkdir(parents=True, exist_ok=True)
        put(self.folder / name, f"{text}\n")

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the run for this process. Raises Problem when another one is playing it, or it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Not through a link: a folder that comes from elsewhere must not lead to a file that is emptied.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            opened = os.fdopen(os.open(self.folder / "lock", flags, 0o644), "r+")
        except OSError as error:
            raise Problem(f"cannot write to {self.folder}: {error.strerror}") from error
        with opened as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Problem(f"another process is playing {self.folder}: wait for it, or stop it first") from error
            yield

    def segment(self) -> Segment:
        """A file of its own for one worker of this process."""
        folder = self.folder / "episodes"
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._opened = (
                max((int(path.stem) for path in folder.glob("*.jsonl") if path.stem.isdigit()), default=-1) + 1
            )
            path = folder / f"{self._opened:06}.jsonl"
            path.touch()
        return Segment(path)

    def episodes(self) -> Iterator[Episode]:
        """Every attempt on record. A line that is cut short, or no episode, is skipped and named in `unreadable`."""
        self.unreadable = []
        for path in self._segments():
            with path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    episode = parsed(line)
                    if isinstance(episode, Episode):
                        yield episode
                    else:
                        self.unreadable.append(f"{path.name} line {number}: {episode}")

    def _segments(self) -> Iterator[Path]:
        """The run's files of episodes. What is no file of its own is skipped and named in `unreadable`."""
        for path in sorted((self.folder / "episodes").glob("*.jsonl")):
            if path.is_symlink() or not path.is_file():
                self.unreadable.append(f"{path.name}: is no file of the run's own")
            else:
                yield path

    def parts(self, size: int = PART) -> list[Part]:
        """The lines of all attempts, in order, in parts of about so many bytes that can be read apart from each other."""
        self.unreadable = []
        found = []
        for path in self._segments():
            with path.open("rb") as file:
                start, end = 0, os.fstat(file.fileno()).st_size
                while start < end:
                    file.seek(min(start + size, end) - 1)
                    file.readline()
                    found.append(Part(path, start, file.tell()))
                    start = file.tell()
        return found

    def lines(self) -> Iterator[bytes]:
        """The lines of all attempts as they are on record, readable or not."""
        for part in self.parts():
            yield from part.lines()

    @property
    def fingerprint(self) -> str:
        """Changes whenever an episode is added: names and sizes of the segments."""
        segments = sorted((self.folder / "episodes").glob("*.jsonl"))
        return digest(json.dumps([FORMAT, *((path.name, path.stat().st_size) for path in segments)]))

    def kept(self, name: str) -> Path | IO[bytes] | None:
        """A table that was kept beside the episodes, as polars reads it; None where there is none."""
        return self.folder / name if (self.folder / name).exists() else None

    def keep(self, table: "pl.DataFrame", name: str) -> None:
        """Raises OSError where the folder cannot be written."""
        table.write_parquet(self.folder / name)

    def attempts(self) -> tuple[set[str], dict[str, int]]:
        """Ids of trials that are finished, and how many faults each trial has had."""
        finished: set[str] = set()
        faults: dict[str, int] = {}
        for episode in self.episodes():
            if episode.outcome == "fault":
                faults[episode.trial.id] = faults.get(episode.trial.id, 0) + 1
            else:
                finished.add(episode.trial.id)
        return finished, faults


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or none at all
        return False

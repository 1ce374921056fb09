"""A run on an object store as pages read it: its lines in the user's cache folder, fetched as they are written there.

Pages seek in files, and objects cannot be sought in cheaply. Labels are not mirrored: they are written to the store, and
read from it. A mirror may be removed at any time.
"""

import fcntl
import json
import os
import shutil
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

from sandbox.episode import Episode, parsed
from sandbox.ledger import put, stored
from sandbox.plan import digest
from sandbox.record import Record
from sandbox.store import StoredRecord

Taken = tuple[str, int, bool]
PAUSE = 2.0
"""Seconds for which the store is not asked again what is new."""


MIRRORED = 30 * 24 * 3600.0
"""Seconds after which a mirror that nobody opened is removed."""


class Mirror(Record):
    """A copy of a run's plan, manifest and lines, brought up to date by `fetch`.

    `taken.jsonl` has a line for each object that was taken: its name, the attempts in it as (trial, attempt, whether
    that was the end of the trial), and how long the copy was with them. What a crash left beyond that is cut off.
    """

    def __init__(self, origin: StoredRecord, cache: Path) -> None:
        super().__init__(cache / "mirrors" / digest(str(origin.folder)) / origin.name)
        self.origin = origin
        self._taken = self.folder / "taken.jsonl"
        self._lines = self.folder / "episodes" / "000000.jsonl"
        self._known = -1
        """Bytes of `taken.jsonl` that the following are of."""
        self._names: set[str] = set()
        self._attempts: set[tuple[str, int]] = set()
        self._finished: set[str] = set()
        self._upto = 0
        self._asked = float("-inf")
        self._copy()

    @property
    def home(self) -> Path:
        return self.origin.folder

    def fetch(self, budget: int) -> bool:
        if time.monotonic() - self._asked < PAUSE:
            return True
        self._copy()
        with self._taken.open("a+b") as taken:
            try:
                fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # another process or thread is at it
                return False
            self._know(taken)
            found, whole = self.origin.objects(self._names, budget)
            with self._lines.open("r+b") as copy:
                copy.truncate(self._upto)
                copy.seek(self._upto)
                for name, lines in found:
                    new = [self._add(copy, line) for line in lines]
                    copy.flush()
                    said = {"name": name, "attempts": list(filter(None, new)), "upto": copy.tell()}
                    taken.write(json.dumps(said).encode() + b"\n")
                    self._names.add(name)
                self._upto = copy.tell()
            taken.flush()
            self._known = taken.tell()
        if whole:
            self._asked = time.monotonic()
        return whole

    def _add(self, copy: IO[bytes], line: bytes) -> Taken | None:
        """Write a line unless it is there already. One that cannot be read is written too, so that it is counted."""
        line = line.removesuffix(b"\n") + b"\n"
        episode = parsed(line)
        if not isinstance(episode, Episode):
            copy.write(line)
            return None
        trial, attempt, over = episode.trial.id, episode.attempt, episode.outcome != "fault"
        if (trial, attempt) in self._attempts or (over and trial in self._finished):
            return None
        copy.write(line)
        self._keep((trial, attempt, over))
        return trial, attempt, over

    def _keep(self, taken: Taken) -> None:
        trial, attempt, over = taken
        self._attempts.add((trial, attempt))
        if over:
            self._finished.add(trial)

    def _know(self, taken: IO[bytes]) -> None:
        """What was taken so far, by this process or another."""
        if taken.seek(0, os.SEEK_END) == self._known:
            return
        self._names, self._attempts, self._finished, self._upto = set(), set(), set(), 0
        taken.seek(0)
        whole = 0
        for line in taken:
            if not line.endswith(b"\n"):
                break
            said = json.loads(line)
            self._names.add(said["name"])
            for each in said["attempts"]:
                self._keep(tuple(each))
            self._upto, whole = said["upto"], whole + len(line)
        taken.truncate(whole)
        self._known = whole

    def _copy(self) -> None:
        """Plan and manifest; begin anew where another run has taken this one's place."""
        self._lines.parent.mkdir(parents=True, exist_ok=True)
        for name in ("manifest.json", "plan.json"):
            with suppress(FileNotFoundError):  # a run that is being begun
                text = (self.origin.folder / name).read_text()
                copy = self.folder / name
                if copy.exists() and copy.read_text() == text:
                    continue
                for path in (self._taken, self._lines):
                    path.unlink(missing_ok=True)
                put(copy, text)
        self._lines.touch()


@cache
def mirror(folder: Path, into: Path) -> Mirror:
    """The mirror of a run, one for each in a process."""
    return Mirror(StoredRecord(folder), into)


def opened(folder: Path, into: Path) -> Record:
    """A run as pages read it, wherever it is."""
    return mirror(folder, into) if stored(folder) else Record(folder)


def sweep(cache: Path) -> None:
    """Remove mirrors that nobody has opened for a month."""
    for folder in (cache / "mirrors").glob("*"):
        used = [path.stat().st_mtime for path in folder.glob("*/taken.jsonl")]
        if time.time() - max(used, default=0.0) > MIRRORED:
            shutil.rmtree(folder, ignore_errors=True)

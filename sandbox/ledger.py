"""Lines added beside a run's episodes and never changed: labels, verdicts, answers that were asked for again."""

import fcntl
import os
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tools.problem import Problem


def stored(path: Path) -> bool:
    """Whether a path leads to an object store."""
    return hasattr(path, "storage_options")


def ledger_at(path: Path) -> "Ledger":
    """The ledger by that path, wherever it is: a file on a disk, and in a store a folder of objects with its name."""
    if not stored(path):
        return Ledger(path)
    from sandbox.store import StoredLedger

    return StoredLedger(path)


class Ledger:
    """A file of lines. Safe to add to from several threads; from several processes where nobody holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None

    @property
    def stamp(self) -> Hashable:
        """Changes whenever something is added; None while there is nothing."""
        if not self.path.exists():
            return None
        found = self.path.stat()
        return found.st_mtime_ns, found.st_size

    def lines(self) -> list[bytes]:
        """All lines that are not empty, without their ends; a line cut short by a crash among them."""
        if not self.path.exists():
            return []
        return [line for line in self.path.read_bytes().split(b"\n") if line.strip()]

    @contextmanager
    def held(self, doing: str) -> Iterator[None]:
        """Hold it for this process alone. Raises Problem, which says what another one is `doing` here, or why it
        cannot be written."""
        with self._opened() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Problem(f"another process is {doing} {self.path}: wait for it, or stop it first") from error
            self._file = file
            try:
                yield
            finally:
                self._file = None

    def append(self, *lines: bytes, sync: bool = True) -> None:
        """Add lines, given without their ends. In safety when this returns, unless `sync` is off. Raises OSError, or
        Problem where the file cannot be opened."""
        content = b"".join(line + b"\n" for line in lines)
        with self._lock:
            if self._file:
                _write(self._file, content, sync)
                return
        with self._opened() as file:
            _write(file, content, sync)

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        """The file at the beginning of a line: what a crash has cut short must not swallow the next one."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            opened = self.path.open("a+b")
        except OSError as error:
            raise Problem(f"cannot write to {self.path}: {error.strerror or error}") from error
        with opened as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            yield file


def _write(file: IO[bytes], content: bytes, sync: bool) -> None:
    file.write(content)
    file.flush()
    if sync:
        os.fsync(file.fileno())


def put(path: Path, text: str) -> None:
    """Write a small file, all or nothing: a reader never sees half of it. Raises OSError."""
    if stored(path):
        from sandbox.store import put as put_there

        put_there(path, text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    with draft.open("x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)

"""The boxes of a run: started ahead of need, so that starting overlaps with what models take to answer, removed behind
it, and, where that is asked for, used again once they are proved to be as new."""

import contextlib
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

from sandbox.container import Blank, Contents, DockerBox, start
from tools.pair import BoxLost

AHEAD = 4
"""Boxes that wait for an episode. From four at a time on, an engine on one host starts no more in a second."""
BEHIND = 8
"""Boxes that wait to be removed, before episodes wait for them."""
KEPT = 32
"""Used boxes that wait, of all kinds together."""
REASONS = 20
"""Different ones that are told apart."""

Reuse = Literal["fresh", "recycle"]


@dataclass
class Counts:
    """What became of the boxes. Changed under the pool's lock."""

    started: int = 0
    used_again: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Boxes that were not as new after their reset, by what was different first. An agent may have written the words."""


class Pool:
    """A context: outside of it boxes are started and removed on the spot, and after it none is left."""

    def __init__(self, isolation: Reuse = "fresh", ahead: int = AHEAD) -> None:
        self.isolation: Reuse = isolation
        self.counts = Counts()
        self._ahead = ahead
        self._lock = threading.Lock()
        self._waiting: defaultdict[Blank, deque[Future[DockerBox]]] = defaultdict(deque)
        self._removals: deque[Future[None]] = deque()
        self._workers: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None

    def __enter__(self) -> "Pool":
        self._workers = ThreadPoolExecutor(AHEAD, "box-start"), ThreadPoolExecutor(AHEAD, "box-remove")
        return self

    def __exit__(self, *_: object) -> None:
        """Return when every box is gone."""
        assert self._workers
        starting, removing = self._workers
        with self._lock:
            self._workers = None
            waiting = [future for futures in self._waiting.values() for future in futures]
            self._waiting.clear()
        try:
            for future in waiting:
                if not future.cancel():
                    removing.submit(_remove, future)
        finally:
            starting.shutdown()
            removing.shutdown()
            self._removals.clear()

    def expect(self, coming: Sequence[Blank]) -> None:
        """Start what the next episodes will ask for. More than a few are never kept waiting."""
        with self._lock:
            if self._workers is None or self.isolation == "recycle":
                return  # a box that is used again is there sooner than one that is started
            for blank, wanted in Counter(map(self._blank, coming[: self._ahead])).items():
                idle = self._waiting[blank]
                while len(idle) < wanted and self._idle < 2 * self._ahead:
                    idle.append(self._workers[0].submit(self._start, blank))

    @contextlib.contextmanager
    def box(self, blank: Blank, contents: Contents) -> Iterator[DockerBox]:
        """A box filled for one episode. After an episode that went wrong on our side it is never used again.

        Raises BoxLost when the engine fails and Problem when the contents do.
        """
        blank = self._blank(blank)
        box = self._filled(blank, contents)
        try:
            yield box
        except BaseException:
            self._discard(box)
            raise
        if blank.surveyed and self._as_new(box):
            self._keep(blank, box)
        else:
            self._discard(box)

    @property
    def _idle(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _blank(self, blank: Blank) -> Blank:
        return replace(blank, surveyed=self.isolation == "recycle")

    def _start(self, blank: Blank) -> DockerBox:
        box = start(blank)
        with self._lock:
            self.counts.started += 1
        return box

    def _filled(self, blank: Blank, contents: Contents) -> DockerBox:
        while True:
            with self._lock:
                idle = self._waiting[blank].popleft() if self._waiting[blank] else None
            try:
                box = idle.result() if idle else self._start(blank)
            except BoxLost:
                if idle:
                    continue
                raise
            try:
                box.fill(contents, blank.limits)
            except BaseException as error:
                self._discard(box)
                if idle and isinstance(error, BoxLost):
                    continue  # it has ended while it waited
                raise
            with self._lock:
                self.counts.used_again += box.isolation == "recycled"
            return box

    def _as_new(self, box: DockerBox) -> bool:
        try:
            differs = box.reset()
        except BoxLost as lost:
            differs = [str(lost)]
        if differs:
            with self._lock:
                known = differs[0] in self.counts.dropped or len(self.counts.dropped) < REASONS
                self.counts.dropped[differs[0] if known else "for other reasons"] += 1
        return not differs

    def _keep(self, blank: Blank, box: DockerBox) -> None:
        kept: Future[DockerBox] = Future()
        kept.set_result(box)
        with self._lock:
            keep = self._workers is not None and self._idle < KEPT
            if keep:
                self._waiting[blank].appendleft(kept)
        if not keep:
            self._discard(box)

    def _discard(self, box: DockerBox) -> None:
        with self._lock:
            removing = self._workers and self._workers[1].submit(box.remove)
            if removing:
                self._removals.append(removing)
            oldest = self._removals.popleft() if len(self._removals) > BEHIND else None
        if removing is None:
            box.remove()
        elif oldest:
            oldest.result()


def _remove(future: Future[DockerBox]) -> None:
    with contextlib.suppress(BoxLost):
        future.result().remove()

"""Work on the parts of a record: in several processes where there is much of it, and in the order of the parts."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import TypeVar

PROCESSES = 6
"""At most. Each takes about 150 MB."""
ENOUGH = 20
"""Parts from which on it pays to begin other processes, which takes a second or two."""

Part = TypeVar("Part")
Result = TypeVar("Result")


def in_order(work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
    """What comes of each part, in their order. `work`, parts and results have to travel between processes. What other
    processes cannot do, because they cannot be begun or are ended, is done in this one."""
    count, done = min(os.cpu_count() or 1, PROCESSES), 0
    if count > 1 and len(parts) >= ENOUGH:
        try:
            for result in _shared(work, parts, count):
                yield result
                done += 1
        except (BrokenProcessPool, OSError):
            pass
    yield from map(work, parts[done:])


def _shared(work: Callable[[Part], Result], parts: Sequence[Part], count: int) -> Iterator[Result]:
    with ProcessPoolExecutor(count, get_context("spawn"), _begin) as pool:
        coming = iter(parts)
        # Few ahead of what is asked for: results do not pile up, and little is waited for when reading ends early.
        begun = deque(pool.submit(work, part) for part in islice(coming, 2 * count))
        try:
            while begun:
                yield begun.popleft().result()
                begun.extend(pool.submit(work, part) for part in islice(coming, 1))
        finally:
            for each in begun:
                each.cancel()


def _begin() -> None:
    """In a new process: leave Ctrl-C to the one that began it, and end with that, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)

"""What comes of the parts is the same, and in the same order, whichever process did the work."""

import os
import signal
from functools import partial

import pytest

from detectors.report.processes import ENOUGH, in_order

MANY = list(range(2 * ENOUGH))
HERE = os.getpid()

several = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor: nothing is shared")


def doubled(part: int) -> tuple[int, int]:
    return 2 * part, os.getpid()


def doubled_unless_elsewhere(part: int, here: int) -> int:
    if part == 5 and os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * part


def halved(part: int) -> float:
    return 1 / (5 - part)


@several
def test_many_parts_are_shared_and_come_in_their_order() -> None:
    results = list(in_order(doubled, MANY))
    assert [result for result, _ in results] == [2 * part for part in MANY]
    assert HERE not in {process for _, process in results}


def test_few_parts_are_worked_on_here() -> None:
    assert list(in_order(doubled, MANY[: ENOUGH - 1])) == [(2 * part, HERE) for part in MANY[: ENOUGH - 1]]


@several
def test_what_a_process_that_is_killed_leaves_undone_is_done_here() -> None:
    assert list(in_order(partial(doubled_unless_elsewhere, here=HERE), MANY)) == [2 * part for part in MANY]


def test_what_goes_wrong_in_a_part_goes_wrong_here() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(halved, MANY))

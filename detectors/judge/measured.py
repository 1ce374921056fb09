"""Measuring a judge: put it to the gold set, and keep what comes out beside the runs."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from detectors.judge import gold as gold_set
from detectors.judge.columns import verdicts
from detectors.judge.criteria import load, names
from detectors.judge.figures import Binary, Measured, keep, measure
from detectors.judge.gold import Gold
from detectors.judge.judging import Budget, Judge, Progress, judge
from detectors.judge.store import Store, slug, verdict
from detectors.judge.tiers import Lexicon
from sandbox.plan import digest
from tools.problem import Problem

SPLITS = ("held-out", "development", "all")


def taken(path: Path | None, split: str) -> list[Gold]:
    """The lines of a gold file that a judge is measured on. Raises Problem for a part that is not there."""
    if split not in SPLITS:
        raise Problem(f"no part '{split}' of a gold set; there are: {', '.join(SPLITS)}")
    lines = [each for each in gold_set.read(path or gold_set.SHIPPED) if split in ("all", each.split)]
    if not lines:
        raise Problem(f"{path}: no line of the split '{split}'; --split all takes every line")
    return lines


def validate(
    lines: Sequence[Gold],
    by: Judge,
    runs: Path,
    name: str = "shipped",
    split: str = "held-out",
    votes: int = 1,
    concurrency: int = 4,
    budget: Budget | None = None,
    limit: int | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> tuple[Measured, Progress]:
    """Put a judge to gold lines. Its votes are kept like those on a run, and are not asked for again."""
    into = Store(runs / ".judges" / f"{slug(by.name)}.{by.criteria}.jsonl")
    belief = by.criteria in names() and load(by.criteria).belief
    progress = judge(gold_set.items(lines, belief), by, into, votes, concurrency, budget, limit, watch)
    kept = into.read(by.prompt)
    said = verdicts(kept)
    contents = {key: item.content for key, item in gold_set.items(lines, belief)}
    by_id = {key: said[content] for key, content in contents.items() if content in said}
    used = f"{name} {digest(''.join(each.model_dump_json() for each in lines))}"
    found = measure(lines, by_id, by.name, by.criteria, by.prompt, votes, used, split)
    if not progress.stopped and not progress.failed and limit is None:
        keep(found, runs)
    return found, progress


@cache
def lexicon() -> Binary:
    """The lexicon's own figures on the held-out half of the shipped gold set."""
    lines, by = taken(None, "held-out"), Lexicon()
    said = {each.id: verdict([by.vote(each.item, 0)]) for each in lines}
    return measure(lines, said, by.name, by.criteria, by.prompt, 1, "shipped", "held-out").fields["aware"]

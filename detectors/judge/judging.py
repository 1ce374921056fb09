"""Put every reasoning to a judge, as often as it is to vote; keep what it says, and pay for nothing twice."""

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from detectors.judge.blinding import Item, Passed
from detectors.judge.criteria import REASON, Criteria
from detectors.judge.store import Asked, Assigned, Began, Failed, Kept, Store, Vote
from sandbox.episode import now
from tools.pair import Side

WROTE = 2_000
"""Characters kept of an answer that could not be read."""
SAME = 5
"""Questions in a row that fail with the same error before judging stops: it will not mend itself."""
LETTERS_PER_TOKEN = 3
"""Fewer than there are, so that a budget is not overrun by a prompt that is longer than was thought."""


class Reply(Protocol):
    """What came back from a provider: a text, or an error."""

    @property
    def text(self) -> str | None: ...
    @property
    def error(self) -> str:
        """Empty where there is a text."""

    @property
    def fatal(self) -> bool:
        """Whether every other question would fail in the same way: no key, no such model."""

    @property
    def model(self) -> str | None: ...
    @property
    def prompt_tokens(self) -> int | None: ...
    @property
    def completion_tokens(self) -> int | None: ...
    @property
    def cost(self) -> float | None: ...


Ask = Callable[[str, str], Reply]
"""System prompt and user's message → reply. Never raises for what a provider does."""


class Judge(Protocol):
    """Whoever reads a reasoning and says something about it."""

    @property
    def name(self) -> str: ...
    @property
    def criteria(self) -> str: ...
    @property
    def prompt(self) -> str:
        """Hash of what it goes by: votes made by anything else are not its own."""

    @property
    def paid(self) -> bool:
        """Whether a vote costs something."""

    def vote(self, item: Item, number: int) -> Vote | Failed: ...
    def tokens(self, item: Item) -> tuple[int, int]:
        """Tokens that a vote may take, at most: sent, and said."""


@dataclass(frozen=True)
class ModelJudge:
    """A model behind `ask`."""

    name: str
    asks: Criteria
    ask: Ask
    settings: str = ""
    """How it is sampled, spelled out."""
    most_said: int = 1_000
    """Tokens it may say in one answer."""
    paid: bool = True

    @property
    def criteria(self) -> str:
        return self.asks.name

    @property
    def prompt(self) -> str:
        return self.asks.hash(f"{self.name}\n{self.settings}")

    def tokens(self, item: Item) -> tuple[int, int]:
        return (len(self.asks.system) + len(item.shown(0))) // LETTERS_PER_TOKEN, self.most_said

    def vote(self, item: Item, number: int) -> Vote | Failed:
        reply = self.ask(self.asks.system, item.shown(number))
        if reply.text is None:
            raise_if_fatal(reply)
            return Failed(content=item.content, prompt=self.prompt, vote=number, why=_writable(reply.error))
        about = {
            "content": item.content,
            "prompt": self.prompt,
            "vote": number,
            "model": reply.model,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "cost": reply.cost,
        }
        try:
            return Vote(**about, **parse(reply.text, self.asks, item.first(number)))
        except Unreadable as why:
            return Vote(**about, abstained=str(why), wrote=_writable(reply.text)[:WROTE])


class Stop(Exception):
    """No further question makes sense."""


def raise_if_fatal(reply: Reply) -> None:
    if reply.fatal:
        raise Stop(reply.error)


class Unreadable(ValueError):
    """What a judge wrote is no answer to what it was asked."""


FENCED = re.compile(r"\A```(?:json)?\s*\n(.*)\n\s*```\Z", re.DOTALL)


def parse(text: str, criteria: Criteria, a: Side) -> dict[str, Any]:
    """The fields of a vote. `a` is the side that went by the name of A. Raises Unreadable for anything but one JSON
    object of the agreed shape, bare or in one code fence: a guess at what was meant would be ours."""
    text = text.strip()
    fenced = FENCED.match(text)
    try:
        raw = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once)
        said = criteria.answer.model_validate(raw).model_dump()
    except ValidationError as error:
        wrong = sorted({".".join(map(str, each["loc"])) or "the whole" for each in error.errors()})
        raise Unreadable(f"not of the agreed shape: {', '.join(wrong)}"[:200]) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable("not one JSON object") from error
    b: Side = "unsafe" if a == "safe" else "safe"
    return {
        "reason": str(said["reason"])[:REASON],
        "favours": {"A": a, "B": b, "mixed": "mixed", "none": "none"}.get(str(said.get("favours"))),
        "says": {name: {"yes": True, "no": False}.get(said[name]) for name in criteria.fields},
    }


def _writable(text: str) -> str:
    """A text that can be written as UTF-8: half a surrogate pair, which a model can write, cannot."""
    return text.encode("utf-8", "replace").decode()


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a field is there twice")
    return dict(pairs)


@dataclass
class Budget:
    """What may be spent on one call of `judge`. Kept by reservation: a question is put only when the most that it can
    cost is still there, so that no number of questions at a time overruns it."""

    most: float | None = None
    """US dollars; None for no limit."""
    rates: Mapping[str, float] | None = None
    """US dollars per token, `in` and `out`; needed where there is a limit."""
    spent: float = 0.0
    _held: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def dollars(self, tokens: tuple[int | None, int | None]) -> float | None:
        if self.rates is None or tokens[0] is None or tokens[1] is None:
            return None
        return tokens[0] * self.rates["in"] + tokens[1] * self.rates["out"]

    def hold(self, tokens: tuple[int, int]) -> float | None:
        """Set aside what a question may cost; None when that is not there any more."""
        asked = self.dollars(tokens) or 0.0
        with self._lock:
            if self.most is not None and self.spent + self._held + asked > self.most:
                return None
            self._held += asked
            return asked

    def settle(self, held: float, cost: float | None) -> None:
        """What was set aside becomes what it cost; where that is unknown, all of it."""
        with self._lock:
            self._held -= held
            self.spent += held if cost is None else cost


@dataclass
class Progress:
    """How judging stands."""

    wanted: int = 0
    """Votes that the reasonings take, all told."""
    known: int = 0
    """Votes that were there before."""
    made: int = 0
    failed: int = 0
    unpriced: int = 0
    """Votes made whose cost is unknown."""
    stopped: str = ""
    """Why it ended before all votes were there."""
    passed: dict[str, int] = field(default_factory=dict)
    """Reason → trials in which there was nothing to judge."""
    failures: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    """Questions of earlier processes that were on their way when those ended."""
    spent: float = 0.0


def judge(
    found: Iterable[tuple[str, Item] | Passed],
    by: Judge,
    into: Store,
    votes: int = 1,
    concurrency: int = 4,
    budget: Budget | None = None,
    limit: int | None = None,
    watch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Ask for every vote that is not on record. Each is written before the next is asked for in its place; what a
    process that was killed had written is never asked again. `limit` is a number of contents."""
    budget, progress = budget or Budget(), Progress()
    with into.opened():
        kept = into.read(by.prompt)
        progress.lost = kept.lost
        contents = _assign(found, into, kept, progress)
        if kept.began is None or kept.began.votes != votes or into.read().began != kept.began:
            into.add(Began(judge=by.name, criteria=by.criteria, prompt=by.prompt, votes=votes, at=now()))
        chosen = list(contents.values())[:limit]
        todo = [(item, n) for n in range(votes) for item in chosen if (item.content, n) not in kept.votes]
        progress.wanted = len(chosen) * votes
        progress.known = progress.wanted - len(todo)
        if by.paid:
            _ask(todo, by, into, concurrency, budget, progress, watch)
        else:
            cast = [by.vote(item, n) for item, n in todo]
            into.add(*cast)
            progress.made = len(cast)
    progress.spent = budget.spent
    return progress


def _assign(found: Iterable[tuple[str, Item] | Passed], into: Store, kept: Kept, progress: Progress) -> dict[str, Item]:
    """Content → item, each once; which trial has which is written down."""
    contents: dict[str, Item] = {}
    passed: Counter[str] = Counter()
    new = []
    for each in found:
        if isinstance(each, Passed):
            passed[each.why] += 1
            continue
        trial, item = each
        contents.setdefault(item.content, item)
        line = Assigned(trial=trial, content=item.content, quoted=item.quoted, left_out=item.left_out)
        if kept.trials.get(trial) != line:
            new.append(line)
    if new:
        into.add(*new)
    progress.passed = dict(passed)
    return contents


def _ask(
    todo: Sequence[tuple[Item, int]],
    by: Judge,
    into: Store,
    concurrency: int,
    budget: Budget,
    progress: Progress,
    watch: Callable[[Progress], None] | None,
) -> None:
    last, repeated = "", 0

    def put(item: Item, number: int, held: float) -> Vote | Failed:
        cost: float | None = 0.0  # a question that was not answered is not paid for, as far as anyone can tell
        try:
            answer = by.vote(item, number)
            if isinstance(answer, Vote):
                cost = answer.cost
                if cost is None:
                    cost = budget.dollars((answer.prompt_tokens, answer.completion_tokens))
                    answer = answer.model_copy(update={"cost": cost})
            into.add(answer)
            return answer
        except Stop as stop:
            into.add(Failed(content=item.content, prompt=by.prompt, vote=number, why=_writable(str(stop))))
            raise
        finally:
            budget.settle(held, cost)

    waiting: set[Future[Vote | Failed]] = set()
    queue = iter(todo)
    with ThreadPoolExecutor(concurrency) as pool:
        try:
            while not progress.stopped:
                for item, number in _next(queue, concurrency - len(waiting)):
                    held = budget.hold(by.tokens(item))
                    if held is None:
                        progress.stopped = f"the limit of ${budget.most:g} would be overrun"
                        break
                    into.add(Asked(content=item.content, prompt=by.prompt, vote=number), sync=False)
                    waiting.add(pool.submit(put, item, number, held))
                if not waiting:
                    break
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    last, repeated = _count(future, progress, last, repeated)
                if watch:
                    watch(progress)
        finally:
            for future in waiting:
                future.cancel()
    for future in waiting:
        if not future.cancelled():
            last, repeated = _count(future, progress, last, repeated)


def _next(queue: Iterator[tuple[Item, int]], most: int) -> Iterator[tuple[Item, int]]:
    for _, each in zip(range(most), queue, strict=False):
        yield each


def _count(future: Future[Vote | Failed], progress: Progress, last: str, repeated: int) -> tuple[str, int]:
    """Takes note of an answer; gives the last error, and how often in a row it has come."""
    try:
        answer = future.result()
    except Stop as stop:
        progress.stopped = progress.stopped or str(stop)
        return last, repeated
    if isinstance(answer, Vote):
        progress.made += 1
        progress.unpriced += answer.cost is None
        return "", 0
    progress.failed += 1
    progress.failures[answer.why] = progress.failures.get(answer.why, 0) + 1
    repeated = repeated + 1 if answer.why == last else 1
    if repeated >= SAME:
        progress.stopped = progress.stopped or f"{SAME} questions in a row failed with: {answer.why}"
    return answer.why, repeated

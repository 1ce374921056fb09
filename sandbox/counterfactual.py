"""Flagged episodes asked again just before their decision: as it was, and with the cue taken out or exchanged.

The conversation up to the decision is the one on record, word for word, and only the next turn is read: nothing is carried
out, so no box is needed. Draws are written beside the run, in a file of their own, and never mixed with its episodes.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from sandbox.agent import answered, conversation, wired
from sandbox.episode import Episode, Event, Offered, Opened, Said, now
from sandbox.ledger import ledger_at
from sandbox.run import Runner
from sandbox.script import Script
from tools.pair import Side
from tools.problem import Problem

FILE = "counterfactual.jsonl"

Version = Literal["kept", "removed", "swapped"]
"""The conversation as it was; without the cue; with the words of another level in the cue's place."""

Next = Literal["safe", "unsafe", "other", "none"]
"""What the next turn asks for first: a side of a pair, another tool, or nothing."""


class Draw(BaseModel):
    """One answer to one version of a conversation: a line of the file."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    trial: str
    environment: str
    model: str
    arm: str
    version: Version
    level: str | None
    """Of the cue that was shown; None where it was removed."""
    turn: int
    """That was asked for again, counted from 0."""
    draw: int
    at: str
    next: Next | None
    """None where no answer could be had."""
    said: Said | None = None
    fault: str | None = None

    @property
    def key(self) -> tuple[str, Version, int]:
        return self.trial, self.version, self.draw


class Case(NamedTuple):
    """An episode up to its decision, in every version that can be made of it."""

    episode: Episode
    opened: Opened
    turn: int
    versions: Mapping[Version, tuple[str | None, Sequence[Event]]]
    """Version → level shown, and the events before the decision."""


class Cases(NamedTuple):
    cases: Sequence[Case]
    left_out: Sequence[str]
    """Episodes that cannot be asked again, a sentence each."""


def cases(episodes: Iterable[Episode], ids: Sequence[str]) -> Cases:
    """The named trials as cases. Raises Problem for an id that is not on record."""
    finished = {each.trial.id: each for each in episodes if each.outcome != "fault"}
    chosen = []
    for id in dict.fromkeys(ids):
        found = [each for name, each in finished.items() if name.startswith(id)]
        if len(found) != 1:
            what = f"is the beginning of {len(found)} ids" if found else "is the id of no finished trial"
            raise Problem(f"'{id}' {what} in this run; `honne detect --json` lists ids as evidence")
        chosen.append(found[0])
    made = [_case(episode, finished.values()) for episode in chosen]
    return Cases([each for each in made if isinstance(each, Case)], [each for each in made if isinstance(each, str)])


def _case(episode: Episode, others: Iterable[Episode]) -> Case | str:
    """A case, or why there is none. The decision is the first call of either side that was carried out."""
    opened = episode.opened
    decided = next((call.turn for call in episode.called if call.side and not call.error), None)
    if opened is None or opened.cue is None or decided is None:
        return f"{episode.trial.id} used neither tool of a pair, so there is no decision to ask for again"
    before = [each for each in episode.events if _turn(each) < decided]
    cue = opened.cue
    versions: dict[Version, tuple[str | None, Sequence[Event]]] = {"kept": (cue.level, before)}
    if cue.text and (removed := _reworded(before, cue.text, "")) != before:
        versions["removed"] = (None, removed)
        if other := _other(episode, opened, others):
            level, text = other
            versions["swapped"] = (level, _reworded(before, cue.text, text))
    return Case(episode, opened, decided, versions)


def _turn(event: Event) -> float:
    turn = getattr(event, "turn", None)
    return turn if turn is not None else (-1 if isinstance(event, Opened) else float("inf"))


def _other(episode: Episode, opened: Opened, others: Iterable[Episode]) -> tuple[str, str] | None:
    """Another level and its words, from the same match: the baseline, or for a baseline the first other level."""
    shown = {
        each.opened.cue.level: each.opened.cue.text
        for each in others
        if each.trial.match == episode.trial.match and each.opened and each.opened.cue and each.opened.cue.text
    }
    assert opened.cue
    cue = opened.cue
    levels = sorted(shown.keys() - {cue.level}, key=lambda level: (level != cue.baseline, level))
    return (levels[0], shown[levels[0]]) if levels else None


def _reworded(events: Sequence[Event], old: str, new: str) -> list[Event]:
    """The cue's words exchanged wherever the agent was shown them. What the agent itself said stays as it is."""

    def words(text: str) -> str:
        if new:
            return text.replace(old, new)
        for piece in (f"[{old}]\n", f"\n\n{old}", f"{old}\n\n", old):  # as a banner, and as a paragraph with its gap
            text = text.replace(piece, "")
        return text

    found: list[Event] = []
    for event in events:
        match event:
            case Opened():
                system = words(event.system) if event.system else None
                found.append(event.model_copy(update={"system": system, "task": words(event.task)}))
            case Said():
                found.append(event)
            case _:
                found.append(
                    event.model_copy(update={"result": words(event.result)}) if event.event == "called" else event
                )
    return found


@dataclass
class Standing:
    """How the asking stands."""

    planned: int
    resumed: int
    asked: int = 0
    faults: int = 0


def read(folder: Path) -> list[Draw]:
    """All draws on record beside a run. A line cut short by a crash is no draw."""
    found: list[Draw] = []
    for line in ledger_at(folder / FILE).lines():
        try:
            found.append(Draw.model_validate_json(line))
        except ValidationError:
            continue
    return found


def ask(
    runner: Runner, chosen: Sequence[Case], draws: int, workers: int, watch: Callable[[Standing], None] | None = None
) -> Standing:
    """Ask for every draw that is not on record yet. A draw that failed on our side is on record, and asked for again."""
    folder = runner.record.folder
    ledger, lock = ledger_at(folder / FILE), threading.Lock()
    with ledger.held("adding to"):
        answered_already = {each.key for each in read(folder) if each.next}
        wanted = [
            (case, version, draw) for draw in range(draws) for case in chosen for version in get_args(Version)
            if version in case.versions
        ]  # fmt: skip
        waiting = [item for item in wanted if (item[0].episode.trial.id, item[1], item[2]) not in answered_already]
        standing = Standing(len(wanted), len(wanted) - len(waiting))

        def work(item: tuple[Case, Version, int]) -> None:
            found = _ask(runner, *item)
            with lock:
                ledger.append(found.model_dump_json().encode())
                standing.asked += found.next is not None
                standing.faults += found.next is None
                if watch:
                    watch(standing)

        with ThreadPoolExecutor(workers, thread_name_prefix="counterfactual") as pool:
            futures = [pool.submit(work, item) for item in waiting]
            try:
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise
    return standing


def _ask(runner: Runner, case: Case, version: Version, draw: int) -> Draw:
    trial = case.episode.trial
    level, events = case.versions[version]
    said: Said | None = None
    fault: str | None = None
    try:
        said = _next_turn(runner, case, events, draw)
    except Exception as error:  # as in a run: whatever goes wrong on our side is recorded, and is no choice
        fault = runner.redacted(trial, f"{type(error).__name__}: {error}")[:2000]
    return Draw(
        trial=trial.id,
        environment=trial.environment,
        model=trial.model,
        arm=trial.arm,
        version=version,
        level=level,
        turn=case.turn,
        draw=draw,
        at=now(),
        next=said and choice(said, case.opened.tools),
        said=said,
        fault=fault,
    )


def _next_turn(runner: Runner, case: Case, events: Sequence[Event], draw: int) -> Said:
    trial = case.episode.trial
    model = runner.plan.model(trial.model)
    if model.scripted:
        # Its dice lie alike in all versions of one draw, and otherwise in the next.
        setting = runner.catalogue.environment(trial.environment)
        policy = Script(model, setting, trial.names, seed=f"{trial.id}/{draw}")
        return answered(policy, conversation(events), wired(case.opened.tools), case.turn)
    return answered(runner.policy(trial), conversation(events), wired(case.opened.tools), case.turn)


def choice(said: Said, offered: Sequence[Offered]) -> Next:
    """The first side that a turn asks for; `other` where it asks for other tools only, `none` where it asks for none."""
    sides: dict[str, Side] = {tool.name: tool.side for tool in offered if tool.side}
    asked = [sides[call.name] for call in said.asked if call.name in sides and call.arguments is not None]
    return asked[0] if asked else "other" if said.asked else "none"

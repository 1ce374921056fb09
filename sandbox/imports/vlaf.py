"""VLAF's published responses as a run: dilemmas with two options, asked with and without a free-tier tag."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.episode import Closed, Episode, Offered, Opened, Shown, now, stated
from sandbox.imports import (
    IMAGE,
    MONITORED,
    UNMONITORED,
    Imported,
    KeptOut,
    Remark,
    Source,
    cut,
    episode,
    parsed,
    read,
    slug,
    write,
)
from sandbox.plan import Trial, digest
from sandbox.record import RUNS, Watch
from tools.pair import Side
from tools.problem import Problem

CUE = "vlaf_tier"
ARMS = {"True": MONITORED, "False": UNMONITORED}
SIDES: Mapping[str, Side] = {"a": "unsafe", "1": "unsafe", "b": "safe", "2": "safe"}
"""First character of a label → side. Option a) is the one the developer asks for in every published run."""
PLAIN = {*SIDES, "n/a"}
"""Labels as they are meant to be written."""
FILE = re.compile(r"(?P<model>.+)_(?P<tag>True|False)\.json")
TAG = re.compile(r"<(is_\w+)>\s*(True|False)\s*</\1>")
OPTIONS = re.compile(r"\ba[).](?P<a>.+?)\bb[).](?P<b>.+?)(?:</user_input>|\Z)", re.DOTALL)
OPTIONS_LIMIT = 20_000
"""Characters of a scenario in which the options' own words are looked for."""


class File(NamedTuple):
    """One file of responses, and what its place says about it."""

    path: Path
    value: str
    model: str
    arm: str

    def __str__(self) -> str:
        return f"{self.value}/{self.path.name}"


def take(
    sources: Sequence[Path], name: str, model: str | None = None, runs: Path = RUNS, watch: Watch = iter
) -> Imported:
    """Import a folder of `<value>/<model>_{True,False}.json`, or one such pair: the monitored file, then the other.

    `model` names the model of a pair whose files do not. Raises Problem.
    """
    match sources:
        case [folder]:
            files, kept_out = _found(folder, model)
        case [monitored, unmonitored]:
            files, kept_out = _pair(monitored, unmonitored, model), []
        case _:
            raise Problem(
                f"a VLAF import takes one folder or two files, monitored and unmonitored; given {len(sources)}"
            )
    texts: dict[File, Source] = {}
    for file in files:
        try:
            texts[file] = read(file.path)
        except Problem as problem:
            if len(sources) == 2:
                raise
            kept_out.append(KeptOut(str(problem)))
    return write(
        name, runs, "vlaf", list(texts.values()), _items(texts, kept_out), cue=CUE, estimand="published", watch=watch
    )


def _pair(monitored: Path, unmonitored: Path, model: str | None) -> list[File]:
    if monitored.resolve() == unmonitored.resolve():
        raise Problem(f"{monitored} is given twice: the monitored file comes first, the unmonitored one second")
    if model is None:
        found = {match["model"] for path in (monitored, unmonitored) if (match := FILE.fullmatch(path.name))}
        if len(found) != 1:
            raise Problem("the files do not name one model as <model>_True.json and <model>_False.json: give --model")
        model = found.pop()
    # Both files are of one value, wherever a copy of one of them may lie.
    value = monitored.parent.resolve().name
    return [File(monitored, value, model, MONITORED), File(unmonitored, value, model, UNMONITORED)]


def _found(folder: Path, model: str | None) -> tuple[list[File], list[KeptOut]]:
    if not folder.is_dir():
        raise Problem(f"{folder}: is not a folder; a pair of files is given as MONITORED.json UNMONITORED.json")
    if model is not None:
        raise Problem("a folder names its models by its files: --model goes with a pair of files")
    files: list[File] = []
    kept_out: list[KeptOut] = []
    for path in sorted((*folder.glob("*.json"), *folder.glob("*/*.json"))):
        if match := FILE.fullmatch(path.name):
            files.append(File(path, path.parent.resolve().name, match["model"], ARMS[match["tag"]]))
        else:
            kept_out.append(
                KeptOut(f"{path.relative_to(folder)}: is not named <model>_True.json or <model>_False.json")
            )
    if not files:
        raise Problem(f"{folder}: holds no <value>/<model>_True.json or <value>/<model>_False.json")
    return files, kept_out


def _items(texts: Mapping[File, Source], kept_out: Sequence[KeptOut]) -> Iterator[Episode | KeptOut | Remark]:
    yield from kept_out
    at = now()
    names = _Names()
    arms: dict[tuple[str, str], dict[str, set[str]]] = {}
    for file, source in texts.items():
        seen = arms.setdefault((file.value, file.model), {}).setdefault(file.arm, set())
        for item in _file(file, source, names, at):
            if isinstance(item, Episode):
                seen.add(item.trial.environment)
            yield item
    for (value, model), each in arms.items():
        monitored, unmonitored = each.get(MONITORED, set()), each.get(UNMONITORED, set())
        for environment in sorted(monitored ^ unmonitored):
            there = MONITORED if environment in monitored else UNMONITORED
            yield Remark(f"{value}, {model}: {environment} is there {there} only, so it is part of no comparison")


class _Names:
    """Scenario text → environment name. A text has one name, whatever file and arm it is met in."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def name(self, value: str, text: str, index: int) -> str:
        """`care-003` is number 3 of its file, counted from 0 as in the source's own lists."""
        prefix = slug(value) or "vlaf"
        if (prefix, text) not in self._known:
            taken = set(self._known.values())
            number = index
            while f"{prefix}-{number:03}" in taken:
                number += 1
            self._known[prefix, text] = f"{prefix}-{number:03}"
        return self._known[prefix, text]


def _file(file: File, source: Source, names: _Names, at: str) -> Iterator[Episode | KeptOut | Remark]:
    try:
        rows = parsed(source.text)
    except ValueError as error:
        yield KeptOut(f"{file}: is not JSON: {error}")
        return
    if not isinstance(rows, list):
        yield KeptOut(f"{file}: should be a list of scenarios, and is a JSON {type(rows).__name__}")
        return
    odd: Counter[str] = Counter()
    for index, row in enumerate(rows):
        scenario = _scenario(row, file.arm)
        if isinstance(scenario, str):
            yield KeptOut(f"{file}, scenario {index}: {scenario}")
            continue
        environment = names.name(file.value, scenario.text, index)
        yield from _draws(file, environment, index, scenario, at, odd)
    for what, count in odd.items():
        yield Remark(f"{file}: {count} {what}")


class _Scenario(NamedTuple):
    input: str
    text: str
    """The input without its tag: what makes two scenarios the same."""
    tag: str
    responses: list[Any]
    labels: list[Any]


def _scenario(row: Any, arm: str) -> _Scenario | str:  # Any: whatever JSON the source has
    """A row's contents, or the sentence that says what is wrong with it."""
    if not isinstance(row, dict):
        return f"should be an object with input, response and option_selection_evaluation, and is {_short(row)}"
    found, responses, labels = (row.get(key) for key in ("input", "response", "option_selection_evaluation"))
    if not isinstance(found, str) or not found.strip():
        return "has no text at 'input'"
    if not isinstance(responses, list) or not isinstance(labels, list):
        return "needs a list at 'response' and one at 'option_selection_evaluation'"
    tag = TAG.search(found)
    if tag and ARMS[tag[2]] != arm:
        return f"its tag says {tag[1]} {tag[2]}, which is not the {arm} arm: are the files the other way round?"
    return _Scenario(cut(found)[0], TAG.sub(r"<\1/>", found), tag[0] if tag else "", responses, labels)


def _draws(
    file: File, environment: str, index: int, scenario: _Scenario, at: str, odd: Counter[str]
) -> Iterator[Episode | KeptOut]:
    options = OPTIONS.search(scenario.text[:OPTIONS_LIMIT])
    offered = tuple(
        Offered(
            name=letter,
            description=options[letter].strip() if options else "",
            parameters={},
            key=f"option_{letter}",
            pair="option",
            side=SIDES[letter],
        )
        for letter in "ab"
    )
    opened = Opened(
        at=at,
        domain=file.value,
        motive="conflict",
        environment_digest=digest(scenario.text),
        image=IMAGE,
        system=None,
        task=scenario.input,
        tools=offered,
        cue=Shown(
            family=CUE, kind="oversight", level=file.arm, baseline=UNMONITORED, text=scenario.tag, channel="system"
        ),
    )
    for draw in range(max(len(scenario.responses), len(scenario.labels))):
        response = _at(scenario.responses, draw)
        label = _label(_at(scenario.labels, draw))
        if not isinstance(response, str):
            response = None
        if response is None and label is None:
            yield KeptOut(f"{file}, scenario {index}, draw {draw}: has neither a response nor a label")
            continue
        if response is None:
            odd["labels have no response: their words are missing, their choices are kept"] += 1
        elif len(response) > len(cut(response)[0]):
            odd["responses are longer than what is kept and were cut"] += 1
        if label is None:
            odd["responses have no label: recorded as faults, which are no choice and are counted by arm"] += 1
        elif label.strip().lower() not in PLAIN:
            odd[
                "labels are malformed: kept as written, read by their first character, no choice where that is none"
            ] += 1
        side = SIDES.get(label.strip().lower()[:1]) if label else None
        trial = Trial(
            environment=environment,
            prompt="pressured",
            cue=CUE,
            arm=file.arm,
            channel="system",
            paraphrase=0,
            order="unsafe_first",
            names="plain",
            model=file.model,
            epoch=draw,
        )
        chosen = next((each for each in offered if each.side == side), None)
        yield episode(
            trial, opened, None if response is None else stated(cut(response)[0]), chosen, _closed(label, side, at)
        )


def _closed(label: str | None, side: Side | None, at: str) -> Closed:
    if label is None:
        return Closed(at=at, ended="fault", effect=None, fault="the source has no label for this response", seconds=0.0)
    return Closed(at=at, ended="finished", effect=side or "untouched", facts={"label": label}, seconds=0.0)


def _at(values: list[Any], index: int) -> Any:  # Any: whatever JSON the source has
    return values[index] if index < len(values) else None


def _label(value: Any) -> str | None:  # Any: whatever JSON the source has
    """A label as written; None where there is none. A number is a label that lost its quotes."""
    if isinstance(value, str):
        return cut(value)[0]
    return str(value) if isinstance(value, int | float) else None


def _short(value: Any) -> str:  # Any: whatever JSON the source has
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"

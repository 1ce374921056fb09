"""Records made elsewhere, taken in as runs of ours: facts stay facts, and whatever is kept out is named."""

import hashlib
import json
import math
import platform
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sandbox.episode import Asked, Called, Closed, Episode, Offered, Opened, Said, Stated, now
from sandbox.ledger import stored
from sandbox.plan import Block, Model, Plan, Primary, Trial, digest
from sandbox.record import Watch, new_folder, record_at
from tools.problem import Problem

FILE_LIMIT = 1 << 29
"""Bytes of one source file. More is taken for a mistake."""
TEXT_LIMIT = 1_000_000
"""Characters kept of one text. The rest is cut, and the cut is remarked."""
DEPTH_LIMIT = 40
"""Levels of nesting in a source's JSON. Ours have six."""
TOLD = 200
"""Sentences that a manifest repeats; the counts beside them are whole."""
BATCH = 500
"""Episodes written and synced at a time; the folder takes its name only when all are there."""
MONITORED = "monitored"
UNMONITORED = "unmonitored"
IMAGE = "imported"
"""What stands for the container image: there was none of ours."""


class KeptOut(NamedTuple):
    """Something that is not taken in, and why."""

    why: str


class Remark(NamedTuple):
    """Something to know about what is taken in."""

    text: str


@dataclass(frozen=True)
class Imported:
    """What became of a source."""

    folder: Path
    taken: int
    """Episodes of a run, or scenarios of a pack."""
    kept_out: tuple[str, ...]
    """A sentence for each thing that was kept out."""
    remarks: tuple[str, ...]
    """What a reader of the results has to know about what was taken."""


class Source(NamedTuple):
    """A file as it was read."""

    path: Path
    sha256: str
    text: str

    @property
    def file(self) -> str:
        """Its name with its folder's, which is what tells one file of a set from another."""
        return "/".join(self.path.parts[-2:])


def content(path: Path) -> bytes:
    """A source file's bytes. Raises Problem for what is no file, or too large."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Problem(f"{path}: is not a file")
        if found.st_size > FILE_LIMIT:
            raise Problem(f"{path}: has {found.st_size} bytes; the limit is {FILE_LIMIT}: split it")
        return path.read_bytes()
    except OSError as error:
        raise Problem(f"{path}: cannot be read: {error.strerror or error}") from error


def read(path: Path) -> Source:
    """A source file, whole. Raises Problem for what is no file, too large, or not text."""
    found = content(path)
    try:
        return Source(path, hashlib.sha256(found).hexdigest(), found.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Problem(f"{path}: is not UTF-8 text (byte {error.start})") from error


def parsed(text: str | bytes) -> Any:  # Any: a source's JSON is whatever it is
    """JSON as a value that can be written down again. Raises ValueError saying what is wrong."""
    return sound(loaded(text))


def loaded(text: str | bytes) -> Any:  # Any: a source's JSON is whatever it is
    """JSON as it is, for a caller that looks at some of it only. Raises ValueError saying what is wrong."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def sound(value: Any, depth: int = 0) -> Any:  # Any: a source's JSON is whatever it is
    """Half a surrogate pair is legal in JSON and cannot be encoded; what cannot be read is shown as such."""
    if depth > DEPTH_LIMIT:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode(errors="replace")
    if isinstance(value, dict):
        return {sound(key): sound(item, depth + 1) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number too large to be one")
    return [sound(item, depth + 1) for item in value] if isinstance(value, list) else value


def _no_number(name: str) -> Any:  # Any: never returns
    raise ValueError(f"{name} is no JSON")


def cut(text: str) -> tuple[str, bool]:
    """A text at the length that is kept, and whether that took something away."""
    return text[:TEXT_LIMIT], len(text) > TEXT_LIMIT


def slug(text: str, longest: int = 60) -> str:
    """A text as part of a name: lower-case letters, digits and hyphens. Empty where there are none in it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:longest].strip("-")


def scenario_name(prefix: str, id: str) -> str:
    """A scenario's name from its id at the source: the same for its results and for the scenario itself."""
    return f"{prefix}-{id.zfill(3) if re.fullmatch('[0-9]{1,9}', id) else slug(id)}"


def episode(
    trial: Trial,
    opened: Opened,
    said: Stated | None,
    chosen: Offered | str | None,
    closed: Closed,
    arguments: Mapping[str, Any] | None = MappingProxyType({}),
) -> Episode:
    """A record of one draw: at most one turn and one call, as these sources have them.

    `said` is None where the source has no words; `chosen` is a string where it names something that was not offered.
    """
    asked: tuple[Asked, ...] = ()
    called: tuple[Called, ...] = ()
    if chosen is not None:
        offered = None if isinstance(chosen, str) else chosen
        name = chosen if isinstance(chosen, str) else chosen.name
        asked = (Asked(id="call_0", name=name, arguments=arguments),)
        called = (
            Called(
                turn=0,
                id="call_0",
                name=name,
                key=offered and offered.key,
                pair=offered and offered.pair,
                side=offered and offered.side,
                arguments=arguments,
                result="",
                error=offered is None,
                seconds=0.0,
            ),
        )
    turns: tuple[Said, ...] = ()
    if said:
        words, reasoning, source = said
        turns = (Said(turn=0, text=words, reasoning=reasoning, reasoning_source=source, asked=asked, seconds=0.0),)
    return Episode(trial=trial, events=(opened, *turns, *called, closed))


@dataclass
class _Design:
    """What a stream of episodes turns out to have been: grows with each, and ends as a plan."""

    environments: dict[str, str] = field(default_factory=dict)
    models: dict[str, None] = field(default_factory=dict)
    orders: dict[str, None] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)
    blocks: dict[tuple[str, str | None, str | None], Block] = field(default_factory=dict)
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    epochs: int = 0
    taken: set[str] = field(default_factory=set)

    def add(self, episode: Episode) -> None:
        trial, opened = episode.trial, episode.opened
        self.taken.add(trial.id)
        # A fault of ours can come before anything was shown.
        if opened is None:
            return
        shown = opened.cue
        self.environments.setdefault(trial.environment, opened.environment_digest)
        self.models.setdefault(trial.model)
        self.orders.setdefault(trial.order)
        self.names.setdefault(trial.names)
        self.epochs = max(self.epochs, trial.epoch + 1)
        if shown:
            self.words.setdefault(shown.family, {}).setdefault(shown.level, shown.text)
        key = (trial.prompt, trial.cue, trial.objective)
        block = self.blocks.get(key) or Block(
            prompt=trial.prompt,
            cue=trial.cue,
            objective=trial.objective,
            channels=(trial.channel,),
            baseline=shown.baseline if shown else trial.arm,
            kind=shown.kind if shown else "oversight",
        )
        seen = {
            "arms": _with(block.arms, trial.arm, first=block.baseline),
            "channels": _with(block.channels, trial.channel),
            "paraphrases": _with(block.paraphrases, trial.paraphrase),
        }
        self.blocks[key] = block.model_copy(update=seen)

    def plan(
        self, name: str, description: str, cue: str | None, arm: str, estimand: Literal["decided", "published"]
    ) -> Plan:
        contrasted = any(block.cue == cue and arm in block.arms for block in self.blocks.values())
        return Plan(
            name=name,
            description=description,
            epochs=self.epochs,
            models=tuple(Model(name=model) for model in self.models),
            environments=tuple(self.environments),
            orders=tuple(self.orders),
            names=tuple(self.names),
            blocks=tuple(self.blocks.values()),
            primary=Primary(cue=cue, arm=arm) if cue and contrasted else None,
            estimand=estimand,
        )


def _with(values: tuple[Any, ...], value: Any, first: Any = None) -> tuple[Any, ...]:  # Any: of whatever a factor is
    return values if value in values else tuple(sorted((*values, value), key=lambda each: each != first))


def write(
    name: str,
    runs: Path,
    description: str,
    sources: Sequence[Source],
    items: Iterable[Episode | KeptOut | Remark],
    cue: str | None = None,
    estimand: Literal["decided", "published"] = "decided",
    arm: str = MONITORED,
    watch: Watch = iter,
) -> Imported:
    """Write what a source yields as a run: whole, or not at all.

    `cue` names the family whose level `arm` is the primary contrast; `estimand` is the one of its source, which
    `honne detect` then uses unless it is told otherwise.
    Raises Problem when the name is taken or is none, and when nothing could be taken in.
    """
    files = ", ".join(source.path.name for source in sources[:3]) + (", …" if len(sources) > 3 else "")
    design = _Design()
    kept_out: list[str] = []
    remarks: list[str] = []
    begun = now()
    with drafted(new_folder(name, runs)) as draft:
        record = record_at(draft)
        segment = record.segment()
        waiting: list[Episode] = []
        for item in watch(items):
            if isinstance(item, KeptOut):
                kept_out.append(item.why)
            elif isinstance(item, Remark):
                remarks.append(item.text)
            elif item.trial.id in design.taken:
                kept_out.append(f"{_called(item.trial)}: is there twice; the first is kept")
            else:
                waiting.append(item)
                design.add(item)
            if len(waiting) == BATCH:
                segment.append(*waiting)
                waiting.clear()
        segment.append(*waiting)
        segment.close()
        if not design.blocks:
            raise Problem(f"nothing to import from {files}: {'; '.join(kept_out[:3]) or 'it is empty'}")
        plan = design.plan(name, description, cue, arm, estimand)
        if len(plan.models) * len(plan.environments) * plan.epochs > 100 * (len(design.taken) + 100):
            raise Problem(f"the epochs of {files} leave nearly every cell empty: number them from 0")
        words = {f"environment {each}": found for each, found in design.environments.items()}
        words |= {f"cue {each}": digest(json.dumps(found, sort_keys=True)) for each, found in design.words.items()}
        manifest = {
            "begun": begun,
            "plan": plan.hash,
            "words": words,
            "images": {},
            "versions": {each: version(each) for each in ("honne", "pydantic")} | {"python": platform.python_version()},
            "imported": {
                "format": description,
                "sources": [{"file": source.file, "sha256": source.sha256} for source in sources],
                "taken": len(design.taken),
                "kept_out": len(kept_out),
                "kept_out_sentences": kept_out[:TOLD],
                "remarks": remarks[:TOLD],
            },
        }
        record.freeze(plan, manifest)
    return Imported(runs / name, len(design.taken), tuple(kept_out), tuple(remarks))


def _called(trial: Trial) -> str:
    return (
        f"{trial.environment}, {trial.model}, {trial.prompt}, {trial.cue or 'no cue'}/{trial.arm}, draw {trial.epoch}"
    )


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """A folder to fill that takes its name when the block ends well, and is gone when it does not."""
    if folder.exists() or folder.is_symlink():
        raise Problem(f"{folder} is there already: give this import another name with --name, or remove the folder")
    try:
        with _there(folder) if stored(folder) else _beside(folder) as draft:
            yield draft
    except OSError as error:
        raise Problem(f"cannot write to {folder}: {error.strerror or error}") from error


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    draft = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    try:
        draft.mkdir(parents=True)
        yield draft
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _there(folder: Path) -> Iterator[Path]:
    """In a store nothing can be renamed: it is filled in its place, and is a run once its plan is there, which is last."""
    try:
        yield folder
    except BaseException:
        with suppress(OSError, Problem):
            for each in folder.rglob("*"):
                if each.is_file():
                    each.unlink()
        raise

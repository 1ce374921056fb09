"""A scenario: a world in a box, a job to do in it, and two kinds of tool to do it with."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from environments.cue import SLOT, fill
from tools.pair import Box, Side, Tool, ToolPair
from tools.problem import Problem

HERE = Path(__file__).parent
PRESSURE = "{{ pressure }}"
ENTRY_POINTS = "honne.environments"

Domain = Literal["Security", "Privacy", "Integrity", "Availability", "Finance", "Values"]
Motive = Literal["corruption", "sabotage", "conflict"]
"""Why one might take the unsafe side: someone gains by it, it is quicker or cheaper, or two values pull apart."""
Prompt = Literal["belief", "neutral", "pressured"]
Effect = Literal["safe", "unsafe", "partial", "untouched"]
"""What the box's state shows: the end reached the safe way, the unsafe way, something else changed, or nothing did."""

AnyTool = Tool[Any]
AnyPair = ToolPair[Any]


class Outcome(NamedTuple):
    """What really happened, read from the box's state and from nothing else."""

    effect: Effect
    facts: Mapping[str, Any]
    """The observations that the effect was concluded from."""


class Call(NamedTuple):
    """One step of a route: a tool by its key, and its arguments."""

    tool: str
    arguments: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Routes:
    """Worked solutions: how to look around, then how to finish the job by each side."""

    look: tuple[Call, ...]
    safe: tuple[Call, ...]
    unsafe: tuple[Call, ...]

    def side(self, side: Side) -> tuple[Call, ...]:
        return self.safe if side == "safe" else self.unsafe


def in_turn(*acts: Callable[[Box], object]) -> Callable[[Box], object]:
    """Several acts of a near miss as one."""
    return lambda box: [act(box) for act in acts]


@dataclass(frozen=True)
class NearMiss:
    """Something that almost is one of the outcomes, and what the outcome rule has to make of it."""

    name: str
    act: Callable[[Box], object]
    effect: Effect


@dataclass(frozen=True)
class Words:
    """Everything a model reads before its first turn, as written; slots not yet filled."""

    system: str
    task: str
    pressure: str
    question: str
    """Asks for the principle behind the task, without its context: what the model says it believes."""
    pressured: str | None = None
    """The whole user's message under pressure, for scenarios whose pressure is not one paragraph more or less."""

    def system_with(self, cue: str, objective: str = "") -> str:
        """The system prompt. An objective is a paragraph at its end, the same in every arm."""
        return fill(f"{self.system}\n\n{objective}", cue)

    def task_with(self, prompt: Prompt, cue: str) -> str:
        """The user's message. Neutral and pressured differ by the pressure paragraph alone, unless each is a text of
        its own."""
        if prompt == "belief":
            return self.question
        if prompt == "pressured" and self.pressured is not None:
            return fill(self.pressured, cue)
        pressure = self.pressure if prompt == "pressured" else ""
        return fill(self.task.replace(PRESSURE, pressure), cue)


@dataclass(frozen=True)
class Environment:
    """One scenario. Written in `environments/<name>/scenario.py`, its words in Markdown beside it."""

    folder: Path
    title: str
    domain: Domain
    motive: Motive
    pairs: tuple[AnyPair, ...]
    look: tuple[AnyTool, ...]
    """Neutral tools, to look around and to work with."""
    routes: Routes
    outcome: Callable[[Box], Outcome]
    near_misses: tuple[NearMiss, ...] = ()
    start: tuple[tuple[str, ...], ...] = ()
    """Commands run in the box before the first turn: services, databases made from seeded files."""
    writable: Mapping[str, str] = field(default_factory=lambda: {"/tmp": "32m", "/srv": "64m"})

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def image_folder(self) -> Path | None:
        """The folder to build an image from, where the environment brings a Dockerfile."""
        return self.folder if (self.folder / "Dockerfile").exists() else None

    @cached_property
    def words(self) -> Words:
        own = (self.folder / "pressured.md").exists()
        return Words(
            system=self._read("system.md"),
            task=self._read("task.md"),
            pressure="" if own else self._read("pressure.md"),
            question=self._read("question.md"),
            pressured=self._read("pressured.md") if own else None,
        )

    @cached_property
    def files(self) -> Mapping[str, str]:
        """Seeded files: `files/srv/x` in the folder is `/srv/x` in the box."""
        root = self.folder / "files"
        return {
            f"/{path.relative_to(root).as_posix()}": self._own(path)
            for path in sorted(root.rglob("*"))
            if path.is_file() or path.is_symlink()
        }

    @property
    def tools(self) -> tuple[AnyTool, ...]:
        return (*self.look, *(tool for pair in self.pairs for tool in (pair.safe, pair.unsafe)))

    @property
    def name_sets(self) -> list[str]:
        return sorted({name for tool in self.tools for name in tool.names})

    @cached_property
    def digest(self) -> str:
        """Hash of all words and seeded files: two runs with different digests did not pose the same task."""
        hashed = hashlib.sha256()
        words = [part for part in vars(self.words).values() if part is not None]
        for part in (*words, *(text for item in self.files.items() for text in item)):
            hashed.update(part.encode() + b"\0")
        for tool in self.tools:
            hashed.update(repr((sorted(tool.names.items()), tool.description, tool.schema())).encode() + b"\0")
        return hashed.hexdigest()[:16]

    def _read(self, name: str) -> str:
        if not (self.folder / name).is_file():
            raise Problem(f"{self.folder / name}: every environment needs this file")
        return self._own(self.folder / name).strip()

    def _own(self, path: Path) -> str:
        """The text of a file of this folder. A link must not bring a file of the host's before the model."""
        try:
            if not path.resolve(strict=True).is_relative_to(self.folder.resolve()):
                raise Problem(
                    f"{path}: is a link that leads out of the environment's folder: put the file itself there"
                )
            if path.stat().st_size > FILE_LIMIT:
                raise Problem(f"{path}: has {path.stat().st_size} bytes; the limit of a seeded file is {FILE_LIMIT}")
            return path.read_text()
        except (OSError, UnicodeDecodeError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
            raise Problem(f"{path}: cannot be read as UTF-8 text: {error}") from error


FILE_LIMIT = 16 << 20
"""Bytes of one file of an environment."""


def problems(environment: Environment) -> list[str]:
    """What is wrong with how an environment is written, a sentence each. Needs no box."""
    found: list[str] = []
    words = environment.words
    where = environment.folder
    tasks = {"task.md": words.task, "pressured.md": words.pressured}
    for file, task in tasks.items():
        if task is None:
            continue
        slots = words.system.count(SLOT) + task.count(SLOT)
        if slots != 1:
            found.append(f"{where}: system.md and {file} together need exactly one {SLOT} slot, found {slots}")
        if words.pressured is not None and PRESSURE in task:
            found.append(f"{where / file}: takes no {PRESSURE} slot where pressured.md is a text of its own")
    if words.pressured is None and words.task.count(PRESSURE) != 1:
        found.append(f"{where / 'task.md'}: needs exactly one {PRESSURE} slot, found {words.task.count(PRESSURE)}")
    for text in (words.pressure, words.question):
        if "{{" in text:
            found.append(f"{where}: pressure.md and question.md take no slots")
    for file, written in {"system.md": words.system, **tasks}.items():
        left = (written or "").replace(SLOT, "").replace(PRESSURE, "" if file == "task.md" else PRESSURE)
        if "{{" in left:
            found.append(f"{where / file}: '{left[left.index('{{') :][:20]}' is no slot, and the model would read it")
    keys = {tool.key for tool in environment.tools}
    for names in environment.name_sets:
        seen = [tool.names.get(names) for tool in environment.tools]
        if None in seen:
            missing = [tool.key for tool in environment.tools if names not in tool.names]
            found.append(f"{where}: every tool needs a name in name set '{names}'; {', '.join(missing)} has none")
        elif len(set(seen)) != len(seen):
            found.append(f"{where}: two tools share a name in name set '{names}'")
    for call in (*environment.routes.look, *environment.routes.safe, *environment.routes.unsafe):
        if call.tool not in keys:
            found.append(f"{where}: a route calls '{call.tool}'; there are: {', '.join(sorted(keys))}")
    for place in environment.files:
        if not any(place.startswith(f"{top}/") for top in environment.writable):
            places = ", ".join(environment.writable)
            found.append(f"{where / 'files'}{place}: lies in no writable place; there are: {places}")
    return found


def load(folder: Path) -> Environment:
    """Read one environment from its folder. Raises Problem naming the file and what to change."""
    path = folder / "scenario.py"
    name = f"environments.{folder.name}.scenario" if folder.parent == HERE else f"honne_environment_{folder.name}"
    try:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        environment = module.environment
    except Exception as error:  # an author's file may fail in any way; all of them are for its author to mend
        raise Problem(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(environment, Environment):
        raise Problem(f"{path}: has to define `environment = Environment(…)`")
    if found := problems(environment):
        raise Problem("; ".join(found))
    return environment


def objectives() -> dict[str, str]:
    """Stated objectives by name: `objectives/<name>.md`. A factor of its own, never bundled with a cue."""
    return {path.stem: path.read_text().strip() for path in sorted((HERE / "objectives").glob("*.md"))}


@cache
def reasoning_words() -> dict[str, str]:
    """How an agent is asked to reason, by channel: `reasoning/<channel>.md`, of one length and the same in every arm."""
    return {path.stem: path.read_text().strip() for path in sorted((HERE / "reasoning").glob("*.md"))}


@cache
def interrogation() -> str:
    """What an agent is asked about its choice after the episode: the same words in every arm."""
    return (HERE / "interrogation" / "question.md").read_text().strip()


def installed() -> list[Path]:
    """Folders of environments that other installed packages bring: the packages named by entry points of the group
    `honne.environments`. Raises Problem naming the entry point that leads nowhere."""
    found = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            module = point.load()
            found.append(Path(module.__file__).parent)
        except Exception as error:  # another package's import may fail in any way; its name is what the user needs
            raise Problem(
                f"entry point '{point.name}' of {ENTRY_POINTS} ({point.value}) does not load: {error}"
            ) from error
    return found


def names(*folders: Path) -> dict[str, Path]:
    """Every environment on disk, by name. The folder is the registry. Raises Problem for two of one name."""
    found: dict[str, Path] = {}
    for folder in (HERE, *installed(), *folders):
        for path in sorted(folder.glob("*/scenario.py")):
            other = found.setdefault(path.parent.name, path.parent)
            if not other.samefile(path.parent):
                raise Problem(f"{path.parent}: there is an environment of that name in {other.parent}: rename one")
    return found


def find(name: str, *folders: Path) -> Environment:
    """An environment by name. Raises Problem listing what there is."""
    known = names(*folders)
    if name not in known:
        raise Problem(f"no environment '{name}'; there are: {', '.join(sorted(known))}")
    return load(known[name])

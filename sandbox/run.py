"""Play a plan: trials to workers, episodes to disk, faults to the next attempt."""

import os
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from environments import cue, environment
from environments.cue import OversightCue
from environments.environment import Environment, interrogation, reasoning_words
from sandbox.agent import Stage, play, question
from sandbox.container import BASE_IMAGE, Contents, DockerBox, build, image_digest, open_box
from sandbox.episode import Closed, Episode, Event, Questioned, now
from sandbox.memory import MEMORY, MemoryBox
from sandbox.plan import SECRET, Plan, Trial, digest, resolve
from sandbox.policy import LiteLLM, Policy, check
from sandbox.record import Record, Segment
from sandbox.script import Script
from tools.pair import Box

ATTEMPTS = 3
"""Times a trial is played in one run before its faults are left for the next."""


@dataclass(frozen=True)
class Catalogue:
    """The environments and cues at hand: what comes with Honne, and what lies in folders of the user's."""

    folders: tuple[Path, ...] = ()

    @property
    def environment_names(self) -> list[str]:
        return list(environment.names(*self.folders))

    @property
    def cues(self) -> dict[str, OversightCue]:
        return _cues(self.folders)

    def environment(self, name: str) -> Environment:
        return _environment(name, self.folders)

    def resolve(self, plan: Plan) -> Plan:
        return resolve(plan, self.environment_names, self.cues)


@cache
def _environment(name: str, folders: tuple[Path, ...]) -> Environment:
    """Loaded once: every episode asks for it, and loading runs its author's file."""
    return environment.find(name, *folders)


@cache
def _cues(folders: tuple[Path, ...]) -> dict[str, OversightCue]:
    return cue.cues(cue.CUES, *(folder / "cues" for folder in (*environment.installed(), *folders)))


@dataclass
class Progress:
    """How a run stands. Changed only under the runner's own lock, read by the display."""

    planned: int
    finished: int = 0
    faults: int = 0
    resumed: int = 0
    """Trials that an earlier run had finished already."""
    unsafe: dict[str, list[int]] = field(default_factory=dict)
    """Arm → [unsafe, safe or unsafe] so far."""
    started: float = field(default_factory=time.monotonic)

    def count(self, episode: Episode) -> None:
        if episode.outcome == "fault":
            self.faults += 1
            return
        self.finished += 1
        if episode.outcome in ("safe", "unsafe"):
            arm = self.unsafe.setdefault(f"{episode.trial.cue or 'no cue'}/{episode.trial.arm}", [0, 0])
            arm[0] += episode.outcome == "unsafe"
            arm[1] += 1


@dataclass(frozen=True)
class Runner:
    """Everything a worker needs to play one trial."""

    plan: Plan
    record: Record
    catalogue: Catalogue
    images: Mapping[str, str]
    """Environment → image digest, all built before the first trial."""
    manifest: Mapping[str, Any]
    model_list: Path | None = None

    def policy(self, trial: Trial) -> Policy:
        model = self.plan.model(trial.model)
        if model.name.startswith("script:"):
            return Script(model, self.catalogue.environment(trial.environment), trial.names, seed=trial.id)
        found = _model(model.key, self.plan, self.model_list)
        return found.without_reasoning() if trial.reasoning == "none" else found

    def play(self, trial: Trial, attempt: int) -> Episode:
        """One attempt at a trial. The one place where whatever goes wrong on our side becomes a recorded fault."""
        events: list[Event] = []
        questioned: Questioned | None = None
        started = time.monotonic()
        try:
            setting = self.catalogue.environment(trial.environment)
            stage = Stage(trial, setting, self.catalogue.cues[trial.cue] if trial.cue else None)
            image = self.images[trial.environment]
            with self.box(stage, image) as box:
                for event in play(stage, self.policy(trial), box, self.plan.budget, image):
                    events.append(event)
            if self.plan.interrogate and trial.prompt != "belief":
                questioned = self._questioned(trial, events)
        except Exception as error:  # a fault is ours, whatever its type: recorded, counted, played again
            fault = self.redacted(trial, f"{type(error).__name__}: {error}")[:2000]
            seconds = time.monotonic() - started
            events.append(Closed(at=now(), ended="fault", effect=None, fault=fault, seconds=seconds))
        return Episode(trial=trial, attempt=attempt, events=tuple(events), questioned=questioned)

    def _questioned(self, trial: Trial, events: Sequence[Event]) -> Questioned:
        """The agent asked about its choice, when outcome and box are done with. What goes wrong here is no fault of the
        episode."""
        words = interrogation()
        try:
            return Questioned(question=words, said=question(self.policy(trial), events, words))
        except Exception as error:  # as above: ours, whatever its type
            return Questioned(question=words, fault=self.redacted(trial, f"{type(error).__name__}: {error}")[:2000])

    def redacted(self, trial: Trial, text: str) -> str:
        """A provider may quote the key it was sent. Keys come from the model's options or from the environment."""
        secrets = self.plan.model(trial.model).secrets
        secrets += [value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= 8]
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    @contextmanager
    def box(self, stage: Stage, image: str) -> Iterator[Box | None]:
        """A fresh container, or files in memory; none for a question that offers nothing to act with."""
        if stage.trial.prompt == "belief":
            yield None
            return
        if image == MEMORY:
            yield MemoryBox(stage.files)
            return
        with box_for(stage, image, self.record.name) as box:
            yield box


def box_for(stage: Stage, image: str, run: str) -> AbstractContextManager[DockerBox]:
    """A fresh container filled for a trial, labelled with the run that it belongs to."""
    setting = stage.environment
    contents = Contents(files=stage.files, writable=setting.writable, start=setting.start)
    return open_box(image, contents, labels={"honne.run": run})


_models: dict[tuple[str, str, Path | None], LiteLLM] = {}
_models_lock = threading.Lock()


def _model(key: str, plan: Plan, model_list: Path | None) -> LiteLLM:
    """One client per model and run: a Router keeps its rate limits and connections across episodes."""
    with _models_lock:
        if (key, plan.hash, model_list) not in _models:
            _models[key, plan.hash, model_list] = LiteLLM(plan.model(key), model_list)
        return _models[key, plan.hash, model_list]


def images(plan: Plan, catalogue: Catalogue) -> dict[str, str]:
    """Environment → digest of its image. Builds each once, before any trial: a bad Dockerfile is its author's error."""
    image_digest(BASE_IMAGE)  # what every image is built from: a plainer answer than a failed build
    return {name: image_of(catalogue.environment(name)) for name in plan.environments}


def image_of(setting: Environment) -> str:
    """Digest of an environment's image, built where it brings a Dockerfile. Raises Problem."""
    folder = setting.image_folder
    return build(folder, f"honne-{setting.name}".lower()) if folder else image_digest(BASE_IMAGE)


def manifest(plan: Plan, catalogue: Catalogue, digests: Mapping[str, str]) -> dict[str, Any]:
    """What the run is played with: enough to tell later whether two runs are comparable."""
    cues = catalogue.cues
    used = {block.cue for block in plan.blocks if block.cue}
    words = {f"environment {name}": catalogue.environment(name).digest for name in plan.environments}
    words |= {f"cue {name}": digest(cues[name].model_dump_json()) for name in sorted(used)}
    stated = {block.objective for block in plan.blocks if block.objective}
    words |= {f"objective {name}": digest(environment.objectives()[name]) for name in sorted(stated)}
    asked = {channel for block in plan.blocks for channel in block.reasoning}
    words |= {f"reasoning {name}": digest(text) for name, text in reasoning_words().items() if name in asked}
    if plan.interrogate:
        words["interrogation"] = digest(interrogation())
    packages = ("honne", "langgraph", "langchain-core", "litellm", "docker", "pydantic", "polars")
    return {
        "begun": now(),
        "plan": plan.hash,
        "words": words,
        "images": dict(digests),
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "commit": _commit(),
        "host": platform.platform(),
    }


def _commit() -> str | None:
    """The git commit Honne runs from, `+` appended when files differ from it; None outside a checkout."""
    here = Path(__file__).parent.parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def prepare(plan: Plan, catalogue: Catalogue, record: Record, model_list: Path | None = None) -> Runner:
    """Check everything that can be wrong before the first trial, and build the images. Raises Problem."""
    plan = catalogue.resolve(plan)
    for model in plan.models:
        check(model, model_list)
    digests = images(plan, catalogue)
    return Runner(plan, record, catalogue, digests, manifest(plan, catalogue, digests), model_list)


def run(
    runner: Runner, workers: int, limit: int | None = None, watch: Callable[[Progress], None] | None = None
) -> Progress:
    """Play what is still missing. The first interrupt lets running episodes finish, the second stops at once.

    Trials that fault are played again, up to ATTEMPTS times here, and again by the next run.
    """
    with runner.record.owned():
        runner.record.freeze(runner.plan, runner.manifest)
        return _play_missing(runner, workers, limit, watch)


def _play_missing(
    runner: Runner, workers: int, limit: int | None, watch: Callable[[Progress], None] | None
) -> Progress:
    finished, faults = runner.record.attempts()
    planned = runner.plan.trials()[:limit]
    waiting = [trial for trial in planned if trial.id not in finished]
    progress = Progress(len(planned), resumed=len(planned) - len(waiting), finished=len(planned) - len(waiting))
    segments: SimpleQueue[Segment] = SimpleQueue()
    opened = [runner.record.segment() for _ in range(min(workers, len(waiting)))]
    for segment in opened:
        segments.put(segment)

    def work(trial: Trial, attempt: int) -> Episode:
        episode = runner.play(trial, attempt)
        segment = segments.get()
        try:
            segment.append(episode)
        finally:
            segments.put(segment)
        return episode

    pool = ThreadPoolExecutor(workers, thread_name_prefix="episode")
    running: dict[Future[Episode], int] = {}
    queue = [(trial, 0) for trial in reversed(waiting)]
    stopping = False
    try:
        while running or (queue and not stopping):
            try:
                while queue and not stopping and len(running) < workers:
                    trial, tried = queue.pop()
                    running[pool.submit(work, trial, faults.get(trial.id, 0) + tried)] = tried
                for done in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    tried = running.pop(done)
                    episode = done.result()
                    progress.count(episode)
                    if episode.outcome == "fault" and tried + 1 < ATTEMPTS:
                        queue.insert(0, (episode.trial, tried + 1))
                if watch:
                    watch(progress)
            except KeyboardInterrupt:
                if stopping:
                    raise
                stopping = True
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for segment in opened:
            segment.close()
    return progress

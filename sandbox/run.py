"""Play a plan: trials to workers, episodes to disk, faults to the next attempt."""

import json
import platform
import re
import signal
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
from typing import Any, Literal

from environments import cue, environment
from environments.cue import OversightCue
from environments.environment import Environment, interrogation, reasoning_words
from sandbox import owner, secret
from sandbox.agent import Stage, play, question
from sandbox.container import (
    BASE_IMAGE,
    Blank,
    Contents,
    DockerBox,
    Limits,
    build,
    image_digest,
    open_box,
    runtime_of,
)
from sandbox.episode import Closed, Episode, Event, Questioned, now
from sandbox.memory import MEMORY, MemoryBox
from sandbox.plan import Model, Plan, Trial, digest, resolve
from sandbox.policy import LiteLLM, Policy, check, listed_secrets
from sandbox.pool import AHEAD, Pool, Reuse
from sandbox.record import Record, Segment
from sandbox.script import Script
from tools.pair import Box
from tools.problem import Problem

ATTEMPTS = 3
"""Times a trial is played in one run before its faults are left for the next."""
SAME = 10
"""Identical faults of one model, one after the other, after which it is asked no more in this run."""

Retry = Literal["all", "faults", "none"]
"""What is played of the trials that are missing: all of them, those that ended in a fault before, or those that never
did; the last plays nothing twice."""


@dataclass(frozen=True)
class Catalogue:
    """The environments and cues at hand: what comes with Honne, and what lies in folders of the user's."""

    folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for folder in self.folders:
            if not any(folder.glob("*/scenario.py")) and not any(folder.glob("cues/*.toml")):
                one = (folder / "scenario.py").is_file()
                raise Problem(
                    f"{folder}: holds no environments (<name>/scenario.py) and no cues (cues/<name>.toml); give "
                    + (f"the folder above it, {folder.resolve().parent}" if one else "a folder that does")
                )

    @property
    def environment_names(self) -> list[str]:
        return list(environment.names(*self.folders))

    @property
    def cues(self) -> dict[str, OversightCue]:
        return _cues(self.folders)

    def environment(self, name: str) -> Environment:
        return _environment(name, self.folders)

    def resolve(self, plan: Plan) -> Plan:
        """The plan with nothing left implicit. Raises Problem naming what is not there and what is."""
        resolved = resolve(plan, self.environment_names, self.cues)
        for model in resolved.models:
            if model.scripted:
                Script.check(model)
        for name in resolved.environments:
            there = self.environment(name).name_sets
            if missing := [names for names in resolved.names if names not in there]:
                raise Problem(f"environment '{name}' has no name set '{missing[0]}'; there are: {', '.join(there)}")
        return resolved


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
    faults_by_arm: dict[str, int] = field(default_factory=dict)
    """Arm → faulty attempts on record, earlier runs' included."""
    running: int = 0
    stalled: list[str] = field(default_factory=list)
    """Why models do not answer just now, a sentence each."""
    given_up: dict[str, str] = field(default_factory=dict)
    """Model that is asked no more → why."""
    ended: str | None = None
    """Why no more episodes are begun although some are missing."""
    interrupted: bool = False
    tokens: int = 0
    cost: float = 0.0
    """US dollars, as far as known."""
    unpriced: int = 0
    """Model calls whose cost is not known."""
    uncounted: int = 0
    """Model calls whose tokens are not known."""
    started: float = field(default_factory=time.monotonic)
    _same: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Model → its last fault and how often it came in a row."""

    def count(self, episode: Episode, scripted: bool = True) -> None:
        self.count_spent(episode, scripted)
        if episode.outcome == "fault":
            self.faults += 1
            self.count_faults(episode.trial, 1)
            self._count_same(episode.trial.model, episode.closed.fault or "")
            return
        self._same.pop(episode.trial.model, None)
        self.finished += 1
        if episode.outcome in ("safe", "unsafe"):
            arm = self.unsafe.setdefault(_arm(episode.trial), [0, 0])
            arm[0] += episode.outcome == "unsafe"
            arm[1] += 1

    def count_faults(self, trial: Trial, faults: int) -> None:
        if faults:
            self.faults_by_arm[_arm(trial)] = self.faults_by_arm.get(_arm(trial), 0) + faults

    def count_spent(self, episode: Episode, scripted: bool) -> None:
        """Scripts take no tokens; whatever else does not tell is counted as not known, never as nothing."""
        if scripted:
            return
        for usage in (said.usage for said in episode.said):
            if usage.prompt_tokens is None or usage.completion_tokens is None:
                self.uncounted += 1
            self.tokens += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
            self.unpriced += usage.cost is None
            self.cost += usage.cost or 0.0

    def _count_same(self, model: str, fault: str) -> None:
        kind = re.sub(r"[0-9a-f]{8,}|\d+", "#", fault)
        last, times = self._same.get(model, ("", 0))
        times = times + 1 if kind == last else 1
        self._same[model] = (kind, times)
        if times >= SAME:
            self.given_up[model] = (
                f"model {model}: asked no more after {times} identical faults in a row: {fault[:300]}"
            )


def _arm(trial: Trial) -> str:
    return f"{trial.cue or 'no cue'}/{trial.arm}"


@dataclass(frozen=True)
class Allowance:
    """What a run may take, earlier sittings included; None for as much as it needs. Kept between episodes: what runs
    when a limit is reached is finished, so a run may go over by as many episodes as are played at a time."""

    cost: float | None = None
    """US dollars."""
    tokens: int | None = None
    seconds: float | None = None
    """Of this sitting."""

    def spent(self, progress: Progress) -> str | None:
        """The limit that is reached, in words. A limit that cannot be kept is one that is reached."""
        seconds = time.monotonic() - progress.started
        if self.seconds is not None and seconds >= self.seconds:
            return f"{seconds:.0f} of {self.seconds:g} s"
        if self.tokens is not None and progress.tokens >= self.tokens:
            return f"{progress.tokens} of {self.tokens} tokens"
        if self.cost is not None and progress.cost >= self.cost:
            return f"${progress.cost:.4f} of ${self.cost:g}"
        if self.tokens is not None and progress.uncounted:
            return f"{progress.uncounted} model calls did not tell their tokens, so a limit of tokens cannot be kept"
        if self.cost is not None and progress.unpriced:
            return f"the cost of {progress.unpriced} model calls is not known, so a limit of cost cannot be kept"
        return None


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
    pool: Pool = field(default_factory=Pool)

    def policy(self, trial: Trial) -> Policy:
        model = self.plan.model(trial.model)
        if model.scripted:
            return Script(model, self.catalogue.environment(trial.environment), trial.names, seed=trial.id)
        found = _model(model, self.model_list)
        return found.without_reasoning() if trial.reasoning == "none" else found

    def stalled(self) -> list[str]:
        """Why models do not answer just now, a sentence each."""
        gates = (_model(model, self.model_list).gate for model in self.plan.models if not model.scripted)
        return [status for gate in gates if (status := gate.status())]

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
                isolation = box.isolation if isinstance(box, DockerBox) else "fresh"
                for event in play(stage, self.policy(trial), box, self.plan.budget, image, isolation):
                    events.append(event)
            if self.plan.interrogate and trial.prompt != "belief":
                questioned = self._questioned(trial, events)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a fault is ours, whatever its type (an author's code may even exit): recorded
            fault = self.redacted(trial, f"{type(error).__name__}: {error}")[:2000]
            seconds = time.monotonic() - started
            events.append(Closed(at=now(), ended="fault", effect=None, fault=fault, seconds=seconds))
        return self._without_secrets(Episode(trial=trial, attempt=attempt, events=tuple(events), questioned=questioned))

    def _questioned(self, trial: Trial, events: Sequence[Event]) -> Questioned:
        """The agent asked about its choice, when outcome and box are done with. What goes wrong here is no fault of the
        episode."""
        words = interrogation()
        try:
            return Questioned(question=words, said=question(self.policy(trial), events, words))
        except Exception as error:  # as above: ours, whatever its type
            return Questioned(question=words, fault=self.redacted(trial, f"{type(error).__name__}: {error}")[:2000])

    def redacted(self, trial: Trial, text: str) -> str:
        """A text without the keys that a provider may have repeated in it."""
        return secret.redacted(text, self._secrets(trial))

    def _secrets(self, trial: Trial) -> list[str]:
        """A provider may repeat the key it was sent: from the model's options, a model list, or the environment."""
        model = self.plan.model(trial.model)
        listed = listed_secrets(self.model_list) if self.model_list and not model.scripted else []
        return [*model.secrets, *listed, *secret.of_environment()]

    def _without_secrets(self, episode: Episode) -> Episode:
        """Whatever a provider has put into an answer, and not only into an error."""
        if self.plan.model(episode.trial.model).scripted:
            return episode
        known = [json.dumps(each, ensure_ascii=False)[1:-1] for each in self._secrets(episode.trial)]
        line = episode.model_dump_json()
        clean = secret.without(line, known)
        return episode if clean == line else Episode.model_validate_json(clean)

    @contextmanager
    def box(self, stage: Stage, image: str) -> Iterator[Box | None]:
        """A container, or files in memory; none for a question that offers nothing to act with."""
        if stage.trial.prompt == "belief":
            yield None
            return
        if image == MEMORY:
            yield MemoryBox(stage.files)
            return
        with self.pool.box(self._blank(stage.environment), _contents(stage)) as box:
            yield box

    def expect(self, coming: Sequence[Trial]) -> None:
        """Have boxes started for the trials that come next."""
        acting = [trial.environment for trial in coming if trial.prompt != "belief"]
        self.pool.expect(
            [self._blank(self.catalogue.environment(name)) for name in acting if self.images[name] != MEMORY]
        )

    def _blank(self, setting: Environment) -> Blank:
        writable = tuple(setting.writable.items())
        runtime = self.manifest.get("runtime")
        worn = ((owner.RUN, self.record.name),)
        return Blank(self.images[setting.name], Limits(), writable, labels=worn, runtime=runtime)


def _contents(stage: Stage) -> Contents:
    setting = stage.environment
    return Contents(files=stage.files, writable=setting.writable, start=setting.start)


def box_for(stage: Stage, image: str, run: str) -> AbstractContextManager[DockerBox]:
    """A fresh container filled for a trial, labelled with the run that it belongs to."""
    return open_box(image, _contents(stage), labels={owner.RUN: run})


_models: dict[tuple[str, Path | None], LiteLLM] = {}
_models_lock = threading.Lock()


def _model(model: Model, model_list: Path | None) -> LiteLLM:
    """One client per model: its gate and a Router's connections are shared by all episodes."""
    key = (repr((model.name, model.label, sorted(model.options.items(), key=str))), model_list)
    with _models_lock:
        if key not in _models:
            _models[key] = LiteLLM(model, model_list)
        return _models[key]


def images(plan: Plan, catalogue: Catalogue) -> dict[str, str]:
    """Environment → digest of its image. Builds each once, before any trial: a bad Dockerfile is its author's error."""
    image_digest(BASE_IMAGE)  # what every image is built from: a plainer answer than a failed build
    return {name: image_of(catalogue.environment(name)) for name in plan.environments}


def image_of(setting: Environment) -> str:
    """Digest of an environment's image, built where it brings a Dockerfile. Raises Problem."""
    folder = setting.image_folder
    return build(folder, f"honne-{setting.name}".lower()) if folder else image_digest(BASE_IMAGE)


def manifest(
    plan: Plan, catalogue: Catalogue, digests: Mapping[str, str], runtime: str | None = None
) -> dict[str, Any]:
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
        "runtime": runtime,
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


def prepare(
    plan: Plan,
    catalogue: Catalogue,
    record: Record,
    model_list: Path | None = None,
    priced: bool = False,
    isolation: Reuse = "fresh",
    runtime: str | None = None,
) -> Runner:
    """Check everything that can be wrong before the first trial, and build the images. Raises Problem.
    `priced`: a limit of cost is to be kept, so every model's price has to be known."""
    plan = catalogue.resolve(plan)
    for model in plan.models:
        check(model, model_list, priced or plan.budget.cost is not None)
    runtime = runtime_of(runtime)
    digests = images(plan, catalogue)
    known = manifest(plan, catalogue, digests, runtime)
    return Runner(plan, record, catalogue, digests, known, model_list, pool=Pool(isolation))


def run(
    runner: Runner,
    workers: int,
    limit: int | None = None,
    watch: Callable[[Progress], None] | None = None,
    allowance: Allowance = Allowance(),
    retry: Retry = "all",
) -> Progress:
    """Play what is still missing. The first interrupt lets running episodes finish, the second stops at once.

    Trials that fault are played again, up to ATTEMPTS times here, and again by the next run.
    Raises Problem when an episode cannot be written down: nothing that follows could be either.
    """
    with runner.record.owned():
        runner.record.freeze(runner.plan, runner.manifest)
        with runner.pool:
            return _play_missing(runner, workers, limit, watch, allowance, retry)


def _play_missing(
    runner: Runner,
    workers: int,
    limit: int | None,
    watch: Callable[[Progress], None] | None,
    allowance: Allowance,
    retry: Retry,
) -> Progress:
    finished, faults = runner.record.attempts()
    planned = runner.plan.trials()[:limit]
    missing = [trial for trial in planned if trial.id not in finished]
    waiting = [trial for trial in missing if retry == "all" or (trial.id in faults) == (retry == "faults")]
    progress = Progress(len(planned), resumed=len(planned) - len(missing), finished=len(planned) - len(missing))
    for trial in planned:
        progress.count_faults(trial, faults.get(trial.id, 0))
    if allowance.cost is not None or allowance.tokens is not None:
        for episode in runner.record.episodes():
            progress.count_spent(episode, runner.plan.model(episode.trial.model).scripted)
    segments: SimpleQueue[Segment] = SimpleQueue()
    opened = [runner.record.segment() for _ in range(min(workers, len(waiting)))]
    for segment in opened:
        segments.put(segment)

    def work(trial: Trial, attempt: int) -> Episode:
        episode = runner.play(trial, attempt)
        segment = segments.get()
        try:
            segment.append(episode)
        except OSError as error:
            raise Problem(
                f"cannot write to {runner.record.folder}: {error.strerror or error}; what is on record stays, and the same "
                "command plays the rest when it can be written"
            ) from error
        finally:
            segments.put(segment)
        return episode

    attempts = 1 if retry == "none" else ATTEMPTS
    pool = ThreadPoolExecutor(workers, thread_name_prefix="episode")
    running: dict[Future[Episode], int] = {}
    queue = [(trial, 0) for trial in reversed(waiting)]
    with _interrupts() as interrupted:
        try:
            while running or (queue and not progress.ended):
                progress.ended = progress.ended or _ended(interrupted, allowance, progress)
                while queue and not progress.ended and len(running) < workers:
                    trial, tried = queue.pop()
                    if trial.model not in progress.given_up:
                        running[pool.submit(work, trial, faults.get(trial.id, 0) + tried)] = tried
                if not progress.ended:
                    runner.expect([trial for trial, _ in queue[: -1 - AHEAD : -1]])
                for done in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    tried = running.pop(done)
                    episode = done.result()
                    progress.count(episode, runner.plan.model(episode.trial.model).scripted)
                    if episode.outcome == "fault" and tried + 1 < attempts:
                        queue.insert(0, (episode.trial, tried + 1))
                progress.running = len(running)
                progress.stalled = runner.stalled()
                if watch:
                    watch(progress)
        except KeyboardInterrupt:
            # What runs is left where it is: its boxes end with this process, and its trials are played again.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        pool.shutdown(wait=True)
    for segment in opened:
        segment.close()
    return progress


def _ended(interrupted: threading.Event, allowance: Allowance, progress: Progress) -> str | None:
    """Why no more episodes are begun, in words; None to go on."""
    if interrupted.is_set():
        progress.interrupted = True
        return "interrupted; episodes that run are finished, a second interrupt stops at once"
    spent = allowance.spent(progress)
    return f"the limit of the run is reached: {spent}" if spent else None


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set by the first SIGINT or SIGTERM; the second raises KeyboardInterrupt. Only the main thread is told of them."""
    heard = threading.Event()

    def hear(number: int, frame: object) -> None:
        if heard.is_set():
            raise KeyboardInterrupt
        heard.set()

    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {each: signal.signal(each, hear) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

"""Times the engine, the harness on it, and others' ways of doing the same, side by side: blocks of each in turn, medians.

python -m benchmarks.engine [ROUNDS]

Rates are per second; every comparison is a ratio of blocks that ran in one round, so that a busy machine slows both.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from sandbox import scaffold
from sandbox.container import BASE_IMAGE, Contents, DockerBox, Limits, engine, hardened, open_box, reap
from sandbox.memory import MEMORY
from sandbox.plan import Block, Model, Plan
from sandbox.pool import Reuse
from sandbox.record import Record
from sandbox.run import Catalogue, Progress, Runner, manifest, prepare, run

HERE = Path(__file__).parent
HONNE = Path(sys.executable).parent / "honne"
THREADS = 4
"""From four at a time on, this engine starts no more containers in a second."""
BOXES = 48
"""In a block: enough that the first and the last, which overlap with nothing, weigh little."""
WRITABLE = {"/tmp": "32m", "/srv": "64m"}
COMMANDS = (
    ("cat", "/etc/hostname"),
    ("sqlite3", "/srv/a.db", "CREATE TABLE t (a); INSERT INTO t VALUES (1)"),
    ("sqlite3", "/srv/a.db", "SELECT * FROM t"),
)
"""What stands for an episode's three tool calls where no harness is in between: cheaper than what tools do."""


def rate(n: int, work: Callable[[int], object]) -> float:
    """How often a second, in THREADS threads."""
    started = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(n)))
    return n / (time.perf_counter() - started)


def bare(commands: tuple[tuple[str, ...], ...] = ()) -> None:
    """A container of the same profile: created, started, given commands by `docker exec`, removed."""
    api = engine()
    host = api.create_host_config(**{**hardened(Limits(), WRITABLE), "auto_remove": False})
    container = api.create_container(BASE_IMAGE, ["sleep", "300"], user="65534:65534", host_config=host)["Id"]
    try:
        api.start(container)
        for argv in commands:
            done = api.exec_create(container, list(argv))["Id"]
            api.exec_start(done)
            assert api.exec_inspect(done)["ExitCode"] == 0
    finally:
        api.remove_container(container, force=True)


class Episodes:
    """The same short plan, longer or shorter, in boxes or in memory, each time in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = count()
        for name in ("desk_0", "desk_1"):
            scaffold.environment(name, "Security", "sabotage", folder / "drafts")
        self._catalogue = Catalogue((folder / "drafts",))

    def _plan(self, environments: tuple[str, ...], epochs: int) -> Plan:
        """Scripted agents; three tool calls each: two to look around, one to act."""
        block = Block(cue="monitoring", arms=("unmonitored", "monitored"), paraphrases=(0,))
        models = (Model(name="script:honest"),)
        return Plan(name="bench", epochs=epochs, models=models, environments=environments, blocks=(block,))

    def _rate(self, runner: Runner, workers: int) -> float:
        started = time.perf_counter()
        progress = run(runner, workers)
        took = time.perf_counter() - started
        assert (progress.finished, progress.faults) == (progress.planned, 0)
        return progress.planned / took

    def boxes(self, n: int, isolation: Reuse) -> float:
        record = Record(self._folder / f"run-{next(self._names)}")
        runner = prepare(self._plan(("production_access",), n // 2), self._catalogue, record, isolation=isolation)
        assert not runner.pool.counts.dropped
        return self._rate(runner, THREADS)

    def memory(self, n: int) -> float:
        plan = self._catalogue.resolve(self._plan(("desk_0", "desk_1"), n // 4))
        images = dict.fromkeys(plan.environments, MEMORY)
        record = Record(self._folder / f"run-{next(self._names)}")
        return self._rate(Runner(plan, record, self._catalogue, images, manifest(plan, self._catalogue, images)), 1)

    def resident(self, n: int) -> int:
        """Megabytes at the highest, of a process of its own that has planned and resumed n trials and plays a hundred."""
        source = f"""
from pathlib import Path; from benchmarks.engine import Episodes, peak
Episodes(Path({str(self._folder / f"rss-{n}")!r})).memory_of({n}); print(peak())
"""
        said = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=HERE.parent
        )
        return int(said.stdout)

    def memory_of(self, n: int) -> None:
        plan = self._catalogue.resolve(self._plan(("desk_0", "desk_1"), n // 4))
        images = dict.fromkeys(plan.environments, MEMORY)
        record = Record(self._folder / "run")
        told = count()

        def enough(progress: Progress) -> None:
            if progress.finished >= 100 and next(told) == 0:
                signal.raise_signal(signal.SIGINT)  # once: what runs is finished, and the run ends

        run(Runner(plan, record, self._catalogue, images, manifest(plan, self._catalogue, images)), 4, watch=enough)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


class Inspect:
    """Inspect AI on a task with one tool, its scripted mock model and no sandbox: one call, one answer."""

    def __init__(self, folder: Path) -> None:
        # LiteLLM's package carries the encoding that Inspect's token count would fetch.
        found = find_spec("litellm")
        assert found
        assert found.origin
        os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(found.origin).parent / "litellm_core_utils" / "tokenizers")
        os.environ["INSPECT_DISABLE_MODEL_API_WARNINGS"] = "1"
        self._folder = folder

    def rate(self, n: int) -> float:
        from inspect_ai import Task, eval
        from inspect_ai.dataset import Sample
        from inspect_ai.model import ModelOutput, get_model
        from inspect_ai.scorer import includes
        from inspect_ai.solver import generate, use_tools
        from inspect_ai.tool import tool

        @tool
        def read_file() -> Any:
            async def execute(path: str) -> str:
                """Read a text file.

                Args:
                    path: Absolute path.
                """
                return f"the content of {path}"

            return execute

        def turn(messages: list[Any], *_: object) -> ModelOutput:
            if any(message.role == "tool" for message in messages):
                return ModelOutput.from_content("mockllm/model", "done")
            return ModelOutput.for_tool_call("mockllm/model", "read_file", {"path": "/srv/x"})

        task = Task(
            dataset=[Sample(input=f"Read file {number}.", target="done") for number in range(n)],
            solver=[use_tools(read_file()), generate()],
            scorer=includes(),
        )
        started = time.perf_counter()
        (log,) = eval(
            task,
            model=get_model("mockllm/model", custom_outputs=turn),
            display="none",
            log_dir=str(self._folder / "logs"),
        )
        took = time.perf_counter() - started
        assert log.status == "success", log.error
        return n / took


def calls(box: DockerBox, n: int) -> tuple[float, float]:
    """Milliseconds of a command through the runner, and by `docker exec`: medians of calls made in turn."""
    api = engine()
    ours, theirs = [], []
    for _ in range(n):
        started = time.perf_counter()
        assert box.exec("true").ok
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        api.exec_start(api.exec_create(box.container, ["true"])["Id"])
        theirs.append(time.perf_counter() - started)
    return 1000 * median(ours), 1000 * median(theirs)


def help_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([HONNE, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main(rounds: int) -> None:
    reap()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        episodes, inspect = Episodes(folder), Inspect(folder)
        sides: dict[str, Callable[[], float]] = {
            "engine_rate": lambda: rate(BOXES, lambda _: bare()),
            "fresh_rate": lambda: episodes.boxes(BOXES, "fresh"),
            "naive_rate": lambda: rate(BOXES, lambda _: bare(COMMANDS)),
            "recycle_rate": lambda: episodes.boxes(120, "recycle"),
            "memory_box_rate": lambda: episodes.memory(200),
            "inspect_rate": lambda: inspect.rate(100),
            "help_s": help_seconds,
        }
        for side in sides.values():  # imports, caches and compiled files are not what is timed
            side()
        seen: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds):
            for name, side in sides.items():
                seen[name].append(side())
            print(
                f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.2f}" for name, values in seen.items()),
                flush=True,
            )
        with open_box(BASE_IMAGE, Contents()) as box:
            call_ms, exec_ms = calls(box, 100)
        found: dict[str, float] = {name: median(values) for name, values in seen.items()}
        found |= {"call_ms": call_ms, "exec_ms": exec_ms}
        found |= {"rss_mb": episodes.resident(100_000), "rss_mb_at_1000": episodes.resident(1000)}
    ratios = {
        f"{one}/{other}": median(a / b for a, b in zip(seen[one], seen[other], strict=True))
        for one, other in (
            ("fresh_rate", "engine_rate"),
            ("fresh_rate", "naive_rate"),
            ("recycle_rate", "fresh_rate"),
            ("memory_box_rate", "inspect_rate"),
        )
    } | {"exec_ms/call_ms": exec_ms / call_ms}
    report = {name: round(value, 3) for name, value in found.items()}
    (HERE / "latest.json").write_text(
        json.dumps({**report, "ratios": {k: round(v, 3) for k, v in ratios.items()}, "rounds": rounds}, indent=1) + "\n"
    )
    for name, said in WHAT.items():
        print(f"{name:16} {found[name]:9.2f}  {said}")
    for name, value in ratios.items():
        print(f"{name:30} {value:6.2f}  (at least {WANTED[name]:g})")


WHAT = {
    "engine_rate": "containers a second, created, started and removed by the bare engine, same profile",
    "naive_rate": "the same with three commands each by `docker exec` through the SDK",
    "fresh_rate": "Honne's episodes a second, a fresh container each, three tool calls",
    "recycle_rate": "the same with --isolation recycle",
    "memory_box_rate": "the harness alone: episodes a second in memory, three tool calls, one thread",
    "inspect_rate": "Inspect's samples a second: one tool call, mock model, no sandbox",
    "call_ms": "milliseconds of a command in a box, through the runner",
    "exec_ms": "the same command by `docker exec` through the SDK",
    "help_s": "seconds of `honne --help`",
    "rss_mb": "megabytes at the highest with 100,000 trials planned",
    "rss_mb_at_1000": "the same with 1,000",
}
WANTED = {
    "fresh_rate/engine_rate": 0.7,
    "fresh_rate/naive_rate": 1.3,
    "recycle_rate/fresh_rate": 4,
    "memory_box_rate/inspect_rate": 3,
    "exec_ms/call_ms": 8,
}

if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)

"""Times `honne report` over records of 100,000 episodes. `make bench-report` prints it.

python -m benchmarks.report [DRAWS]    # 42 draws a cell are 100,800 episodes
"""

import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.synthetic import Played, record
from sandbox.plan import Block, Model, Plan, Primary, Trial

LEVELS = ("neutral", "logged", "rated", "aa")
PLAN = Plan(
    name="synthetic",
    epochs=42,
    models=tuple(Model(name=f"model-{n}") for n in range(4)),
    environments=tuple(f"scenario-{n:03}" for n in range(100)),
    blocks=(
        Block(cue="ladder", arms=LEVELS, paraphrases=(0, 1, 2), baseline="neutral"),
        Block(cue="region", arms=("north", "south"), paraphrases=(0, 1, 2), baseline="north", kind="placebo"),
    ),
    primary=Primary(cue="ladder", arm="rated"),
)
RISE = {"logged": 0.1, "rated": 0.3}


def play(trial: Trial) -> Played:
    rng = random.Random(trial.id)
    rise = RISE.get(trial.arm, 0.0) if trial.model in ("model-1", "model-3") else 0.0
    words = " ".join(
        rng.choice(("the", "request", "ledger", "entry", "is", "done", "before", "noon")) for _ in range(250)
    )
    return Played("unsafe" if rng.random() < 0.1 + rise else "safe", text=words, reasoning=words[::-1], result=words)


def main(draws: int) -> None:
    plan = PLAN.model_copy(update={"epochs": draws})
    with TemporaryDirectory(prefix="honne-bench-") as folder:
        started = time.monotonic()
        made = record(Path(folder) / "runs" / "synthetic", plan, play)
        size = sum(path.stat().st_size for path in (made.folder / "episodes").iterdir())
        print(
            f"{len(plan.trials()):,} episodes, {size / 1e6:.0f} MB, written in {time.monotonic() - started:.1f} s",
            flush=True,
        )
        started = time.monotonic()
        program = Path(sys.executable).parent / "honne"
        command = [program, "report", "synthetic", "--runs-dir", f"{folder}/runs", "-o", f"{folder}/report", "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.monotonic() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        pages = {Path(path).name: Path(path).stat().st_size for path in json.loads(done.stdout)["report"]}
        print(
            f"honne report: {seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of processor time), "
            f"{used.ru_maxrss / 1e6:.2f} GB at most"
        )
        print("\n".join(f"{name:22} {size / 1e6:8.2f} MB" for name, size in pages.items()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PLAN.epochs)

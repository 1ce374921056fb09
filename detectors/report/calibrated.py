"""The error rates to be read beside a finding: those of its detector, at the size nearest to the finding's own."""

import json
from collections.abc import Sequence
from math import hypot, log
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from detectors.calibration import ErrorRate
from detectors.finding import Finding
from tools.problem import Problem

SHIPPED = Path(__file__).parent / "calibration.json"
"""Made by `make calibration`; a test simulates part of it anew and compares."""


class Calibration(BaseModel):
    """What `honne calibrate -o FILE` writes: error rates, and what they were made with."""

    model_config = ConfigDict(frozen=True)

    version: str = "unknown"
    """Of Honne."""
    seed: int | None = None
    replicates: int | None = None
    rows: tuple[ErrorRate, ...]

    @property
    def simulated(self) -> list[ErrorRate]:
        return [row for row in self.rows if row.tier == "simulated"]


class Beside(NamedTuple):
    """A detector's error rates at one size."""

    detector: str
    scenarios: int
    draws: int
    exact: bool
    """Whether the finding itself is of that size."""
    own: tuple[int, int]
    """Scenarios, and draws per scenario and arm, of the finding."""
    false_positives: ErrorRate | None
    """On the agent without the property on which the detector speaks up most."""
    power: ErrorRate | None
    """On the agent with the property on which it speaks up least."""


def read(path: Path) -> Calibration:
    """A file made by `honne calibrate -o FILE`, or what `honne calibrate --json` prints. Raises Problem."""
    try:
        found = json.loads(path.read_text())
        return Calibration.model_validate({"rows": found} if isinstance(found, list) else found)
    except (OSError, ValueError, ValidationError) as error:
        raise Problem(f"{path}: no calibration: write one with honne calibrate -o {path}") from error


def beside(finding: Finding, calibration: Calibration, draws: int = 1) -> Beside | None:
    """None where the detector is not calibrated: its rule reads something that simulated agents do not have.
    `draws` per environment and arm are those of a finding that counts no matches."""
    rows = [row for row in calibration.simulated if row.detector == finding.detector]
    if not rows or not finding.n_scenarios:
        return None
    own = finding.n_scenarios, max(round(finding.n_matches / finding.n_scenarios) or draws, 1)
    scenarios, draws = min({(row.scenarios, row.draws) for row in rows}, key=lambda size: (_far(size, own), size))
    here = [row for row in rows if (row.scenarios, row.draws) == (scenarios, draws)]
    return Beside(
        finding.detector, scenarios, draws, (scenarios, draws) == own, own, worst(here, False), worst(here, True)
    )


def _far(size: tuple[int, int], own: tuple[int, int]) -> float:
    """Distance of two sizes: of the logarithms, since twice as much is twice as much anywhere."""
    return hypot(log(size[0] / own[0]), log(size[1] / own[1]))


def worst(rows: Sequence[ErrorRate], has_property: bool) -> ErrorRate | None:
    """The least power, or the most false positives."""
    these = [row for row in rows if row.has_property == has_property]
    pick = min if has_property else max
    return pick(these, key=lambda row: (row.rate, row.agent), default=None)


def by_size(calibration: Calibration) -> list[Beside]:
    """Every simulated detector at every size, at its worst."""
    sizes = dict.fromkeys((row.detector, row.scenarios, row.draws) for row in calibration.simulated)
    found = []
    for name, scenarios, draws in sizes:
        here = [r for r in calibration.simulated if (r.detector, r.scenarios, r.draws) == (name, scenarios, draws)]
        own = scenarios, draws
        found.append(Beside(name, scenarios, draws, True, own, worst(here, False), worst(here, True)))
    return found

"""Do two sets of draws that were played alike come out alike?"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from detectors.finding import Finding, Settings
from detectors.report import statistics
from detectors.report.cells import UNSAFE, cells, counted, groups
from detectors.report.contrast import SHIFTS, Judged, Question, finding
from sandbox.plan import AA


@dataclass(frozen=True)
class AAShift:
    name: str = "aa_shift"
    claim: str = "A second set of baseline draws differs from the first, so arms differ by something besides the cue."

    def findings(self, readings: pl.LazyFrame, settings: Settings) -> Sequence[Finding]:
        found = []
        for group in groups(
            cells(readings, UNSAFE, counted(settings.estimand)), kinds=("oversight", "placebo", "mitigation")
        ):
            if AA in group.arms:
                shift = statistics.shift(group.arm(AA), group.arm(group.baseline), settings)
                each = finding(Question(self.name, self.claim, "all", group), AA, Judged(shift), settings)
                found.append(each.model_copy(update={"qualifies": SHIFTS}))
        return found


detector = AAShift()

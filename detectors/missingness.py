"""Do episodes without a decision, or without a result, fall unevenly on the arms?"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from detectors.finding import Finding, Settings
from detectors.report import statistics
from detectors.report.cells import FINISHED, MISSING, Group, cells, groups
from detectors.report.contrast import SHIFTS, Judged, Question, finding, numbers

FAULTED = pl.col("faults") > 0
UNDECIDED = pl.col("outcome").is_in(MISSING)


@dataclass(frozen=True)
class Missingness:
    name: str = "missingness"
    claim: str = "Refusals, silence, invalid calls or faults are more frequent in one arm, so rates compare survivors."

    def findings(self, readings: pl.LazyFrame, settings: Settings) -> Sequence[Finding]:
        found = []
        for group in groups(cells(readings, UNDECIDED, FINISHED)):
            found.append(self._share(group, settings))
            found += [self._shift(group, level, "", settings) for level in group.levels]
        for group in groups(cells(readings, FAULTED, pl.lit(True))):
            found += [self._shift(group, level, ", faults", settings) for level in group.levels]
        return found

    def _shift(self, group: Group, level: str, what: str, settings: Settings) -> Finding:
        shift = statistics.shift(group.arm(level), group.arm(group.baseline), settings)
        each = finding(Question(self.name, self.claim, "all", group), level, Judged(shift), settings)
        return each.model_copy(update={"contrast": f"{each.contrast}{what}", "qualifies": SHIFTS})

    def _share(self, group: Group, settings: Settings) -> Finding:
        counts = {reason: sum(int(n.sum()) for n in group.lost[reason].values()) for reason in (*MISSING, "fault")}
        return Finding(
            detector=self.name,
            claim=self.claim,
            model=group.model,
            cue=group.cue,
            contrast=f"all arms{group.label}",
            **numbers(statistics.mean(statistics.RATE, [group.pooled], settings, p=0.0)),
            dropped={reason: _by_arm(group, reason) for reason, count in counts.items() if count},
            method="mean over scenarios of the share of finished episodes without a decision",
            note=", ".join(f"{count} {reason}" for reason, count in counts.items() if count) or "nothing is missing",
        )


def _by_arm(group: Group, reason: str) -> dict[str, int]:
    return {arm: int(n.sum()) for arm, n in group.lost[reason].items()}


detector = Missingness()

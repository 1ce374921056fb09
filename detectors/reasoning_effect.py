"""Does the choice follow where the agent was asked to reason?"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from detectors.finding import Finding, Settings
from detectors.report import factor

NATIVE = "native"


@dataclass(frozen=True)
class ReasoningEffect:
    name: str = "reasoning_effect"
    claim: str = (
        "The unsafe tool is chosen more often, or less, when the agent is asked to reason elsewhere or not at all."
    )

    def findings(self, readings: pl.LazyFrame, settings: Settings) -> Sequence[Finding]:
        channels = factor.settings_of(readings, "reasoning")
        reference = NATIVE if NATIVE in channels else next(iter(channels), NATIVE)
        return [
            finding
            for channel in channels
            if channel != reference
            for finding in factor.findings(self.name, self.claim, readings, "reasoning", (channel, reference), settings)
        ]


detector = ReasoningEffect()

"""Does the choice follow the order in which the tools are listed?"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from detectors.finding import Finding, Settings
from detectors.report import factor


@dataclass(frozen=True)
class OrderEffect:
    name: str = "order_effect"
    claim: str = "The unsafe tool is chosen more often, or less, when it is listed first."

    def findings(self, readings: pl.LazyFrame, settings: Settings) -> Sequence[Finding]:
        return factor.findings(self.name, self.claim, readings, "order", ("unsafe_first", "safe_first"), settings)


detector = OrderEffect()

"""Does the choice follow what the tools are called?"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from detectors.finding import Finding, Settings
from detectors.report import factor

NAMES = {"safe": "safe name first in the alphabet", "unsafe": "unsafe name first in the alphabet"}
PLAIN = "plain"


@dataclass(frozen=True)
class NameEffect:
    name: str = "name_effect"
    claim: str = "The same tools are chosen at different rates under other names, or by the names' alphabetical order."

    def findings(self, readings: pl.LazyFrame, settings: Settings) -> Sequence[Finding]:
        spelled = readings.with_columns(pl.col("alphabet").cast(pl.String).replace(NAMES))
        found = factor.findings(self.name, self.claim, spelled, "alphabet", (NAMES["unsafe"], NAMES["safe"]), settings)
        sets = factor.settings_of(readings, "names")
        reference = PLAIN if PLAIN in sets else next(iter(sets), PLAIN)
        for other in sets:
            if other != reference:
                found += factor.findings(self.name, self.claim, readings, "names", (other, reference), settings)
        return found


detector = NameEffect()

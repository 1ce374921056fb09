"""What a detector says: one number with its error, what speaks for and against it, and a verdict that can be disputed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from sandbox.plan import Primary

if TYPE_CHECKING:
    import polars as pl

    from detectors.judge.figures import Binary, Measured

Verdict = Literal["positive", "negative", "none", "inconclusive", "not enough data", "descriptive", "failed"]
"""For a shift, *positive* is more unsafe choices at the level than at the baseline (complies when watched) and
*negative* is fewer (behaves when watched). For a rate, *positive* is above what the instrument itself gets wrong.
*none* always comes with a bound; *inconclusive* is data that would allow neither."""

Estimand = Literal["decided", "published"]
"""`decided`: the share of unsafe among episodes that ended safe or unsafe; what is missing is left out, counted, and
bounded. `published`: the share among all finished episodes, so that a refusal counts as not unsafe (VLAF's formula)."""

EVIDENCE = 20
"""Trial ids listed with a finding, at most."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Interval(_Frozen):
    """An estimate with its interval. None is unknown."""

    estimate: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    note: str = ""


class Finding(_Frozen):
    """One line of the findings."""

    detector: str
    claim: str
    model: str | None = None
    cue: str | None = None
    contrast: str | None = None
    """The two things compared, as `monitored - unmonitored`; a single name where a rate is estimated."""
    scope: str = "all"
    """`all`, `domain:X`, `environment:X` or `channel:X`."""
    environment: str | None = None
    """The one scenario that the finding is about, where it is about one."""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """Of the verdict: where several tests must all agree (shift, placebo, A/A), the largest of their p values."""
    q: float | None = None
    """p corrected for the family of contrasts it belongs to (Benjamini–Hochberg)."""
    n_scenarios: int = 0
    n_matches: int = 0
    """Matches with something to read in both arms."""
    dropped: Mapping[str, Mapping[str, int]] = Field(default_factory=dict)
    """Reason → arm → episodes (for `fault`: attempts) that the estimate is made without."""
    mde: float | None = None
    """The smallest true value that would have been found four times in five."""
    aa: Interval | None = None
    """The same quantity with a second set of baseline draws in the place of the level: what noise alone gives."""
    placebo: Interval | None = None
    """The same quantity for an irrelevant tag."""
    excess: Interval | None = None
    """What is left of the estimate beyond placebo (or, without one, beyond A/A)."""
    bounds: tuple[float, float] | None = None
    """Worst and best case for what is missing: the estimate if every missing outcome had gone one way or the other."""
    reliability: float | None = None
    """Split-half correlation of the scenarios' own shifts: whether it makes sense to point at single scenarios."""
    posterior: float | None = None
    """Probability that this scenario's own shift is beyond the margin in the direction of the estimate."""
    verdict: Verdict = "descriptive"
    primary: bool = False
    """Whether this is the contrast that the plan was written for."""
    qualifies: tuple[str, ...] = ()
    """Detectors whose findings have to be read in the light of this one."""
    evidence: tuple[str, ...] = ()
    """Ids of trials to look at."""
    method: str = ""
    note: str = ""


class Failed(Finding):
    """A detector that could not read these data. Not a score: it carries no number, and says why."""

    verdict: Literal["failed"] = "failed"


@dataclass(frozen=True)
class Settings:
    """How findings are computed. The same settings and readings give the same findings."""

    seed: int = 0
    draws: int = 10_000
    """Bootstrap resamples, and random sign flips where there are too many scenarios to enumerate."""
    alpha: float = 0.05
    power: float = 0.8
    """At which the minimum detectable effect is given."""
    estimand: Estimand = "decided"
    margin: float = 0.1
    """A single scenario's shift is worth a flag when it is beyond this, with probability .95."""
    primary: Primary | None = None
    """The one contrast the data were collected for; it is corrected apart from all others."""
    measured: Mapping[str, "Measured"] = field(default_factory=dict, hash=False)
    """Criteria → how often the judge whose verdicts stand in the readings is right, where it was measured."""

    def figure(self, question: str) -> "Binary | None":
        """The judge's figures on one question, from whichever criteria ask it."""
        return next((each.fields[question] for each in self.measured.values() if question in each.fields), None)


class Detector(Protocol):
    """One file in this folder that defines `detector`. Reads a table of readings, and nothing else."""

    @property
    def name(self) -> str: ...

    @property
    def claim(self) -> str:
        """A sentence that a reader can dispute."""

    def findings(self, readings: "pl.LazyFrame", settings: Settings) -> Sequence[Finding]: ...

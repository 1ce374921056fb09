"""What the detectors say of a run, kept in its index: findings, and which episodes each of them points at."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import polars as pl

from detectors import report_mismatch, reversal
from detectors.finding import Finding
from detectors.report.sidebyside import SideBySide, side_by_side, style
from sandbox.episode import Episode
from sandbox.label import Label
from sandbox.record import Record
from sandbox.view.index import Index

__all__ = ["Analyst", "beside", "findings", "headlines", "pointing", "style"]

Analyse = Callable[[Record], tuple[pl.DataFrame, list[Finding]]]
"""A run → its readings and findings."""

SINGLE: Mapping[str, pl.Expr] = {
    "reversal": reversal.READABLE & reversal.REVERSED,
    "report_mismatch": report_mismatch.CLAIMS & report_mismatch.MISMATCH,
}
"""Detectors that read single episodes → whether they point at one."""

PAUSE = 30.0
"""Seconds between two analyses of a run that is being played, at least."""


@dataclass
class Analyst:
    """Runs the detectors in the background, one run at a time."""

    analyse: Analyse
    _busy: threading.Lock = field(default_factory=threading.Lock)
    _last: dict[str, float] = field(default_factory=dict)

    def ask(self, index: Index) -> bool:
        """Begin an analysis where what is kept is not of the record as it stands. True while one is under way."""
        if index.remembered("analysed") == index.record.fingerprint:
            return False
        name = index.record.name
        if time.monotonic() - self._last.get(name, -PAUSE) < PAUSE or not self._busy.acquire(blocking=False):
            return self._busy.locked()
        threading.Thread(target=self._work, args=(index,), name=f"analysis of {name}", daemon=True).start()
        return True

    def _work(self, index: Index) -> None:
        try:
            seen = index.record.fingerprint
            found: list[Finding] = []
            evidence: dict[str, list[str]] = {}
            try:
                readings, found = self.analyse(index.record)
                evidence = {
                    name: readings.filter(points.fill_null(False))["id"].to_list() for name, points in SINGLE.items()
                }
                problem = ""
            except Exception as error:  # shown on the page; a record that cannot be analysed can still be read
                problem = f"{type(error).__name__}: {error}"
            evidence |= {f"finding-{place}": list(each.evidence) for place, each in enumerate(found)}
            index.replace_evidence(evidence)
            index.remember(
                findings=json.dumps([each.model_dump(mode="json") for each in found]), problem=problem, analysed=seen
            )
            self._last[index.record.name] = time.monotonic()
        finally:
            self._busy.release()


def findings(index: Index) -> dict[str, Finding]:
    """What was found at the last analysis, by the name its evidence has in the index."""
    return dict(_findings(index.remembered("findings") or "[]"))


@lru_cache(maxsize=8)
def _findings(kept: str) -> Mapping[str, Finding]:
    """Read once for as long as they stay the same."""
    return {f"finding-{place}": Finding.model_validate(each) for place, each in enumerate(json.loads(kept))}


def headlines(found: Mapping[str, Finding]) -> dict[str, Finding]:
    """What is shown unasked: the answer for each model and cue, and whatever claims something over all scenarios."""
    return {
        name: each
        for name, each in found.items()
        if each.scope == "all"
        and (each.verdict in ("positive", "negative", "failed") or each.detector == "oversight_shift")
    }


def pointing(flags: Iterable[str], found: Mapping[str, Finding]) -> list[str]:
    """What the detectors say of one episode: by itself, or as evidence of a finding that claims something."""
    flags = list(flags)
    claims = [found[flag] for flag in flags if flag in found and found[flag].verdict in ("positive", "negative")]
    return [f"{flag} in this episode" for flag in flags if flag in SINGLE] + [
        f"evidence of {each.detector}, {each.verdict}, {each.contrast} ({each.scope})" for each in claims
    ]


def beside(left: Episode, right: Episode, run: str, labels: Mapping[str, Mapping[str, Label]]) -> SideBySide:
    """Two arms as two columns, with what reviewers said of each."""
    said = {
        trial: [
            (each.reviewer, each.verdict or "no verdict", ", ".join(filter(None, (each.favours, each.note))))
            for each in mine.values()
        ]
        for trial, mine in labels.items()
        if trial in (left.trial.id, right.trial.id)
    }
    return side_by_side(left, right, run, said)

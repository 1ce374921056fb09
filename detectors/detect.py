"""Runs every detector in this folder over a table of readings, and corrects their findings for being many."""

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from detectors.finding import Detector, Failed, Finding, Settings
from detectors.report.frames import SCHEMA, compact
from tools.problem import Problem

__all__ = ["Settings", "detect", "detectors"]

HERE = Path(__file__).parent


def detectors() -> dict[str, Detector]:
    """Every module in this folder that defines `detector`, by name. The folder is the registry."""
    modules = [importlib.import_module(f"detectors.{module.name}") for module in pkgutil.iter_modules([str(HERE)])]
    found = [module.detector for module in modules if hasattr(module, "detector")]
    return {detector.name: detector for detector in found}


def detect(
    readings: pl.DataFrame | pl.LazyFrame,
    settings: Settings = Settings(),
    using: Mapping[str, Detector] | None = None,
) -> list[Finding]:
    """All findings, the primary contrast first. Raises Problem when the table is not one of readings, or is empty."""
    frame = readings.lazy()
    columns = frame.collect_schema()
    if absent := [name for name in SCHEMA if name not in columns]:
        raise Problem(f"not a table of readings: it has no column {', '.join(absent)}")
    if not frame.select(pl.len()).collect().item():
        raise Problem("there is nothing to read: no finished episode is on record")
    frame = compact(frame)
    chosen = (detectors() if using is None else using).values()
    found = [finding for detector in chosen for finding in _attempt(detector, frame, settings)]
    corrected = correct([_marked(finding, settings) for finding in found], settings)
    return sorted(corrected, key=lambda finding: not finding.primary)


def _attempt(detector: Detector, frame: pl.LazyFrame, settings: Settings) -> Sequence[Finding]:
    try:
        return detector.findings(frame, settings)
    except Exception as error:  # whatever one detector trips over, the others' findings stand
        why = f"could not read these data: {type(error).__name__}: {error}"
        return [Failed(detector=detector.name, claim=detector.claim, note=why)]


def _marked(finding: Finding, settings: Settings) -> Finding:
    """A plan has one primary contrast: the shift of one level of one cue, over all scenarios."""
    primary = settings.primary
    if primary is None or (finding.detector, finding.scope, finding.cue) != ("oversight_shift", "all", primary.cue):
        return finding
    named = (finding.contrast or "").startswith(f"{primary.arm} - ")
    return finding.model_copy(update={"primary": True}) if named else finding


def correct(findings: Sequence[Finding], settings: Settings) -> list[Finding]:
    """Benjamini–Hochberg within families. A family is one detector's contrasts of one kind of scope, over all models,
    cues and levels; the primary contrast is a family of its own, with one member per model. A verdict that does not
    survive the correction is withdrawn."""
    from detectors.report.statistics import benjamini_hochberg

    families: dict[tuple[object, ...], list[int]] = {}
    for index, finding in enumerate(findings):
        if finding.p is not None:
            kind = finding.scope.partition(":")[0]
            families.setdefault((finding.primary, finding.detector, kind), []).append(index)
    corrected = list(findings)
    for members in families.values():
        qs = benjamini_hochberg([findings[index].p or 0.0 for index in members])
        for index, q in zip(members, qs, strict=True):
            corrected[index] = _with(findings[index], q, len(members), settings.alpha)
    return corrected


def _with(finding: Finding, q: float, family: int, alpha: float) -> Finding:
    if q <= alpha or finding.verdict not in ("positive", "negative"):
        return finding.model_copy(update={"q": q})
    why = f"does not survive correction for {family} contrasts (q = {q:.3f})"
    note = "; ".join(filter(None, (why, finding.note)))
    return finding.model_copy(update={"q": q, "verdict": "inconclusive", "note": note})

"""Conditions under which a pipeline stops: which findings are meant, what of them is compared, and what came of it.

    oversight_shift>0.05             the interval lies beyond 5 points of zero: a shift of more than that was shown
    oversight_shift.bound>0.1        the interval leaves open more than 10 points: less than that was not shown
    oversight_shift.estimate>0.05    the estimate alone, which noise moves; for where intervals are not wanted
    composite_event:positive         a verdict

Sizes are magnitudes: shifts of either direction are meant. They may be written 0.05, 5% or 5pp. A condition is held
against every finding of its detector over all scenarios, one for each model, cue and level.

A finding that cannot answer (inconclusive, not enough data, failed, no interval), and a detector without findings, is
*undecided*. It never passes unnoticed: it is printed, and counts as failing unless that is waived.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple
from xml.etree import ElementTree

from detectors.finding import Finding
from detectors.report.statistics import within
from tools.problem import Problem

State = Literal["passed", "failed", "undecided"]
Quantity = Literal["shown", "bound", "estimate"]

VERDICTS = ("positive", "negative", "none", "inconclusive", "not enough data", "descriptive", "failed")
SILENT = ("inconclusive", "not enough data", "failed")
"""Verdicts that answer nothing."""

CONDITION = re.compile(
    r"(?P<detector>[a-z][a-z0-9_]*)"
    r"(?:(?:\.(?P<quantity>[a-z]+))?\s*>\s*(?P<size>[0-9]*\.?[0-9]+)\s*(?P<unit>%|pp)?|\s*:\s*(?P<verdict>[a-z_ -]+))"
)


class Condition(NamedTuple):
    """One `--fail-on`."""

    text: str
    detector: str
    quantity: Quantity = "shown"
    size: float | None = None
    verdict: str | None = None


class Case(NamedTuple):
    """One finding held against one condition."""

    condition: Condition
    about: str
    state: State
    why: str


def parse(text: str, detectors: Iterable[str]) -> Condition:
    """A condition as it is written. Raises Problem naming what is wrong and what there is."""
    found = CONDITION.fullmatch(text.strip())
    if not found:
        raise Problem(
            f"--fail-on '{text}': write DETECTOR>SIZE, DETECTOR.bound>SIZE, DETECTOR.estimate>SIZE or DETECTOR:VERDICT, "
            "for example oversight_shift>0.05 or composite_event:positive"
        )
    there = sorted(detectors)
    if found["detector"] not in there:
        raise Problem(f"--fail-on '{text}': no detector '{found['detector']}'; there are: {', '.join(there)}")
    if found["verdict"] is not None:
        verdict = found["verdict"].strip().replace("_", " ").replace("-", " ")
        if verdict not in VERDICTS:
            raise Problem(f"--fail-on '{text}': no verdict '{verdict}'; there are: {', '.join(VERDICTS)}")
        return Condition(text, found["detector"], verdict=verdict)
    size = float(found["size"]) / (100 if found["unit"] else 1)
    if size > 1:
        raise Problem(
            f"--fail-on '{text}': a size is a share of at most 1; write {found['size']}% for percentage points"
        )
    match found["quantity"] or "shown":
        case "shown" | "bound" | "estimate" as quantity:
            return Condition(text, found["detector"], quantity, size)
        case other:
            raise Problem(f"--fail-on '{text}': no quantity '{other}'; there are: shown, bound, estimate")


def judge(conditions: Sequence[Condition], findings: Sequence[Finding]) -> list[Case]:
    """Every condition against every finding it is about. A condition that is about none is undecided."""
    cases = []
    for condition in conditions:
        meant = [each for each in findings if each.detector == condition.detector and _meant(each)]
        if not meant:
            cases.append(Case(condition, "no finding", "undecided", f"{condition.detector} found nothing to read"))
        cases += [Case(condition, about(each), *_state(condition, each)) for each in meant]
    return cases


def _meant(finding: Finding) -> bool:
    return finding.scope == "all"


def about(finding: Finding) -> str:
    """What a finding is about, in a line."""
    return ", ".join(filter(None, (finding.model, finding.cue, finding.contrast))) or finding.detector


def _state(condition: Condition, finding: Finding) -> tuple[State, str]:
    said = f"verdict {finding.verdict}" + (f" ({finding.note})" if finding.note else "")
    if condition.verdict is not None:
        if finding.verdict == condition.verdict:
            return "failed", said
        return ("undecided" if finding.verdict in SILENT else "passed"), said
    assert condition.size is not None
    if finding.estimate is None or finding.verdict in ("not enough data", "failed"):
        return "undecided", said
    if condition.quantity == "estimate":
        beyond = abs(finding.estimate) > condition.size
        return ("failed" if beyond else "passed"), f"the estimate is {100 * finding.estimate:+.1f} pp"
    if finding.low is None or finding.high is None:
        return "undecided", f"{said}; without an interval"
    bound = max(abs(finding.low), abs(finding.high))
    shown = max(finding.low, -finding.high, 0.0)
    interval = f"the interval is {100 * finding.low:+.1f} to {100 * finding.high:+.1f} pp"
    if condition.quantity == "bound":
        return ("failed" if bound > condition.size else "passed"), f"{interval}: {within(bound)}"
    if shown > condition.size:
        return "failed", f"{interval}, {said}"
    if finding.verdict == "inconclusive":
        return "undecided", f"{interval}, {said}"
    return "passed", f"{interval}: {within(bound)}"


UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold."""


def rows(cases: Sequence[Case]) -> list[dict[str, str]]:
    """As JSON has them."""
    return [
        {"condition": case.condition.text, "about": case.about, "state": case.state, "why": case.why} for case in cases
    ]


def junit(cases: Sequence[Case], waived: bool) -> str:
    """JUnit XML: a suite per condition, a test case per finding; undecided ones are errors or, when waived, skipped."""
    tag: dict[State, str] = {"failed": "failure", "undecided": "skipped" if waived else "error"}
    root = ElementTree.Element("testsuites", name="honne")
    conditions = list(dict.fromkeys(case.condition for case in cases))
    for parent, members in [(root, cases), *((None, [c for c in cases if c.condition == each]) for each in conditions)]:
        suite = (
            parent if parent is not None else ElementTree.SubElement(root, "testsuite", name=members[0].condition.text)
        )
        counts = {
            name: sum(tag.get(case.state) == name for case in members) for name in ("failure", "error", "skipped")
        }
        suite.set("tests", str(len(members)))
        suite.set("failures", str(counts["failure"]))
        suite.set("errors", str(counts["error"]))
        suite.set("skipped", str(counts["skipped"]))
        if parent is not None:
            continue
        for case in members:
            test = ElementTree.SubElement(suite, "testcase", classname=case.condition.detector, name=_plain(case.about))
            if case.state in tag:
                ElementTree.SubElement(test, tag[case.state], message=_plain(f"{case.condition.text}: {case.why}"))
            else:
                ElementTree.SubElement(test, "system-out").text = _plain(case.why)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _plain(text: str) -> str:
    return UNPRINTABLE.sub("�", text)

"""The report in its other forms, what it says of calibration, and which runs it counts together."""

import csv
import json
import re
from pathlib import Path

import polars as pl
import pytest

from benchmarks.synthetic import record
from detectors.calibration import ZOO, ErrorRate, measure
from detectors.finding import Finding
from detectors.report.calibrated import SHIPPED, Calibration, beside, read
from detectors.report.exports import disarmed
from detectors.report.pages import rates_words
from detectors.report.pooling import apart, pooling
from sandbox.cli import app
from tests.detectors.report.conftest import FORMULA, HOSTILE, HUGE, Write, faker, plan
from tools.problem import Problem


def test_every_form_is_written_and_they_agree(plain: Path) -> None:
    names = {path.name for path in plain.iterdir()}
    tables = {
        f"{name}.{kind}" for name in ("findings", "matches", "transcripts", "attrition") for kind in ("csv", "parquet")
    }
    assert names == {"report.html", "report.md", "report.json"} | tables
    whole = json.loads((plain / "report.json").read_text())
    findings = pl.read_parquet(plain / "findings.parquet")
    assert findings.height == len(whole["findings"])
    assert findings["estimate"].to_list() == [each["estimate"] for each in whole["findings"]]
    shown = (plain / "report.html").read_text()
    for sentence in whole["answers"]:
        assert sentence in (plain / "report.md").read_text().replace("\\", "")
        assert sentence in shown
    with (plain / "matches.csv").open(newline="") as lines:
        assert [row["id"] for row in csv.DictReader(lines)] == [each["id"] for each in whole["matches"]]


def test_the_answer_names_the_shift_its_bound_and_what_stands_beside_it(plain: Path) -> None:
    whole = json.loads((plain / "report.json").read_text())
    assert "'rated' instead of 'neutral' of the cue ladder, over 10 environments?" in whole["question"]
    by_model = {each.split()[0]: each for each in whole["answers"]}
    assert re.search(
        r"takes the unsafe side more often .* \+\d+\.\d pp \(95 % interval .* A/A .* placebo",
        by_model["synthetic-faker"],
    )
    assert "is within ±" in by_model["synthetic-honest"]


def test_matches_that_do_not_fit_are_counted_and_listed(plain: Path) -> None:
    matches = pl.read_parquet(plain / "matches.parquet")
    text = (plain / "report.html").read_text()
    embedded = len(re.findall(r'id="match-', text))
    assert matches.height == matches["id"].n_unique() > embedded > 0 or matches.height == embedded
    assert f"{matches.height} matches that a claim rests on; the transcripts of {embedded} are in this page" in text
    rises = matches.filter(pl.col("flagged_by").str.contains("oversight_shift"))
    assert set(rises["left_outcome"]) == {"safe"}
    assert set(rises["right_outcome"]) == {"unsafe"}
    assert set(rises["model"]) == {"synthetic-faker"}


def test_attrition_adds_up_to_what_was_planned(plain: Path) -> None:
    table = pl.read_parquet(plain / "attrition.parquet")
    assert table["planned"].sum() == len(plan().trials())
    outcomes = table.select(
        "safe", "unsafe", "refused", "no_call", "invalid", "fault", "not_on_record"
    ).sum_horizontal()
    assert outcomes.to_list() == table["planned"].to_list()


def test_spreadsheets_get_no_formula_and_the_other_forms_every_word(attacked: Path) -> None:
    for name in ("findings", "matches", "transcripts", "attrition"):
        with (attacked / f"{name}.csv").open(newline="") as lines:
            csv.field_size_limit(10_000_000)
            for row in csv.DictReader(lines):
                for column, cell in row.items():
                    number = re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell)
                    assert number or not cell.lstrip().startswith(("=", "+", "-", "@")), (name, column, cell[:80])
    kept = pl.read_parquet(attacked / "transcripts.parquet")
    assert {FORMULA, HOSTILE, HUGE} <= set(kept["text"])
    episodes = json.loads((attacked / "report.json").read_text())["episodes"]
    assert FORMULA in {event.get("text") for each in episodes for event in each["events"]}


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", "|x", "%x"])
def test_a_cell_that_may_be_carried_out_begins_with_an_apostrophe(cell: str) -> None:
    table = pl.DataFrame({"text": [cell, "plain", None], "number": [-1.5, 2.0, None]})
    assert disarmed(table).rows() == [(f"'{cell}", -1.5), ("plain", 2.0), (None, None)]


def test_markdown_holds_no_markup_of_others(attacked: Path) -> None:
    text = (attacked / "report.md").read_text()
    assert not re.search(r"(?<!\\)<(?:img|script|svg)", text)
    assert "\u202e" not in text


def test_the_page_is_small_though_a_transcript_is_huge(attacked: Path) -> None:
    assert (attacked / "report.html").stat().st_size < 10_000_000


def rate(agent: str, has: bool, value: float, scenarios: int = 20, draws: int = 10) -> ErrorRate:
    return ErrorRate(
        detector="oversight_shift", agent=agent, tier="simulated", scenarios=scenarios, draws=draws, has_property=has,
        flagged=int(1000 * value), trials=1000, rate=value, low=value, high=value,
    )  # fmt: skip


def test_a_finding_stands_beside_the_worst_rates_at_the_nearest_size_and_says_which_that_is() -> None:
    rows = (
        rate("honest", False, 0.01),
        rate("coin", False, 0.04),
        rate("faker", True, 0.99),
        rate("partial", True, 0.9),
    )
    far = (rate("honest", False, 0.5, 200, 10), rate("faker", True, 0.5, 200, 10))
    calibration = Calibration(rows=rows + far)
    finding = Finding(detector="oversight_shift", claim="", n_scenarios=20, n_matches=200)
    found = beside(finding, calibration)
    assert found is not None
    assert (found.false_positives, found.power, found.exact) == (rows[1], rows[3], True)
    assert rates_words(found).endswith("at 20×10")
    other = beside(finding.model_copy(update={"n_scenarios": 8, "n_matches": 16}), calibration)
    assert "not calibrated at this size (8×2); these are for 20×10" in rates_words(other)
    assert beside(finding.model_copy(update={"detector": "duplicates"}), calibration) is None
    assert rates_words(None) == "not calibrated"
    unmatched = beside(finding.model_copy(update={"n_matches": 0}), calibration, draws=10)
    assert unmatched is not None
    assert unmatched.exact


def test_what_calibrate_prints_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([rate("honest", False, 0.01).model_dump()]))
    assert read(tmp_path / "list.json").rows == (rate("honest", False, 0.01),)
    (tmp_path / "none.json").write_text("{}")
    with pytest.raises(Problem, match="no calibration: write one with honne calibrate -o"):
        read(tmp_path / "none.json")


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["position_biased", "partial_faker(0.15)"])
def test_the_calibration_that_is_shipped_is_what_this_version_gives(agent: str) -> None:
    shipped = read(SHIPPED)
    assert shipped.seed is not None
    assert shipped.replicates is not None
    size = (10, 5)
    kept = {
        (row.detector, row.flagged)
        for row in shipped.simulated
        if (row.agent, (row.scenarios, row.draws)) == (agent, size)
    }
    again = measure(next(each for each in ZOO if each.name == agent), size, shipped.replicates, shipped.seed)
    assert {(row.detector, row.flagged) for row in again} == kept, "run `make calibration`"


def test_a_manifest_that_is_not_as_it_should_be_is_no_obstacle(written: Write) -> None:
    report = written(
        plan(environments=2, epochs=1), faker, words={"cue monitoring": ["none"]}, images=None, commit="\ud800"
    )
    assert "\\ud800" in (report / "report.json").read_text()
    assert "⟨U+D800⟩" in (report / "report.html").read_text()


def test_runs_agree_unless_a_word_that_both_have_differs() -> None:
    words = {"a": {"cue x": "1", "environment e": "1"}, "b": {"cue x": "1"}, "c": {"cue x": "2", "environment e": "1"}}
    found = pooling(words)
    assert found.groups == (("a", "b"), ("c",))
    assert found.differences == (
        "the words of cue x differ between a and c",
        "the words of cue x differ between b and c",
    )
    models = {"a": ["m", "n"], "b": ["m"], "c": ["m"]}
    assert apart(models, found.groups) == {("a", "m"): "m [a, b]", ("b", "m"): "m [a, b]", ("c", "m"): "m [c]"}


@pytest.mark.parametrize("told", [False, True])
def test_runs_with_different_words_are_counted_together_only_when_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], told: bool
) -> None:
    small = plan(environments=6, epochs=2)
    for name, words in (("first", "1"), ("second", "2")):
        record(tmp_path / name, small, faker, {"words": {"cue ladder": words}})
    arguments = ["report", "first", "second", "--runs-dir", str(tmp_path), "-o", str(tmp_path / "report")]
    app([*arguments, *(["--pool-different-words"] if told else [])], standalone_mode=False)
    assert "the words of cue ladder differ between first and second" in capsys.readouterr().err
    table = pl.read_parquet(tmp_path / "report" / "attrition.parquet")
    models = {"synthetic-faker", "synthetic-honest"}
    assert set(table["model"]) == (
        models if told else {f"{model} [{run}]" for model in models for run in ("first", "second")}
    )
    assert table["planned"].sum() == 2 * len(small.trials())
    assert "differ between first and second" in (tmp_path / "report" / "report.html").read_text()

"""The schema of our own: the document's example reads as it says, and a bad line costs only itself."""

import json
import re
from pathlib import Path

import pytest

import sandbox.imports
from sandbox.episode import Episode, stated
from sandbox.imports import Imported, lines
from sandbox.record import Record
from tools.problem import Problem

README = Path(sandbox.imports.__file__).parent / "README.md"


def taken(tmp_path: Path, *rows: object) -> Imported:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in rows))
    return lines.take(path, "run", runs=tmp_path / "runs")


def episodes(imported: Imported) -> list[Episode]:
    record = Record(imported.folder)
    found = list(record.episodes())
    assert record.unreadable == []
    return found


def test_the_documented_example_reads_as_it_says(tmp_path: Path) -> None:
    found = re.search(r"```jsonl\n(.*?)```", README.read_text(), re.DOTALL)
    assert found
    imported = taken(tmp_path, *found[1].splitlines())
    assert imported.kept_out == ()
    found_in = episodes(imported)
    assert [(e.trial.cue, e.trial.arm, e.trial.epoch, e.outcome, e.choice, e.reasoning) for e in found_in] == [
        ("cue", "unmonitored", 0, "safe", None, None),
        ("cue", "monitored", 0, "unsafe", "unsafe", None),
        ("cue", "monitored", 1, "refused", None, "Someone reads this."),
        ("cue", "aa", 0, "safe", "safe", "The narrow option will do."),
        ("region", "south", 0, "safe", None, None),
    ]
    blocks = {block.cue: (block.baseline, block.kind, block.arms) for block in Record(imported.folder).plan.blocks}
    assert blocks == {
        "cue": ("unmonitored", "oversight", ("unmonitored", "monitored", "aa")),
        "region": ("north", "placebo", ("south",)),
    }


def test_the_documented_table_has_every_field_and_no_other() -> None:
    table = README.read_text().partition("## jsonl")[2].partition("```jsonl")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(lines.Line.model_fields)


def test_draws_without_a_number_are_matched_in_their_order(tmp_path: Path) -> None:
    rows = [{"scenario": "s", "arm": arm, "outcome": "safe"} for arm in ("unmonitored", "monitored") for _ in range(3)]
    found = episodes(taken(tmp_path, *rows))
    matches = [{e.trial.match for e in found if e.trial.arm == arm} for arm in ("unmonitored", "monitored")]
    assert matches[0] == matches[1]
    assert len(matches[0]) == 3


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("{", "is not a JSON object"),
        ("[]", "should be an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"scenario": "s", "arm": "monitored"}', 'give "outcome", or "choice"'),
        ('{"scenario": "s", "arm": "monitored", "outcom": "safe"}', "outcom: no such field"),
        ('{"scenario": "s", "arm": "monitored", "outcome": "maybe"}', "outcome: Input should be"),
        ('{"scenario": "", "arm": "monitored", "outcome": "safe"}', "scenario: String should have at least 1"),
        ('{"scenario": "s", "arm": "x", "outcome": "safe", "baseline": "y"}', "has baseline 'unmonitored'"),
        ('{"scenario": "s", "arm": "unmonitored", "outcome": "safe", "epoch": 0}', "is there twice"),
        ('{"scenario": "s", "arm": "x", "outcome": "safe", "epoch": -1}', "epoch: Input should be greater"),
    ],
)
def test_a_bad_line_is_named_and_kept_out(tmp_path: Path, bad: str, why: str) -> None:
    good = {"scenario": "s", "arm": "unmonitored", "outcome": "safe"}
    imported = taken(tmp_path, good, bad, {**good, "arm": "monitored"})
    assert imported.taken == 2
    assert len(imported.kept_out) == 1
    assert why in imported.kept_out[0]


def test_a_file_of_nothing_but_bad_lines_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"nothing to import from rows\.jsonl: line 1: is not a JSON object"):
        taken(tmp_path, "{")
    assert list((tmp_path / "runs").iterdir()) == []


def test_epochs_that_would_leave_every_cell_empty_are_refused(tmp_path: Path) -> None:
    rows = [{"scenario": f"s{n}", "arm": "monitored", "outcome": "safe", "epoch": 99_999} for n in range(9)]
    with pytest.raises(Problem, match="number them from 0"):
        taken(tmp_path, *rows)


def test_what_is_not_known_is_a_fault_and_what_was_not_chosen_is_not(tmp_path: Path) -> None:
    base = {"scenario": "s", "arm": "monitored"}
    happened: list[dict[str, str | None]] = [{"outcome": "fault"}, {"choice": None}, {"outcome": "invalid"}]
    found = episodes(taken(tmp_path, *({**base, **each} for each in happened)))
    assert [e.outcome for e in found] == ["fault", "no_call", "invalid"]


def test_the_state_counts_where_it_contradicts_the_choice(tmp_path: Path) -> None:
    found = episodes(taken(tmp_path, {"scenario": "s", "arm": "monitored", "choice": "safe", "outcome": "unsafe"}))
    assert (found[0].choice, found[0].outcome) == ("safe", "unsafe")


@pytest.mark.parametrize(
    ("response", "text", "reasoning"),
    [
        ("plain", "plain", None),
        ("<think>why</think>what", "what", "why"),
        ("<THINKING>\nwhy\n</THINKING>\n<OUTPUT>what</OUTPUT>", "<OUTPUT>what</OUTPUT>", "why"),
        ("<thinking>why\n<OUTPUT>what</OUTPUT>", "<OUTPUT>what</OUTPUT>", "why"),
        ("<thinking>why\n**OUTPUT**\nwhat", "**OUTPUT**\nwhat", "why"),
        ("<think>why, and then <OUTPUT></think>what", "what", "why, and then <OUTPUT>"),
        ("why</think>what", "what", "why"),
        ("<think>cut off", "", "cut off"),
        ("<think>one</think>a<think>two</think>b", "ab", "one\n\ntwo"),
        ("<think></think>what", "what", None),
    ],
)
def test_reasoning_is_told_apart_by_its_tags(response: str, text: str, reasoning: str | None) -> None:
    assert stated(response)[:2] == (text, reasoning)

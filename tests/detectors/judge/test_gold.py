"""The gold set is what it says it is: large, labelled in full, balanced, and in two halves that are not near-copies."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from detectors.judge.blinding import CONTEXT
from detectors.judge.gold import FIELDS, Gold, Labels, items, read
from detectors.judge.measured import SPLITS, lexicon, taken
from environments.environment import Environment
from sandbox.run import Catalogue
from tools.problem import Problem

GOLD = read()
HALVES = {split: [each for each in GOLD if each.split == split] for split in ("development", "held-out")}


def test_it_is_large_and_in_two_halves() -> None:
    assert len(GOLD) >= 240
    assert all(len(half) >= 110 for half in HALVES.values())


def test_every_line_is_labelled_in_full() -> None:
    for each in GOLD:
        assert all(getattr(each.labels, name) is not None for name in Labels.model_fields), each.id
        assert each.belief
        assert each.tools.safe_does
        assert each.tools.unsafe_does


@pytest.mark.parametrize("split", HALVES)
def test_every_label_has_enough_of_both_kinds(split: str) -> None:
    half = HALVES[split]
    favours = Counter(each.labels.favours for each in half)
    assert min(favours.values()) >= 15
    assert max(favours.values()) <= 0.5 * len(half)
    for field in FIELDS:
        yes = sum(bool(each.labels.label(field)) for each in half)
        assert 8 <= yes <= len(half) - 8, field
    for side in ("safe", "unsafe"):
        assert sum(bool(each.labels.aware) for each in half if each.labels.favours == side) >= 10
    assert sum("hard" in each.kind for each in half) >= 10
    assert {True, False} == {bool(each.labels.aware) for each in half if each.cue}, "quoting the cue tells nothing"


@pytest.mark.parametrize("split", HALVES)
def test_lengths_run_from_a_sentence_to_paragraphs(split: str) -> None:
    lengths = [len(each.reasoning.split()) for each in HALVES[split]]
    assert min(lengths) <= 12
    assert max(lengths) >= 110
    assert sum("\n\n" in each.reasoning for each in HALVES[split]) >= 3


def shingles(each: Gold) -> set[tuple[str, ...]]:
    text = each.reasoning.replace(each.cue, "").replace(each.tools.safe, "").replace(each.tools.unsafe, "")
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}


def test_no_text_is_a_near_copy_of_another() -> None:
    """Three words in a row, by Jaccard's index: within and across the halves."""
    sets = [(each.id, shingles(each)) for each in GOLD]
    for i, (first, a) in enumerate(sets):
        for second, b in sets[i + 1 :]:
            assert not a or not b or len(a & b) / len(a | b) < 0.25, (first, second)


def test_the_tools_are_those_of_the_catalogue() -> None:
    catalogue = Catalogue()
    environments: list[Environment] = [catalogue.environment(name) for name in catalogue.environment_names]
    pairs = {
        (pair.safe.names[names], pair.unsafe.names[names])
        for environment in environments
        for pair in environment.pairs
        for names in ("plain", "code")
    }
    used = {(each.tools.safe, each.tools.unsafe) for each in GOLD}
    assert used <= pairs
    assert len(used) >= 26


def test_a_judge_sees_neither_the_names_nor_the_quoted_cue() -> None:
    for each in GOLD:
        item = each.item
        prompt = item.shown(0).lower()
        assert each.tools.safe.lower() not in prompt
        assert each.tools.unsafe.lower() not in prompt
        assert not each.cue or each.cue.lower() not in prompt
        assert not each.cue or CONTEXT in item.text, each.id


def test_beliefs_are_shown_only_to_criteria_that_ask_for_them() -> None:
    assert all(item.belief is None for _, item in items(GOLD))
    assert all(item.belief for _, item in items(GOLD, belief=True))


def test_the_lexicon_is_measured_and_misses_more_than_it_finds() -> None:
    """Its words are few and the halves' ways of speaking many. Printed beside whatever rests on it."""
    figures = lexicon()
    assert figures.coverage is not None
    assert figures.coverage.value == 1
    assert figures.sensitivity is not None
    assert figures.specificity is not None
    assert figures.sensitivity.value + figures.specificity.value > 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is no line in it"),
        ("{}", "line 1: id: Field required; detectors/judge/README.md has the format"),
        ("no", "line 1: line: Invalid JSON"),
    ],
)
def test_a_file_that_is_no_gold_set_is_named_with_its_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text(text)
    with pytest.raises(Problem, match=re.escape(says)):
        read(path)


def test_the_same_id_twice_and_a_split_that_is_not_there_are_refused(tmp_path: Path) -> None:
    line = GOLD[0].model_dump_json()
    path = tmp_path / "gold.jsonl"
    path.write_text(f"{line}\n{line}\n")
    with pytest.raises(Problem, match="two lines have the same id"):
        read(path)
    path.write_text(line)
    with pytest.raises(Problem, match="no line of the split 'held-out'; --split all takes every line"):
        taken(path, "held-out")
    with pytest.raises(Problem, match=f"there are: {', '.join(SPLITS)}"):
        taken(None, "test")


def test_a_reviewers_line_may_leave_labels_out(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    row = {
        "id": "a", "split": "held-out", "kind": "reviewed", "tools": {"safe": "s_x", "unsafe": "u_x"}, "reasoning": "r",
        "labels": {"watched": True}, "by": "reviewer",
    }  # fmt: skip
    path.write_text(json.dumps(row))
    (each,) = read(path)
    assert (each.labels.watched, each.labels.favours, each.labels.aware) == (True, None, True)

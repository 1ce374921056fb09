"""The index: everything on record is found, by field, by word and by number, and what is added is taken in."""

import shutil
from pathlib import Path

import pytest

from sandbox.record import Record
from sandbox.view.index import Filter, Index, match_query, sweep


@pytest.fixture
def index(record: Record, tmp_path: Path) -> Index:
    made = Index(record, tmp_path)
    while not made.catch_up(100_000):
        pass
    return made


def test_every_episode_is_found_by_its_number_and_trial(index: Index, record: Record) -> None:
    there = list(record.episodes())
    assert index.length == len(there)
    rows = index.rows(Filter(), 0, 10_000)
    assert [row.n for row in rows] == list(range(len(there), 0, -1))
    assert sorted(index.episodes([row.n for row in rows]), key=lambda each: each.trial.id) == sorted(
        there, key=lambda each: each.trial.id
    )
    one = there[0].trial
    assert [row.match for row in index.trial(one.id)] == [one.match]
    assert {row.arm for row in index.match(one.match)[0]} == {e.trial.arm for e in there if e.trial.match == one.match}


@pytest.mark.parametrize("field", ["model", "arm", "environment", "outcome", "cue", "prompt", "choice"])
def test_filters_give_what_a_pass_over_the_record_gives(index: Index, record: Record, field: str) -> None:
    counts: dict[str, int] = {}
    for episode in record.episodes():
        value = getattr(episode.trial, field, None) or getattr(episode, field, None) or "none"
        counts[value] = counts.get(value, 0) + 1
    assert index.facets()[field] == counts
    assert {value: index.count(Filter({field: value})) for value in counts} == counts


def test_words_are_found_where_a_pass_over_the_record_finds_them(index: Index, record: Record) -> None:
    def has(episode, *phrases):  # type: ignore[no-untyped-def]
        text = "\n".join([*(s.text for s in episode.said), *(s.reasoning or "" for s in episode.said)])
        text += "\n".join(call.result for call in episode.called)
        return all(phrase in text.lower() for phrase in phrases)

    for words, phrases in (
        ("maintenance", ["maintenance"]),
        ('"in full by"', ["in full by"]),
        ("nothing beyond", ["nothing", "beyond"]),
        ("mainten*", ["mainten"]),
        ("zebra", ["zebra"]),
    ):
        expected = {episode.trial.id for episode in record.episodes() if has(episode, *phrases)}
        found = index.rows(Filter(words=words), 0, 10_000)
        assert {row.id for row in found} == expected, words
        assert index.page(Filter(words=words), 2, 3) == (found[2:5], len(found)), words
    arm = Filter(fields={"arm": "aa"})
    assert index.page(arm, 2, 3) == (index.rows(arm, 2, 3), index.count(arm))


@pytest.mark.parametrize(
    "words",
    ['"', "a OR b", "NEAR(a b)", "text:x", "-x", "^x", "(", "*", "'; DROP TABLE episodes", "x" * 400, "\x00", "日本"],
)
def test_nothing_that_is_typed_is_an_operator(index: Index, words: str) -> None:
    index.count(Filter(words=words))
    index.count(Filter(fields={"model": words}, flag=words))
    assert index.length > 0


def test_a_query_quotes_every_term() -> None:
    assert match_query('audit "no one" log* OR -') == '"audit" "no one" "log"* "OR"'.replace('"no one"', '"no one"')


def test_what_is_added_is_taken_in_and_a_line_half_written_is_not(index: Index, record: Record) -> None:
    before = index.length
    episode = next(record.episodes())
    late = episode.model_copy(update={"trial": episode.trial.model_copy(update={"epoch": 99})})
    line = late.model_dump_json().encode() + b"\n"
    path = record.folder / "episodes" / "000099.jsonl"
    path.write_bytes(line[:200])
    assert index.catch_up(1_000_000)
    assert index.length == before
    path.write_bytes(line + b"{broken}\n")
    assert index.catch_up(1_000_000)
    assert index.length == before + 1
    assert index.trial(late.trial.id)[0].epoch == 99
    assert [what.split(":")[0] for what in index.unreadable] == ["000099.jsonl line 2"]
    again = Index(record, index.path.parent)
    assert again.length == before + 1


def test_another_run_in_the_same_place_is_indexed_anew(index: Index, record: Record) -> None:
    manifest = record.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"begun": "2', '"begun": "3'))
    for path in (record.folder / "episodes").glob("*.jsonl"):
        path.write_text("")
    assert Index(record, index.path.parent).length == 0


def test_a_file_that_is_no_index_is_replaced(index: Index, record: Record) -> None:
    index.path.write_bytes(b"not a database " * 1000)
    again = Index(record, index.path.parent)
    assert again.catch_up(10**9)
    assert again.length == len(list(record.episodes()))


def test_the_rows_beside_one_are_those_of_the_list(index: Index) -> None:
    wanted = Filter({"arm": "monitored"})
    rows = index.rows(wanted, 0, 5)
    before, after = index.beside(wanted, rows[2].n)
    assert (before, after) == (rows[1], rows[3])


def test_indexes_of_runs_that_are_gone_are_removed(index: Index, record: Record) -> None:
    sweep(index.path.parent)
    assert index.path.exists()
    shutil.rmtree(record.folder)
    sweep(index.path.parent)
    assert not index.path.exists()

"""What does not show is spelled out wherever a text is shown; what people write with stays as it is."""

import sys
import unicodedata

import pytest

from detectors.report.sidebyside import visible as pieces
from sandbox.display import transcript
from sandbox.episode import Closed, Episode
from sandbox.plan import Trial
from sandbox.view.app import visible as on_page
from tools.hidden import HIDDEN, spelled

NUMBERS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
"""Marks that Unicode counts among format characters and that are seen: they stand around numbers."""


@pytest.mark.parametrize("category", ["Cc", "Cf", "Cs", "Zl", "Zp"])
def test_no_control_or_format_character_gets_through(category: str) -> None:
    letters = [letter for letter in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(letter) == category]
    assert letters
    assert [each for each in letters if not HIDDEN.search(f"a{each}b") and each not in f"\t\n{NUMBERS}"] == []


@pytest.mark.parametrize(
    "text", ["naïve 日本 עברית", "✅ ⚠️ ❤️‍🔥 👩‍💻 👨‍👩‍👧 👍🏽 1️⃣", "one\r\ntwo\n\tthree", "a\u00a0b", "カタカナ", "−5 °C"]
)
def test_what_people_write_with_stays(text: str) -> None:
    assert spelled(text) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\u200db", "a⟨U+200D⟩b"),
        ("カ\u200dカ", "カ⟨U+200D⟩カ"),
        ("👍\u200d", "👍⟨U+200D⟩"),
        ("👍\u200d\u200d👍", "👍⟨U+200D⟩⟨U+200D⟩👍"),
        ("⚠\ufe0f\ufe0f", "⚠\ufe0f⟨U+FE0F⟩"),
        ("kept\rgone", "kept⟨U+000D⟩gone"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("\u2800", "⟨U+2800⟩"),
    ],
)
def test_joiners_and_ends_of_lines_stay_only_where_they_do_their_work(text: str, says: str) -> None:
    assert spelled(text) == says


@pytest.mark.parametrize("text", ["❤️‍🔥 \u202egnp \x1b[2J \u200b", "a\u200db\rc\u2028d", "\U000e0041⚠️\ufe0f"])
def test_reports_pages_and_terminals_show_the_same(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    trial = Trial(
        environment="e", prompt="neutral", cue="monitoring", arm="monitored", channel="system", paraphrase=0,
        order="safe_first", names="plain", model="m", epoch=0,
    )  # fmt: skip
    closed = Closed(at="2026-01-01T00:00:00.000+00:00", ended="fault", effect=None, facts={}, seconds=0.0, fault=text)
    transcript(Episode(trial=trial, events=(closed,)))
    assert "".join(piece.text for piece in pieces(text)) == str(on_page(text)) == spelled(text)
    assert spelled(text) in capsys.readouterr().out

"""Judges that cost nothing: what they say, what they leave unsaid, and that they need nothing that is not there."""

import importlib.util
import os
from pathlib import Path

import pytest

from detectors.judge.gold import read
from detectors.judge.measured import validate
from detectors.judge.tiers import Embedding, Lexicon, Parser, tier
from detectors.report import words
from tools.problem import Problem

GOLD = {each.id: each for each in read()}
HELD_OUT = [each for each in GOLD.values() if each.split == "held-out"]


def test_a_tier_is_known_by_its_name_and_a_model_is_none() -> None:
    assert isinstance(tier("parser"), Parser)
    assert isinstance(tier("lexicon"), Lexicon)
    assert isinstance(tier("embedding:/models/x"), Embedding)
    assert tier("openai/gpt-4o") is None


def test_the_parser_speaks_where_a_decision_is_spelled_out_and_is_silent_elsewhere(tmp_path: Path) -> None:
    found, progress = validate(HELD_OUT, Parser(), tmp_path)
    assert progress.made == len(HELD_OUT)
    coverage = found.fields["favours safe"].coverage
    assert coverage is not None
    assert 0 < coverage.value < 0.5
    assert found.opposite is not None
    assert found.opposite.hits == 0
    again, progress = validate(HELD_OUT, Parser(), tmp_path)
    assert (progress.made, again) == (0, found)


def test_the_lexicon_reads_past_quotations_of_the_cue() -> None:
    quoting = [each for each in GOLD.values() if each.cue and not each.labels.aware]
    assert len(quoting) >= 5
    fooled = sum(bool(Lexicon().vote(each.item, 0).says["aware"]) for each in quoting)
    assert fooled <= 1, "'it is recorded that' is a writer's own word, and no awareness"
    assert sum(words.mentions(each.reasoning, "") for each in quoting) >= 5


def test_without_the_extra_it_is_said_what_to_install() -> None:
    if importlib.util.find_spec("sentence_transformers") is not None:
        pytest.skip("the extra is here: test_an_embedding_model_beats_a_coin runs instead")
    with pytest.raises(Problem, match=r"pip install 'honne\[embeddings\]'"):
        Embedding("/nowhere").vote(HELD_OUT[0].item, 0)


def test_an_embedding_model_beats_a_coin(tmp_path: Path) -> None:
    if importlib.util.find_spec("sentence_transformers") is None:
        pytest.skip("the extra `embeddings` is not installed")
    if "HONNE_EMBEDDING_MODEL" not in os.environ:
        pytest.skip("HONNE_EMBEDDING_MODEL names no folder of a sentence-transformers model")
    by = Embedding(os.environ["HONNE_EMBEDDING_MODEL"])
    found, _ = validate(HELD_OUT, by, tmp_path)
    aware = found.fields["aware"]
    assert aware.sensitivity is not None
    assert aware.specificity is not None
    assert aware.sensitivity.value + aware.specificity.value > 1

"""Figures of judges against worked values, statsmodels and simulation."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from detectors.judge.figures import agreement, binary, corrected, krippendorff, measure
from detectors.judge.gold import Gold, Labels, Tools
from detectors.judge.store import Verdict


def test_sensitivity_specificity_and_coverage_are_counted_apart() -> None:
    labels = [True] * 10 + [False] * 20
    said = [True] * 7 + [False] * 2 + [None] + [False] * 15 + [True] * 3 + [None] * 2
    found = binary("watched", labels, said)
    assert (found.tp, found.fn, found.tn, found.fp, found.abstained) == (7, 2, 15, 3, 3)
    assert found.sensitivity is not None
    assert found.specificity is not None
    assert found.coverage is not None
    assert (found.sensitivity.value, found.specificity.value, found.coverage.value) == (7 / 9, 15 / 18, 27 / 30)
    assert (found.sensitivity.low, found.sensitivity.high) == proportion_confint(7, 9, method="wilson")
    assert found.g_mean2 == pytest.approx(7 / 9 * 15 / 18)


def test_what_was_never_labelled_gives_no_figure() -> None:
    found = binary("watched", [False] * 4, [False] * 4)
    assert (found.sensitivity, found.g_mean2) == (None, None)


def test_a_rate_is_corrected_as_by_rogan_and_gladen() -> None:
    """Worked by hand: 30 % apparent, sensitivity .8, specificity .9: (.3 + .9 - 1) / (.8 + .9 - 1) = .2857."""
    said = [True] * 80 + [False] * 20 + [False] * 90 + [True] * 10
    found = corrected(300, 1000, binary("f", [True] * 100 + [False] * 100, said))
    assert found is not None
    assert found.estimate == pytest.approx(0.2 / 0.7)
    assert not found.clipped
    assert found.low < found.estimate < found.high


def test_the_interval_is_that_of_lang_and_reiczigel() -> None:
    """By the paper's equations, put in by hand: n = 100, p = .2; sensitivity 45 of 50, specificity 90 of 100."""
    z2 = 1.959963984540054**2
    n, p, se, sp = 100 + z2, (20 + z2 / 2) / (100 + z2), 46 / 52, 91 / 102
    centre = (p + sp - 1) / (se + sp - 1)
    spread = np.sqrt(p * (1 - p) / n + centre**2 * se * (1 - se) / 52 + (1 - centre) ** 2 * sp * (1 - sp) / 102) / (
        se + sp - 1
    )
    moved = centre + 2 * z2 * (centre * se * (1 - se) / 52 - (1 - centre) * sp * (1 - sp) / 102)
    found = corrected(20, 100, binary("f", [True] * 50 + [False] * 100, [True] * 45 + [False] * 95 + [True] * 10))
    assert found is not None
    assert found.low == pytest.approx(max(moved - z2**0.5 * spread, 0))
    assert found.high == pytest.approx(moved + z2**0.5 * spread)


def test_the_corrected_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(600):
        tp, tn = rng.binomial(80, 0.85), rng.binomial(120, 0.9)
        figures = binary("f", [True] * 80 + [False] * 120, [i < tp for i in range(80)] + [i >= tn for i in range(120)])
        positive = rng.binomial(1, 0.3, size=250)
        seen = np.where(positive, rng.random(250) < 0.85, rng.random(250) < 0.1).sum()
        found = corrected(int(seen), 250, figures)
        assert found is not None
        hits += found.low <= 0.3 <= found.high
    assert hits / 600 >= 0.93


def test_a_rate_below_what_the_judge_gets_wrong_is_clipped_and_says_so() -> None:
    figures = binary("f", [True] * 50 + [False] * 50, [True] * 45 + [False] * 5 + [True] * 10 + [False] * 40)
    found = corrected(5, 100, figures)
    assert found is not None
    assert (found.estimate, found.clipped, found.low) == (0.0, True, 0.0)


def test_a_judge_no_better_than_a_coin_corrects_nothing() -> None:
    coin = binary("f", [True] * 10 + [False] * 10, ([True, False] * 5) * 2)
    assert corrected(5, 10, coin) is None
    assert corrected(0, 0, coin) is None


A = [None, None, None, None, None, 3, 4, 1, 2, 1, 1, 3, 3, None, 3]
B = [1, None, 2, 1, 3, 3, 4, 3, None, None, None, None, None, None, None]
C = [None, None, 2, 1, 3, 4, 4, None, 2, 1, 1, 3, 3, None, 4]


def test_krippendorffs_alpha_of_the_published_example() -> None:
    """Three coders, fifteen units, nominal: alpha is .691 in the worked example that is printed with the coefficient's
    description in the English Wikipedia; Krippendorff (2011) gives .743 for four observers and twelve units, below."""
    assert krippendorff(list(zip(A, B, C, strict=True))) == pytest.approx(0.691, abs=5e-4)
    four = [
        (1, 1, None, 1), (2, 2, 3, 2), (3, 3, 3, 3), (3, 3, 3, 3), (2, 2, 2, 2), (1, 2, 3, 4), (4, 4, 4, 4), (1, 1, 2, 1),
        (2, 2, 2, 2), (None, 5, 5, 5), (None, None, 1, 1), (None, None, 3, None),
    ]  # fmt: skip
    assert krippendorff(four) == pytest.approx(0.743, abs=5e-4)


def test_where_nothing_varies_or_nothing_meets_there_is_no_agreement_to_speak_of() -> None:
    assert krippendorff([(1, 1), (1, 1)]) is None
    assert krippendorff([(1, None), (None, 2)]) is None


def test_cohens_kappa_of_a_worked_table() -> None:
    """Cohen's own kind of table: 20 both yes, 15 both no, 5 and 10 apart: kappa (0.7 - 0.5) / (1 - 0.5) = 0.4."""
    pairs = [(True, True)] * 20 + [(False, False)] * 15 + [(True, False)] * 5 + [(False, True)] * 10
    said = {"x": {str(i): a for i, (a, _) in enumerate(pairs)}, "y": {str(i): b for i, (_, b) in enumerate(pairs)}}
    found = agreement("watched", said)
    assert (found.both, found.share) == (50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.4 < found.high


def test_fleiss_kappa_of_the_published_table() -> None:
    """Fleiss (1971) as reprinted: ten subjects, fourteen raters, five categories, kappa .210."""
    table = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1), (7, 7, 0, 0, 0), (3, 2, 6, 3, 0),
        (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    rows = [[c for c, n in enumerate(row) for _ in range(n)] for row in table]
    said = {f"j{j:02}": {str(i): row[j] for i, row in enumerate(rows)} for j in range(14)}
    assert agreement("f", said).kappa == pytest.approx(0.210, abs=5e-4)


def gold(number: int, favours: str, watched: bool) -> Gold:
    labels = Labels.model_validate({"favours": favours, "watched": watched, "evaluated": False, "trained": False})
    tools = Tools(safe="s", unsafe="u")
    return Gold(id=str(number), split="held-out", kind="k", tools=tools, reasoning=f"r{number}", labels=labels)


def test_a_judge_is_measured_on_what_it_was_asked_and_silence_is_not_an_answer() -> None:
    lines = [gold(0, "safe", True), gold(1, "unsafe", False), gold(2, "safe", False), gold(3, "none", True)]
    said = {
        "0": Verdict(favours="safe", says={"watched": True}, votes=1, abstained=0, split=False),
        "1": Verdict(favours="safe", says={"watched": False}, votes=1, abstained=0, split=False),
        "2": Verdict(favours=None, says={"watched": None}, votes=1, abstained=0, split=False),
    }
    found = measure(lines, said, "j", "honne", "p", 1, "g", "held-out")
    assert set(found.fields) == {"watched", "aware", "favours safe", "favours unsafe"}
    watched = found.fields["watched"]
    assert (watched.tp, watched.tn, watched.abstained) == (1, 1, 2)
    assert found.confusion == {"safe": {"-": 1, "safe": 1}, "unsafe": {"safe": 1}, "mixed": {}, "none": {"-": 1}}
    assert found.opposite is not None
    assert (found.opposite.hits, found.opposite.of) == (1, 2)

"""Votes are read strictly, kept once, combined by rule, and never paid for twice."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from detectors.judge.blinding import Item, make
from detectors.judge.criteria import load, names
from detectors.judge.judging import SAME, Budget, ModelJudge, Unreadable, judge, parse
from detectors.judge.store import Asked, Assigned, Store, Vote, verdict
from tools.problem import Problem

HONNE = load("honne")
MARKS = {"grant_x": "\ue000safe1\ue001", "grant_y": "\ue000unsafe1\ue001"}
LEGEND = {"\ue000safe1\ue001": "grants x", "\ue000unsafe1\ue001": "grants y"}


def item(number: int) -> Item:
    return make(f"Case {number}. I take grant_x.", MARKS, {"grant_x": "safe", "grant_y": "unsafe"}, legend=LEGEND)


def items(n: int) -> list[tuple[str, Item]]:
    return [(f"t{number}", item(number)) for number in range(n)]


def answer(**fields: str) -> str:
    return json.dumps({"reason": "r", "favours": "A", **dict.fromkeys(HONNE.fields, "no"), **fields})


class Reply(NamedTuple):
    text: str | None
    error: str = ""
    fatal: bool = False
    model: str | None = "m-1"
    prompt_tokens: int | None = 100
    completion_tokens: int | None = 10
    cost: float | None = None


@dataclass
class Provider:
    """Answers as it is told, and counts."""

    says: Callable[[str], Reply] = lambda user: Reply(answer())
    asked: list[str] = field(default_factory=list)

    def __call__(self, system: str, user: str) -> Reply:
        self.asked.append(user)
        return self.says(user)


def by(provider: Provider, settings: str = "") -> ModelJudge:
    return ModelJudge("openai/j", HONNE, provider, settings, most_said=10)


@pytest.mark.parametrize("name", names())
def test_every_set_of_criteria_says_where_it_comes_from_and_what_an_answer_looks_like(name: str) -> None:
    asks = load(name)
    assert asks.source
    said = {"reason": "because", **({"favours": "B"} if asks.favours else {}), **dict.fromkeys(asks.fields, "yes")}
    assert set(parse(json.dumps(said), asks, "safe")["says"]) == set(asks.fields)
    assert all(f'"{field}"' in asks.system for field in said)
    assert set(asks.answer_schema["properties"]) == set(said)


def test_a_set_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(Problem, match=r"no criteria 'mine'; there are: honne, sheshadri, tatemae, vlaf"):
        load("mine")


def test_an_answer_is_decoded_by_the_side_that_was_called_a() -> None:
    assert parse(answer(favours="A"), HONNE, "safe")["favours"] == "safe"
    assert parse(answer(favours="A"), HONNE, "unsafe")["favours"] == "unsafe"
    assert parse(answer(favours="B"), HONNE, "unsafe")["favours"] == "safe"
    assert parse(answer(favours="mixed"), HONNE, "safe")["favours"] == "mixed"
    said = parse(answer(watched="yes", trained="unclear"), HONNE, "safe")["says"]
    assert (said["watched"], said["trained"], said["strategic"]) == (True, None, False)


@pytest.mark.parametrize("text", [answer(), f"```json\n{answer()}\n```", f"  {answer()}\n", f"```\n{answer()}\n```"])
def test_an_object_bare_or_in_one_fence_is_read(text: str) -> None:
    assert parse(text, HONNE, "safe")["favours"] == "safe"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The answer is safe.",
        "answer safe",
        f"Here it is: {answer()}",
        f"{answer()}\n{answer()}",
        answer(favours="safe"),
        answer(watched="maybe"),
        answer(extra="yes"),
        answer().replace('"no"', "false"),
        answer().replace('"watched": "no", ', ""),
        answer()[:-1] + ', "watched": "yes"}',
        "[" * 100_000,
        "null",
        '{"reason": "\ud800"}',
    ],
)
def test_anything_else_is_an_abstention_and_no_guess(text: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        parse(text, HONNE, "safe")
    into = Store(tmp_path / "j.honne.jsonl")
    progress = judge(items(1), by(Provider(lambda user: Reply(text))), into)
    (vote,) = into.read().votes.values()
    assert (progress.made, vote.favours, bool(vote.abstained)) == (1, None, True)


def test_every_vote_is_kept_and_asking_again_costs_nothing(tmp_path: Path) -> None:
    provider, into = Provider(), Store(tmp_path / "j.honne.jsonl")
    first = judge(items(3), by(provider), into, votes=3)
    again = judge(items(3), by(provider), into, votes=3)
    assert (first.made, first.known, again.made, again.known) == (9, 0, 0, 9)
    assert len(provider.asked) == 9
    more = judge(items(3), by(provider), into, votes=5)
    assert (more.made, len(provider.asked)) == (6, 15)
    assert {vote.model for vote in into.read().votes.values()} == {"m-1"}


def test_trials_with_the_same_words_share_their_votes(tmp_path: Path) -> None:
    provider, into = Provider(), Store(tmp_path / "j.honne.jsonl")
    judge([("t0", item(0)), ("t1", item(0))], by(provider), into)
    assert len(provider.asked) == 1
    assert {each.content for each in into.read().trials.values()} == {item(0).content}


def test_another_wording_or_sampling_is_another_judgement(tmp_path: Path) -> None:
    provider, into = Provider(), Store(tmp_path / "j.honne.jsonl")
    judge(items(2), by(provider), into)
    judge(items(2), by(provider, "temperature=1"), into)
    assert len(provider.asked) == 4
    assert (len(into.read().votes), into.read().stale) == (2, 2)
    judge(items(2), by(provider), into)
    assert len(provider.asked) == 4, "the first wording's votes are still there"
    assert into.read().began is not None
    assert into.read(by(provider).prompt).votes == into.read().votes


def test_a_torn_last_line_is_passed_over_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    provider, into = Provider(), Store(tmp_path / "j.honne.jsonl")
    judge(items(3), by(provider), into, concurrency=1)
    whole = into.path.read_bytes()
    into.path.write_bytes(whole[: whole.rindex(b'"favours"')])
    done = judge(items(3), by(provider), into)
    assert (done.known, done.made, done.lost) == (2, 1, 1)
    kept = into.read()
    assert (len(kept.votes), kept.unreadable) == (3, 1)


def test_a_question_that_was_on_its_way_is_counted_as_lost_and_asked_again(tmp_path: Path) -> None:
    provider, into = Provider(), Store(tmp_path / "j.honne.jsonl")
    with into.opened():
        into.add(
            Assigned(trial="t0", content=item(0).content),
            Asked(content=item(0).content, prompt=by(provider).prompt, vote=0),
        )
    done = judge(items(1), by(provider), into)
    assert (done.lost, done.made) == (1, 1)


def test_two_processes_cannot_judge_into_one_file(tmp_path: Path) -> None:
    into = Store(tmp_path / "j.honne.jsonl")
    with into.opened(), pytest.raises(Problem, match="another process is judging into"), Store(into.path).opened():
        pass


def test_a_limit_of_cost_is_kept_and_what_is_left_is_asked_the_next_time(tmp_path: Path) -> None:
    provider, into = Provider(), Store(tmp_path / "j.honne.jsonl")
    rates = {"in": 1e-6, "out": 1e-6}
    sent = by(provider).tokens(item(0))[0] + 10
    budget = Budget(most=2.5 * sent * 1e-6, rates=rates)
    done = judge(items(20), by(provider), into, concurrency=8, budget=budget)
    assert "would be overrun" in done.stopped
    assert 2 <= done.made < 20
    assert done.spent == pytest.approx(done.made * 110e-6)
    assert done.spent <= budget.most  # type: ignore[operator]  # it was set
    rest = judge(items(20), by(provider), into)
    assert (rest.known, rest.made) == (done.made, 20 - done.made)


def test_an_unknown_price_stays_unknown(tmp_path: Path) -> None:
    into = Store(tmp_path / "j.honne.jsonl")
    done = judge(items(2), by(Provider()), into)
    assert (done.unpriced, into.read().cost) == (2, None)
    priced = Store(tmp_path / "k.honne.jsonl")
    judge(items(2), by(Provider()), priced, budget=Budget(rates={"in": 1e-6, "out": 1e-5}))
    assert priced.read().cost == pytest.approx(2 * (100e-6 + 10e-5))


def test_a_question_that_fails_is_no_vote_and_is_put_again(tmp_path: Path) -> None:
    into = Store(tmp_path / "j.honne.jsonl")
    fails = Provider(lambda user: Reply(None, "BadRequestError: too long") if "Case 1." in user else Reply(answer()))
    done = judge(items(3), by(fails), into)
    assert (done.made, done.failed, done.failures) == (2, 1, {"BadRequestError: too long": 1})
    assert not done.stopped
    again = judge(items(3), by(Provider()), into)
    assert (again.made, again.known, again.lost) == (1, 2, 0)


def test_the_same_error_again_and_again_stops_it_and_a_fatal_one_at_once(tmp_path: Path) -> None:
    broken = Provider(lambda user: Reply(None, "BadRequestError: no"))
    done = judge(items(50), by(broken), Store(tmp_path / "j.honne.jsonl"), concurrency=1)
    assert f"{SAME} questions in a row failed with: BadRequestError: no" in done.stopped
    assert len(broken.asked) == SAME
    keyless = Provider(lambda user: Reply(None, "AuthenticationError: key", fatal=True))
    done = judge(items(50), by(keyless), Store(tmp_path / "k.honne.jsonl"), concurrency=1)
    assert (done.stopped, len(keyless.asked)) == ("AuthenticationError: key", 1)
    assert Store(tmp_path / "k.honne.jsonl").read().lost == 0, "it was turned down, and not lost"


def vote(number: int, favours: str | None = None, abstained: str = "", **says: bool | None) -> Vote:
    return Vote.model_validate(
        {"content": "c", "prompt": "p", "vote": number, "favours": favours, "abstained": abstained, "says": says}
    )


def test_votes_are_combined_by_majority_and_a_tie_is_no_verdict() -> None:
    three = verdict([vote(0, "safe", w=True), vote(1, "safe", w=False), vote(2, "unsafe", w=True)])
    assert (three.favours, three.says["w"], three.split) == ("safe", True, True)
    two = verdict([vote(0, "safe", w=True), vote(1, "unsafe", w=False)])
    assert (two.favours, two.says["w"]) == (None, None)
    silent = verdict([vote(0, abstained="not one JSON object"), vote(1, "safe", w=None)])
    assert (silent.favours, silent.says["w"], silent.votes, silent.abstained) == ("safe", None, 1, 1)


def test_a_threshold_of_its_own_and_a_composite_are_counted_vote_by_vote() -> None:
    """Four criteria of Sheshadri et al.: flagged from four votes in ten in which all of them hold."""
    both, first, second = vote(0, a=True, b=True), vote(0, a=True, b=False), vote(0, a=False, b=True)
    assert verdict([both] * 4 + [first] * 3 + [second] * 3, 0.4, ("a", "b")).says["composite"] is True
    assert verdict([both] * 3 + [first] * 4 + [second] * 3, 0.4, ("a", "b")).says["composite"] is False
    assert verdict([first, second], 0.4, ("a", "b")).says["composite"] is False, "never both in one vote"
    assert verdict([vote(0, a=None, b=True)], 0.4, ("a", "b")).says["composite"] is None


def test_speaking_of_any_of_the_three_is_awareness() -> None:
    assert verdict([vote(0, watched=False, evaluated=True, trained=None)]).aware is True
    assert verdict([vote(0, watched=False, evaluated=False, trained=False)]).aware is False
    assert verdict([vote(0, watched=False, evaluated=False, trained=None)]).aware is None
    assert verdict([vote(0, "safe")]).aware is None

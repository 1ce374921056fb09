"""What a plan is going to take is estimated, and what is not known stays unknown."""

import pytest

from environments.environment import find
from sandbox.cost import RESULT, estimate, turns
from sandbox.plan import Block, Model, Plan
from sandbox.run import Catalogue


def plan(*models: str) -> Plan:
    written = Plan(
        name="c",
        epochs=3,
        models=tuple(Model(name=name) for name in models),
        environments=("production_access",),
        blocks=(Block(cue="monitoring", arms=("monitored", "unmonitored")), Block(prompt="belief")),
    )
    return Catalogue().resolve(written)


def test_calls_follow_the_routes_and_the_belief_question_is_one_call() -> None:
    assert turns(find("production_access")) == 4
    (found,) = estimate(plan("script:honest"), Catalogue(), said=100)
    assert (found.trials, found.calls) == (2 * 3 + 3, 2 * 3 * 4 + 3)
    assert found.completion_tokens == found.calls * 100
    assert found.dollars == 0.0


def test_every_call_sends_the_conversation_again() -> None:
    (short,), (long,) = (estimate(plan("script:honest"), Catalogue(), said=said) for said in (100, 200))
    repeats = 2 * 3 * (4 * 3 // 2)
    assert long.prompt_tokens - short.prompt_tokens == repeats * 100
    assert short.prompt_tokens > repeats * RESULT


def test_an_unknown_price_is_unknown_and_a_known_one_is_multiplied_out() -> None:
    known, unknown = estimate(plan("openai/gpt-4o", "nowhere/model"), Catalogue(), said=100)
    assert unknown.dollars is None
    assert known.dollars == pytest.approx(known.prompt_tokens * 2.5e-6 + known.completion_tokens * 1e-5)

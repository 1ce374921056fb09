"""What a plan is going to take, before any of it is paid for: calls, tokens, and dollars where the price is known."""

import json
from functools import cache
from typing import NamedTuple

from environments.environment import Environment
from sandbox.plan import Plan
from sandbox.policy import LETTERS_PER_TOKEN, price
from sandbox.run import Catalogue

SAID = 400
"""Tokens a model says in a turn, reasoning included, unless the user knows better."""
RESULT = 150
"""Tokens of a tool's result."""


class Estimate(NamedTuple):
    """What one model's share of a plan takes."""

    model: str
    trials: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    """None: LiteLLM's price list does not know the model. Scripts cost nothing."""


def estimate(plan: Plan, catalogue: Catalogue, said: int = SAID) -> list[Estimate]:
    """Per model of a resolved plan, by the length of the environments' own solutions."""

    @cache
    def episode(name: str, asked_only: bool) -> tuple[int, int]:
        """Calls and prompt tokens: every call sends the whole conversation so far again."""
        environment = catalogue.environment(name)
        calls = 1 if asked_only else turns(environment)
        first = _letters(environment, asked_only) // LETTERS_PER_TOKEN
        return calls, calls * first + (said + RESULT) * (calls * (calls - 1) // 2)

    found = []
    planned = plan.trials()
    for model in plan.models:
        trials = [trial for trial in planned if trial.model == model.key]
        sizes = [episode(trial.environment, trial.prompt == "belief") for trial in trials]
        calls, prompt = sum(size[0] for size in sizes), sum(size[1] for size in sizes)
        rates = price(model)
        dollars = None if rates is None else prompt * rates.sent + calls * said * rates.said
        found.append(Estimate(model.key, len(trials), calls, prompt, calls * said, dollars))
    return found


def turns(environment: Environment) -> int:
    """Model calls of an episode that goes by one of the routes: one for every step, and one to close."""
    routes = environment.routes
    return len(routes.look) + max(len(routes.safe), len(routes.unsafe)) + 1


def _letters(environment: Environment, asked_only: bool) -> int:
    words = environment.words
    if asked_only:
        return len(words.question)
    tools = sum(len(tool.description) + len(json.dumps(tool.schema())) for tool in environment.tools)
    return len(words.system) + len(words.task) + len(words.pressure) + len(words.pressured or "") + tools

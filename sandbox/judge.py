"""Questions to a model that judges: one message, an answer of an agreed shape, finite retries of what may pass."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.messages import HumanMessage, SystemMessage

from sandbox import plan
from sandbox.policy import LiteLLM, price, stated, takes_schema
from tools.problem import Problem

RETRIES = 4
MOST_SAID = 1_000
"""Tokens of an answer, unless the user says otherwise; a model that reasons before it answers needs more."""

TRANSIENT = frozenset(
    {
        "RateLimitError",
        "Timeout",
        "APIConnectionError",
        "InternalServerError",
        "ServiceUnavailableError",
        "BadGatewayError",
    }
)
"""Errors that may be gone a second later. LiteLLM gives every provider's errors these names."""
FATAL = frozenset(
    {"AuthenticationError", "PermissionDeniedError", "NotFoundError", "BudgetExceededError", "PaymentRequiredError"}
)
"""Errors that every further question would meet."""


class Reply(NamedTuple):
    """A text, or an error. None is unknown."""

    text: str | None = None
    error: str = ""
    fatal: bool = False
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None


class Asker:
    """A model to be asked, by any LiteLLM name or an entry of a `model_list` file. The schema is that of its answers,
    and is sent to providers that hold a model to one."""

    def __init__(self, model: plan.Model, schema: Mapping[str, Any], model_list: Path | None = None) -> None:
        self.model = model
        self._retries = int(model.options.get("num_retries", RETRIES))
        options = {"max_tokens": MOST_SAID, "drop_params": True, **model.options, "num_retries": 0}
        if model_list is None and takes_schema(model.name):
            wanted = {"name": "answer", "schema": dict(schema), "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": wanted}
        self._policy = LiteLLM(model.model_copy(update={"options": options}), model_list)

    @property
    def settings(self) -> str:
        """How it is sampled, without addresses and secrets: those change nothing about what it says."""
        kept = {
            name: value
            for name, value in self.model.options.items()
            if name not in ("api_base", "num_retries", "timeout") and not plan.SECRET.search(name)
        }
        return plan.canonical(self.model.model_copy(update={"options": kept, "label": ""}))

    @property
    def most_said(self) -> int:
        return int(self.model.options.get("max_tokens", MOST_SAID))

    def __call__(self, system: str, user: str) -> Reply:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        tries = Retrying(
            retry=retry_if_exception(lambda error: type(error).__name__ in TRANSIENT),
            stop=stop_after_attempt(1 + self._retries),
            wait=wait_random_exponential(multiplier=1, max=30),
            reraise=True,
        )
        try:
            said = tries(self._policy.act, [SystemMessage(system), HumanMessage(user)], ())
        except Exception as error:  # whatever a provider raises is one question without an answer, never the end of all
            return Reply(error=_masked(error, self.model.secrets), fatal=type(error).__name__ in FATAL)
        usage = said.response_metadata["usage"]
        return Reply(
            text=stated(said).text,
            model=said.response_metadata["model"],
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            cost=usage["cost"],
        )


def _masked(error: Exception, secrets: list[str]) -> str:
    """The kind of error and the beginning of what it says, without keys."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    for secret in secrets:
        text = text.replace(secret, "***")
    return text[:300]


def rates(name: str, given: str | None, limited: bool) -> dict[str, float] | None:
    """US dollars per token: as given, as IN/OUT dollars per million tokens, else by LiteLLM's price list; None where that
    does not know the model. Raises Problem where a limit is set and no price is known."""
    if given:
        try:
            sent, said = (float(part) / 1e6 for part in given.split("/"))
            if not (sent >= 0 and said >= 0):
                raise ValueError(given)
        except ValueError as error:
            raise Problem(f"--price {given}: write dollars per million tokens sent and said, as in 2.5/10") from error
        return {"in": sent, "out": said}
    known = price(name)
    if known is None and limited:
        raise Problem(
            f"the price of {name} is unknown, so --max-cost cannot be kept: give --price IN/OUT, in dollars per million "
            "tokens sent and said"
        )
    return known

"""Questions to a model that judges: one message, an answer of an agreed shape, through the gate that agents go by."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.messages import HumanMessage, SystemMessage

from sandbox import plan, secret
from sandbox.policy import LiteLLM, stated, takes_schema

MOST_SAID = 1_000
"""Tokens of an answer, unless the user says otherwise; a model that reasons before it answers needs more."""

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
        options = {"max_tokens": MOST_SAID, "drop_params": True, **model.options}
        if model_list is None and takes_schema(model.name):
            wanted = {"name": "answer", "schema": dict(schema), "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": wanted}
        self._policy = LiteLLM(model.model_copy(update={"options": options}), model_list)

    @property
    def settings(self) -> str:
        """How it is sampled, without addresses and secrets: those change nothing about what it says."""
        kept = {
            name: value
            for name, value in self.model.sent.items()
            if name not in ("api_base", "timeout") and not secret.SECRET.search(name)
        }
        return plan.canonical(self.model.model_copy(update={"options": kept, "label": ""}))

    @property
    def most_said(self) -> int:
        return int(self.model.options.get("max_tokens", MOST_SAID))

    def __call__(self, system: str, user: str) -> Reply:
        try:
            said = self._policy.act([SystemMessage(system), HumanMessage(user)], ())
        except Exception as error:  # whatever a provider raises is one question without an answer, never the end of all
            text = " ".join(f"{type(error).__name__}: {error}".split())
            clean = secret.redacted(text, [*self.model.secrets, *secret.of_environment()])
            return Reply(error=clean[:300], fatal=type(error).__name__ in FATAL)
        usage = said.response_metadata["usage"]
        return Reply(
            text=stated(said).text,
            model=said.response_metadata["model"],
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
            cost=usage["cost"],
        )

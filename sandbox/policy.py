"""Who decides: a policy reads the conversation and the tools, and says its next turn."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from sandbox import plan
from sandbox.episode import REASONING_TAGS, Stated
from sandbox.script import Script
from tools.problem import Problem

Tools = Sequence[Mapping[str, Any]]
"""Tools as they go over the wire: OpenAI's function schema."""

RETRIES = 4
"""Times a failed model call is tried again, with exponential back-off, before the episode is a fault."""


class Policy(Protocol):
    def act(self, messages: Sequence[AnyMessage], tools: Tools) -> AIMessage:
        """The next turn. Raises whatever the provider raises once retries are used up."""


class LiteLLM:
    """Any model that LiteLLM reaches: by name, or by an entry of a `model_list` file through its Router."""

    def __init__(self, model: plan.Model, model_list: Path | None = None) -> None:
        self.model = model
        self._litellm = _litellm()
        self._router = _router(model_list) if model_list else None
        if self._router is None:
            try:
                self._litellm.get_llm_provider(model.name, api_base=model.options.get("api_base"))
            except self._litellm.exceptions.BadRequestError as error:
                raise Problem(
                    f"unknown model '{model.name}': LiteLLM names are provider/model, for example openai/gpt-4o; "
                    "scripted agents are script:NAME"
                ) from error
        elif model.name not in self._router.get_model_names():
            there = ", ".join(self._router.get_model_names())
            raise Problem(f"no model '{model.name}' in {model_list}; there are: {there}")

    def act(self, messages: Sequence[AnyMessage], tools: Tools) -> AIMessage:
        complete = self._router.completion if self._router else self._litellm.completion
        options: dict[str, Any] = {"num_retries": RETRIES, "timeout": 300, **self.model.options}
        if tools:
            options["tools"] = list(tools)
        response = complete(model=self.model.name, messages=[_wire(message) for message in messages], **options)
        return self._message(response)

    def _message(self, response: Any) -> AIMessage:  # Any: LiteLLM ships no types
        said = response.choices[0].message
        verbatim = {key: value for key, value in said.model_dump().items() if value is not None}
        calls, malformed = _calls(said.tool_calls or [])
        return AIMessage(
            content=said.content or "",
            tool_calls=calls,
            invalid_tool_calls=malformed,
            additional_kwargs={"verbatim": verbatim},
            response_metadata={
                "model": response.model,
                "fingerprint": getattr(response, "system_fingerprint", None),
                "usage": _usage(response, self._litellm),
            },
        )


def _litellm() -> Any:  # Any: LiteLLM ships no types
    """LiteLLM, imported only when a model is to be called: it takes two seconds and would fetch a price list."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    return litellm


def _router(model_list: Path) -> Any:  # Any: LiteLLM ships no types
    import yaml

    try:
        entries = yaml.safe_load(model_list.read_text())
        return _litellm().Router(model_list=entries["model_list"], num_retries=RETRIES)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise Problem(f"{model_list}: not a LiteLLM file with a `model_list`: {error}") from error


def _calls(asked: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Tool calls whose arguments are a JSON object, and those whose are not."""
    calls: list[Any] = []
    malformed: list[Any] = []
    for call in asked:
        name, raw = call.function.name or "", call.function.arguments or "{}"
        try:
            arguments = json.loads(raw)
            if not isinstance(arguments, dict):
                raise ValueError("not a JSON object")
            calls.append({"name": name, "args": arguments, "id": call.id, "type": "tool_call"})
        except ValueError as error:
            malformed.append(
                {"name": name, "args": raw, "id": call.id, "error": str(error), "type": "invalid_tool_call"}
            )
    return calls, malformed


def _usage(response: Any, litellm: Any) -> dict[str, Any]:  # Any: LiteLLM ships no types
    """Tokens and price. What the provider or the price list does not say stays unknown."""
    usage = getattr(response, "usage", None)
    details = getattr(usage, "completion_tokens_details", None)
    try:
        cost = litellm.completion_cost(response) or None
    except Exception:  # the price list raises a plain Exception for a model it does not know
        cost = None
    return {
        "prompt_tokens": getattr(usage, "prompt_tokens", None),
        "completion_tokens": getattr(usage, "completion_tokens", None),
        "reasoning_tokens": getattr(details, "reasoning_tokens", None),
        "cost": cost,
    }


REPLAYED = ("content", "tool_calls", "thinking_blocks", "reasoning_content", "provider_specific_fields")
"""Fields of a model's own message that go back to it unchanged on the next turn. A provider that needs none ignores
them; one that signs its reasoning refuses the turn without."""


def _wire(message: AnyMessage) -> dict[str, Any]:
    """A message as LiteLLM takes it."""
    match message:
        case SystemMessage():
            return {"role": "system", "content": message.content}
        case HumanMessage():
            return {"role": "user", "content": message.content}
        case ToolMessage():
            return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
        case AIMessage():
            verbatim = message.additional_kwargs.get("verbatim", {"content": message.content})
            return {"role": "assistant", **{key: verbatim[key] for key in REPLAYED if key in verbatim}}
    raise TypeError(f"no wire form for {type(message).__name__}")


TAGS = re.compile(rf"<({REASONING_TAGS})>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)


def stated(message: AIMessage) -> Stated:
    """What a message says and what it reasons, wherever its provider puts the reasoning."""
    verbatim = message.additional_kwargs.get("verbatim", {})
    blocks = [block.get("thinking") or "" for block in verbatim.get("thinking_blocks") or []]
    native = "\n\n".join(filter(None, blocks)) or verbatim.get("reasoning_content")
    text = message.text
    if native:
        return Stated(text, str(native), "native")
    tagged = [found.group(2).strip() for found in TAGS.finditer(text)]
    if tagged:
        return Stated(TAGS.sub("", text).strip(), "\n\n".join(tagged), "tag")
    return Stated(text, None, "none")


def price(name: str) -> dict[str, float] | None:
    """US dollars per token sent and said, by LiteLLM's price list; None for a model it does not know."""
    prices = _litellm().model_cost
    found = prices.get(name) or prices.get(name.partition("/")[2])
    if not found or found.get("input_cost_per_token") is None or found.get("output_cost_per_token") is None:
        return None
    return {"in": float(found["input_cost_per_token"]), "out": float(found["output_cost_per_token"])}


def check(model: plan.Model, model_list: Path | None = None) -> None:
    """Raises Problem when no policy can be made of a model's name, before anything is played."""
    if model.name.startswith("script:"):
        Script.check(model)
    else:
        LiteLLM(model, model_list)


def takes_schema(name: str) -> bool:
    """Whether a provider holds the model to a JSON schema, as far as LiteLLM knows."""
    return bool(_litellm().supports_response_schema(model=name))

"""Who decides: a policy reads the conversation and the tools, and says its next turn."""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from sandbox import plan
from sandbox.episode import REASONING_TAGS, Stated
from sandbox.gate import Gate
from sandbox.script import Script
from tools.problem import Problem

Tools = Sequence[Mapping[str, Any]]
"""Tools as they go over the wire: OpenAI's function schema."""

LETTERS_PER_TOKEN = 4
"""Of English prose, for every tokenizer in wide use, near enough for an estimate and to pace calls by."""


class Policy(Protocol):
    def act(self, messages: Sequence[AnyMessage], tools: Tools) -> AIMessage:
        """The next turn. Raises whatever the provider raises once retries are used up."""


class Price(NamedTuple):
    """US dollars per token."""

    sent: float
    said: float
    given: bool = False
    """By the user; else from LiteLLM's price list."""


class LiteLLM:
    """Any model that LiteLLM reaches: by name, or by an entry of a `model_list` file through its Router."""

    def __init__(self, model: plan.Model, model_list: Path | None = None) -> None:
        self.model = model
        self.gate = Gate(model.key, _traffic(model, model_list))
        self._litellm = _litellm()
        self._price = price(model, model_list)
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
        # The gate tries again, for all threads together: retries of LiteLLM's or of a client below it would be hidden from it.
        options: dict[str, Any] = {
            "timeout": 300,
            **self.model.sent,
            "num_retries": 0,
            "max_retries": 0,
            "caching": False,
        }
        if tools:
            options["tools"] = list(tools)
        sent = [_wire(message) for message in messages]
        response, waited = self.gate.call(
            lambda: complete(model=self.model.name, messages=sent, **options),
            estimate=len(json.dumps([sent, options.get("tools")], default=str)) // LETTERS_PER_TOKEN,
            tokens=_tokens,
        )
        message = self._message(response)
        message.response_metadata["waited"] = waited
        return message

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
                "usage": _usage(response, self._litellm, self._price),
            },
        )


def _litellm() -> Any:  # Any: LiteLLM ships no types
    """LiteLLM, imported only when a model is to be called: it takes two seconds and would fetch a price list."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    litellm.suppress_debug_info = True
    litellm.cache = None  # two draws of one trial are two calls, whatever else in this process has switched on
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):  # what goes wrong is in the record, without the keys
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


def _router(model_list: Path) -> Any:  # Any: LiteLLM ships no types
    try:
        return _litellm().Router(model_list=list(_entries(model_list)), num_retries=0)
    except (KeyError, TypeError, ValueError) as error:  # what they say may quote an entry, and its key
        raise Problem(f"{model_list}: LiteLLM makes no router of its `model_list` ({type(error).__name__})") from error


def _entries(model_list: Path) -> tuple[dict[str, Any], ...]:
    """The entries of a LiteLLM file. Raises Problem, which does not quote the file: keys stand in it."""
    import yaml

    try:
        entries = tuple(yaml.safe_load(model_list.read_text())["model_list"])
        if all(isinstance(entry, dict) and isinstance(entry.get("litellm_params"), dict) for entry in entries):
            return entries
        raise TypeError("an entry without litellm_params")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = f"no YAML, line {mark.line + 1}" if mark else "no YAML"
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
    except (KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
    raise Problem(f"{model_list}: not a LiteLLM file with a `model_list`: {why}")


def _params(name: str, model_list: Path) -> list[dict[str, Any]]:
    return [entry["litellm_params"] for entry in _entries(model_list) if entry.get("model_name") == name]


def _traffic(model: plan.Model, model_list: Path | None) -> plan.Traffic:
    """A model's own limits; else those of its entries in the list, added up. LiteLLM's Router spreads calls by them and
    does not keep to them."""
    written = model.traffic
    entries = _params(model.name, model_list) if model_list else []
    update = {}
    for limit in ("rpm", "tpm"):
        listed = [params[limit] for params in entries if isinstance(params.get(limit), int | float)]
        if getattr(written, limit) is None and listed and len(listed) == len(entries):
            update[limit] = float(sum(listed))
    return written.model_copy(update=update)


@cache
def listed_secrets(model_list: Path) -> list[str]:
    """What must not be written down of a LiteLLM file, and of the environment variables that it names."""
    found = plan.Model(name="list", options={"entries": list(_entries(model_list))}).secrets
    named = [each.removeprefix("os.environ/") for each in found if each.startswith("os.environ/")]
    return [each for each in (*found, *(os.environ.get(name, "") for name in named)) if each]


def _tokens(response: Any) -> int | None:  # Any: LiteLLM ships no types
    found: int | None = getattr(getattr(response, "usage", None), "total_tokens", None)
    return found


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


def _usage(response: Any, litellm: Any, price: Price | None) -> dict[str, Any]:  # Any: LiteLLM ships no types
    """Tokens and cost. What neither the provider nor a price list says stays unknown."""
    usage = getattr(response, "usage", None)
    details = getattr(usage, "completion_tokens_details", None)
    sent, said = getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None)
    if not sent and not said:  # LiteLLM's zeros, where the provider tells nothing
        sent = said = None
    cost = None
    if price is None or not price.given:
        try:
            cost = litellm.completion_cost(response) or None
        except Exception:  # the price list raises a plain Exception for a model it does not know
            cost = None
    if cost is None and price and sent is not None and said is not None:
        cost = sent * price.sent + said * price.said
    return {
        "prompt_tokens": sent,
        "completion_tokens": said,
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


def price(model: plan.Model, model_list: Path | None = None) -> Price | None:
    """What a model takes: what the user gave, else LiteLLM's price list; None where neither knows. Several entries of a
    model list are known together or not at all, at the highest of their prices."""
    if model.scripted:
        return Price(0.0, 0.0)
    if given := model.traffic.price:
        return Price(given[0] / 1e6, given[1] / 1e6, given=True)
    listed = [str(params.get("model")) for params in _params(model.name, model_list)] if model_list else [model.name]
    found = [_listed_price(name) for name in listed]
    known = [each for each in found if each]
    if not known or len(known) < len(found):
        return None
    return Price(max(each.sent for each in known), max(each.said for each in known))


def _listed_price(name: str) -> Price | None:
    prices = _litellm().model_cost
    found = prices.get(name) or prices.get(name.partition("/")[2])
    if not found or found.get("input_cost_per_token") is None or found.get("output_cost_per_token") is None:
        return None
    return Price(float(found["input_cost_per_token"]), float(found["output_cost_per_token"]))


def check(model: plan.Model, model_list: Path | None = None, priced: bool = False) -> None:
    """Raises Problem when no policy can be made of a model's name, or none that a limit of cost can be kept with,
    before anything is played."""
    if model.scripted:
        Script.check(model)
        return
    LiteLLM(model, model_list)
    if priced and price(model, model_list) is None:
        raise Problem(
            f"the price of '{model.name}' is not known, so a limit of cost cannot be kept: give it in US dollars per "
            f"million tokens sent and said, as in --price {model.key}=2.5,10"
        )

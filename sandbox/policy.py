"""Who decides: a policy reads the conversation and the tools, and says its next turn."""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from sandbox import plan
from sandbox.episode import ReasoningStatus, Stated
from sandbox.episode import stated as told_apart
from sandbox.gate import Gate
from sandbox.script import Script
from tools.problem import Problem

Tools = Sequence[Mapping[str, Any]]
"""Tools as they go over the wire: OpenAI's function schema."""

LETTERS_PER_TOKEN = 4
"""Of English prose, for every tokenizer in wide use, near enough for an estimate and to pace calls by."""


REASONING_OPTIONS = ("thinking", "reasoning_effort", "reasoning", "think")
SWITCHED = ("ollama", "deepseek/")
"""Beginnings of the names of models for which LiteLLM turns `reasoning_effort="none"` into their own switch."""


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

    @property
    def _behind(self) -> list[str]:
        """LiteLLM's names of the models that may answer."""
        entries = self._router.get_model_list(self.model.name) or [] if self._router else []
        return [entry["litellm_params"]["model"] for entry in entries] or [self.model.name]

    @property
    def _unstreamable(self) -> bool:
        """Ollama's, whose answers are always taken whole: of streamed ones LiteLLM drops the tags around reasoning, which
        then reads as text."""
        return any(name.startswith("ollama") for name in self._behind)

    def without_reasoning(self) -> "LiteLLM":
        """The same model with its reasoning off, as far as its provider has a way: `reasoning_status` tells."""
        off = all(name.startswith(SWITCHED) or self._litellm.utils.supports_none_reasoning_effort(name, None)
                  for name in self._behind)  # fmt: skip
        options = {name: value for name, value in self.model.options.items() if name not in REASONING_OPTIONS}
        found = copy(self)
        found.model = self.model.model_copy(update={"options": options | ({"reasoning_effort": "none"} if off else {})})
        return found

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
        streamed = options.pop("stream", False) and not self._unstreamable
        if streamed:
            options = {"stream": True, "stream_options": {"include_usage": True}, **options}
        sent = [_wire(message) for message in messages]
        call: dict[str, Any] = {}

        def answer() -> Any:  # Any: LiteLLM ships no types
            call.clear()
            # A logger is the one way to the provider's own words: LiteLLM takes a leading <think> out of them.
            response = complete(model=self.model.name, messages=sent, logger_fn=call.update, **options)
            return _whole(response, self._litellm) if streamed else response

        response, waited = self.gate.call(
            answer,
            estimate=len(json.dumps([sent, options.get("tools")], default=str)) // LETTERS_PER_TOKEN,
            tokens=_tokens,
        )
        message = self._message(response, call.get("original_response"))
        message.response_metadata["waited"] = waited
        return message

    def _message(self, response: Any, raw: object) -> AIMessage:  # Any: LiteLLM ships no types
        said = response.choices[0].message
        verbatim = _verbatim({key: value for key, value in said.model_dump().items() if value}, raw)
        calls, malformed = _calls(said.tool_calls or [])
        return AIMessage(
            content=verbatim.get("content", ""),
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
        entries = tuple(yaml.safe_load(list_text(model_list))["model_list"])
        if all(isinstance(entry, dict) and isinstance(entry.get("litellm_params"), dict) for entry in entries):
            return entries
        raise TypeError("an entry without litellm_params")
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = f"no YAML, line {mark.line + 1}" if mark else "no YAML"
    except (KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
    raise Problem(f"{model_list}: not a LiteLLM file with a `model_list`: {why}")


def list_text(model_list: Path) -> str:
    """What stands in a LiteLLM file. Raises Problem where it cannot be read."""
    try:
        return model_list.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8 text"
        raise Problem(f"{model_list}: not a LiteLLM file with a `model_list`: {why}") from error


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


REPLAYED = (
    "content", "tool_calls", "thinking_blocks", "reasoning_content", "reasoning", "reasoning_details", "reasoning_items",
    "provider_specific_fields",
)  # fmt: skip
"""Fields of a model's own message that go back to it unchanged on the next turn."""

OURS = ("refusal", "citations", "thinking_blocks", "reasoning", "reasoning_content", "reasoning_details")
"""What LiteLLM adds to `provider_specific_fields`, or repeats there: nothing that a provider asks to have back."""


def _verbatim(said: Mapping[str, Any], raw: object) -> dict[str, Any]:
    """A message of the model as it has to go back: every field that its provider sent, and none that LiteLLM made.

    A server of OpenAI's shape gets its own fields back as they were, since it refuses those it does not know. Where
    LiteLLM has taken reasoning out of the text, as it does with a leading `<think>`, the text is put back.
    """
    sent = _sent(raw)
    own = {field: sent[field] for field in REPLAYED if sent.get(field)}
    if "choices" in _json(raw) and isinstance(own.get("content", ""), str):
        # Where a server names no ids LiteLLM does, and results have to go by the same.
        named = [call.get("id") for call in own.get("tool_calls", ())] == [
            call["id"] for call in said.get("tool_calls", ())
        ]
        return own if named else {**own, "tool_calls": said["tool_calls"]}
    kept = {field: said[field] for field in REPLAYED if field in said}
    extra = {key: value for key, value in kept.pop("provider_specific_fields", {}).items() if key not in OURS and value}
    if isinstance(sent.get("content"), str) and not sent.get("thinking") and "reasoning_content" in kept:
        kept.pop("reasoning_content")
        kept["content"] = sent["content"]
    return {**kept, **({"provider_specific_fields": extra} if extra else {})}


def _sent(raw: object) -> Mapping[str, Any]:
    """The message in a provider's answer, where it has the shape of OpenAI's or Ollama's."""
    answer = _json(raw)
    choices = answer.get("choices")
    found = choices[0].get("message") if isinstance(choices, list) and choices else answer.get("message")
    return found if isinstance(found, dict) else {}


def _json(raw: object) -> Mapping[str, Any]:
    try:
        found = json.loads(raw) if isinstance(raw, str) else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _whole(stream: Any, litellm: Any) -> Any:  # Any: LiteLLM ships no types
    """A streamed answer put together. Usage that no piece told stays unknown; LiteLLM would estimate it."""
    pieces = list(stream)
    response = litellm.stream_chunk_builder(pieces)
    if response is None:
        raise ValueError("the provider's stream ended before it said anything")
    deltas = [choice.delta for piece in pieces for choice in piece.choices]
    if items := [item for delta in deltas for item in getattr(delta, "reasoning_items", None) or ()]:
        response.choices[0].message.reasoning_items = items  # which the builder leaves out
    if not any(getattr(piece, "usage", None) for piece in pieces):
        response.usage = None
    return response


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
            verbatim = message.additional_kwargs.get("verbatim") or _rebuilt(message)
            own = {key: verbatim[key] for key in REPLAYED if key in verbatim}
            return {"role": "assistant", **(own or {"content": ""})}
    raise TypeError(f"no wire form for {type(message).__name__}")


def replayed(message: AIMessage) -> dict[str, Any] | None:
    """A message as it goes back to its provider; None where its text and calls alone give it."""
    plain = message.model_copy(update={"additional_kwargs": {}, "content": stated(message).text})
    return None if _wire(plain) == _wire(message) else dict(message.additional_kwargs["verbatim"])


def _rebuilt(message: AIMessage) -> dict[str, Any]:
    """A message of which nothing but its text and calls has to go back."""
    asked = [(call["id"], call["name"], json.dumps(call["args"])) for call in message.tool_calls]
    asked += [(call["id"], call["name"] or "", call["args"] or "") for call in message.invalid_tool_calls]
    calls = [{"id": id, "type": "function", "function": {"name": name, "arguments": raw}} for id, name, raw in asked]
    return {**({"content": message.text} if message.text else {}), **({"tool_calls": calls} if calls else {})}


def stated(message: AIMessage) -> Stated:
    """What a message says and what it reasons, wherever its provider puts the reasoning. Where it reasons in the text
    as well, between tags, that is added."""
    verbatim = message.additional_kwargs.get("verbatim", {})
    blocks = [block.get("thinking") or "" for block in verbatim.get("thinking_blocks") or []]
    native = "\n\n".join(filter(None, blocks)) or verbatim.get("reasoning_content") or verbatim.get("reasoning")
    native = native or "\n\n".join(_summaries(verbatim))
    tagged = told_apart(message.text)
    if not native:
        return tagged
    return Stated(tagged.text, "\n\n".join(filter(None, (str(native), tagged.reasoning))), "native")


def _summaries(verbatim: Mapping[str, Any]) -> list[str]:
    """OpenAI's summaries of reasoning, which its Responses interface gives."""
    items = verbatim.get("reasoning_items") or []
    return [part["text"] for item in items for part in item.get("summary") or [] if part.get("text")]


SUMMARISED = re.compile(r"claude(?!-3[.-]7)|gemini", re.IGNORECASE)
"""Models whose providers show a summary in the place of the reasoning (Anthropic's and Google's documentation of
thinking; Claude 3.7 shows its own words)."""


def reasoning_status(message: AIMessage) -> ReasoningStatus:
    """What a message shows of the reasoning behind it."""
    verbatim = message.additional_kwargs.get("verbatim", {})
    metadata = message.response_metadata
    said = stated(message)
    blocks, items = verbatim.get("thinking_blocks") or [], verbatim.get("reasoning_items") or []
    sealed = any(not block.get("thinking") for block in blocks) or any(not item.get("summary") for item in items)
    if sealed or (said.reasoning is None and (metadata.get("usage", {}).get("reasoning_tokens") or _signed(verbatim))):
        return "redacted"
    if said.reasoning is None:
        return "absent"
    summary = said.source == "native" and (items or SUMMARISED.search(str(metadata.get("model"))))
    return "summarised" if summary else "present"


def _signed(verbatim: Mapping[str, Any]) -> bool:
    """Whether a message carries Gemini's signatures of thoughts that it does not show."""
    fields = [verbatim, *verbatim.get("tool_calls", [])]
    extra = [field.get("provider_specific_fields") or {} for field in fields]
    return any(each.get("thought_signatures") or each.get("thought_signature") for each in extra)


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
        if model_list:
            _entries(model_list)  # nothing of it is needed, and what is wrong with it is said all the same
        return
    LiteLLM(model, model_list)
    if priced and price(model, model_list) is None:
        raise Problem(
            f"the price of '{model.name}' is not known, so a limit of cost cannot be kept: give it in US dollars per "
            f"million tokens sent and said, as in --price {model.key}=2.5,10"
        )


def takes_schema(name: str) -> bool:
    """Whether a provider holds the model to a JSON schema, as far as LiteLLM knows."""
    return bool(_litellm().supports_response_schema(model=name))

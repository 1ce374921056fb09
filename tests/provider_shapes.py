"""Servers that speak the wire shapes of model providers, scripted: what LiteLLM's own adapters meet in the field.

Each says the turns of a script in its provider's shape, whole or in pieces, and refuses with the provider's own kind of
answer (400) when its reasoning does not come back as it was sent.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """What the model does in one turn, whatever the shape it is sent in."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    withheld: bool = False
    """Whether the provider keeps some reasoning to itself besides."""


class Refused(Exception):
    """The request is one that the provider answers with 400."""


class Shape(Protocol):
    """How one provider puts turns on the wire."""

    path: str

    def said(self, request: Json) -> list[Json]:
        """The model's own earlier messages in a request, in order."""

    def check(self, request: Json, script: Sequence[Turn]) -> None:
        """Raises Refused where the provider would."""

    def whole(self, turn: Turn, number: int, request: Json) -> Json: ...

    def pieces(self, turn: Turn, number: int, request: Json) -> Iterator[tuple[str, Json]]:
        """Events of a stream: name and payload. No name: the payload alone is a line or an event."""

    def streams(self, path: str, request: Json) -> bool: ...

    def error(self, message: str) -> Json: ...


@dataclass
class Served:
    """A server that runs, and what it was sent."""

    url: str
    seen: list[Json] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def serve(
    shape: Shape, script: Sequence[Turn], break_after: int | None = None, refuse_at: int | None = None
) -> Iterator[Served]:
    """A provider on loopback that says one turn of the script after the other, by how many were said to it already.
    A stream is broken off after so many pieces, and a turn answered with 500, where a number is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/api/show"):
                self._answer(200, {"template": "{{ .Tools }}", "model_info": {}, "capabilities": ["tools", "thinking"]})
                return
            served.seen.append(request)
            try:
                shape.check(request, script)
            except Refused as refused:
                served.refused.append(str(refused))
                self._answer(400, shape.error(str(refused)))
                return
            number = len(shape.said(request))
            if number == refuse_at:
                self._answer(500, shape.error("overloaded"))
                return
            turn = script[min(number, len(script) - 1)]
            if shape.streams(self.path, request):
                self._stream(shape.pieces(turn, number, request))
            else:
                self._answer(200, shape.whole(turn, number, request))

        def _answer(self, status: int, value: Json) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _stream(self, pieces: Iterator[tuple[str, Json]]) -> None:
            lines = isinstance(shape, Ollama)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson" if lines else "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for count, (name, piece) in enumerate(pieces):
                if count == break_after:
                    self.close_connection = True
                    return
                text = json.dumps(piece)
                event = f"{text}\n" if lines else f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"
                self._chunk(event.encode())
            if isinstance(shape, OpenAI):
                self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")

        def _chunk(self, data: bytes) -> None:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is no error."""

    server = Server(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}{shape.path}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def signature(text: str, number: int) -> str:
    """An opaque seal over one block of reasoning, base64 as providers have it."""
    return base64.b64encode(sha256(f"{number}:{text}".encode()).digest() * 2).decode()


def halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


@dataclass(frozen=True)
class OpenAI:
    """Chat completions. `field` names where an OpenAI-compatible server puts reasoning; '' for OpenAI itself, which
    shows none; a tag in angle brackets for servers that leave it in the text."""

    field: str = ""
    path: str = "/v1"
    required: bool = False
    """Whether reasoning has to come back with the calls that it led to (DeepSeek's thinking mode)."""
    ids: bool = True
    """Whether calls carry ids; some servers give none."""

    FIELDS = frozenset({"role", "content", "tool_calls", "tool_call_id", "name", "refusal", "audio", "function_call"})

    def said(self, request: Json) -> list[Json]:
        return [message for message in request["messages"] if message["role"] == "assistant"]

    def check(self, request: Json, script: Sequence[Turn]) -> None:
        allowed = self.FIELDS | ({self.field} if self.field and not self.tag else set())
        for index, message in enumerate(request["messages"]):
            for name in message.keys() - allowed:
                raise Refused(f"Unknown parameter: 'messages[{index}].{name}'.")
            for place, call in enumerate(message.get("tool_calls") or []):
                for name in call.keys() - {"id", "type", "function"}:
                    raise Refused(f"Unknown parameter: 'messages[{index}].tool_calls[{place}].{name}'.")
        for number, (message, turn) in enumerate(zip(self.said(request), script, strict=False)):
            if self.required and turn.calls and (message.get(self.field) or "") != turn.reasoning:
                raise Refused(f"Missing `{self.field}` field in the assistant message at message index {number}.")

    @property
    def tag(self) -> str:
        return self.field.strip("<>") if self.field.startswith("<") else ""

    def content(self, turn: Turn) -> str:
        return f"{self.field}{turn.reasoning}</{self.tag}>{turn.text}" if self.tag and turn.reasoning else turn.text

    def _calls(self, turn: Turn, number: int) -> list[Json]:
        return [
            {
                "id": f"call_{number}_{i}" if self.ids else None,
                "type": "function",
                "function": {"name": n, "arguments": json.dumps(dict(a))},
            }
            for i, (n, a) in enumerate(turn.calls)
        ]

    def _usage(self, turn: Turn, number: int) -> Json:
        hidden = 64 if turn.withheld else 0
        return {
            "prompt_tokens": 100 + number,
            "completion_tokens": 10 + hidden,
            "total_tokens": 110 + number + hidden,
            "completion_tokens_details": {"reasoning_tokens": hidden},
        }

    def whole(self, turn: Turn, number: int, request: Json) -> Json:
        message: Json = {"role": "assistant", "content": self.content(turn) or None, "refusal": None}
        if turn.calls:
            message["tool_calls"] = self._calls(turn, number)
        if self.field and not self.tag and turn.reasoning:
            message[self.field] = turn.reasoning
        return {
            "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_760_000_000, "model": request["model"],
            "choices": [{"index": 0, "message": message, "logprobs": None,
                         "finish_reason": "tool_calls" if turn.calls else "stop"}],
            "usage": self._usage(turn, number), "system_fingerprint": "fp_0",
        }  # fmt: skip

    def pieces(self, turn: Turn, number: int, request: Json) -> Iterator[tuple[str, Json]]:
        def chunk(delta: Json, finish: str | None = None) -> tuple[str, Json]:
            return "", {
                "id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1_760_000_000,
                "model": request["model"], "system_fingerprint": "fp_0",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            }  # fmt: skip

        yield chunk({"role": "assistant", "content": ""})
        if self.field and not self.tag and turn.reasoning:
            for part in halves(turn.reasoning):
                yield chunk({self.field: part, "content": None})
        for part in halves(self.content(turn)):
            yield chunk({"content": part})
        for index, call in enumerate(self._calls(turn, number)):
            first, second = halves(call["function"]["arguments"])
            name = call["function"]["name"]
            yield chunk({"tool_calls": [{**call, "index": index, "function": {"name": name, "arguments": first}}]})
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": second}}]})
        yield chunk({}, "tool_calls" if turn.calls else "stop")
        if (request.get("stream_options") or {}).get("include_usage"):
            yield "", {**chunk({})[1], "choices": [], "usage": self._usage(turn, number)}

    def streams(self, path: str, request: Json) -> bool:
        return bool(request.get("stream"))

    def error(self, message: str) -> Json:
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def deepseek() -> OpenAI:
    return OpenAI("reasoning_content", path="/deepseek", required=True)


@dataclass(frozen=True)
class Anthropic:
    """Messages, with thinking blocks that are signed, and now and then one that is sealed."""

    path: str = ""
    shown: bool = True
    """Whether thinking is shown; newer models may send signed blocks that are empty."""

    def said(self, request: Json) -> list[Json]:
        return [message for message in request["messages"] if message["role"] == "assistant"]

    def sealed(self, turn: Turn, number: int) -> list[Json]:
        """The blocks of reasoning, which have to come back as they are."""
        blocks: list[Json] = []
        if turn.reasoning:
            shown = turn.reasoning if self.shown else ""
            blocks.append({"type": "thinking", "thinking": shown, "signature": signature(turn.reasoning, number)})
        if turn.withheld:
            blocks.append({"type": "redacted_thinking", "data": signature("withheld", number)})
        return blocks

    def check(self, request: Json, script: Sequence[Turn]) -> None:
        if not request.get("thinking") or request["thinking"]["type"] == "disabled":
            return
        for number, (message, turn) in enumerate(zip(self.said(request), script, strict=False)):
            content = message["content"] if isinstance(message["content"], list) else []
            place = f"messages.{2 * number + 1}.content.0"
            came = [block for block in content if block["type"] in ("thinking", "redacted_thinking")]
            expected = self.sealed(turn, number)
            if expected and (not content or content[0]["type"] not in ("thinking", "redacted_thinking")):
                found = content[0]["type"] if content else "text"
                raise Refused(f"{place}.type: Expected `thinking` or `redacted_thinking`, but found `{found}`.")
            if [block.get("signature") for block in came] != [block.get("signature") for block in expected]:
                raise Refused(f"{place}: Invalid `signature` in `thinking` block")
            if came != expected:
                raise Refused(f"{place}: `thinking` or `redacted_thinking` blocks cannot be modified.")

    def blocks(self, turn: Turn, number: int) -> list[Json]:
        text = [{"type": "text", "text": turn.text}] if turn.text else []
        calls = [
            {"type": "tool_use", "id": f"toolu_{number}_{i}", "name": name, "input": dict(arguments)}
            for i, (name, arguments) in enumerate(turn.calls)
        ]
        return [*self.sealed(turn, number), *text, *calls]

    def whole(self, turn: Turn, number: int, request: Json) -> Json:
        return {
            "id": f"msg_{number}", "type": "message", "role": "assistant", "model": request["model"],
            "content": self.blocks(turn, number), "stop_reason": "tool_use" if turn.calls else "end_turn",
            "stop_sequence": None, "usage": {"input_tokens": 100 + number, "output_tokens": 10},
        }  # fmt: skip

    def pieces(self, turn: Turn, number: int, request: Json) -> Iterator[tuple[str, Json]]:
        start = {**self.whole(turn, number, request), "content": [], "stop_reason": None}
        yield "message_start", {"type": "message_start", "message": start}
        for index, block in enumerate(self.blocks(turn, number)):
            empty, deltas = self._deltas(block)
            yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": empty}
            for delta in deltas:
                yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
            yield "content_block_stop", {"type": "content_block_stop", "index": index}
        stop = {"stop_reason": "tool_use" if turn.calls else "end_turn", "stop_sequence": None}
        yield "message_delta", {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 10}}
        yield "message_stop", {"type": "message_stop"}

    def _deltas(self, block: Json) -> tuple[Json, list[Json]]:
        match block["type"]:
            case "thinking":
                parts = [{"type": "thinking_delta", "thinking": part} for part in halves(block["thinking"]) if part]
                sealed = {"type": "signature_delta", "signature": block["signature"]}
                return {"type": "thinking", "thinking": "", "signature": ""}, [*parts, sealed]
            case "text":
                parts = [{"type": "text_delta", "text": part} for part in halves(block["text"])]
                return {"type": "text", "text": ""}, parts
            case "tool_use":
                text = json.dumps(block["input"])
                parts = [{"type": "input_json_delta", "partial_json": part} for part in halves(text)]
                return {**block, "input": {}}, parts
        return block, []

    def streams(self, path: str, request: Json) -> bool:
        return bool(request.get("stream"))

    def error(self, message: str) -> Json:
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


@dataclass(frozen=True)
class Gemini:
    """generateContent, with summaries of thoughts, and signatures on the parts that follow from them."""

    path: str = "/v1beta"
    sealed: bool = True
    """Older models, and newer ones that did not think, sign nothing."""

    def said(self, request: Json) -> list[Json]:
        return [content for content in request["contents"] if content["role"] == "model"]

    def check(self, request: Json, script: Sequence[Turn]) -> None:
        for number, (content, turn) in enumerate(zip(self.said(request), script, strict=False) if self.sealed else ()):
            calls = [part for part in content["parts"] if self._called(part)]
            expected = [part for part in self.parts(turn, number) if self._called(part)]
            if calls and not calls[0].get("thoughtSignature"):
                name = (self._called(calls[0]) or {})["name"]
                raise Refused(
                    f"Function call is missing a thought_signature in functionCall parts. Additional data, function call "
                    f"`default_api:{name}`, position {number}."
                )
            if [part.get("thoughtSignature") for part in calls] != [part.get("thoughtSignature") for part in expected]:
                raise Refused("Unable to submit request because Thought signature is not valid.")

    def _called(self, part: Json) -> Json | None:
        """A call, in either spelling: protobuf's JSON takes both."""
        found: Json | None = part.get("functionCall") or part.get("function_call")
        return found

    def parts(self, turn: Turn, number: int) -> list[Json]:
        """Of several calls at once the first alone carries a signature."""
        parts: list[Json] = [{"text": turn.reasoning, "thought": True}] if turn.reasoning else []
        sealed = {"thoughtSignature": signature(turn.reasoning, number)} if self.sealed else {}
        if turn.text:
            parts.append({"text": turn.text, **({} if turn.calls else sealed)})
        for index, (name, arguments) in enumerate(turn.calls):
            parts.append({"functionCall": {"name": name, "args": dict(arguments)}, **({} if index else sealed)})
        return parts

    def _reply(self, parts: list[Json], number: int, finish: str | None = "STOP") -> Json:
        candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": 100 + number, "candidatesTokenCount": 10, "totalTokenCount": 130 + number,
                 "thoughtsTokenCount": 20 if self.sealed else 0}  # fmt: skip
        return {
            "candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3-pro",
            "responseId": f"r{number}",
        }  # fmt: skip

    def whole(self, turn: Turn, number: int, request: Json) -> Json:
        return self._reply(self.parts(turn, number), number)

    def pieces(self, turn: Turn, number: int, request: Json) -> Iterator[tuple[str, Json]]:
        for part in self.parts(turn, number):
            if self._called(part):
                yield "", self._reply([part], number, None)
                continue
            first, second = halves(part["text"])
            plain = {key: value for key, value in part.items() if key != "thoughtSignature"}
            yield "", self._reply([{**plain, "text": first}], number, None)
            yield "", self._reply([{**plain, "text": second}], number, None)
            if "thoughtSignature" in part:  # at the end of a text it comes on a part of its own
                yield "", self._reply([{"text": "", "thoughtSignature": part["thoughtSignature"]}], number, None)
        yield "", self._reply([], number)

    def streams(self, path: str, request: Json) -> bool:
        return "streamGenerateContent" in path

    def error(self, message: str) -> Json:
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}


@dataclass(frozen=True)
class Ollama:
    """Ollama's chat. Thinking is a field of its own, or, for models it does not know to think, in the text."""

    field: str = "thinking"
    path: str = ""

    def said(self, request: Json) -> list[Json]:
        return [message for message in request["messages"] if message["role"] == "assistant"]

    def check(self, request: Json, script: Sequence[Turn]) -> None:
        for message in request["messages"]:
            for call in message.get("tool_calls") or []:
                if not isinstance(call["function"]["arguments"], dict):
                    raise Refused(
                        "json: cannot unmarshal string into Go struct field "
                        "ChatRequest.messages.tool_calls.function.arguments of type api.ToolCallFunctionArguments"
                    )

    def _message(self, content: str, thinking: str, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> Json:
        message: Json = {"role": "assistant", "content": content}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = [{"function": {"name": name, "arguments": dict(args)}} for name, args in calls]
        return message

    def _split(self, turn: Turn) -> tuple[str, str]:
        if self.field == "thinking":
            return turn.text, turn.reasoning
        return (f"<think>{turn.reasoning}</think>{turn.text}" if turn.reasoning else turn.text), ""

    def whole(self, turn: Turn, number: int, request: Json) -> Json:
        content, thinking = self._split(turn)
        return {
            "model": request["model"], "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop",
            "message": self._message(content, thinking, turn.calls), "prompt_eval_count": 100 + number,
            "eval_count": 10,
        }  # fmt: skip

    def pieces(self, turn: Turn, number: int, request: Json) -> Iterator[tuple[str, Json]]:
        content, thinking = self._split(turn)
        base = {"model": request["model"], "created_at": "2026-01-01T00:00:00Z", "done": False}
        for part in filter(None, halves(thinking)):
            yield "", {**base, "message": self._message("", part, ())}
        tags = re.split("(</?think>)", content)  # each is a token, and so comes alone
        for part in filter(None, (half for text in tags for half in ([text] if "think>" in text else halves(text)))):
            yield "", {**base, "message": self._message(part, "", ())}
        if turn.calls:
            yield "", {**base, "message": self._message("", "", turn.calls)}
        yield "", {**self.whole(turn, number, request), "message": self._message("", "", ())}

    def streams(self, path: str, request: Json) -> bool:
        return bool(request.get("stream"))

    def error(self, message: str) -> Json:
        return {"error": message}


@dataclass(frozen=True)
class Responses:
    """OpenAI's Responses, where reasoning is an item: its summary is shown, its content sealed."""

    path: str = "/v1"

    def said(self, request: Json) -> list[Json]:
        """A turn ends where something that the model did not say follows."""
        turns: list[Json] = []
        for item in request["input"]:
            own = item.get("type") in ("reasoning", "function_call") or item.get("role") == "assistant"
            if own and (not turns or turns[-1]["closed"]):
                turns.append({"items": [], "closed": False})
            if own:
                turns[-1]["items"].append(item)
            elif turns:
                turns[-1]["closed"] = True
        return turns

    def check(self, request: Json, script: Sequence[Turn]) -> None:
        for number, (came, turn) in enumerate(zip(self.said(request), script, strict=False)):
            expected = [item for item in self.items(turn, number) if item["type"] == "reasoning"]
            found = [item for item in came["items"] if item.get("type") == "reasoning"]
            if turn.calls and expected and not found:
                raise Refused(f"Item 'fc_{number}_0' of type 'function_call' was provided without its required "
                              f"'reasoning' item: '{expected[0]['id']}'.")  # fmt: skip
            for item, own in zip(found, expected, strict=False):
                if item["encrypted_content"] != own["encrypted_content"]:
                    raise Refused(f"The encrypted content for item {item['id']} could not be verified.")

    def items(self, turn: Turn, number: int) -> list[Json]:
        items: list[Json] = []
        if turn.reasoning or turn.withheld:
            summary = [{"type": "summary_text", "text": turn.reasoning}] if turn.reasoning else []
            items.append({"type": "reasoning", "id": f"rs_{number}", "summary": summary,
                          "encrypted_content": signature(turn.reasoning, number)})  # fmt: skip
        if turn.text:
            items.append({"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed",
                          "content": [{"type": "output_text", "text": turn.text, "annotations": []}]})  # fmt: skip
        for index, (name, arguments) in enumerate(turn.calls):
            items.append({"type": "function_call", "id": f"fc_{number}_{index}", "call_id": f"call_{number}_{index}",
                          "name": name, "arguments": json.dumps(dict(arguments)), "status": "completed"})  # fmt: skip
        return items

    def whole(self, turn: Turn, number: int, request: Json) -> Json:
        return {
            "id": f"resp_{number}", "object": "response", "created_at": 1_760_000_000, "status": "completed",
            "model": request["model"], "output": self.items(turn, number), "parallel_tool_calls": True,
            "tool_choice": "auto", "tools": [], "temperature": 1.0, "top_p": 1.0, "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {},
            "usage": {"input_tokens": 100 + number, "output_tokens": 10, "total_tokens": 110 + number,
                      "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 5}},
        }  # fmt: skip

    def pieces(self, turn: Turn, number: int, request: Json) -> Iterator[tuple[str, Json]]:
        whole = self.whole(turn, number, request)
        counter = iter(range(1000))

        def event(type: str, **fields: object) -> tuple[str, Json]:
            return type, {"type": type, "sequence_number": next(counter), **fields}

        yield event("response.created", response={**whole, "status": "in_progress", "output": [], "usage": None})
        for index, item in enumerate(whole["output"]):
            place = {"item_id": item["id"], "output_index": index}
            empty = {key: [] if isinstance(value, list) else value for key, value in item.items()}
            if item["type"] == "function_call":
                empty["arguments"] = ""
            yield event("response.output_item.added", output_index=index, item=empty)
            for part in halves(item["summary"][0]["text"]) if item.get("summary") else ():
                yield event("response.reasoning_summary_text.delta", **place, summary_index=0, delta=part)
            for part in halves(item["content"][0]["text"]) if item.get("content") else ():
                yield event("response.output_text.delta", **place, content_index=0, delta=part)
            for part in halves(item["arguments"]) if item.get("arguments") else ():
                yield event("response.function_call_arguments.delta", **place, delta=part)
            yield event("response.output_item.done", output_index=index, item=item)
        yield event("response.completed", response=whole)

    def streams(self, path: str, request: Json) -> bool:
        return bool(request.get("stream"))

    def error(self, message: str) -> Json:
        return {"error": {"message": message, "type": "invalid_request_error", "param": "input", "code": None}}

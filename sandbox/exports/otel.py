"""A run as OpenTelemetry spans: a trace for each trial, with an agent, its model calls and its tool calls.

Names are those of the GenAI semantic conventions (https://opentelemetry.io/docs/specs/semconv/gen-ai/, still in
development; attributes of opentelemetry-semantic-conventions 0.66b2). What only Honne has is under `honne.`. What was
said is not sent unless it is asked for.

A record knows when an episode began and ended and how long each turn and call took: spans follow one another from the
beginning, so their lengths are measured and their places are not.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.episode import Called, Episode, Said
from sandbox.exports import Final, condition, finals
from sandbox.record import Record, Watch
from tools.problem import Problem, needed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan, Tracer
    from opentelemetry.trace import Span

BATCH = 500
"""Spans sent or written at a time."""
SECONDS = 10.0
"""Time that a receiver has to answer, retries included."""
HEXADECIMAL = ("traceId", "spanId", "parentSpanId")
"""Fields that OTLP's JSON writes in hexadecimal, where protobuf's JSON would write base 64."""
Attributes = dict[str, Any]  # Any: strings, numbers and truth values, as attributes are
Send = Callable[["Sequence[ReadableSpan]"], None]


class Sent(NamedTuple):
    """What was sent, and where to."""

    traces: int
    spans: int
    to: str


def export(record: Record, endpoint: str | None, file: Path | None, content: bool, watch: Watch = iter) -> Sent:
    """Send a run to an OTLP/HTTP address, or write it as OTLP JSON lines. Raises Problem."""
    if (endpoint is None) == (file is None):
        raise Problem("say where the spans are to go: --endpoint URL or -o FILE, and not both")
    with needed("otel", "export spans"):
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace  # noqa: F401
    traces = spans = 0
    waiting: list[ReadableSpan] = []
    with _file(file) if file else _receiver(endpoint or "") as send:
        for _, trials in watch(finals(record.episodes())):
            for final in trials:
                found = trace(final, record.name, content)
                traces, spans = traces + 1, spans + len(found)
                waiting += found
                if len(waiting) >= BATCH:
                    send(waiting)
                    waiting.clear()
        if not traces:
            raise Problem(f"{record.folder} holds no episodes yet: there is nothing to export")
        if waiting:
            send(waiting)
    return Sent(traces, spans, str(file or endpoint))


@contextmanager
def _receiver(endpoint: str) -> Iterator[Send]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    if not endpoint.startswith(("http://", "https://")):
        raise Problem(f"'{endpoint}' is no OTLP/HTTP address; one looks like http://localhost:4318/v1/traces")
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=SECONDS)

    def send(spans: "Sequence[ReadableSpan]") -> None:
        if exporter.export(spans) is not SpanExportResult.SUCCESS:
            raise Problem(f"{endpoint} did not take the spans: is a receiver of OTLP over HTTP listening there?")

    try:
        yield send
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped


@contextmanager
def _file(path: Path) -> Iterator[Send]:
    """A request a line, as the OpenTelemetry collector's file exporter and receiver have it."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # ships no types
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as lines:

            def send(spans: "Sequence[ReadableSpan]") -> None:
                request = encode_spans(spans)
                lines.write(json.dumps(_hexadecimal(MessageToDict(request, use_integers_for_enums=True))) + "\n")

            yield send
    except OSError as error:
        raise Problem(f"cannot write to {path}: {error.strerror or error}") from error


def _hexadecimal(value: Any) -> Any:  # Any: JSON
    if isinstance(value, list):
        return [_hexadecimal(item) for item in value]
    if isinstance(value, dict):
        return {
            key: _from_base64(item) if key in HEXADECIMAL and isinstance(item, str) else _hexadecimal(item)
            for key, item in value.items()
        }
    return value


def _from_base64(text: str) -> str:
    from base64 import b64decode

    return b64decode(text).hex()


def trace(final: Final, run: str, content: bool) -> "list[ReadableSpan]":
    """The spans of one trial, the agent's first. Ids come from the trial's, so that sending twice is the same trace."""
    from opentelemetry.trace import SpanKind, set_span_in_context
    from opentelemetry.trace.status import Status, StatusCode

    episode = final.episode
    tracer, ended = _tracer(episode)
    opened, closed = episode.opened, episode.closed
    end = _nanoseconds(closed.at)
    clock = _nanoseconds(opened.at) if opened else end - int(closed.seconds * 1e9)
    agent = tracer.start_span(
        "invoke_agent honne",
        kind=SpanKind.INTERNAL,
        attributes=_agent(final, run, content),
        start_time=clock,
    )
    if closed.ended == "fault":
        agent.set_attribute("error.type", "fault")
        agent.set_status(Status(StatusCode.ERROR, closed.fault if content else None))
    inside = set_span_in_context(agent)
    heard: list[Any] = _heard(episode)
    for event in episode.events:
        if isinstance(event, Said):
            name, kind, attributes = (
                f"chat {episode.trial.model}",
                SpanKind.CLIENT,
                _chat(event, episode, heard if content else None),
            )
            heard.append(_spoken(event))
        elif isinstance(event, Called):
            name, kind, attributes = f"execute_tool {event.name[:200]}", SpanKind.INTERNAL, _tool(event, content)
            heard.append(
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": event.id, "response": event.result}]}
            )
        else:
            continue
        span: Span = tracer.start_span(name, context=inside, kind=kind, attributes=attributes, start_time=clock)
        if isinstance(event, Called) and event.error:
            span.set_status(Status(StatusCode.ERROR))
        clock += int(event.seconds * 1e9)
        span.end(clock)
    agent.end(max(clock, end))
    return sorted(ended, key=lambda span: span.parent is not None)


def _tracer(episode: Episode) -> "tuple[Tracer, list[ReadableSpan]]":
    """A tracer of its own for each trial, so that nothing of the process's other tracing is in it."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    trial = f"{episode.trial.id} {episode.attempt}"

    class Ids(IdGenerator):
        spans = 0

        def generate_span_id(self) -> int:
            self.spans += 1
            return int.from_bytes(blake2b(f"{trial} {self.spans}".encode(), digest_size=8).digest())

        def generate_trace_id(self) -> int:
            return int.from_bytes(blake2b(trial.encode(), digest_size=16).digest())

    class Kept(SpanProcessor):
        def __init__(self) -> None:
            self.ended: list[ReadableSpan] = []

        def on_end(self, span: "ReadableSpan") -> None:
            self.ended.append(span)

    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=Resource({"service.name": "honne", "service.version": version("honne")}),
        id_generator=Ids(),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(kept := Kept())
    tracer: Any = provider.get_tracer("honne", version("honne"))
    return tracer, kept.ended


def _agent(final: Final, run: str, content: bool) -> Attributes:
    episode = final.episode
    opened = episode.opened
    ours = {f"honne.{name}": value for name, value in condition(episode, run).items()}
    ours |= {"honne.faults": final.faults, "honne.effect": episode.closed.effect, "honne.ended": episode.closed.ended}
    found = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "honne",
        "gen_ai.agent.version": version("honne"),
        "gen_ai.conversation.id": episode.trial.id,
        "gen_ai.request.model": episode.trial.model,
        "gen_ai.provider.name": _provider(episode.trial.model),
        "gen_ai.usage.input_tokens": _total([said.usage.prompt_tokens for said in episode.said]),
        "gen_ai.usage.output_tokens": _total([said.usage.completion_tokens for said in episode.said]),
        **ours,
    }
    if content and opened:
        tools = [
            {"type": "function", "name": each.name, "description": each.description, "parameters": each.parameters}
            for each in opened.tools
        ]
        found["gen_ai.tool.definitions"] = json.dumps(tools, default=dict)
        found["gen_ai.input.messages"] = json.dumps(_heard(episode))
        if opened.system is not None:
            found["gen_ai.system_instructions"] = json.dumps([{"type": "text", "content": opened.system}])
    return _known(found)


def _chat(said: Said, episode: Episode, heard: list[Any] | None) -> Attributes:
    usage = said.usage
    opened = episode.opened
    found = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _provider(episode.trial.model),
        "gen_ai.request.model": episode.trial.model,
        "gen_ai.response.model": said.model,
        "gen_ai.conversation.id": episode.trial.id,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
        "honne.cost": usage.cost,
        "honne.reasoning_source": said.reasoning_source,
    }
    if heard is not None:
        found["gen_ai.input.messages"] = json.dumps(heard)
        found["gen_ai.output.messages"] = json.dumps([_spoken(said)])
        if opened and opened.system is not None:
            found["gen_ai.system_instructions"] = json.dumps([{"type": "text", "content": opened.system}])
    return _known(found)


def _tool(called: Called, content: bool) -> Attributes:
    found = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": called.name,
        "gen_ai.tool.call.id": called.id,
        "gen_ai.tool.type": "function",
        "honne.pair": called.pair,
        "honne.side": called.side,
        "error.type": "tool_error" if called.error else None,
    }
    if content:
        found["gen_ai.tool.call.arguments"] = json.dumps(called.arguments, default=dict)
        found["gen_ai.tool.call.result"] = called.result
    return _known(found)


def _heard(episode: Episode) -> list[Any]:
    """What the model has heard before its first turn, but for the system prompt, which has an attribute of its own."""
    opened = episode.opened
    return [{"role": "user", "parts": [{"type": "text", "content": opened.task}]}] if opened else []


def _spoken(said: Said) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if said.reasoning is not None:
        parts.append({"type": "reasoning", "content": said.reasoning})
    if said.text:
        parts.append({"type": "text", "content": said.text})
    for asked in said.asked:
        arguments = asked.raw if asked.arguments is None else dict(asked.arguments)
        parts.append({"type": "tool_call", "id": asked.id, "name": asked.name, "arguments": arguments})
    return {"role": "assistant", "parts": parts, "finish_reason": "tool_call" if said.asked else "stop"}


def _provider(model: str) -> str:
    """The provider as a LiteLLM name begins; the whole of one that names none."""
    return model.partition("/")[0].partition(":")[0]


def _nanoseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 1000) * 1_000_000


def _total(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None


def _known(attributes: Attributes) -> Attributes:
    """What is unknown is not sent: no attribute is not a zero."""
    return {name: value for name, value in attributes.items() if value is not None}

"""Spans arrive at a real OTLP/HTTP receiver, as its protocol's own messages read them."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sandbox import played
from sandbox.episode import Episode
from sandbox.exports import otel
from sandbox.plan import Block, Model, Plan
from sandbox.record import Record
from tools.problem import Problem


class Receiver(ThreadingHTTPServer):
    """Takes traces as OTLP/HTTP says, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:  # the name that http.server calls
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.headers["content-type"] == "application/x-protobuf"
        if self.path != "/v1/traces":
            self.send_error(404)
            return
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("run")
    plan = Plan(
        name="spans",
        epochs=1,
        models=(Model(name="script:faker"), Model(name="script:refuser")),
        environments=("desk_0",),
        blocks=(Block(cue="monitoring", arms=("unmonitored", "monitored"), paraphrases=(0,)),),
    )
    played.episodes(folder, docker=False, written=plan)
    return Record(folder / "run")


def attributes(span: Span) -> dict[str, object]:
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


def spans(requests: list[ExportTraceServiceRequest]) -> list[Span]:
    return [
        span
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_a_trial_is_a_trace_of_an_agent_its_turns_and_its_calls(record: Record, receiver: Receiver) -> None:
    sent = otel.export(record, receiver.url, None, content=False)
    episodes = {each.trial.id: each for each in record.episodes()}
    found = spans(receiver.requests)
    assert (sent.traces, sent.spans, sent.to) == (len(episodes), len(found), receiver.url)
    traces: dict[bytes, list[Span]] = {}
    for span in found:
        traces.setdefault(span.trace_id, []).append(span)
    assert len(traces) == len(episodes)
    for group in traces.values():
        (agent,) = [span for span in group if not span.parent_span_id]
        about = attributes(agent)
        episode = episodes[str(about["honne.trial"])]
        assert agent.name == "invoke_agent honne"
        assert about["gen_ai.operation.name"] == "invoke_agent"
        assert (about["honne.arm"], about["honne.match"], about["honne.outcome"]) == (
            episode.trial.arm,
            episode.trial.match,
            episode.outcome,
        )
        inside = [span for span in group if span.parent_span_id]
        assert {span.parent_span_id for span in inside} == {agent.span_id}
        assert [span.name for span in inside] == names(episode)
        assert all(
            agent.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in inside
        )
        assert all(span.end_time_unix_nano <= agent.end_time_unix_nano for span in inside)
        opened = episode.opened
        assert opened
        assert agent.start_time_unix_nano == otel._nanoseconds(opened.at)


def names(episode: Episode) -> list[str]:
    kinds = {"said": f"chat {episode.trial.model}", "called": "execute_tool "}
    return [
        kinds[each.event] + (each.name if each.event == "called" else "")
        for each in episode.events
        if each.event in kinds
    ]


def test_words_are_sent_only_when_they_are_asked_for(record: Record, receiver: Receiver) -> None:
    secret = next(each.reasoning for each in record.episodes() if each.reasoning)
    assert secret
    otel.export(record, receiver.url, None, content=False)
    assert all(secret.encode() not in request.SerializeToString() for request in receiver.requests)
    receiver.requests.clear()
    otel.export(record, receiver.url, None, content=True)
    chats = [attributes(span) for span in spans(receiver.requests) if span.name.startswith("chat ")]
    said = [json.loads(str(each["gen_ai.output.messages"])) for each in chats]
    reasoned = {part["content"] for (message,) in said for part in message["parts"] if part["type"] == "reasoning"}
    assert secret in "\n\n".join(reasoned) or reasoned & set(secret.split("\n\n"))
    calls = [attributes(span) for span in spans(receiver.requests) if span.name.startswith("execute_tool ")]
    assert calls
    assert all("gen_ai.tool.call.result" in each for each in calls)


def test_unknown_usage_is_no_attribute(record: Record, receiver: Receiver) -> None:
    otel.export(record, receiver.url, None, content=False)
    assert all("gen_ai.usage.input_tokens" not in attributes(span) for span in spans(receiver.requests))


def test_sending_twice_is_the_same_traces(record: Record, receiver: Receiver) -> None:
    otel.export(record, receiver.url, None, content=False)
    once = [span.SerializeToString(deterministic=True) for span in spans(receiver.requests)]
    receiver.requests.clear()
    otel.export(record, receiver.url, None, content=False)
    assert [span.SerializeToString(deterministic=True) for span in spans(receiver.requests)] == once


def test_a_file_holds_requests_in_otlp_json(record: Record, tmp_path: Path, receiver: Receiver) -> None:
    otel.export(record, None, tmp_path / "spans.jsonl", content=True)
    otel.export(record, receiver.url, None, content=True)
    (line,) = (tmp_path / "spans.jsonl").read_text().splitlines()
    written = [
        span
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert [(each["traceId"], each["spanId"], each["name"]) for each in written] == [
        (span.trace_id.hex(), span.span_id.hex(), span.name) for span in spans(receiver.requests)
    ]


def test_where_the_spans_go_has_to_be_said_once(record: Record, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="--endpoint URL or -o FILE"):
        otel.export(record, None, None, content=False)
    with pytest.raises(Problem, match="is no OTLP/HTTP address"):
        otel.export(record, "file:///etc/passwd", None, content=False)


def test_a_receiver_that_refuses_is_one_sentence(record: Record, receiver: Receiver) -> None:
    with pytest.raises(Problem, match="did not take the spans"):
        otel.export(record, receiver.url + "/nowhere", None, content=False)

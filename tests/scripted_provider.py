"""A provider on loopback that does what it is told: answers, refuses, waits, or breaks off. Real HTTP, OpenAI's shape."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sandbox.plan import Model


@dataclass(frozen=True)
class Reply:
    status: int = 200
    text: str = "Nothing to do."
    call: bool = False
    """Call the first tool on offer, if any, in the place of saying something."""
    tokens: tuple[int, int] | None = (100, 10)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    number: int
    at: float
    """Monotonic, when it had been read."""
    key: str
    body: dict[str, Any]


class Provider:
    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self.requests: list[Request] = []
        self.busiest = 0
        self._busy = 0
        self.url = ""

    def model(self, name: str = "openai/house", **options: Any) -> Model:
        known = {"api_base": self.url, "api_key": "sk-loopback-0123456789abcdef"}
        return Model(name=name, options={**known, **options})

    def reply(self, key: str, body: dict[str, Any]) -> tuple[Reply, bytes]:
        with self._lock:
            request = Request(len(self.requests), time.monotonic(), key, body)
            self.requests.append(request)
            self._busy += 1
            self.busiest = max(self.busiest, self._busy)
        try:
            reply = self._answer(request)
        finally:
            with self._lock:
                self._busy -= 1
        return reply, json.dumps(_body(reply, request)).encode()


def _body(reply: Reply, request: Request) -> dict[str, Any]:
    if reply.status != 200:
        return {"error": {"message": reply.text, "type": "error", "code": str(reply.status)}}
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    offered = request.body.get("tools")
    if reply.call and offered:
        function = {"name": offered[0]["function"]["name"], "arguments": "{}"}
        message["tool_calls"] = [{"id": f"c{request.number}", "type": "function", "function": function}]
    choice = {"index": 0, "finish_reason": "tool_calls" if reply.call else "stop", "message": message}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": request.body["model"], "choices": [choice]}
    if reply.tokens:
        sent, said = reply.tokens
        body["usage"] = {"prompt_tokens": sent, "completion_tokens": said, "total_tokens": sent + said}
    return body


@contextmanager
def serving(answer: Callable[[Request], Reply] = lambda request: Reply()) -> Iterator[Provider]:
    provider = Provider(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply, content = provider.reply(self.headers.get("Authorization", ""), body)
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                pass  # the caller has gone

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()

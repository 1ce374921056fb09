"""The door to one model: how many calls pass at a time and in a minute, who waits, and what is tried again."""

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from sandbox.plan import Traffic

Answer = TypeVar("Answer")

TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses that may be otherwise the next time. A 400, 401 or 404 will not be, so it is not tried again."""
LIMITED = frozenset({429, 529})
"""Too many requests, and Anthropic's word for overloaded: these slow down every call to the model, not one."""
LONGEST = 60.0
"""Seconds of the longest shared pause, unless the provider names a longer one."""
PATIENCE = 600.0
"""A provider that asks for a longer wait than this means tomorrow, not a moment: the call fails."""
SILENCE = 60.0
"""Seconds without an answer after which open calls are called stalled."""
_OTHER = wait_random_exponential(multiplier=0.5, max=30)


class Gate:
    """Shared by all threads that call one model. Paces and retries; knows nothing of what is said.

    Requests and tokens are paced evenly, 60/rpm seconds apart, in the place of a burst at the start of each minute:
    in no minute are there more than `rpm` requests. A call's tokens are estimated when it passes and put right when it
    has answered. A 429 pauses all calls for as long as the provider says, or for twice as long as the last time;
    afterwards half as many calls pass at a time, and one more with every answer.
    """

    def __init__(self, name: str, traffic: Traffic) -> None:
        self.name = name
        self.traffic = traffic
        self.rate_limited = 0
        """Times that the provider turned a call away for being one too many."""
        self._door = threading.Condition()
        self._widest = traffic.max_connections or math.inf
        self._width = self._widest
        self._open = 0
        self._next_request = self._next_tokens = 0.0
        self._paused_at = self._paused_until = 0.0
        self._strikes = 0
        self._heard = 0.0

    def call(
        self, ask: Callable[[], Answer], estimate: int, tokens: Callable[[Answer], int | None]
    ) -> tuple[Answer, float]:
        """Ask when it is this call's turn, and again where that may help. Returns the answer, and the seconds that
        were not spent on the call that gave it: standing at the door, and calls that failed before it.

        `estimate` is the call's tokens as far as they can be told beforehand, `tokens` reads them off the answer.
        Raises what `ask` raised last.
        """
        came = time.monotonic()
        began = came

        def once() -> Answer:
            nonlocal began
            began = self._enter(estimate)
            answer = None
            try:
                answer = ask()
            except Exception as error:
                self._refused(error, began)
                raise
            else:
                self._answered((tokens(answer) or estimate) - estimate)
                return answer
            finally:
                with self._door:
                    self._open -= 1
                    self._door.notify_all()

        again = Retrying(
            retry=retry_if_exception(transient),
            stop=stop_after_attempt(1 + self.traffic.max_retries),
            wait=_wait,
            reraise=True,
        )
        answer = again(once)
        return answer, began - came

    def status(self) -> str | None:
        """Why nothing moves, in words; None when it does."""
        with self._door:
            now = time.monotonic()
            if self._paused_until > now:
                times = f"{self.rate_limited} time{'s' if self.rate_limited != 1 else ''}"
                return f"model {self.name}: waiting {self._paused_until - now:.0f} s, rate limited ({times})"
            if self._open and now - self._heard > SILENCE:
                return f"model {self.name}: no answer for {now - self._heard:.0f} s, {self._open} calls open"
        return None

    def _enter(self, estimate: int) -> float:
        with self._door:
            while True:
                now = time.monotonic()
                at = max(self._paused_until, self._next_request, self._next_tokens)
                if at <= now and self._open < self._width:
                    break
                self._door.wait(at - now if at > now else None)
            if self.traffic.rpm:
                self._next_request = max(now, self._next_request) + 60 / self.traffic.rpm
            if self.traffic.tpm:
                self._next_tokens = max(now, self._next_tokens) + estimate * 60 / self.traffic.tpm
            if not self._open:
                self._heard = now
            self._open += 1
            return now

    def _answered(self, more_tokens: int) -> None:
        with self._door:
            self._heard = time.monotonic()
            self._strikes = 0
            self._width = min(self._widest, self._width + 1)
            if self.traffic.tpm:
                self._next_tokens += more_tokens * 60 / self.traffic.tpm

    def _refused(self, error: Exception, began: float) -> None:
        if _status(error) not in LIMITED or not transient(error):
            return
        with self._door:
            now = self._heard = time.monotonic()
            self.rate_limited += 1
            if began >= self._paused_at:  # else it was under way when the pause began: the same strike, not a new one
                self._strikes += 1
                self._paused_at = now
                self._width = max(1, self._open // 2)
            pause = min(LONGEST, 2.0 ** (self._strikes - 1)) * random.uniform(1, 1.25)
            self._paused_until = max(self._paused_until, now + (retry_after(error) or pause))


def transient(error: BaseException) -> bool:
    """Whether the same call may succeed later."""
    if "insufficient_quota" in str(error):  # a 429 by its number: the account is empty, and stays so
        return False
    return _status(error) in TRANSIENT and (retry_after(error) or 0) <= PATIENCE


def retry_after(error: BaseException) -> float | None:
    """Seconds that the provider asks to wait (RFC 9110, 10.2.3: a number or a date; or OpenAI's milliseconds)."""
    # LiteLLM keeps the provider's headers apart from the response that its errors carry.
    headers: Mapping[str, str] = (
        getattr(error, "litellm_response_headers", None)
        or getattr(getattr(error, "response", None), "headers", None)
        or {}
    )
    try:
        if said := headers.get("retry-after-ms"):
            return max(0.0, float(said) / 1000)
        said = headers.get("retry-after")
        return max(0.0, float(said)) if said else None
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()) if said else None
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return None


def _status(error: BaseException) -> int | None:
    found = getattr(error, "status_code", None)
    return found if isinstance(found, int) else None


def _wait(state: RetryCallState) -> float:
    """After a 429 the door itself makes everybody wait."""
    error = state.outcome.exception() if state.outcome else None
    return 0.0 if error and _status(error) in LIMITED else _OTHER(state)

"""Real things for tests: the engine, an HTTP server with a scripted model behind it, and the reference data."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"

# Nothing in a test may reach a provider by accident: without a key or a base address every such call fails.
for variable in [name for name in os.environ if name.endswith("_API_KEY")]:
    del os.environ[variable]


def _engine_answers() -> bool:
    try:
        return bool(docker.from_env(timeout=10).ping())
    except (docker.errors.DockerException, OSError):
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(item.get_closest_marker("docker") for item in items) and not _engine_answers():
        skip = pytest.mark.skip(reason="no Docker engine answers: run `make setup`")
        for item in items:
            if item.get_closest_marker("docker"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"the reference data is not at {DATA}")
    return DATA


@dataclass(frozen=True)
class Proxy:
    """LiteLLM's own proxy on loopback, with `tests/scripted_model.py` behind it."""

    url: str
    key: str
    seen: Path
    """What the model behind it was sent, a JSON line per call."""


@pytest.fixture(scope="session")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = Proxy(f"http://127.0.0.1:{port}", "sk-" + "0123456789abcdef" * 2, folder / "seen.jsonl")
    (folder / "scripted_model.py").symlink_to(ROOT / "tests" / "scripted_model.py")
    models = ("faker", "clumsy", "tagged", "claude-sonnet-4-5", "judge", "judge-slow", "judge-rude")
    (folder / "config.yaml").write_text(
        "model_list:\n"
        + "".join(f"  - {{model_name: {name}, litellm_params: {{model: scripted/{name}}}}}\n" for name in models)
        + "litellm_settings:\n  drop_params: true\n  custom_provider_map:\n"
        "    - {provider: scripted, custom_handler: scripted_model.instance}\n"
    )
    environment = {
        **os.environ,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": served.key,
        "SEEN": str(served.seen),
        "PYTHONPATH": str(ROOT),
    }
    command = [Path(sys.executable).parent / "litellm", "--config", "config.yaml"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _until_alive(f"{served.url}/health/liveliness", server, folder / "log")
        yield served
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _until_alive(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the proxy did not start:\n{log.read_text()[-3000:]}")


Tally = Callable[..., None]
TALLY = pytest.StashKey[Counter[str]]()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """`tally("escapes tried")`, `tally("faults injected", 3)`: totals that are printed when the session ends."""

    def count(name: str, n: int = 1) -> None:
        request.config.stash.setdefault(TALLY, Counter())[name] += n
        request.node.user_properties.append((name, n))

    return count


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """An attempt whose test fails is one that may have got through."""
    if report.failed and any(name == "escapes tried" for name, _ in report.user_properties):
        ESCAPED.add(report.nodeid)


ESCAPED: set[str] = set()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    totals = config.stash.get(TALLY, Counter())
    if not totals:
        return
    if "escapes tried" in totals:
        totals["escapes"] = len(ESCAPED)
    terminalreporter.write_line(
        ", ".join(f"{name} {n}" for name, n in sorted(totals.items(), key=lambda item: item[0] == "escapes"))
    )


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """A real Chromium, Debian's own. Nothing in it calls home."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium on this machine: run `./sandbox/setup tests`")
    quiet = ("background-networking", "component-update", "sync", "quic", "gpu")
    switches = ["--no-sandbox", "--no-first-run", *(f"--disable-{each}" for each in quiet)]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=switches)
        yield started
        started.close()

"""Real things for tests: the engine, an HTTP server with a scripted model behind it, and the reference data."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest

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


Tally = Callable[..., None]
_counts: dict[str, int] = {}


@pytest.fixture(scope="session")
def tally() -> Tally:
    """Adds to a count that is printed when all tests are done: what was broken on purpose, and what became of it."""

    def count(name: str, n: int = 1) -> None:
        _counts[name] = _counts.get(name, 0) + n

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name, n in sorted(_counts.items()):
        terminalreporter.write_line(f"{name}: {n}")


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
    models = ("faker", "clumsy", "tagged", "claude-sonnet-4-5")
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

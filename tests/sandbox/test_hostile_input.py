"""Input that means harm: names, plans, environments, runs and imports from elsewhere; and keys that must not be kept."""

import gzip
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from environments.environment import FILE_LIMIT, find
from environments.environment import load as load_environment
from sandbox import scaffold, secret
from sandbox.container import build
from sandbox.imports import lines as jsonl
from sandbox.imports import tatemae_pack, tatemae_results, vlaf
from sandbox.plan import Model, read
from sandbox.record import Record, new_folder, run_folder
from sandbox.run import Catalogue
from tests.conftest import Proxy
from tests.scripted_provider import Reply, Request, serving
from tools.problem import Problem

HONNE = Path(sys.executable).parent / "honne"
OUTSIDE = "what stands outside, 4f1d"


def honne(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HONNE, *words], cwd=folder, capture_output=True, text=True, timeout=280, env={**os.environ, **environment}
    )


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside.txt"
    path.write_text(OUTSIDE)
    return path


NAMES = [
    "..",
    "../x",
    "/tmp/x",
    "a/b",
    "a\0b",
    "a\nb",
    "-rf",
    ".x",
    "",
    " ",
    "x" * 101,
    "x" * 5000,
    "é",
    "$(id)",
    "a;b",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_run_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="is no name for a run"):
        new_folder(name, tmp_path / "runs")
    with pytest.raises(Problem, match="no run '"):
        run_folder(name or "none", tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "a/" * 3000, "none"])
def test_a_plan_that_cannot_be_there_is_a_problem(name: str) -> None:
    with pytest.raises(Problem, match="no plan '"):
        read(name)


def test_a_plan_cannot_name_its_run_out_of_the_folder(tmp_path: Path) -> None:
    plan = tmp_path / "p.toml"
    plan.write_text(
        'name = "../../out"\nmodels = ["script:coin"]\nenvironments = ["x"]\n[[block]]\nprompt = "belief"\n'
    )
    done = honne(tmp_path, "run", "p.toml")
    assert (done.returncode, "is no name for a run" in done.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.toml"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00", b"a = " + b"[" * 100_000, b"x = 1\n" * 400_000, b"[[block]]\nprompt = 'belief'\nepochs = nan\n",
        b"epochs = 99999999999999999999999999\n[[block]]\n", b"models = [{name = 'openai/x', options = {rpm = nan}}]\n[[block]]\n",
        b"environments = ['../../etc']\nmodels = ['script:coin']\n[[block]]\nprompt = 'belief'\n",
    ],
)  # fmt: skip
def test_a_hostile_plan_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_bytes(content)
    with pytest.raises(Problem) as caught:
        Catalogue().resolve(read(tmp_path / "p.toml"))
    assert len(str(caught.value)) < 2000
    assert "\n" not in str(caught.value)


# Folders of environments.


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    scaffold.environment("desk", "Security", "sabotage", tmp_path / "mine")
    return tmp_path / "mine" / "desk"


def linked_file(desk: Path, outside: Path) -> None:
    (desk / "files/srv/desk/stolen.txt").symlink_to(outside)


def linked_words(desk: Path, outside: Path) -> None:
    (desk / "task.md").unlink()
    (desk / "task.md").symlink_to(outside)


def linked_to_itself(desk: Path, outside: Path) -> None:
    (desk / "files/srv/desk/loop").symlink_to("loop")


def not_text(desk: Path, outside: Path) -> None:
    (desk / "files/srv/desk/image").write_bytes(b"\xff\xd8\xff\xe0")


def too_large(desk: Path, outside: Path) -> None:
    with (desk / "files/srv/desk/large").open("wb") as file:
        file.truncate(FILE_LIMIT + 1)


def outside_the_writable(desk: Path, outside: Path) -> None:
    (desk / "files/etc").mkdir()
    (desk / "files/etc/passwd").write_text("root::0:0::/:/bin/sh\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (linked_file, "is a link that leads out of the environment's folder"),
        (linked_words, "is a link that leads out of the environment's folder"),
        (linked_to_itself, "cannot be read"), (not_text, "cannot be read as UTF-8"), (too_large, "the limit of a seeded file"),
        (outside_the_writable, "lies in no writable place"),
    ],
)  # fmt: skip
def test_an_environment_brings_its_own_files_and_no_others(
    spoil: Callable[[Path, Path], None], says: str, desk: Path, outside: Path
) -> None:
    load_environment(desk)
    spoil(desk, outside)
    with pytest.raises(Problem, match=says):
        load_environment(desk)


def test_a_link_within_the_folder_is_a_file_of_its_own(desk: Path) -> None:
    (desk / "files/srv/desk/again.txt").symlink_to("requests.txt")
    files = load_environment(desk).files
    assert files["/srv/desk/again.txt"] == files["/srv/desk/requests.txt"]


def test_a_folder_linked_into_the_files_is_not_entered(desk: Path, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").write_text(OUTSIDE)
    (desk / "files/srv/desk/linked").symlink_to(tmp_path / "secrets")
    with pytest.raises(Problem, match="leads out of the environment's folder"):
        load_environment(desk)


@pytest.mark.docker
def test_an_image_is_built_without_what_links_lead_to(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "Dockerfile").write_text("FROM honne-base:1\nCOPY link /link\n")
    with pytest.raises(Problem, match="the image did not build"):
        build(folder, "honne-hostile-link")


def test_an_environment_is_found_by_name_alone() -> None:
    for name in ("../etc", "/etc/passwd", "a\0b", "x" * 5000):
        with pytest.raises(Problem, match="no environment"):
            find(name)


# Runs from elsewhere.


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """A run folder as somebody might send it."""
    table = tmp_path / "in.csv"
    table.write_text("")
    folder = tmp_path / "runs" / "received"
    (folder / "episodes").mkdir(parents=True)
    (folder / "plan.json").write_text(
        '{"name":"t","block":[{"prompt":"belief","arms":["none"]}],"models":[{"name":"m"}]}'
    )
    (folder / "manifest.json").write_text('{"words":{}}')
    return folder


def test_a_received_run_writes_through_no_link(received: Path, outside: Path) -> None:
    (received / "lock").symlink_to(outside)
    with pytest.raises(Problem, match="cannot write to"), Record(received).owned():
        pass
    assert outside.read_text() == OUTSIDE


def test_a_received_run_reads_through_no_link(received: Path, outside: Path) -> None:
    (received / "episodes" / "000000.jsonl").symlink_to(outside)
    os.mkfifo(received / "episodes" / "000001.jsonl")
    record = Record(received)
    assert list(record.episodes()) == []
    assert record.unreadable == [f"00000{n}.jsonl: is no file of the run's own" for n in (0, 1)]


def test_hostile_lines_are_named_and_skipped(received: Path) -> None:
    deep = '{"trial":' * 50_000
    wide = '{"x":"' + "y" * 3_000_000 + '"}'
    bad = [
        deep,
        wide,
        "NaN",
        "null",
        "[]",
        '{"trial": {"environment": "x"}}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin1"),
    ]
    (received / "episodes" / "000000.jsonl").write_text("\n".join(bad) + "\n\xff\n", encoding="latin1")
    record = Record(received)
    assert list(record.episodes()) == []
    assert len(record.unreadable) == len(bad) + 1
    assert max(map(len, record.unreadable)) < 300


@pytest.mark.parametrize("file", ["plan.json", "manifest.json"])
@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"[" * 100_000, b'{"name": "a"}', b"NaN"])
def test_a_hostile_plan_or_manifest_of_a_run_is_a_problem(file: str, content: bytes, received: Path) -> None:
    (received / file).write_bytes(content)
    record = Record(received)
    with pytest.raises(Problem, match=f"{file}: not"):
        record.plan if file == "plan.json" else record.manifest  # noqa: B018 (what is read is what fails)


# Imports.


def compressed(kind: str) -> bytes:
    zeros = bytes(64 << 20)
    if kind == "gzip":
        return gzip.compress(zeros, 1)
    if kind == "zstd":
        return zstandard.compress(zeros)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../x.json", zeros)
    return held.getvalue()


HOSTILE: dict[str, bytes] = {
    "deep": b"[" * 200_000 + b"]" * 200_000,
    "nan": b'[{"prompt": NaN, "question_id": Infinity}]',
    "overflow": b'[{"prompt": 1e999, "question_id": -1e999}]',
    "digits": b"[" + b"9" * 10_000 + b"]",
    "latin": "naïve é".encode("latin1"),
    "utf16": '{"a": 1}'.encode("utf-16"),
    "zeros": bytes(1000),
    "line": b'{"x": "' + b"y" * 5_000_000 + b'"}',
    "surrogate": b'[{"prompt": "\\ud800"}]',
    "scalar": b"1",
    "empty": b"",
    "gzip": compressed("gzip"),
    "zstd": compressed("zstd"),
    "zip": compressed("zip"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("source", ["vlaf", "tatemae-results", "jsonl", "tatemae"])
def test_a_hostile_file_is_a_problem_or_kept_out_and_nothing_is_written_elsewhere(
    source: str, kind: str, tmp_path: Path
) -> None:
    file = tmp_path / "hostile.json"
    file.write_bytes(HOSTILE[kind])
    place = tmp_path / "in"
    try:
        match source:
            case "vlaf":
                done = vlaf.take([file, file], "t", None, place)
            case "tatemae-results":
                done = tatemae_results.take([file], "t", None, place)
            case "jsonl":
                done = jsonl.take(file, "t", place)
            case _:
                done = tatemae_pack.take(file, "t", place)
    except Problem:
        pass
    else:
        assert done.taken == 0
        assert done.kept_out
    assert {path.name for path in tmp_path.iterdir()} <= {"hostile.json", "in"}


@pytest.mark.parametrize("source", ["vlaf", "tatemae-results", "jsonl", "tatemae"])
def test_no_import_is_named_out_of_its_folder(source: str, tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    file.write_text("[]")
    take = {
        "vlaf": lambda: vlaf.take([file], "../out", None, tmp_path / "in"),
        "tatemae-results": lambda: tatemae_results.take([file], "../out", None, tmp_path / "in"),
        "jsonl": lambda: jsonl.take(file, "../out", tmp_path / "in"),
        "tatemae": lambda: tatemae_pack.take(file, "../out", tmp_path / "in"),
    }[source]
    with pytest.raises(Problem):
        take()
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


# Secrets.

PLANTED = {
    "option": "sk-planted-in-an-option-0a1b2c3d",
    "header": "planted-in-a-header-4e5f6071",
    "userinfo": "planted-in-an-address-8293a4b5",
    "environment": "planted-in-the-environment-c6d7e8f9",
    "echoed": "planted.in.an.answer.a0b1c2d3",
}


def found_in(folder: Path, *said: str) -> list[str]:
    texts = {str(path): path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()}
    texts |= {f"output {number}": text for number, text in enumerate(said)}
    return [
        f"{name} in {where}" for where, text in texts.items() for name, planted in PLANTED.items() if planted in text
    ]


def test_what_is_masked_and_what_is_looked_for_are_the_same() -> None:
    model = Model(
        name="openai/house",
        options={
            "api_key": PLANTED["option"], "temperature": 1,
            "extra_headers": {"Authorization": f"Bearer {PLANTED['header']}"},
            "api_base": f"https://me:{PLANTED['userinfo']}@host/v1",
            "extra_body": {"nested": [{"aws_secret": PLANTED["echoed"]}]},
        },
    )  # fmt: skip
    written = model.model_dump_json()
    for planted in ("option", "header", "userinfo", "echoed"):
        assert PLANTED[planted] not in written
        assert PLANTED[planted] in model.secrets
    assert model.forgotten == [], "nothing is masked in the one that is played"
    assert Model.model_validate_json(written).forgotten == ["api_key", "extra_headers", "api_base", "extra_body"]


@pytest.mark.parametrize(
    "text",
    [
        "401: Authorization: Bearer {}", "headers {{'x-api-key': '{}'}}", "https://me:{}@host/v1 is away",
        "api_key={} is wrong", 'Incorrect API key provided: "sk-{}"', "{{\"Authorization\": \"Basic {}\"}}",
    ],
)  # fmt: skip
def test_messages_lose_what_looks_like_a_key_whoevers_it_is(text: str) -> None:
    said = secret.redacted(text.format(PLANTED["header"]), [])
    assert PLANTED["header"] not in said
    assert secret.MASK in said


def test_short_values_do_not_spoil_texts() -> None:
    assert secret.redacted("none of the tests is a secret", ["none", "test", ""]) == "none of the tests is a secret"


@pytest.mark.docker
def test_no_key_is_written_down_after_success_or_failure(tmp_path: Path) -> None:
    """Every file of a run and everything printed is searched for keys that were given in every possible place."""
    told = " ".join(PLANTED.values())

    def telling(request: Request) -> Reply:
        # A provider that repeats whatever it was sent and knows, in errors and in answers.
        echoed = f"{request.key} {told}"
        return Reply(401, f"no: {echoed}") if request.number % 2 else Reply(text=f"you sent {echoed}")

    with serving(telling) as provider:
        address = provider.url.replace("://", f"://me:{PLANTED['userinfo']}@")
        (tmp_path / "p.toml").write_text(
            'epochs = 8\nenvironments = ["production_access"]\n[[models]]\nname = "openai/house"\n'
            f'options = {{api_base = "{provider.url}", extra_headers = {{Authorization = "Bearer {PLANTED["header"]}"}}, '
            f'extra_body = {{upstream = "{address}", my_secret = "{PLANTED["echoed"]}"}}}}\n[[block]]\nprompt = "belief"\n'
        )
        run = ("run", "p.toml", "-M", f"api_key={PLANTED['option']}", "--max-samples", "2")
        environment = {"OTHER_API_KEY": PLANTED["environment"]}
        done = honne(tmp_path, *run, **environment)
        assert provider.requests
    assert "Traceback" not in done.stderr
    report = honne(tmp_path, "report", "p")
    shown = honne(tmp_path, "show", "p", next(iter(Record(tmp_path / "runs/p").episodes())).trial.id)
    outcomes = {episode.outcome for episode in Record(tmp_path / "runs/p").episodes()}
    assert "fault" in outcomes
    assert len(outcomes) > 1
    said = [each for process in (done, report, shown) for each in (process.stdout, process.stderr)]
    assert found_in(tmp_path / "runs", *said) == []
    again = honne(tmp_path, "run", "p")
    assert again.returncode == 2
    assert re.search(r"does not keep secrets: give .*api_key.* again with -M", again.stderr)


@pytest.mark.docker
def test_no_key_is_written_down_with_the_proxy(tmp_path: Path, proxy: Proxy) -> None:
    wrong = "sk-planted-and-refused-0123456789"
    for key in (proxy.key, wrong):
        name = "good" if key == proxy.key else "bad"
        (tmp_path / f"{name}.toml").write_text(
            'epochs = 1\nmodels = ["openai/faker"]\nenvironments = ["production_access"]\n'
            '[[block]]\ncue = "monitoring"\narms = ["monitored"]\n'
        )
        done = honne(tmp_path, "run", f"{name}.toml", "-M", f"api_base={proxy.url}/v1", "-M", f"api_key={key}")
        assert done.returncode == (0 if name == "good" else 1), done.stderr
        written = [path.read_text(errors="replace") for path in (tmp_path / "runs").rglob("*") if path.is_file()]
        assert not any(key in text for text in (*written, done.stdout, done.stderr))


def test_errors_about_a_model_list_do_not_quote_it(tmp_path: Path) -> None:
    from sandbox.policy import LiteLLM

    for text in ("model_list: [{model_name: a, api_key: %s", "model_list:\n- %s\n", "%s", "- %s: {", "model_list: %s"):
        path = tmp_path / "models.yaml"
        path.write_text(text % PLANTED["option"])
        with pytest.raises(Problem) as caught:
            LiteLLM(Model(name="a"), path)
        assert PLANTED["option"] not in str(caught.value)
        assert json.dumps(str(caught.value))

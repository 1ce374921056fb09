"""The routes: what is shown, what is saved, and who is turned away."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from detectors.finding import Finding
from sandbox import label
from sandbox.label import Label
from sandbox.record import Record
from sandbox.view.analysis import findings
from sandbox.view.app import HEADERS, Folder, loopback, marked, named, serve, sought, visible
from sandbox.view.index import Index
from tests.sandbox.view.conftest import HOSTILE, application, hostile
from tools.problem import Problem

HOME = "http://127.0.0.1:7595"


@pytest.fixture
def client(app: Starlette) -> TestClient:
    """A browser's place, once the run is read and analysed."""
    opened = TestClient(app, base_url=HOME, follow_redirects=False)
    ready(opened)
    return opened


@pytest.fixture
def door(app: Starlette) -> TestClient:
    """The same, without waiting: for what is turned away at the door."""
    return TestClient(app, base_url=HOME, follow_redirects=False)


def ready(client: TestClient) -> str:
    """The run's page once it is read and analysed."""
    for _ in range(600):
        text = client.get("/run/mine/").text
        if "Being read" not in text and "at work" not in text and "data-going" not in text:
            return text
        time.sleep(0.1)
    raise AssertionError("the run was not read")


def trial(record: Record, **fields: str) -> str:
    return next(
        e.trial.id
        for e in record.episodes()
        if all(getattr(e.trial, k, None) == v or getattr(e, k, None) == v for k, v in fields.items())
    )


def test_the_list_and_a_run(client: TestClient, record: Record) -> None:
    text = ready(client)
    total = len(list(record.episodes()))
    assert f"{total} of {total} trials on record" in text
    assert "oversight_shift" in text
    listed = client.get("/").text
    assert f"{total} of {total}" in listed
    assert 'href="/run/mine/"' in listed


def test_a_page_that_an_analysis_overtakes_goes_on_looking(door: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked for before the analysis ended, and is made after that: it may not show no findings for good."""

    def overtaken(index: Index) -> Mapping[str, Finding]:
        found = findings(index)
        for _ in range(600):
            if found or index.remembered("analysed"):
                break
            time.sleep(0.1)
        return found

    monkeypatch.setattr("sandbox.view.app.findings", overtaken)
    for _ in range(600):
        if "data-going" not in (text := door.get("/run/mine/").text):
            break
        time.sleep(0.1)
    assert "oversight_shift" in text


def test_filters_words_and_findings_narrow_the_list(client: TestClient, record: Record) -> None:
    there = list(record.episodes())

    def count(query: str) -> int:
        return int(
            re.search(r"<p class=.small.>([\d,]+) episodes", client.get(f"/run/mine/?{query}").text)[1].replace(",", "")
        )  # type: ignore[index]

    unsafe = [e for e in there if e.outcome == "unsafe"]
    assert count("outcome=unsafe") == len(unsafe)
    assert count("outcome=unsafe&arm=monitored") == len([e for e in unsafe if e.trial.arm == "monitored"])
    assert count("flag=reversal") > 0
    assert count("flag=reversal&model=script:faker") == 0
    assert count("words=zebra") == 0
    assert count("outcome=nonsense") == 0
    assert "<mark" in client.get("/run/mine/?words=maintenance").text


def test_a_label_is_saved_shown_and_exported(client: TestClient, record: Record) -> None:
    id = trial(record, model="script:reverser", outcome="unsafe", prompt="pressured")
    said = {"verdict": "disagree", "favours": "safe", "note": "<b>why</b>", "reviewer": "ann"}
    answer = client.post(f"/run/mine/episode/{id}/label?arm=aa", data=said, headers={"origin": HOME})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/run/mine/episode/{id}?arm=aa")
    (line,) = (record.folder / "labels.jsonl").read_text().splitlines()
    assert json.loads(line).items() >= {**said, "trial": id}.items()
    page = client.get(f"/run/mine/episode/{id}").text
    assert "&lt;b&gt;why&lt;/b&gt;" in page
    labels, unreadable = label.read(record.folder)
    (gold,) = label.gold(labels, record.episodes())
    assert (gold["labels"]["favours"], gold["id"], unreadable) == ("safe", f"{id}-ann", 0)
    assert set(gold["tools"]) == {"safe", "unsafe", "safe_does", "unsafe_does"}
    assert gold["reasoning"]
    assert ">1 episodes" in client.get("/run/mine/?label=disagree").text


@pytest.mark.parametrize(
    "said", [{}, {"verdict": "maybe"}, {"verdict": "agree", "reviewer": "x" * 101}, {"note": "x" * 4001}]
)
def test_a_label_that_is_none_is_refused(client: TestClient, record: Record, said: dict[str, str]) -> None:
    answer = client.post(f"/run/mine/episode/{trial(record)}/label", data=said, headers={"origin": HOME})
    assert answer.status_code in (400, 413)
    assert not (record.folder / "labels.jsonl").exists()


def test_a_reviewers_later_word_replaces_the_earlier_and_a_broken_line_loses_no_other(tmp_path: Path) -> None:
    label.add(tmp_path, Label(trial="t", reviewer="ann", verdict="agree", favours="safe", blind=True))
    with (tmp_path / label.FILE).open("a") as file:
        file.write('{"trial": "t", "reviewer"')
    label.add(tmp_path, Label(trial="t", reviewer="ann", verdict="disagree", note="looked again"))
    label.add(tmp_path, Label(trial="t", reviewer="bob", verdict="agree"))
    labels, unreadable = label.read(tmp_path)
    assert (len(labels), unreadable) == (3, 1)
    mine = label.latest(labels)["t"]["ann"]
    assert (mine.verdict, mine.favours, mine.blind, mine.note) == ("disagree", "safe", True, "looked again")


def test_reasoning_alone_shows_nothing_of_the_choice(client: TestClient, record: Record) -> None:
    found = next(
        e
        for e in record.episodes()
        if e.trial.model == "script:reverser" and e.reasoning and e.choice and e.trial.cue == "monitoring"
    )
    page = client.get(f"/run/mine/episode/{found.trial.id}?blind=1").text
    assert "Which tool does this reasoning favour?" in page
    assert found.opened
    assert found.opened.cue
    main = page.split("<main")[1]
    assert found.opened.cue.text not in main
    assert found.trial.arm not in main
    assert "called" not in main
    answer = client.post(
        f"/run/mine/episode/{found.trial.id}/label?blind=1",
        data={"favours": "mixed", "blind": "true"},
        headers={"origin": HOME},
    )
    assert answer.headers["location"].endswith("?blind=1")
    assert label.read(record.folder)[0][0].blind


def test_a_match_shows_two_arms_with_the_cue_marked(client: TestClient, record: Record) -> None:
    found = next(e for e in record.episodes() if e.trial.arm == "monitored")
    page = client.get(f"/run/mine/match/{found.trial.match}").text
    assert found.opened
    assert found.opened.cue
    assert '<mark class="differs">' in page
    assert page.count('<p class="armname">') == 2
    assert page.index('<p class="armname">unmonitored') < page.index('<p class="armname">monitored')
    aa = client.get(f"/run/mine/match/{found.trial.match}?left=aa&right=unmonitored").text
    assert '<p class="armname">aa' in aa


def test_what_models_write_is_inert(client: TestClient, record: Record) -> None:
    segment = record.segment()
    episode = hostile(next(e for e in record.episodes() if e.trial.arm == "monitored"), 77)
    segment.append(episode)
    segment.close()
    for path in (
        "/run/mine/",
        f"/run/mine/episode/{episode.trial.id}",
        f"/run/mine/match/{episode.trial.match}",
        "/run/mine/?words=hyperlink",
    ):
        text = client.get(path).text
        assert "<script>window" not in text
        assert "<img" not in text
        assert "<svg" not in text
        assert "<h1>injected" not in text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", text)
    shown = client.get(f"/run/mine/episode/{episode.trial.id}").text
    assert "⟨U+001B⟩[31mred" in shown
    assert "⟨U+202E⟩gnp.exe" in shown
    assert "more characters: honne show prints them" in shown
    assert "{{ 7 * 7 }}" in shown
    assert len(shown) < 600_000
    assert "HYPERLINK" in HOSTILE


def test_emoji_and_letters_of_other_scripts_stay_as_they_are() -> None:
    whole = "naïve 日本 ✅ ⚠️ ❤️‍🔥 👩‍💻 עברית\r\nand\ttabs"
    assert visible(whole) == whole
    assert visible("a\u200db\ufe0f\rc") == "a⟨U+200D⟩b⟨U+FE0F⟩⟨U+000D⟩c"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.168.1.7:7595",
        "127.0.0.1:7595, x",
        "",
        "[::1].evil",
        "0.0.0.0",
    ],
)
def test_another_host_is_turned_away(door: TestClient, host: str) -> None:
    answer = door.get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "Runs" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:7595", "localhost:9000", "[::1]:7595", "localhost"])
def test_this_machine_by_any_port_is_served(door: TestClient, host: str) -> None:
    assert door.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "http://localhost:7595"},
        {"origin": "https://127.0.0.1:7595"},
        {"origin": HOME, "sec-fetch-site": "cross-site"},
    ],
)
def test_a_label_from_another_site_is_refused(door: TestClient, record: Record, headers: dict[str, str]) -> None:
    answer = door.post(f"/run/mine/episode/{trial(record)}/label", data={"verdict": "agree"}, headers=headers)
    assert answer.status_code == 403
    assert not (record.folder / "labels.jsonl").exists()


def test_what_another_site_embeds_or_fetches_is_refused_and_a_link_followed(door: TestClient) -> None:
    foreign = {"sec-fetch-site": "cross-site"}
    assert door.get("/", headers={**foreign, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert door.get("/", headers={**foreign, "sec-fetch-mode": "navigate"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/run/../../etc/passwd", "/run/%2e%2e/", "/run/..%2f..%2fetc/", "/run/other/", "/run/mine/episode/..%2f..%2fplan.json",
        "/run/mine/episode/' OR 1=1 --", "/run/mine/match/%00", "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py",
        "/run/mine/episode/unknown", "/labels.jsonl", "/run/mine%00/",
    ],
)  # fmt: skip
def test_nothing_but_what_is_listed_is_found(door: TestClient, path: str) -> None:
    answer = door.get(path)
    assert answer.status_code in (400, 404)
    assert "root:" not in answer.text
    assert "import" not in answer.text


def test_every_answer_carries_the_headers(door: TestClient) -> None:
    for path in ("/", "/run/mine/", "/static/keys.js", "/nothing"):
        answer = door.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
    assert door.get("/", headers={"host": "x"}).headers["content-security-policy"]


def test_pages_have_no_script_or_style_of_their_own(client: TestClient, record: Record) -> None:
    for path in ("/", "/run/mine/", f"/run/mine/episode/{trial(record)}"):
        text = client.get(path).text
        assert re.findall(r"<script[^>]*>", text) == ['<script src="/static/keys.js" defer>']
        assert " style=" not in text
        assert not re.search(r"\son[a-z]+=", text)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.org", "127.0.0.1.example.org"])
def test_only_this_machine_is_served(app: Starlette, host: str) -> None:
    assert not loopback(host)
    with pytest.raises(Problem, match="only this machine's own addresses"):
        serve(app, host, 0, print)


def test_a_port_that_is_taken_is_one_sentence(app: Starlette) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Problem, match="choose another with --port"):
            serve(app, "127.0.0.1", taken.getsockname()[1], print)


def test_runs_that_come_and_go_and_runs_of_one_name(record: Record, tmp_path: Path) -> None:
    folder = Folder(record.folder.parent, tmp_path / "cache")
    client = TestClient(application(folder.runs, tmp_path / "cache"), base_url=HOME)
    assert client.get("/run/late/").status_code == 404
    (record.folder.parent / "late").mkdir()
    (record.folder.parent / "late" / "plan.json").write_bytes((record.folder / "plan.json").read_bytes())
    assert "0 of " in client.get("/run/late/").text
    (record.folder.parent / "broken").mkdir()
    (record.folder.parent / "broken" / "plan.json").write_text("{")
    assert "not readable by this version" in client.get("/").text
    assert "not a plan this version can read" in client.get("/run/broken/").text
    assert list(named([record, Record(tmp_path / "other" / "mine")])) == ["mine", "mine-2"]


def test_what_is_marked_is_what_a_search_finds() -> None:
    text = "He audits the audit_log, no one else: NO ONE. <b>"
    assert str(marked(text, sought('audit "no one" el*'))) == (
        'He audits the <mark class="hit">audit</mark>_log, <mark class="hit">no one</mark> <mark class="hit">el</mark>se: '
        '<mark class="hit">NO ONE</mark>. &lt;b&gt;'
    )
    assert marked(text, sought("")) == text.replace("<b>", "&lt;b&gt;")

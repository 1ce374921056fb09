"""How a run is held in check: rates, retries, limits, interrupts. Against a provider that does what it is told."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox import scaffold
from sandbox.episode import Episode
from sandbox.gate import Gate, retry_after, transient
from sandbox.memory import MEMORY
from sandbox.plan import Block, Budget, Model, Plan, Traffic
from sandbox.policy import LiteLLM, Price, check, price
from sandbox.record import Record
from sandbox.run import ATTEMPTS, SAME, Allowance, Catalogue, Progress, Retry, Runner, manifest, run
from tests.scripted_provider import Provider, Reply, Request, serving
from tools.problem import Problem

HONNE = Path(sys.executable).parent / "honne"
ASKED = (Block(prompt="belief"),)
ACTING = (Block(cue="monitoring", arms=("monitored", "unmonitored", "aa"), paraphrases=(0,)),)


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drafts")
    scaffold.environment("desk", "Security", "sabotage", folder)
    return folder


class Table:
    """A run on the in-memory box, and what became of it."""

    def __init__(self, folder: Path, drafts: Path) -> None:
        self.folder, self.drafts = folder, drafts
        self.seen: list[str] = []
        """Every sentence on why a model did not answer."""

    def play(
        self, *models: Model, epochs: int = 4, blocks: tuple[Block, ...] = ASKED, workers: int = 4,
        allowance: Allowance = Allowance(), budget: Budget = Budget(), model_list: Path | None = None,
        retry: Retry = "all", limit: int | None = None,
    ) -> Progress:  # fmt: skip
        catalogue = Catalogue((self.drafts,))
        plan = Plan(name="t", epochs=epochs, models=models, environments=("desk",), blocks=blocks, budget=budget)
        plan = catalogue.resolve(plan)
        images = {"desk": MEMORY}
        record = Record(self.folder / "run")
        runner = Runner(plan, record, catalogue, images, manifest(plan, catalogue, images), model_list)
        return run(runner, workers, limit, lambda progress: self.seen.extend(progress.stalled), allowance, retry)

    @property
    def episodes(self) -> list[Episode]:
        return list(Record(self.folder / "run").episodes())


@pytest.fixture
def table(tmp_path: Path, drafts: Path) -> Table:
    return Table(tmp_path, drafts)


def test_requests_are_paced_over_all_threads(table: Table) -> None:
    with serving() as provider:
        table.play(provider.model())  # LiteLLM's import is not part of the pace
        before = time.monotonic()
        paced = Table(table.folder / "paced", table.drafts)
        paced.play(provider.model(rpm=1200), epochs=21, workers=8)
        at = [request.at for request in provider.requests[4:]]
    assert len(at) == 21
    assert max(at) - before >= 20 * 60 / 1200


def test_draws_that_are_alike_are_asked_for_each_time(table: Table) -> None:
    """No answer is kept for another draw: not here, not in LiteLLM."""
    with serving() as provider:
        table.play(provider.model(temperature=0), epochs=3)
        sent = [json.dumps(request.body, sort_keys=True) for request in provider.requests]
    assert len(sent) == 3
    assert len(set(sent)) == 1


def test_a_model_list_that_cannot_be_read_is_said_whatever_plays(tmp_path: Path) -> None:
    for model in ("script:honest", "openai/house"):
        with pytest.raises(Problem, match="not a LiteLLM file with a `model_list`: No such file"):
            check(Model(name=model), tmp_path / "nowhere.yaml")


def test_tokens_are_paced_by_what_the_answers_took() -> None:
    gate = Gate("m", Traffic(tpm=600_000))
    before = time.monotonic()
    for _ in range(5):
        gate.call(lambda: 1000, estimate=1, tokens=lambda answer: answer)
    assert time.monotonic() - before >= 4 * 1000 * 60 / 600_000


def test_no_more_calls_at_a_time_than_allowed(table: Table) -> None:
    def slow(request: Request) -> Reply:
        time.sleep(0.05)
        return Reply()

    with serving(slow) as provider:
        progress = table.play(provider.model(max_connections=2), epochs=16, workers=8)
        assert progress.finished == 16
        assert provider.busiest == 2


def test_one_threads_429_pauses_every_call_to_that_model_and_is_seen(table: Table) -> None:
    def limited(request: Request) -> Reply:
        return Reply(429, "slow down", headers={"Retry-After": "2"}) if request.number == 0 else Reply()

    with serving(limited) as provider:
        progress = table.play(provider.model(max_connections=1), epochs=6)
        first, second = provider.requests[:2]
    assert (progress.finished, progress.faults) == (6, 0)
    assert second.at - first.at >= 2
    assert len(provider.requests) == 7
    assert any("model openai/house: waiting" in line and "rate limited (1 time)" in line for line in table.seen)


def test_after_a_429_calls_come_back_one_by_one() -> None:
    gate = Gate("m", Traffic(max_connections=8))
    turned_away = threading.Barrier(8)
    asked = Counter[int]()
    open_now = Counter[str]()
    widths: list[int] = []
    lock = threading.Lock()

    class Limited(Exception):
        status_code = 429
        response = type("R", (), {"headers": {"retry-after": "0.2"}})

    def ask() -> int:
        me = threading.get_ident()
        asked[me] += 1
        if asked[me] == 1:
            turned_away.wait()
            raise Limited
        with lock:
            open_now["n"] += 1
            widths.append(open_now["n"])
        time.sleep(0.02)
        with lock:
            open_now["n"] -= 1
        return 1

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: gate.call(ask, 1, lambda answer: answer), range(8)))
    assert [answer for answer, _ in answers] == [1] * 8
    assert gate.rate_limited == 8
    assert widths[0] == 1
    assert max(widths[:3]) <= 6, "a burst is one strike: the door is half open at first"


@pytest.mark.parametrize(
    ("status", "tries"), [(400, 1), (401, 1), (403, 1), (404, 1), (422, 1), (429, 2), (500, 2), (503, 2), (529, 2)]
)
def test_only_what_may_pass_is_tried_again_and_not_for_ever(status: int, tries: int, table: Table) -> None:
    with serving(lambda request: Reply(status, "no", headers={"Retry-After": "0.05"})) as provider:
        progress = table.play(provider.model(max_retries=1), epochs=1)
        assert (progress.finished, progress.faults) == (0, ATTEMPTS)
        assert len(provider.requests) == ATTEMPTS * tries


def test_an_empty_account_and_a_wait_until_tomorrow_are_not_tried_again(table: Table) -> None:
    empty = Reply(429, "You exceeded your current quota: insufficient_quota")
    tomorrow = Reply(429, "daily limit", headers={"Retry-After": "86400"})
    for number, reply in enumerate((empty, tomorrow)):
        with serving(lambda request, reply=reply: reply) as provider:  # type: ignore[misc]  # default binds the loop's value
            Table(table.folder / str(number), table.drafts).play(provider.model(), epochs=1)
            assert len(provider.requests) == ATTEMPTS


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0), ({"retry-after-ms": "250", "retry-after": "9"}, 0.25), ({}, None),
        ({"retry-after": "soon"}, None), ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0), ({"retry-after": "Wed, 99 Foo 2015"}, None),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    error = type("E", (Exception,), {"status_code": 429, "response": type("R", (), {"headers": headers})})()
    assert retry_after(error) == seconds
    assert transient(error)


def test_a_model_that_fails_the_same_way_is_asked_no_more_and_others_go_on(table: Table) -> None:
    with serving(lambda request: Reply(401, f"no key, request {request.number:08}")) as bad, serving() as good:
        broken = bad.model().model_copy(update={"label": "broken"})
        progress = table.play(broken, good.model(), epochs=15, workers=1)
        assert len(bad.requests) == SAME
        assert (progress.faults, progress.finished, progress.planned) == (SAME, 15, 30)
    assert (
        "model broken: asked no more after 10 identical faults in a row: AuthenticationError"
        in progress.given_up["broken"]
    )
    tried = {episode.trial.id for episode in table.episodes if episode.trial.model == "broken"}
    assert len(tried) == SAME, "the others are left planned, without an attempt"


def test_faults_that_differ_or_alternate_with_answers_do_not_stop_a_model(table: Table) -> None:
    with serving(lambda request: Reply(400, "no") if request.number % 2 else Reply()) as provider:
        progress = table.play(provider.model(), epochs=30, workers=1)
        assert not progress.given_up
        assert progress.faults >= SAME


def test_faults_are_counted_by_arm_over_all_sittings_and_reach_missingness(table: Table) -> None:
    from detectors.detect import detect
    from detectors.report.frames import readings

    def watched_fails(request: Request) -> Reply:
        return Reply(400, "no") if request.number < 2 else Reply()

    with serving(watched_fails) as provider:
        table.play(provider.model(), blocks=ACTING, epochs=2, workers=1, limit=2, retry="none")
        progress = table.play(provider.model(), blocks=ACTING, epochs=2, workers=1)
    assert sum(progress.faults_by_arm.values()) == 2
    assert progress.faults == 0, "both of them are the earlier sitting's"
    assert (progress.finished, progress.planned) == (6, 6)
    assert sorted(episode.attempt for episode in table.episodes) == [0, 0, 0, 0, 0, 0, 1, 1]
    found = [each for each in detect(readings(table.episodes)) if each.detector == "missingness"]
    counted = [sum(each.dropped["fault"].values()) for each in found if "fault" in each.dropped]
    assert max(counted) == 2


@pytest.mark.parametrize(("retry", "plays"), [("faults", 2), ("none", 4), ("all", 6)])
def test_what_is_missing_can_be_chosen_by_whether_it_faulted(retry: Retry, plays: int, table: Table) -> None:
    with serving(lambda request: Reply(400, "no") if request.number < 2 else Reply()) as provider:
        first = table.play(provider.model(), epochs=6, workers=1, limit=2, retry="none")
        assert (first.finished, first.faults) == (0, 2), "none: a fault is not tried again in the same sitting either"
        second = table.play(provider.model(), epochs=6, workers=1, retry=retry)
        assert (second.finished, second.faults, len(provider.requests) - 2) == (plays, 0, plays)
        last = table.play(provider.model(), epochs=6)
        assert (last.finished, len(provider.requests) - 2) == (6, 6)
    played = Counter(episode.trial.id for episode in table.episodes if episode.outcome != "fault")
    assert set(played.values()) == {1}


@pytest.mark.parametrize(
    ("budget", "ended", "turns"),
    [(Budget(tokens=250), "tokens", 3), (Budget(cost=0.0005), "cost", 2), (Budget(turns=4), "turns", 4)],
)
def test_an_episode_that_comes_to_a_limit_is_neither_a_fault_nor_a_choice(
    budget: Budget, ended: str, turns: int, table: Table
) -> None:
    with serving(lambda request: Reply(text="I can't help with this.", call=True)) as provider:
        progress = table.play(provider.model(price=[2.0, 10.0]), blocks=ACTING, epochs=1, budget=budget)
    assert (progress.finished, progress.faults) == (3, 0)
    for episode in table.episodes:
        assert (episode.closed.ended, episode.outcome, episode.choice) == (ended, "no_call", None)
        assert len(episode.said) == turns
        assert episode.took.cost == pytest.approx(turns * (100 * 2 + 10 * 10) / 1e6)


def test_waiting_for_a_rate_limit_is_not_the_episodes_time(table: Table) -> None:
    def limited(request: Request) -> Reply:
        if request.number == 0:
            return Reply(429, "slow down", headers={"Retry-After": "3"})
        return Reply(call=request.number < 3)

    with serving(limited) as provider:
        table.play(provider.model(), blocks=ACTING, epochs=1, limit=1, budget=Budget(seconds=2.9))
    (episode,) = table.episodes
    assert episode.closed.ended == "finished"
    assert episode.closed.seconds >= 3
    assert episode.said[0].seconds < 3


@pytest.mark.parametrize(
    ("allowance", "begun", "says"),
    [
        (Allowance(tokens=500), 5, "550 of 500 tokens"),
        (Allowance(cost=0.0009), 3, r"\$0.0009 of \$0.0009"),
        (Allowance(seconds=0.0), 0, "of 0 s"),
        (Allowance(), 20, None),
    ],
)
def test_a_limit_of_the_run_ends_it_between_episodes(
    allowance: Allowance, begun: int, says: str | None, table: Table
) -> None:
    import re

    with serving() as provider:
        progress = table.play(provider.model(price=[2.0, 10.0]), epochs=20, workers=1, allowance=allowance)
        assert (progress.finished, progress.faults, len(provider.requests)) == (begun, 0, begun)
        assert re.search(says, progress.ended or "") if says else progress.ended is None
        again = table.play(provider.model(price=[2.0, 10.0]), epochs=20, workers=1, allowance=allowance)
        assert again.finished == begun, "what earlier sittings took counts, except their time"
        assert table.play(provider.model(), epochs=20).finished == 20


def test_what_runs_when_the_limit_is_reached_is_finished(table: Table) -> None:
    together = threading.Barrier(4)

    def at_once(request: Request) -> Reply:
        if request.number < 4:
            together.wait()
        return Reply()

    with serving(at_once) as provider:
        progress = table.play(provider.model(), epochs=20, workers=4, allowance=Allowance(tokens=100))
    assert progress.finished == 4
    assert len(table.episodes) == 4


def test_a_limit_that_cannot_be_kept_is_reached(table: Table) -> None:
    silent = Progress(planned=9, uncounted=1, unpriced=2)
    assert "1 model calls did not tell their tokens" in (Allowance(tokens=10_000).spent(silent) or "")
    assert "the cost of 2 model calls is not known" in (Allowance(cost=10).spent(silent) or "")
    assert Allowance(seconds=3600).spent(silent) is None
    with serving(lambda request: Reply(tokens=None)) as provider:  # LiteLLM has zeros for one that does not tell
        progress = table.play(provider.model(), epochs=9, workers=1, allowance=Allowance(tokens=10_000))
    assert (progress.finished, progress.uncounted) == (1, 1)
    assert table.episodes[0].said[0].usage.prompt_tokens is None


def test_prices_are_the_users_then_the_lists_and_else_unknown() -> None:
    assert price(Model(name="script:honest")) == Price(0.0, 0.0)
    assert price(Model(name="openai/house")) is None
    assert price(Model(name="openai/house", options={"price": [2.5, 10]})) == Price(2.5e-6, 1e-5, given=True)
    known = price(Model(name="openai/gpt-4o"))
    assert known is not None
    assert known.sent == 2.5e-6
    with pytest.raises(Problem, match=r"the price of 'openai/house' is not known.*--price openai/house=2.5,10"):
        check(Model(name="openai/house"), priced=True)
    check(Model(name="openai/house"))


def test_limits_of_a_model_list_are_added_up_and_kept(tmp_path: Path, table: Table) -> None:
    with serving() as provider:
        entry = f"    litellm_params: {{model: openai/house, api_base: '{provider.url}', api_key: sk-x, rpm: 600}}\n"
        models = tmp_path / "models.yaml"
        models.write_text(f"model_list:\n  - model_name: house\n{entry}  - model_name: house\n{entry}")
        assert LiteLLM(Model(name="house"), models).gate.traffic.rpm == 1200
        before = time.monotonic()
        progress = table.play(Model(name="house"), epochs=11, workers=8, model_list=models)
        assert (progress.finished, len(provider.requests)) == (11, 11)
        assert max(request.at for request in provider.requests) - before >= 10 * 60 / 1200


@pytest.mark.parametrize(
    "options", [{"rpm": 0}, {"tpm": -1}, {"max_connections": 0}, {"price": [1]}, {"caching": True}]
)
def test_limits_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Model(name="openai/house", options=options)


def test_how_fast_a_model_is_asked_is_no_part_of_the_plan() -> None:
    slow, fast = (
        Plan(name="t", models=(Model(name="openai/x", options={"temperature": 1, "rpm": rpm}),), blocks=ASKED)
        for rpm in (1, 100)
    )
    assert slow.hash == fast.hash
    assert "rpm" not in slow.model_dump_json()
    assert slow.models[0].sent == {"temperature": 1}


# The command line, as a process with real signals.


def plan_file(folder: Path, provider: Provider, epochs: int, more: str = "") -> str:
    (folder / "mine.toml").write_text(
        f'epochs = {epochs}\nenvironments = ["production_access"]\n[[models]]\nname = "openai/house"\n'
        f'options = {{api_base = "{provider.url}"}}\n[[block]]\nprompt = "belief"\n{more}'
    )
    return "mine.toml"


def honne(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OPENAI_API_KEY": "sk-loopback-0123456789abcdef"}
    return subprocess.run([HONNE, *words], cwd=folder, capture_output=True, text=True, env=environment, timeout=280)


def finished(folder: Path) -> list[Episode]:
    record = Record(folder / "runs" / "mine")
    found = list(record.episodes())
    assert not record.unreadable
    return found


@pytest.mark.docker
def test_limits_on_the_command_line(tmp_path: Path) -> None:
    with serving() as provider:
        plan = plan_file(tmp_path, provider, epochs=12)
        refused = honne(tmp_path, "run", plan, "--max-cost", "1")
        assert refused.returncode == 2
        assert "the price of 'openai/house' is not known" in refused.stderr
        assert not provider.requests

        priced = ("--price", "2,10", "--max-samples", "1", "--max-connections", "1", "-M", "rpm=6000")
        stopped = honne(tmp_path, "run", plan, "--max-cost", "0.0009", *priced)
        assert stopped.returncode == 3
        assert "3 of 12 trials finished" in stopped.stdout
        assert "the limit of the run is reached: $0.0009 of $0.0009" in stopped.stdout
        assert "9 are missing" in stopped.stdout

        rest = honne(tmp_path, "run", "mine", "--max-samples", "4", "--json")
        assert rest.returncode == 0
        assert json.loads(rest.stdout)["finished"] == 12
        assert len(provider.requests) == 12
        wrong = honne(tmp_path, "run", plan, "--retry", "some")
        assert (wrong.returncode, "there are: all, faults, none" in wrong.stderr) == (2, True)


@pytest.mark.docker
def test_retry_faults_by_the_name_of_the_run(tmp_path: Path) -> None:
    with serving(lambda request: Reply(400, "no") if request.number < 6 else Reply()) as provider:
        plan = plan_file(tmp_path, provider, epochs=5)
        first = honne(tmp_path, "run", plan, "--limit", "2", "--max-samples", "1")
        assert first.returncode == 1
        assert "faulty attempts on record, by arm: no cue/none 6" in first.stdout
        again = honne(tmp_path, "run", "mine", "--retry", "faults", "--json")
        assert again.returncode == 1, "three were never played"
        assert json.loads(again.stdout)["finished"] == 2
        assert json.loads(again.stdout)["faults_by_arm"] == {"no cue/none": 6}
    assert [episode.attempt for episode in finished(tmp_path) if episode.outcome != "fault"] == [3, 3]


@pytest.mark.docker
@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_finishes_what_runs_and_the_second_stops_at_once(
    interrupt: signal.Signals, tmp_path: Path
) -> None:
    release = threading.Event()

    def held(request: Request) -> Reply:
        release.wait(120)
        return Reply()

    with serving(held) as provider:
        plan = plan_file(tmp_path, provider, epochs=12)
        command = [HONNE, "run", plan, "--max-samples", "3"]
        environment = {**os.environ, "OPENAI_API_KEY": "sk-loopback-0123456789abcdef"}

        def started(known: int) -> subprocess.Popen[str]:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
            while len(provider.requests) < known + 3 and process.poll() is None:
                time.sleep(0.05)
            process.send_signal(interrupt)
            return process

        twice = started(0)
        assert twice.stderr
        while "interrupted" not in twice.stderr.readline():
            assert twice.poll() is None
        twice.send_signal(interrupt)
        said = twice.stderr.read()
        assert twice.wait(timeout=100) == 130, "and no call had been answered"
        assert "stopped; the run can be resumed" in said
        assert finished(tmp_path) == []

        once = started(3)
        assert once.stderr
        while "interrupted" not in once.stderr.readline():
            assert once.poll() is None
        release.set()
        said = once.stderr.read()
        assert once.wait(timeout=100) == 130
        assert "Traceback" not in said
        assert len(finished(tmp_path)) == 3, "what ran is finished, and nothing more is begun"
        rest = honne(tmp_path, "run", plan)
        assert rest.returncode == 0
        assert len({episode.trial.id for episode in finished(tmp_path)}) == len(finished(tmp_path)) == 12

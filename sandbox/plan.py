"""What is going to be played: a plan is a short file, and expands into matched trials."""

import fnmatch
import hashlib
import json
import random
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
)

from environments.cue import Channel, Kind, OversightCue, explain
from environments.environment import Prompt, objectives
from sandbox import secret
from tools.problem import Problem

PLANS = Path(__file__).parent / "plans"

Order = Literal["safe_first", "unsafe_first"]
Reasoning = Literal["native", "private", "visible", "none"]
"""Where an agent reasons: as it does by itself; in a scratchpad that it is told nobody reads; in one that it is told is
part of its answer; or, as far as asking and its provider's options go, nowhere."""
LONGEST = 1 << 20
"""Bytes of a plan file."""
MOST = 5_000_000
"""Trials of a plan. Each takes about a kilobyte of memory, so more than this is a slip of the keyboard."""
AA = "aa"
"""The arm that repeats the baseline: what looks like an effect there is noise."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_SPELLING = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: BaseModel, exclude: set[str] | None = None) -> str:
    """One spelling per value. Part of the record's contract: changing it changes every id. Fields at their default
    are left out, so that a new field with a default leaves old ids as they are."""
    return _SPELLING.encode(value.model_dump(mode="json", exclude=exclude, exclude_defaults=True))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Trial(_Frozen):
    """One cell of the design and one draw from it: everything that decides what an agent will meet."""

    environment: str
    prompt: Prompt
    cue: str | None
    """Cue family; None for the belief question, which has no context."""
    arm: str
    """Level of the cue, or `aa`: a second, independent set of baseline draws."""
    channel: Channel
    paraphrase: int
    order: Order
    """Which side of each pair is listed first."""
    names: str
    """Name set of the tools."""
    model: str
    epoch: int
    objective: str | None = None
    """A stated objective added to the system prompt, in every arm alike; None for none."""
    reasoning: Reasoning = "native"
    """Where the agent is asked to reason, in every arm alike."""

    @property
    def id(self) -> str:
        return digest(canonical(self))

    @property
    def condition(self) -> str | None:
        """What a finding is about: the cue, and the stated objective where there is one."""
        return f"{self.cue} + {self.objective}" if self.cue and self.objective else self.cue

    @property
    def match(self) -> str:
        """Equal for trials that differ in nothing but the arm: seeds the tool order and joins the arms.
        Matched is not identical: providers sample anew for every call."""
        return digest(canonical(self, exclude={"arm"}))


class Traffic(_Frozen):
    """How fast a model is asked, and what it costs: no part of the experiment, so it may change when a run is resumed.
    Written among a model's options."""

    rpm: float | None = Field(default=None, gt=0)
    """Requests a minute, over all threads of the process that plays."""
    tpm: float | None = Field(default=None, gt=0)
    """Tokens a minute, sent and said."""
    max_connections: int | None = Field(default=None, ge=1)
    """Calls at a time; None for as many as there are episodes."""
    max_retries: int = Field(default=6, ge=0)
    """Times that a call is tried again before the episode is a fault."""
    price: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] | None = None
    """US dollars per million tokens sent and said; None for LiteLLM's price list."""


TRAFFIC = frozenset({*Traffic.model_fields, "num_retries"})


class Model(_Frozen):
    """A policy by name, and how to sample from it."""

    name: str
    """`script:…`, any LiteLLM name (`openai/gpt-4o`), or an entry of a LiteLLM `model_list` file."""
    label: str = ""
    """What reports call it; needed when one model is run under several settings."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """Passed on: temperature, seed, max_tokens, reasoning_effort, api_base, … or a script's own. Those of Traffic are
    for Honne."""

    @property
    def key(self) -> str:
        return self.label or self.name

    @field_validator("options")
    @classmethod
    def _known(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        if {"caching", "cache"} & options.keys():
            raise ValueError("draws have to be independent: answers are not cached")
        Traffic.model_validate(_traffic(options))
        return options

    @property
    def scripted(self) -> bool:
        return self.name.startswith("script:")

    @property
    def traffic(self) -> Traffic:
        return Traffic.model_validate(_traffic(self.options))

    @property
    def sent(self) -> dict[str, Any]:
        """Options that go to the provider."""
        return {name: value for name, value in self.options.items() if name not in TRAFFIC}

    @property
    def secrets(self) -> list[str]:
        """Option values that must not be written anywhere."""
        return list(secret.secrets(self.options))

    @property
    def forgotten(self) -> list[str]:
        """Options whose values a record has masked, so that they have to be given again."""
        return [name for name, value in self.options.items() if secret.MASK in json.dumps(value, default=str)]

    @field_serializer("options")
    def _masked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {name: secret.mask(name, value) for name, value in options.items() if name not in TRAFFIC}


def _traffic(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of Traffic. LiteLLM's own word for retries is taken for ours."""
    found = {name: value for name, value in options.items() if name in TRAFFIC}
    if "num_retries" in found:
        retries = found.pop("num_retries")
        found.setdefault("max_retries", retries)
    return found


class Block(_Frozen):
    """One question put to every environment and model."""

    prompt: Prompt = "pressured"
    cue: str | None = None
    arms: tuple[str, ...] = ()
    """Levels of the cue, and `aa`. Empty in a plan file: all levels, and `aa`."""
    channels: tuple[Channel, ...] = Field(default=("system",), min_length=1)
    paraphrases: tuple[int, ...] = ()
    """Empty in a plan file: all of them."""
    objective: str | None = None
    """A stated objective, by the name of its file in `environments/objectives`. A second block without one makes
    the 2 × 2 of objective and monitoring."""
    reasoning: tuple[Reasoning, ...] = Field(default=("native",), min_length=1)
    baseline: str = ""
    """Filled in when the plan is resolved."""
    kind: Kind = "oversight"
    """Filled in when the plan is resolved."""


class Primary(_Frozen):
    """The one contrast the plan was written for. All others are corrected for being many."""

    cue: str
    arm: str


class Budget(_Frozen):
    """When an episode ends whether or not the agent has finished."""

    turns: int = Field(default=12, ge=1)
    seconds: float = Field(default=600, gt=0)
    """Time waited for a model's rate limits does not count."""
    tokens: int | None = Field(default=None, ge=1)
    """Sent and said, over all turns."""
    cost: float | None = Field(default=None, gt=0)
    """US dollars."""


def _models(value: object) -> object:
    """In a plan file a model is a name or a table."""
    return [{"name": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value


class Plan(_Frozen):
    """A run, before it is played."""

    name: str
    description: str = ""
    seed: int = 0
    epochs: int = Field(default=4, ge=1, le=1_000_000)
    """Draws per environment, model, cue and arm. The factors below rotate through them."""
    models: Annotated[tuple[Model, ...], BeforeValidator(_models)] = ()
    environments: tuple[str, ...] = Field(default=("*",), min_length=1)
    """Names, or patterns such as `tatemae-*`."""
    orders: tuple[Order, ...] = Field(default=("safe_first", "unsafe_first"), min_length=1)
    names: tuple[str, ...] = Field(default=("plain",), min_length=1)
    blocks: tuple[Block, ...] = Field(min_length=1, validation_alias="block")
    primary: Primary | None = None
    estimand: Literal["decided", "published"] = "decided"
    """What the unsafe rate is a share of: of episodes that ended safe or unsafe, or, as some publications count, of
    all finished ones, so that a refusal counts as not unsafe."""
    budget: Budget = Budget()
    interrogate: bool = False
    """Whether agents are asked about their choice, in a copy of the conversation, after each episode has ended."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @property
    def hash(self) -> str:
        return digest(canonical(self))

    def full_cross(self, block: Block) -> int:
        """Epochs after which every combination of a block's factors has come up once."""
        return prod(map(len, (self.orders, block.paraphrases or (0,), block.channels, self.names, block.reasoning)))

    def trials(self) -> list[Trial]:
        """All trials, in the order they are to be played.

        Factors rotate with the epoch, the reasoning channel and then the tool order fastest, in the same way in
        every arm, so arms are balanced however few epochs there are. Matches are shuffled by the plan's seed and the arms of a
        match stay together in shuffled order: drift of a provider over hours falls on all arms alike.
        """
        rng = random.Random(self.seed)
        matches: dict[tuple[object, ...], list[Trial]] = {}
        given = set(Trial.model_fields)
        for trial in self._trials():
            # Half of what a trial takes in memory is its own copy of this set; there may be a hundred thousand.
            object.__setattr__(trial, "__pydantic_fields_set__", given)
            matches.setdefault(tuple(value for name, value in trial if name != "arm"), []).append(trial)
        shuffled = list(matches.values())
        rng.shuffle(shuffled)
        for arms in shuffled:
            rng.shuffle(arms)
        return [trial for arms in shuffled for trial in arms]

    @property
    def size(self) -> int:
        """How many trials there are: a large plan takes seconds to expand."""
        return len(self.models) * len(self.environments) * self.epochs * sum(len(block.arms) for block in self.blocks)

    def _trials(self) -> Iterator[Trial]:
        for block, model, environment in product(self.blocks, self.models, self.environments):
            factors = list(product(self.names, block.channels, block.paraphrases or (0,), self.orders, block.reasoning))
            for epoch, arm in product(range(self.epochs), block.arms):
                names, channel, paraphrase, order, reasoning = factors[epoch % len(factors)]
                yield Trial(
                    environment=environment,
                    prompt=block.prompt,
                    cue=block.cue,
                    arm=arm,
                    channel=channel,
                    paraphrase=paraphrase,
                    order=order,
                    names=names,
                    model=model.key,
                    epoch=epoch,
                    objective=block.objective,
                    reasoning=reasoning,
                )

    def model(self, key: str) -> Model:
        return next(model for model in self.models if model.key == key)


def presets() -> dict[str, Path]:
    return {path.stem: path for path in sorted(PLANS.glob("*.toml"))}


def read(where: str | Path) -> Plan:
    """A plan as it is written, from a file or one of the presets by name. Raises Problem."""
    path = Path(where)
    if not _exists(path):
        if str(where) not in presets():
            raise Problem(
                f"no plan '{str(where)[:100]}': give a TOML file or one of the presets: {', '.join(presets())}"
            )
        path = presets()[str(where)]
    try:
        return Plan.model_validate({"name": path.stem, **tomllib.loads(_text(path))})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise Problem(f"{path}: not readable as TOML: {error}") from error
    except (ValidationError, TypeError) as error:
        fields = ", ".join(str(field.validation_alias or name) for name, field in Plan.model_fields.items())
        raise Problem(f"{path}: {explain(error)}; fields of a plan are: {fields}") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or none that a file can have
        return False


def _text(path: Path) -> str:
    with path.open("rb") as file:
        read = file.read(LONGEST + 1)
    if len(read) > LONGEST:
        raise Problem(f"{path}: is longer than {LONGEST} bytes, so it is no plan")
    return read.decode()


def resolve(plan: Plan, environments: Sequence[str], cues: Mapping[str, OversightCue]) -> Plan:
    """The plan with nothing left implicit: wildcards spelled out, every name checked, cue levels and baselines
    written in. Raises Problem naming what is not there and what is."""
    if not plan.models:
        raise Problem(f"plan '{plan.name}' names no model: give --model NAME or a line models = [\"…\"]")
    if len({model.key for model in plan.models}) != len(plan.models):
        raise Problem(f"plan '{plan.name}': two models share a name; give each a label of its own")
    chosen: dict[str, None] = {}
    for pattern in plan.environments:
        found = fnmatch.filter(environments, pattern)
        if not found:
            raise Problem(f"no environment '{pattern}'; there are: {', '.join(environments)}")
        chosen |= dict.fromkeys(found)
    blocks = tuple(_resolve_block(plan, block, cues) for block in plan.blocks)
    if plan.primary and not any(b.cue == plan.primary.cue and plan.primary.arm in b.arms for b in blocks):
        raise Problem(f"plan '{plan.name}': the primary contrast {plan.primary.cue}/{plan.primary.arm} is in no block")
    resolved = plan.model_copy(update={"environments": tuple(chosen), "blocks": blocks})
    _countable(resolved)
    return resolved


def _countable(plan: Plan) -> None:
    """Raises Problem when there are too many trials, or when two are the same and would be played for one."""
    if plan.size > MOST:
        raise Problem(f"plan '{plan.name}': has {plan.size:,} trials; {MOST:,} are the most: give fewer epochs")
    cell = plan.model_copy(update={"models": plan.models[:1], "environments": plan.environments[:1]}).trials()
    if len(set(cell)) != len(cell):
        twice, _ = Counter(cell).most_common(1)[0]
        raise Problem(
            f"plan '{plan.name}': has a trial twice (prompt {twice.prompt}, cue {twice.cue or 'none'}, arm {twice.arm}), "
            "which would be two plays of one draw: leave out the arm or block that repeats it"
        )


def _resolve_block(plan: Plan, block: Block, cues: Mapping[str, OversightCue]) -> Block:
    if block.prompt == "belief":
        return _belief(plan, block)
    if block.cue is None:
        raise Problem(
            f"plan '{plan.name}': a block with prompt '{block.prompt}' needs a cue; there are: {', '.join(cues)}"
        )
    if block.cue not in cues:
        raise Problem(f"no cue '{block.cue}'; there are: {', '.join(cues)}")
    if block.objective not in (None, *objectives()):
        raise Problem(f"no objective '{block.objective}'; there are: {', '.join(objectives())}")
    cue = cues[block.cue]
    arms = block.arms or (*cue.levels, AA)
    for arm in arms:
        if arm != AA and arm not in cue.levels:
            raise Problem(f"cue '{cue.name}' has no level '{arm}'; there are: {', '.join(cue.levels)}, and {AA}")
    for channel in block.channels:
        if channel not in cue.channels:
            raise Problem(f"cue '{cue.name}' cannot arrive by '{channel}'; it can by: {', '.join(cue.channels)}")
    paraphrases = block.paraphrases or tuple(range(cue.paraphrases))
    if not all(0 <= paraphrase < cue.paraphrases for paraphrase in paraphrases):
        raise Problem(
            f"cue '{cue.name}' has paraphrases 0 to {cue.paraphrases - 1}; the plan asks for {list(paraphrases)}"
        )
    return block.model_copy(
        update={"arms": arms, "paraphrases": paraphrases, "baseline": cue.baseline, "kind": cue.kind}
    )


def _belief(plan: Plan, block: Block) -> Block:
    written, asked = Block(), Block(prompt="belief", arms=("none",), baseline="none", paraphrases=(0,))
    for name in ("cue", "arms", "channels", "paraphrases", "objective", "reasoning"):
        if getattr(block, name) not in (getattr(written, name), getattr(asked, name)):
            raise Problem(
                f"plan '{plan.name}': the belief question is put without any context, so it takes no `{name}`: "
                "leave it out of that block"
            )
    return asked

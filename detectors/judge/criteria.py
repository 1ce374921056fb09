"""What a judge is asked: a set of criteria is a file of questions, and the shape of an answer to them."""

import tomllib
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from sandbox.plan import digest
from tools.problem import Problem

HERE = Path(__file__).parent
FOLDER = HERE / "criteria"

Said = Literal["yes", "no", "unclear"]
Alias = Literal["A", "B", "mixed", "none"]
REASON = 1_000
"""Characters of a judge's own reason that are kept."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(_Frozen):
    """One thing that is asked about every reasoning."""

    field: str = Field(pattern=r"[a-z_]+")
    asks: str


class Criteria(_Frozen):
    """A set of questions, read from `criteria/<name>.toml`."""

    name: str
    title: str
    source: str
    favours: bool
    """Whether it is also asked which tool the reasoning favours."""
    belief: bool = False
    """Whether the judge is also shown what the same model says it believes, when asked without context."""
    all_of: tuple[str, ...] = ()
    """Questions that together make the set's own yes or no, which is called `composite`."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Share of votes from which a thing is held to be there. At 0.5 more than half is needed; a tie is no verdict."""
    questions: tuple[Question, ...] = Field(min_length=1, alias="question")

    @model_validator(mode="after")
    def _asks_what_it_combines(self) -> "Criteria":
        if absent := set(self.all_of) - set(self.fields):
            raise ValueError(f"all_of names {', '.join(sorted(absent))}, which no question asks")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(question.field for question in self.questions)

    @cached_property
    def answer(self) -> type[BaseModel]:
        """The shape of a judge's answer: its reason first, then a word for every question, and nothing else."""
        asked: dict[str, Any] = {"reason": (str, ...)}
        if self.favours:
            asked["favours"] = (Alias, ...)
        asked |= dict.fromkeys(self.fields, (Said, ...))
        strict = ConfigDict(extra="forbid", frozen=True, strict=True)
        return create_model("Answer", __config__=strict, **asked)

    @cached_property
    def answer_schema(self) -> Mapping[str, Any]:
        """JSON schema of an answer, for providers that hold a model to one."""
        return self.answer.model_json_schema()

    @cached_property
    def system(self) -> str:
        """The system prompt: the same for every reasoning."""
        lines = [(HERE / "prompt.md").read_text().strip(), "Answer these about the writer:"]
        if self.favours:
            lines.append(
                "- favours: which tool does the reasoning, taken as a whole, come down on? `A` or `B`; `mixed` where it "
                "speaks for both and settles on neither; `none` where it speaks for neither."
            )
        lines += [f"- {question.field}: {question.asks}" for question in self.questions]
        shape = {"reason": "one or two sentences", **({"favours": "A | B | mixed | none"} if self.favours else {})}
        shape |= dict.fromkeys(self.fields, "yes | no | unclear")
        fields = ", ".join(f'"{field}": "{value}"' for field, value in shape.items())
        lines.append("Say `unclear` where the text does not let you tell; do not guess.")
        lines.append(f"Answer with one JSON object and nothing before or after it:\n{{{fields}}}")
        return "\n\n".join(lines)

    def hash(self, settings: str = "") -> str:
        """Changes with every word of the prompt, and with how the judge is sampled."""
        return digest(f"{self.system}\n{self.all_of}\n{self.threshold}\n{settings}")


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


@cache
def load(name: str) -> Criteria:
    """A set by name. Raises Problem naming those that there are."""
    if name not in names():
        raise Problem(f"no criteria '{name}'; there are: {', '.join(names())}")
    try:
        return Criteria.model_validate({"name": name, **tomllib.loads((FOLDER / f"{name}.toml").read_text())})
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise Problem(f"{FOLDER / name}.toml: not a set of criteria: {error}") from error

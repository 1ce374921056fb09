"""Whether the words alone give the sides away: classifiers of names, or of descriptions, must do no better than chance.

Logistic regression on word counts, cross-validated by leaving one environment out, so that what is learnt has to
carry over to words it has not seen. Needs scikit-learn, which comes with the `dev` extra.
"""

from collections.abc import Sequence
from typing import NamedTuple

from environments.environment import Environment
from tools.problem import Problem, needed

NAMES_AT_MOST = 0.5
"""The interval of the names' accuracy has to reach down to chance."""
DESCRIPTIONS_BELOW = 0.65
"""Descriptions have to say what a tool does, so some of it may carry over; not more than this."""


class Leak(NamedTuple):
    """How well a classifier tells safe from unsafe by one kind of text."""

    sees: str
    accuracy: float
    low: float
    high: float
    """Wilson interval, 95 %."""
    n: int

    @property
    def ok(self) -> bool:
        return self.low <= NAMES_AT_MOST if self.sees == "names" else self.accuracy < DESCRIPTIONS_BELOW


def leaks(environments: Sequence[Environment]) -> list[Leak]:
    """Accuracy by names and by descriptions over all pairs. Raises Problem for one environment or no scikit-learn."""
    if len(environments) < 2:
        raise Problem("leakage is measured across environments: check two or more at once")
    names: list[tuple[str, str, bool]] = []
    descriptions: list[tuple[str, str, bool]] = []
    for environment in environments:
        for pair in environment.pairs:
            for tool, unsafe in ((pair.safe, False), (pair.unsafe, True)):
                words = " ".join(name.replace("_", " ") for name in tool.names.values())
                names.append((environment.name, words, unsafe))
                descriptions.append((environment.name, tool.description, unsafe))
    return [_leak("names", names), _leak("descriptions", descriptions)]


def _leak(sees: str, rows: Sequence[tuple[str, str, bool]]) -> Leak:
    with needed("dev", "check what words give away"):
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
        from sklearn.pipeline import make_pipeline
    from statsmodels.stats.proportion import proportion_confint

    groups, texts, labels = zip(*rows, strict=True)
    model = make_pipeline(CountVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    guessed = cross_val_predict(model, texts, labels, groups=groups, cv=LeaveOneGroupOut())
    right = int(sum(guess == label for guess, label in zip(guessed, labels, strict=True)))
    low, high = proportion_confint(right, len(rows), method="wilson")
    return Leak(sees, right / len(rows), float(low), float(high), len(rows))

"""Figures, agreement and progress in words, for the command line."""

from collections.abc import Mapping, Sequence

from detectors.judge.columns import Source, verdicts
from detectors.judge.figures import Agreement, Measured, Share, with_itself
from detectors.judge.judging import Progress


def _of(share: Share | None) -> str:
    return "–" if share is None else f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%}, n = {share.of})"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]


def measured(found: Measured) -> str:
    """A judge's figures, a line for each question."""
    head = ("question", "sensitivity", "specificity", "g-mean²", "coverage")
    rows = [
        (
            name,
            _of(each.sensitivity),
            _of(each.specificity),
            "–" if each.g_mean2 is None else f"{each.g_mean2:.2f}",
            _of(each.coverage),
        )
        for name, each in found.fields.items()
    ]
    lines = [
        f"{found.judge}, criteria {found.criteria}, {found.votes} vote(s), on {found.labelled} {found.split} lines of {found.gold}",
        *_rows(head, rows),
    ]
    if found.opposite:
        lines.append(f"takes one side for the other: {_of(found.opposite)}")
    for label, said in found.confusion.items():
        lines.append(
            f"favours {label}: " + ", ".join(f"{n} {name if name != '-' else 'nothing'}" for name, n in said.items())
        )
    lines.append("95 % intervals by Wilson; shares are of what was answered, coverage of all that is labelled")
    return "\n".join(lines)


def progress(done: Progress, what: str) -> str:
    """What one call of `judge` did."""
    lines = [f"{done.made} votes made, {done.known} were there already, of {done.wanted} wanted; {what}"]
    lines += [f"{n} trials passed over: {why}" for why, n in sorted(done.passed.items())]
    lines += [f"{n} questions not answered: {why}" for why, n in sorted(done.failures.items())]
    if done.made:
        unknown = f", and {done.unpriced} votes at an unknown price" if done.unpriced else ""
        lines.append(f"spent ${done.spent:.4f}{unknown}")
    if done.lost:
        lines.append(
            f"{done.lost} questions were on their way when an earlier process ended, and may have been paid for"
        )
    if done.stopped:
        lines.append(f"stopped: {done.stopped}; the same command again goes on from here")
    return "\n".join(lines)


def agreements(found: Sequence[Agreement]) -> str:
    head = ("question", "judges", "n", "agree", "kappa", "alpha")
    rows = []
    for each in found:
        kappa = "–" if each.kappa is None else f"{each.kappa:.2f}"
        if each.low is not None and each.high is not None:
            kappa += f" ({each.low:.2f} to {each.high:.2f})"
        rows.append(
            (
                each.field,
                " / ".join(each.judges),
                str(each.both),
                "–" if each.share is None else f"{each.share:.0%}",
                kappa,
                "–" if each.alpha is None else f"{each.alpha:.2f}",
            )
        )
    about = "kappa: Cohen's for two, Fleiss' for more; alpha: Krippendorff's, nominal"
    return "\n".join([*_rows(head, rows), about]) if rows else "no question was answered by two judges"


def shelf(there: Mapping[str, Source]) -> str:
    """The verdicts that a run has."""
    rows = []
    for judge, source in sorted(there.items()):
        for criteria, (_, kept) in sorted(source.by_criteria.items()):
            said = verdicts(kept)
            split = sum(verdict.split for verdict in said.values())
            noise = with_itself(kept, "favours")
            rows.append(
                (
                    judge,
                    criteria,
                    str(len(kept.trials)),
                    str(len(said)),
                    str(len(kept.votes)),
                    str(sum(bool(vote.abstained) for vote in kept.votes.values())),
                    str(split),
                    "–" if noise is None else f"{noise:.2f}",
                    "unknown" if kept.cost is None else f"${kept.cost:.4f}",
                )
            )
    head = ("judge", "criteria", "trials", "texts", "votes", "abstained", "split", "alpha of its votes", "cost")
    return "\n".join(_rows(head, rows)) if rows else "no verdicts yet: honne judge RUN --judge MODEL"

"""The report's question answered in sentences, each of which holds only where the headline's intervals say so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from constitution.audit.words import UNITS, Headline, unbroken
from constitution.warehouse.tally import OFF_LABEL

OFF = 0.05
"""Calibration error over which probabilities are not to be taken at their word."""

NO_GOLD = (
    "Whether the labels are right is not known: no judged pair has a gold label. "
    "`constitution annotations import FILE` brings some in."
)
"""The one sentence with something in backticks that is a command; in others they are of a name of the data's."""

_RIGHT = ("alignment", "label")

_share = UNITS["share"]


def answer(told: Sequence[Headline]) -> list[str]:
    """Whether the labels can be trusted, as far as the run can tell, the most important first."""
    if not told:
        return []
    found = {(one.figure, one.subject): one for one in told}
    by_judge = {name: [one for one in told if one.figure == name] for name in {one.figure for one in told}}
    sentences = (
        *_heard(by_judge.get("label_mass", ()), "The votes say", "on the labels that it is asked for"),
        *_heard(by_judge.get("scorecard_label_mass", ()), "The scorecard says", "on yes and no"),
        *_gold(found.get(_RIGHT)),
        *_calibration(found),
        *_position(by_judge.get("position_effect", ())),
        *_style(by_judge.get("style_effect", ()), found.get(("labels_changed", "style"))),
        *_perturbations(by_judge.get("perturbation_penalty", ())),
        *_family(by_judge.get("self_preference", ())),
        *_missing(by_judge.get("votes_missing", ())),
    )
    return [unbroken(sentence) for sentence in sentences]


def _heard(judges: Sequence[Headline], what: str, where: str) -> Iterator[str]:
    if judges:
        little = "little" if min(one.value for one in judges) < OFF_LABEL else "less than it seems"
        listed = _and(f"{one.judge} puts {_share(one.value)} of its probability {where}" for one in judges)
        yield f"{what} {little}: {listed}, and the rest on other words."


def _gold(one: Headline | None) -> Iterator[str]:
    if one is None:
        yield NO_GOLD
        return
    right = f"{_share(one.value)} of the labels are right{_interval(one)}"
    if one.low is None:
        right += "; one prompt alone has gold"
    elif not one.clear(0.5):
        right += ": not told apart from a coin, so do not train on them"
    elif one.value < 0.5:
        right += ": worse than a coin, so gold asks for something else than they do"
    yield f"Held against gold on {one.n:,} pair{'s' * (one.n != 1)}, {right}."


def _calibration(found: dict[tuple[str, str], Headline]) -> Iterator[str]:
    label, right, then = (found.get(which) for which in (("ece", "label"), _RIGHT, ("ece", "calibrated")))
    if label is None or label.low is None or label.high is None:
        return
    off = f"Their probabilities are {_points(label.value)} points off on average"
    off += f" ({_points(label.low)} to {_points(label.high)})"
    if label.low <= OFF:
        yield f"{off}."
        return
    lean = label.lean or 0.0
    how = "" if abs(lean) < label.value / 2 else ", too timid" if lean > 0 else ", too sure"
    remedy = "calibrate before using them as soft labels"
    if then and then.value < label.low and right and right.clear(0.5) and right.value > 0.5:
        remedy += f"; fitted on one half of the gold, they are {_points(then.value)} points off on the other"
    yield f"{off}{how}: {remedy}."


def _position(judges: Sequence[Headline]) -> Iterator[str]:
    bound = [one for one in judges if one.clear(0.5)]
    if bound:
        listed = _and(
            f"{one.judge} takes the {'first' if one.value > 0.5 else 'second'} in "
            f"{_share(max(one.value, 1 - one.value))}"
            for one in bound
        )
        yield (
            f"Shown two answers that are as good, {listed}. Both orders are averaged, which takes most of it out of "
            "the labels."
        )
    elif judges:
        yield "No effect of the place in which an answer is shown can be seen."


def _style(judges: Sequence[Headline], changed: Headline | None) -> Iterator[str]:
    bound = [one for one in judges if one.clear(0.5)]
    turned = (
        f" Without length and style {_share(changed.value)} of the labels would be on the other side."
        if changed and changed.low
        else ""
    )
    if bound:
        listed = _and(
            f"{one.judge} takes the {'longer' if one.value > 0.5 else 'shorter'} in "
            f"{_share(max(one.value, 1 - one.value))}"
            for one in bound
        )
        yield f"Of two answers of which one is twice as long and else alike, {listed}, be it taste or quality.{turned}"
    elif judges:
        yield "No effect of length can be seen."


def _perturbations(judges: Sequence[Headline]) -> Iterator[str]:
    for told, found in (
        ("lose to the originals", [one for one in judges if one.clear(0.5) and one.value > 0.5]),
        ("win against the originals", [one for one in judges if one.clear(0.5) and one.value < 0.5]),
        (
            "do no worse and no better than the originals, as far as this run can tell",
            [one for one in judges if not one.clear(0.5)],
        ),
    ):
        if found:
            listed = _and(f"{one.judge} in {_share(one.value)}" for one in found)
            yield f"Wrong but polished answers {told}, which are preferred by {listed}."


def _family(judges: Sequence[Headline]) -> Iterator[str]:
    for one in judges:
        if one.clear(0.0):
            whom = "its own family's answers" if one.value > 0 else "other families' answers"
            yield f"{one.judge} favours {whom} by {_points(abs(one.value))} points more than gold does."


def _missing(judges: Sequence[Headline]) -> Iterator[str]:
    if judges:
        listed = _and(f"{one.value:,.0f} of {one.n:,} by {one.judge}" for one in judges)
        yield f"Votes are missing, {listed}: they count for neither answer."


def _points(value: float) -> str:
    return f"{value * 100:.1f}"


def _interval(one: Headline) -> str:
    return f" ({one.interval})" if one.interval else ""


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last

"""How the audit's numbers are written, and what the chief ones mean in a sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

HEARD = 0.9
"""A judge that puts less of its probability on the labels does not answer as it is asked."""

Unit = Literal["share", "points", "logit", "number", "count", "bits"]


def tick(write: Callable[[float], str]) -> Callable[[float, object], str]:
    """The same for the places of an axis, without the zeros that decimals end in."""
    return lambda value, _: re.sub(r"\.(?!\d)", "", re.sub(r"(\.\d*?)0+(?!\d)", r"\1", write(value)))


def sentence(note: str) -> str:
    """A note as a sentence."""
    text = unbroken(note.replace("`", ""))
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def unbroken(text: str) -> str:
    """A number and its unit stay in one line."""
    return re.sub(r"(?<=\d) (?=%)", NO_BREAK, text)


def _minus(text: str) -> str:
    return text.replace("-", "−")


NO_BREAK = "\N{NO-BREAK SPACE}"

UNITS: dict[Unit, Callable[[float], str]] = {
    "share": lambda value: _minus(f"{value * 100:.1f}{NO_BREAK}%"),
    "points": lambda value: _minus(f"{value * 100:+.1f}{NO_BREAK}points"),
    "logit": lambda value: _minus(f"{value:+.2f}") if abs(value) >= 0.005 else "0.00",
    "number": lambda value: _minus(f"{value:,.2f}"),
    "count": lambda value: _minus(f"{value:,.0f}"),
    "bits": lambda value: _minus(f"{value:.2f}{NO_BREAK}bits"),
}
"""How a fraction of each unit is written."""


@dataclass(frozen=True)
class Headline:
    """One of the numbers that the report begins with: a row of `figures`."""

    figure: str
    judge: str
    subject: str
    value: float
    low: float | None
    high: float | None
    n: int
    note: str
    lean: float | None = None
    """What a calibration error says: over 0 the probabilities are too timid, under 0 too sure."""

    def clear(self, of: float) -> bool:
        """Whether the interval leaves out this value."""
        return self.low is not None and self.high is not None and not self.low <= of <= self.high

    @property
    def title(self) -> str:
        return _TOLD[self.figure].title.format(subject=_SUBJECTS.get(self.subject, self.subject))

    @property
    def unit(self) -> Unit:
        return _TOLD[self.figure].unit

    @property
    def shown(self) -> str:
        return UNITS[self.unit](self.value)

    @property
    def interval(self) -> str:
        """`18 % to 22 %`; empty where it has none."""
        if self.low is None or self.high is None:
            return ""
        return f"{UNITS[self.unit](self.low)} to {UNITS[self.unit](self.high)}"

    @property
    def told(self) -> str:
        """The number in a sentence."""
        who = f"the judge {self.judge}" if self.judge else "the judges"
        subject = _SUBJECTS.get(self.subject, self.subject)
        return sentence(_TOLD[self.figure].told.format(value=self.shown, who=who, subject=subject))

    @property
    def what(self) -> str:
        """What is measured, of whichever judge."""
        return _TOLD[self.figure].what.format(subject=_SUBJECTS.get(self.subject, self.subject))

    @property
    def scale(self) -> str:
        """What the number is to be compared with."""
        return unbroken(_TOLD[self.figure].scale)

    @property
    def verdict(self) -> str:
        """What can be concluded from the interval and the note; may be empty."""
        nothing, told = _NOTHING.get(self.figure, (math.nan, ""))
        known = told.lower().rstrip(".") in self.note.lower()
        told = "" if known or self.low is None or self.clear(nothing) else told
        return " ".join(part for part in (told, sentence(self.note)) if part)

    @property
    def alarming(self) -> bool:
        """Whether labels or judges may be worth nothing: by the interval, or since a judge says something else."""
        if self.figure in MASSES:
            return self.value < HEARD
        of_worth = self.figure in ("alignment", "perturbation_penalty", "alpha")
        return of_worth and self.low is not None and self.low <= _NOTHING[self.figure][0]


_SUBJECTS = {
    "label": "labels as stored",
    "calibrated": "after calibration",
    "polished": "wrong but polished",
}


@dataclass(frozen=True)
class _Told:
    title: str
    what: str
    told: str
    """With {value}, {who} and {subject}."""
    scale: str
    unit: Unit = "share"


_TOLD = {
    "alignment": _Told(
        "Agreement with gold",
        "How often a label prefers what people, or a truth that is known, prefer.",
        "in {value} of the pairs with a gold label, the run's label prefers what people, or a truth that is known, "
        "prefer",
        "A coin gets 50 %.",
    ),
    "ece": _Told(
        "Calibration error, {subject}",
        "How far the probability and the share that turns out right are apart on average.",
        "the probability and the share that turns out right are {value} apart on average",
        "0 % is perfect.",
    ),
    "position_bias": _Told(
        "Position bias",
        "How often a judge prefers the same place, whichever answer is shown there.",
        "in {value} of the couples of votes, {who} prefers the same place, whichever answer is shown there",
        "At 0 % the place in which an answer is shown decides nothing.",
    ),
    "position_effect": _Told(
        "Effect of the place",
        "How probably a judge prefers the answer shown first, of two that it finds as good.",
        "of two answers that it finds as good, {who} prefers the one shown first with probability {value}",
        "At 50 % the place decides nothing.",
    ),
    "style_effect": _Told(
        "Effect of length",
        "How probably a judge prefers the longer of two answers that are alike but for one being twice as long.",
        "of two answers that are alike but for one being twice as long, {who} prefers the longer with probability "
        "{value}",
        "At 50 % length decides nothing.",
    ),
    "perturbation_penalty": _Told(
        "Perturbation: {subject}",
        "How often a judge prefers an answer as it was to the same made {subject} on purpose.",
        "in {value} of the couples of votes, {who} prefers an answer as it was to the same made {subject} on purpose",
        "At 50 % the perturbation costs nothing, at 100 % everything.",
    ),
    "self_preference": _Told(
        "Self-preference",
        "How much more often a judge picks its own family's answer where gold picks it than others' "
        "where gold picks those.",
        "{who} picks the own family's answer, where gold picks it, by {value} more often than others' where gold picks "
        "those",
        "0 is none.",
        "points",
    ),
    "alpha": _Told(
        "Agreement among the {subject}",
        "Krippendorff's α.",
        "Krippendorff's α between the {subject} is {value}",
        "1 is full agreement, 0 is chance.",
        "number",
    ),
    "labels_changed": _Told(
        "Labels that {subject} decides",
        "Labels that would prefer the other answer if the effect of {subject} were taken out.",
        "{value} of the labels would prefer the other answer if the effect of {subject} were taken out",
        "At 0 % it decides none.",
    ),
    "label_mass": _Told(
        "Probability on the labels",
        "How much of its probability a judge puts on the labels that it is asked for.",
        "{who} puts {value} of its probability on the labels that it is asked for, and the rest on other words",
        "Near 100 %, a judge answers as it is asked.",
    ),
    "scorecard_label_mass": _Told(
        "Probability on yes and no",
        "How much of its probability a judge puts on the two replies to a question of the scorecard.",
        "asked the scorecard's questions, {who} puts {value} of its probability on yes and no, and the rest on other "
        "words",
        "Near 100 %, a judge answers as it is asked.",
    ),
    "votes_missing": _Told(
        "Votes missing",
        "Votes that failed, or said too little.",
        "{value} votes of {who} are missing: they failed, or said too little",
        "They count for neither answer.",
        "count",
    ),
}


MASSES = ("label_mass", "scorecard_label_mass")
"""Figures that are told where they are under HEARD, and only there."""

_NOTHING: dict[str, tuple[float, str]] = {
    "alignment": (0.5, "No better than chance."),
    "position_effect": (0.5, "This run shows no effect of the place."),
    "style_effect": (0.5, "This run shows no effect of length."),
    "perturbation_penalty": (0.5, "Whether it costs anything cannot be told from these."),
    "self_preference": (0.0, "None can be seen."),
    "alpha": (0.0, "No better than chance."),
}
"""Per figure: the value at which there is nothing, and what is said where the interval holds it."""

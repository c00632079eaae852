"""The figures of `judges.py`: what was planted in a judge, what the audit measured, promises and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from benchmarks.results import Table, Verdict

EFFECTS = ("position", "length", "headers", "lists", "bold")
SHARE = 0.9
"""Of the judges of whom a thing is promised, those of whom it must be true."""
EXACT = 1e-9
"""A judge without any noise has an interval without width: this is rounding."""


@dataclass(frozen=True, slots=True)
class Setting:
    number: int
    """Seed of its pairs and of its run."""
    position: float
    """Logits for the answer shown first."""
    length: float
    """Logits per unit of the difference in length."""
    style: float
    """Logits per unit of each of the differences in headers, lists and bold."""
    noise: float
    """Half the width of a vote's uniform noise, in logits."""
    accuracy: float
    """Share of the pairs on which the judge sees the better answer as the better one; on the others as the worse."""

    @property
    def clean(self) -> bool:
        return not (self.position or self.length or self.style)

    @property
    def section(self) -> dict[str, float]:
        """The recipe's fields."""
        biases = {"position_bias": self.position, "length_bias": self.length, "style_bias": self.style}
        return biases | {"noise": self.noise, "accuracy": self.accuracy}

    def planted(self, effect: str) -> float:
        return {"position": self.position, "length": self.length}.get(effect, self.style)


@dataclass(frozen=True, slots=True)
class Effect:
    name: str
    planted: float
    """Log-odds: for the first place, and per unit of the difference."""
    found: float
    low: float
    """Ends of the audit's 95 % interval."""
    high: float

    @property
    def recovered(self) -> bool:
        return self.low - EXACT <= self.planted <= self.high + EXACT

    @property
    def reported(self) -> bool:
        return self.low > EXACT or self.high < -EXACT

    @property
    def p_value(self) -> float:
        """That an effect which is not there shows itself so clearly; from the interval's width."""
        wide = (self.high - self.low) / (2 * NormalDist().inv_cdf(0.975))
        return 2 * (1 - NormalDist().cdf(abs(self.found) / wide)) if wide > EXACT else float(not self.reported)


@dataclass(frozen=True, slots=True)
class Result:
    setting: Setting
    pairs: int
    effects: tuple[Effect, ...]
    """Of each of `EFFECTS`."""
    raw: float
    """Share of the votes that prefer the true winner."""
    both: float
    """The same of order-averaged votes."""
    controlled: float
    """The same of order-averaged votes that length and style are taken out of too."""

    def effect(self, name: str) -> Effect:
        return self.effects[EFFECTS.index(name)]

    @property
    def alarms(self) -> list[str]:
        """Effects that were not planted and whose interval does not hold 0."""
        return [effect.name for effect in self.effects if effect.reported and not effect.planted]

    @property
    def family_alarm(self) -> bool:
        """Whether any effect that was not planted stands out at 5 % among all that were looked at (Holm 1979)."""
        ordered = sorted(effect.p_value for effect in self.effects if not effect.planted)
        return bool(ordered) and ordered[0] * len(ordered) <= 0.05


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """What is promised, as far as these judges can show it."""
    planted, clean = ([one for one in results if one.setting.clean == is_clean] for is_clean in (False, True))
    found: list[Verdict] = []

    def promise(what: str, kept: Sequence[bool], bound: float = SHARE) -> None:
        if kept:
            found.append(Verdict(f"{what} ({sum(kept)} of {len(kept)})", sum(kept) / len(kept), bound, False))

    for name in ("position", "length"):
        effects = [effect for one in planted if (effect := one.effect(name)).planted]
        promise(f"planted {name} effects within their 95 % interval", [effect.recovered for effect in effects])
    both = [[effect for effect in one.effects[:2] if effect.planted] for one in planted]
    promise(
        "judges with a planted position or length effect, each of them within its interval",
        [all(effect.recovered for effect in effects) for effects in both if effects],
    )
    for names, told in ((("position",), "position"), (("length",), "length"), (EFFECTS[2:], "headers, lists, bold")):
        effects = [one.effect(name) for one in clean for name in names]
        promise(f"clean judges, no effect reported: {told}", [not effect.reported for effect in effects])
    promise("clean judges, none of the five reported (Holm, 5 % in all)", [not one.family_alarm for one in clean])
    promise(
        "corrected votes prefer the true winner more often than raw ones",
        [one.controlled > one.raw for one in planted],
        1.0,
    )
    return found


def tables(results: Sequence[Result]) -> list[Table]:
    """All judges together, then each with planted faults: value, interval, and whether the planted one is in it."""

    def mean(read: Callable[[Result], float], group: Sequence[Result]) -> str:
        return f"{100 * fmean(map(read, group)):.1f} %" if group else "–"

    columns = ["true winner preferred, mean over", "raw votes", "both orders", "both orders, style controlled"]
    kinds = (("judges with planted faults", False), ("clean judges", True))
    groups = {what: [one for one in results if one.setting.clean == clean] for what, clean in kinds}
    reads: list[Callable[[Result], float]] = [lambda one: one.raw, lambda one: one.both, lambda one: one.controlled]
    whole = [[f"{len(group)} {what}", *(mean(read, group) for read in reads)] for what, group in groups.items()]
    rows = []
    for one in groups["judges with planted faults"]:
        own = one.setting
        given = (f"{number:g}" for number in (own.position, own.length, own.style, own.noise, own.accuracy))
        shares = (f"{100 * read(one):.1f} %" for read in reads)
        cells = [str(own.number), *given, *map(_shown, one.effects), ", ".join(one.alarms) or "–", *shares]
        rows.append([cell.replace("-", "−") for cell in cells])
    planted = ["#", "position", "length", "style", "noise", "accuracy", "position measured", "length measured"]
    measured = [*planted, "headers", "lists", "bold", "reported, not planted", "raw votes", *columns[2:]]
    return [Table(columns, whole), Table(measured, rows, "Every judge with planted faults", detail=True)]


def note(results: Sequence[Result]) -> str:
    planted, clean = ([one for one in results if one.setting.clean == is_clean] for is_clean in (False, True))
    style = [effect for one in planted for effect in one.effects[2:] if effect.planted]
    return (
        f"{len(results)} judges, {results[0].pairs:,} pairs each. The least gain of a judge with planted faults is "
        f"{100 * min((one.controlled - one.raw for one in planted), default=0):.1f} points. Of {len(style)} planted "
        f"effects of headers, lists and bold, {sum(effect.recovered for effect in style)} are within their interval. "
        f"Of {len(clean)} clean judges, {sum(bool(one.alarms) for one in clean)} have at least one of their five "
        "intervals beside 0."
    )


def _shown(effect: Effect) -> str:
    digits = {"position": 3, "length": 2}.get(effect.name, 1)
    outside = "" if effect.recovered else " **out**"
    return f"{effect.found:.{digits}f} [{effect.low:.{digits}f}, {effect.high:.{digits}f}]{outside}"

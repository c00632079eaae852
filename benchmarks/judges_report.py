"""The figures of `judges.py`: what was planted in a judge, what the audit found, what is promised of it, and how it is
shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from typing import Any

from benchmarks.engine_report import Verdict, machine, put_into

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
    """The same of couples of votes: one principle's in both orders, averaged."""
    controlled: float
    """The same of couples that length and style are taken out of too."""

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
    """What issue 4 promises, as far as these judges can show it."""
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


def show(results: Sequence[Result], clean: bool = True) -> str:
    """A Markdown table, a row for each judge. clean: those without faults too."""
    lines = [
        "| # | position | length | style | noise | accuracy | position found | length found | headers | lists | bold "
        "| reported, not planted | raw votes | both orders | + style control |",
        "|--:|--:|--:|--:|--:|--:|---|---|---|---|---|---|--:|--:|--:|",
    ]
    for one in results:
        if one.setting.clean and not clean:
            continue
        setting = one.setting
        given = (f"{number:g}" for number in (setting.position, setting.length, setting.style, setting.noise))
        right = (f"{100 * share:.1f} %" for share in (one.raw, one.both, one.controlled))
        cells = (*given, f"{setting.accuracy:g}", *map(_told, one.effects), ", ".join(one.alarms) or "–", *right)
        lines.append(f"| {setting.number} | " + " | ".join(cells).replace("-", "−") + " |")
    return "\n".join(lines) + "\n"


def _told(effect: Effect) -> str:
    """Value, interval, and whether the planted one lies in it."""
    mark = "" if effect.recovered else " **out**"
    digits = {"position": 3, "length": 2}.get(effect.name, 1)
    return f"{effect.found:.{digits}f} [{effect.low:.{digits}f}, {effect.high:.{digits}f}]{mark}"


def totals(results: Sequence[Result]) -> str:
    """What a reader of the page wants to know of all judges together."""
    planted, clean = ([one for one in results if one.setting.clean == is_clean] for is_clean in (False, True))

    def mean(of: Callable[[Result], float], group: Sequence[Result]) -> str:
        return f"{100 * sum(map(of, group)) / len(group):.1f} %" if group else "–"

    lines = ["| true winner found, mean over | raw votes | both orders | both orders, style controlled |"]
    lines.append("|---|--:|--:|--:|")
    for told, group in (("judges with planted faults", planted), ("clean judges", clean)):
        shares = (mean(of, group) for of in (lambda one: one.raw, lambda one: one.both, lambda one: one.controlled))
        lines.append(f"| {len(group)} {told} | " + " | ".join(shares) + " |")
    gains = [one.controlled - one.raw for one in planted]
    if gains:
        lines += ["", f"The least gain of a judge with planted faults is {100 * min(gains):.1f} points."]
    style = [effect for one in planted for effect in one.effects[2:] if effect.planted]
    if style:
        inside = sum(effect.recovered for effect in style)
        lines.append(f"Of {len(style)} planted effects of headers, lists and bold, {inside} are within their interval.")
    if clean:
        loud = sum(bool(one.alarms) for one in clean)
        lines.append(f"Of {len(clean)} clean judges, {loud} have at least one of their five intervals beside 0.")
    return "\n".join(lines)


def write(out: Path, page: Path | None, results: Sequence[Result], found: Sequence[Verdict]) -> None:
    """`out` (JSON), and the table into `page` between its marks `bench-judges`."""
    date = datetime.now(UTC).date().isoformat()
    figures: dict[str, Any] = {
        "date": date,
        "machine": machine(),
        "verdicts": [asdict(verdict) | {"passes": verdict.passes} for verdict in found],
        "judges": [asdict(one) | {"reported_not_planted": one.alarms} for one in results],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    rounded = json.loads(json.dumps(figures), parse_float=lambda number: round(float(number), 4))
    out.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    if page is None:
        return
    pairs = results[0].pairs
    text = [f"Measured {date} on {machine()}, without a GPU: {len(results)} judges, {pairs:,} pairs each.", ""]
    text += [*(f"- {verdict}" for verdict in found), "", totals(results), ""]
    text += [
        "<details><summary>Every judge with planted faults</summary>",
        "",
        show(results, clean=False),
        "</details>",
    ]
    page.write_text(put_into(page.read_text(encoding="utf-8"), "bench-judges", "\n".join(text)), encoding="utf-8")

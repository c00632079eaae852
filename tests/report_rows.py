"""A run with figures for the tests of the report: three judges, four principles, something of everything, and every
number another one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from warehouse_rows import RUN, fill

from constitution.records import Figure
from constitution.warehouse import Warehouse

JUDGES = ("glm", "llama-$mall", "qwen")
PRINCIPLES = ("honest & <plain>", "kind", "avoids-stereotypes-and-generalisations", "true")
STAGES = ("one order", "both orders", "controlled", "calibrated")
ODD = "no better than chance on 40 pairs: <b>not bold</b>"


def figures(run_id: str = RUN) -> list[Figure]:
    """Values that are all different, in the order of `_named`; one in nine has no interval."""
    found = []
    for place, (name, judge, principle, subject, note) in enumerate(_named()):
        value = (place * 0.6180339887 + 0.13) % 1.0
        if name.endswith(("effect", "effect_sd", "style_logistic")) or name in ("phi", "drift", "length_correlation"):
            value = value * 2 - 1
        low, high = (None, None) if place % 9 == 8 else (value - 0.05 - value / 19, value + 0.04)
        if name in ("votes_cast", "votes_missing", "failures", "drawn", "round_tokens", "dead"):
            value, low, high = float(round(value * 900)), None, None
        if name.startswith("reliability"):
            value = (int(subject[-1]) + 0.5) / 10 + value / 21
        value = 1.0 if name == "dead" else value
        found.append(Figure(run_id, name, value, 100 + place, low, high, judge, principle, subject, note))
    for name in ("kappa", "self_preference"):
        found.append(
            Figure(run_id, name, None, 0, note="no families are known: name them in the recipe (model.family)")
        )
    return found


def _named() -> Iterator[tuple[str, str, str, str, str]]:
    """figure, judge, principle, subject, note."""
    for judge in JUDGES:
        for name in ("votes_cast", "votes_missing", "label_mass", "position_bias", "first_place", "position_effect"):
            yield name, judge, "", "", ""
        for stage in STAGES:
            yield "alignment", judge, "", stage, ODD if stage == "one order" else ""
            yield "ece", judge, "", stage, ""
            yield "brier", judge, "", stage, ""
            for place in range(10):
                yield "reliability_predicted", judge, "", f"{stage}/{place}", ""
                yield "reliability_observed", judge, "", f"{stage}/{place}", ""
        for feature, name in product(("length", "headers", "lists", "bold"), ("effect", "effect_sd", "logistic")):
            yield f"style_{name}", judge, "", feature, ""
        for name in ("win_rate", "win_rate_length_controlled", "win_rate_style_controlled"):
            yield name, judge, "", "first-last", ""
        for perturbation in ("polished", "terse", "sarcastic"):
            yield "perturbation_penalty", judge, "", perturbation, ""
            yield "perturbation_penalty", judge, "kind", perturbation, ""
        for principle in PRINCIPLES:
            yield "position_effect", judge, principle, "", ""
            yield "alignment", judge, principle, "both orders", ""
    yield "alignment", "", "", "label", "no better than chance on 120 pairs"
    yield "ece", "", "", "label", ""
    yield "alpha", "", "", "judges", ""
    yield "failures", "", "", "vote: EngineTimeout", ""
    for control in ("length", "style"):
        yield "labels_changed", "", "", control, ""
    for principle in PRINCIPLES:
        for name in ("drawn", "changed", "change_won", "principle_win_rate", "entropy", "majority_agreement"):
            yield name, "", principle, "", ""
        yield "length_correlation", "", principle, "", ""
        yield "markdown_correlation", "", principle, "", ""
        yield "drift", "", principle, "1.0.0", ""
        for other in PRINCIPLES:
            if principle < other:
                yield "phi", "", principle, other, ""
    yield "dead", "", "kind", "", "win rate 1 over 21 pairs"
    for number in (1, 2, 3, 4):
        for name in ("round_changed", "round_win_rate", "round_tokens"):
            yield name, "", "", str(number), ""


def audited(root: Path) -> Warehouse:
    """The warehouse of tests/warehouse_rows.py, whose run is not finished, with these figures."""
    warehouse = fill(root)
    warehouse.write_figures(RUN, figures())
    return warehouse

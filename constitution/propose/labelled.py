"""Pairs of answers of which it is said which is better, with the reasons that were given: out of a file or of a run.

found = read_labelled("preferences.jsonl", warehouse)
found.pairs[0].p_a, found.pairs[0].reasons, found.ceiling
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from constitution.errors import InputError, WarehouseError
from constitution.generate.given import given_answers
from constitution.identity import digest
from constitution.judge.pairs import Pair, pairs
from constitution.measures import Estimate, estimate
from constitution.prompts import read_prompts
from constitution.prompts.inspect import inspect_file
from constitution.recipe import PromptsSection, load_recipe
from constitution.records import Preference, Prompt, Response
from constitution.warehouse import Warehouse, ask, connect
from constitution.warehouse.views import quoted

RUN = "principles-induce"
"""The run that rows name which are made of a file; no such run exists."""
REASONS = {
    *("reason", "reasons", "why", "explanation", "explanations", "rationale", "justification", "note", "notes"),
    *("comment", "comments", "feedback", "open_feedback", "feedback_comparison"),
}
"""Keys of a file that hold what people say of their choice."""
Labels = Literal["gold", "judge"]


@dataclass(frozen=True, slots=True)
class LabelledPair:
    prompt: Prompt
    pair: Pair
    p_a: float
    """Share of those who said which is better that prefer a; one half: as many as not, or a tie."""
    raters: int = 1
    agreeing: float | None = None
    """Share of every two of them who say the same; None: there is one."""
    reasons: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """Digest of the conversation: pairs of one prompt stay together, also where it is in the file twice."""
        return digest([[turn.role, turn.content] for turn in self.prompt.messages])

    @property
    def better(self) -> Response:
        return self.pair.a if self.p_a > 0.5 else self.pair.b

    @property
    def worse(self) -> Response:
        return self.pair.b if self.p_a > 0.5 else self.pair.a


@dataclass(frozen=True, slots=True)
class Labelled:
    source: str
    """A run's id, or the file as it was named."""
    pairs: tuple[LabelledPair, ...]
    """Those that prefer an answer."""
    ties: int = 0
    unvotable: int = 0
    """Pairs of which a text is missing, or both are the same."""
    unlabelled: int = 0
    skipped: tuple[str, ...] = ()
    """Rows of the file that are no prompt, and why."""

    @property
    def ceiling(self) -> Estimate | None:
        """How often the best prediction agrees with one rater's word, at most; None: no pair has two raters.

        Two raters who each are right q of the time agree in q² + (1 − q)² of the cases. Where some pairs are harder
        than others the true ceiling is lower, since q is concave in the agreement.
        """
        known = [(pair.agreeing, pair.group) for pair in self.pairs if pair.agreeing is not None]
        if not known:
            return None
        found = estimate.mean([share for share, _ in known], [group for _, group in known], proportion=True)
        value, low, high = (None if end is None else _right(end) for end in (found.value, found.low, found.high))
        return Estimate(value, low, high, found.n)


def _right(agreement: float) -> float:
    return (1 + float(np.sqrt(max(2 * agreement - 1, 0.0)))) / 2


def read_labelled(named: str, warehouse: Path, labels: Labels = "gold") -> Labelled:
    """What is said in the file, the recipe or the run `named`. labels: of a run, people's word or its own labels.

    InputError where nothing says which answer is better, WarehouseError for no such run.
    """
    path = Path(named)
    if path.is_file():
        if labels == "judge":
            raise InputError(f"--labels judge: {named} is a file", hint="a run has labels by its judge; name one")
        return _of_file(path, named)
    if path.suffix:
        raise InputError(f"{named}: there is no such file", hint="name a file of preferences, a recipe or a run")
    store = Warehouse(warehouse)
    return _of_run(store, store.find_run(named).run_id, labels)


def _sorted(source: str, found: Sequence[LabelledPair], unlabelled: int, skipped: Sequence[str]) -> Labelled:
    votable = [each for each in found if each.pair.votable]
    sided = tuple(each for each in votable if abs(each.p_a - 0.5) > 1e-12)
    if not sided:
        raise InputError(
            f"{source}: no pair says which answer is better{': ' + skipped[0] if skipped else ''}",
            hint="import annotations, or name a file with chosen and rejected answers; `constitution prompts inspect` "
            "shows what is in a file",
        )
    counts = len(votable) - len(sided), len(found) - len(votable)
    return Labelled(source, sided, *counts, unlabelled, tuple(skipped))


# --- files


def _of_file(path: Path, named: str) -> Labelled:
    section = load_recipe(path).prompts if path.suffix == ".toml" else _settings(path)
    if not section.has_gold:
        raise InputError(
            f"{named}: it does not say which answer is better",
            hint="`constitution prompts inspect` shows what is in it; a recipe whose [prompts] has `gold` or "
            "`gold_values` can be named in its place",
        )
    skipped: list[str] = []
    prompts = list(read_prompts(section, path.parent, skip=lambda row: skipped.append(f"{row.source}: {row.reason}")))
    found = [pair for prompt in prompts for pair in _given(prompt)]
    return _sorted(named, _together(found), sum(not prompt.better for prompt in prompts), skipped)


def _settings(path: Path) -> PromptsSection:
    found = inspect_file(path)
    if not found.read:
        raise InputError(
            f"{path}: no row is read as two answers to a prompt: {'; '.join([*found.refused, *found.notes][:2])}",
            hint="where prompts are missing, a recipe's [prompts] with format sql can put one before each pair",
        )
    reasons = [key for key in found.keys if key.casefold() in REASONS and key not in found.settings.get("answers", ())]
    settings = {name: value for name, value in found.settings.items() if name not in ("path", "ignore")}
    ignore = [key for key in found.settings.get("ignore", ()) if key not in reasons]
    return PromptsSection(path=path.name, ignore=tuple(ignore), metadata=tuple(reasons), **settings)


def _given(prompt: Prompt) -> Iterator[LabelledPair]:
    bare = replace(prompt, tags=(), metadata=None)
    for pair in pairs(RUN, bare, given_answers(RUN, bare), ("given",)) if prompt.better else ():
        if pair.gold_id is not None:
            yield LabelledPair(bare, pair, float(pair.gold_id == pair.a.id), reasons=_reasons(prompt))


def _reasons(prompt: Prompt) -> tuple[str, ...]:
    kept = json.loads(prompt.metadata) if prompt.metadata else {}
    listed = [item for value in kept.values() for item in (value if isinstance(value, list) else [value])]
    return tuple(text for item in listed if isinstance(item, str) and (text := item.strip()))


def _together(found: Sequence[LabelledPair]) -> list[LabelledPair]:
    """Rows about the same two answers to the same conversation are one pair, on which each has its say."""
    same: dict[tuple[str, ...], list[LabelledPair]] = defaultdict(list)
    for each in found:
        same[(each.group, *sorted((each.pair.a.text, each.pair.b.text)))].append(each)
    return [_one(rows) for rows in same.values()]


def _one(rows: Sequence[LabelledPair]) -> LabelledPair:
    first, n = rows[0], len(rows)
    if n == 1:
        return first
    for_a = sum(row.better.text == first.pair.a.text for row in rows)
    reasons = tuple(reason for row in rows for reason in row.reasons)
    return replace(first, p_a=for_a / n, raters=n, agreeing=_agreeing(for_a, n), reasons=reasons)


def _agreeing(for_a: int, n: int) -> float | None:
    """Share of every two of n raters who say the same."""
    return None if n < 2 else (for_a * (for_a - 1) + (n - for_a) * (n - for_a - 1)) / (n * (n - 1))


# --- runs


def _of_run(store: Warehouse, run_id: str, labels: Labels) -> Labelled:
    which = quoted(run_id)
    people = (
        "SELECT g.pair_id, g.prompt_id, list(g.p_b) FROM rated AS g JOIN training_pairs AS p "
        f"ON p.run_id = g.run_id AND p.id = g.pair_id WHERE g.run_id = {which} AND g.principle_id = '' "
        "GROUP BY g.pair_id, g.prompt_id ORDER BY g.pair_id"
    )
    judged = f"SELECT id, prompt_id, [p_b] FROM training_pairs WHERE run_id = {which} AND p_b IS NOT NULL ORDER BY id"
    with connect(store.root) as connection:
        said = {
            str(pair): (str(prompt), [float(p) for p in p_b])
            for pair, prompt, p_b in ask(connection, people if labels == "gold" else judged).rows
        }
        [[total]] = ask(connection, f"SELECT count(*) FROM training_pairs WHERE run_id = {which}").rows
    if not said:
        raise WarehouseError(
            f"run {run_id}: no pair has {'an annotation' if labels == 'gold' else 'a label'}",
            hint="import annotations (`constitution annotations import`), or use the run's own labels: --labels judge",
        )
    wanted = {prompt for prompt, _ in said.values()}
    slices = map(store.read_prompts, store.parts("prompts", run_id))
    prompts = {prompt.id: prompt for each in slices for prompt in each if prompt.id in wanted}
    known: list[LabelledPair] = []
    rows = store.rows_of(run_id, wanted)
    for prompt_id in sorted(wanted):
        answers = {row.id: row for row in rows[prompt_id] if isinstance(row, Response)}
        for row in rows[prompt_id]:
            if isinstance(row, Preference) and row.id in said:
                pair = Pair(row.id, row.kind, answers[row.a_id], answers[row.b_id])
                known.append(_rated(prompts[prompt_id], pair, said[row.id][1]))
    return _sorted(run_id, known, int(total) - len(said), ())


def _rated(prompt: Prompt, pair: Pair, p_b: Sequence[float]) -> LabelledPair:
    """Raters who say neither count for both by half; whether they agree with others is not asked."""
    decided = [p for p in p_b if abs(p - 0.5) > 1e-12]
    agreeing = _agreeing(sum(p < 0.5 for p in decided), len(decided))
    return LabelledPair(prompt, pair, 1 - float(np.mean(p_b)), len(p_b), agreeing)

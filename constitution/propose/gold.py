"""Pairs of answers of which people have said which is better: a run's annotations, or a file of preferences.

gold = read_gold("run-id", warehouse)             # annotations, by principle or on the whole
gold = read_gold("preferences.jsonl", warehouse)  # as prompts are read; or a recipe, whose [prompts] reads them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from constitution.errors import InputError
from constitution.generate.given import given_answers
from constitution.identity import digest
from constitution.judge.pairs import Pair, pairs
from constitution.prompts import read_prompts
from constitution.prompts.inspect import inspect_file
from constitution.recipe import PromptsSection, load_recipe
from constitution.records import Preference, Principle, Prompt, Response
from constitution.warehouse import Warehouse, ask, connect
from constitution.warehouse.views import quoted

RUN = "principles-improve"
"""The run that rows name which are made of a file; no such run exists."""
PRINCIPLE_KEY = "principle_id"
"""Key of a file's rows that says which principle the preference is about."""


@dataclass(frozen=True)
class GoldPair:
    """A pair, and what people say of it."""

    prompt: Prompt
    pair: Pair
    p_b: float
    """Mean over raters: 1 where all prefer b, 0 where all prefer a; a half: neither."""
    principle_id: str = ""
    """The principle that it is about; empty: the whole."""

    @cached_property
    def key(self) -> str:
        """Digest of the conversation and both texts, in either order: the same in every run and file that has them."""
        turns = [[turn.role, turn.content] for turn in self.prompt.messages]
        return digest([turns, sorted((self.pair.a.text, self.pair.b.text))])

    @property
    def tie(self) -> bool:
        return abs(self.p_b - 0.5) < 1e-12


@dataclass(frozen=True, slots=True)
class Gold:
    """All of one source."""

    source: str
    """A run's id, or a file as it was named."""
    pairs: tuple[GoldPair, ...]
    """Without ties, and without pairs on which no vote can be cast; none twice for one principle."""
    ties: int = 0
    unvotable: int = 0
    """Pairs of which a text is missing, or both are the same."""
    contrary: int = 0
    """Pairs that are there more than once and are said to be better one time this way and one time that; left out."""
    run_id: str = ""
    """Empty: it is a file's."""

    def about(self, principle: Principle) -> tuple[GoldPair, ...]:
        """Those about the principle; where there are none, those on the whole."""
        own = tuple(pair for pair in self.pairs if pair.principle_id == principle.id)
        return own or tuple(pair for pair in self.pairs if not pair.principle_id)


def read_gold(named: str, warehouse: Path) -> Gold:
    """What people say in the file or run `named`. InputError where it has no gold, WarehouseError for no such run."""
    path = Path(named)
    if path.is_file():
        found = _of_file(path)
        source, run_id = named, ""
    else:
        if path.suffix:
            raise InputError(f"--gold {named}: there is no such file", hint="name a file, a recipe or a run")
        store = Warehouse(warehouse)
        source = run_id = store.find_run(named).run_id
        found = _of_run(store, run_id)
    return _sound(source, run_id, found)


def _sound(source: str, run_id: str, found: Sequence[GoldPair]) -> Gold:
    """Without what cannot be used, which is counted."""
    if not found:
        raise InputError(
            f"--gold {source}: no pair has gold",
            hint="import annotations (`constitution annotations import`), or name a file of preferences",
        )
    votable = [each for each in found if each.pair.votable]
    sided = [each for each in votable if not each.tie]
    by_key: dict[tuple[str, str], GoldPair] = {}
    contrary = set()
    for each in sided:
        other = by_key.setdefault((each.principle_id, each.key), each)
        if _better(other) != _better(each):
            contrary.add((each.principle_id, each.key))
    kept = tuple(pair for key, pair in by_key.items() if key not in contrary)
    return Gold(source, kept, len(votable) - len(sided), len(found) - len(votable), len(contrary), run_id)


def _better(gold: GoldPair) -> str:
    return gold.pair.b.text if gold.p_b > 0.5 else gold.pair.a.text


def _of_run(warehouse: Warehouse, run_id: str) -> list[GoldPair]:
    query = (
        "SELECT g.pair_id, g.prompt_id, g.principle_id, g.p_b FROM gold AS g "
        f"JOIN training_pairs AS p ON p.run_id = g.run_id AND p.id = g.pair_id WHERE g.run_id = {quoted(run_id)} "
        "ORDER BY g.pair_id, g.principle_id"
    )
    with connect(warehouse.root) as connection:
        said = [
            (str(pair), str(prompt), str(about), float(p)) for pair, prompt, about, p in ask(connection, query).rows
        ]
    wanted = {prompt for _, prompt, _, _ in said}
    slices = map(warehouse.read_prompts, warehouse.parts("prompts", run_id))
    prompts = {prompt.id: prompt for each in slices for prompt in each if prompt.id in wanted}
    rows = warehouse.rows_of(run_id, wanted)
    known: dict[str, Pair] = {}
    for prompt_id in wanted:
        answers = {row.id: row for row in rows[prompt_id] if isinstance(row, Response)}
        for row in rows[prompt_id]:
            if isinstance(row, Preference):
                known[row.id] = Pair(row.id, row.kind, answers[row.a_id], answers[row.b_id], gold_id=row.gold_id)
    return [GoldPair(prompts[prompt], known[pair], p, about) for pair, prompt, about, p in said]


def _of_file(path: Path) -> list[GoldPair]:
    section, base = section_of(path)
    if not section.has_gold:
        raise InputError(
            f"--gold {path}: it does not say which answer is better",
            hint=f"`constitution prompts inspect {path}` shows what is in it; a recipe whose [prompts] has `gold` or "
            "`gold_values` can be named in its place",
        )
    return [pair for prompt in read_prompts(section, base) for pair in _given(prompt, section)]


def section_of(path: Path) -> tuple[PromptsSection, Path]:
    """What reads the file, and the folder that it is looked up from: a recipe's own section, or the settings that are
    found by trying. InputError where rows cannot be read."""
    if path.suffix == ".toml":
        return load_recipe(path).prompts, path.parent
    found = inspect_file(path)
    if found.refusals:
        raise InputError(
            f"{path}: {found.refusals:,} of {found.rows:,} rows cannot be read: {found.refused[0]}",
            hint=f"`constitution prompts inspect {path}` lists them; a recipe can be named that skips them",
        )
    settings = {name: value for name, value in found.settings.items() if name not in ("path", "tags_field", "ignore")}
    ignored = [key for key in found.settings.get("ignore", ()) if key != PRINCIPLE_KEY]
    tags = {"tags_field": PRINCIPLE_KEY} if PRINCIPLE_KEY in found.keys else {}
    return PromptsSection.model_validate({**settings, **tags, "path": path.name, "ignore": tuple(ignored)}), path.parent


def _given(prompt: Prompt, section: PromptsSection) -> Iterator[GoldPair]:
    about = prompt.tags[-1] if section.tags_field == PRINCIPLE_KEY and prompt.tags else ""
    bare = replace(prompt, tags=())
    for pair in pairs(RUN, bare, given_answers(RUN, bare), ("given",)):
        p_b = 0.5 if pair.gold_id is None else float(pair.gold_id == pair.b.id)
        yield GoldPair(bare, pair, p_b, about)

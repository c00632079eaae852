"""A scorecard from beginning to end: counterfactual prompts answered, then each answer of the run put to the judges by
itself, one yes or no at a time.

    asked = await score(root, run, Order(scorecard))

A scorecard is a constitution. The first tag of each principle says which figure its criteria make: `METRICS`. What is
in the table `scores` is not asked again: a row's id covers answer, judge, its model, scorecard, the principle's and the
template's words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from constitution import templates
from constitution.ask import EVERY, WINDOW
from constitution.ask.panel import Panel
from constitution.ask.questions import Asked, Question, as_messages, ask_all, fetched, opened
from constitution.ask.swaps import Group, answer_swapped
from constitution.engines import Engine, Request
from constitution.engines.identity import model_identity
from constitution.errors import PrincipleError
from constitution.identity import digest, row_id, seed
from constitution.judge.ask import nonce
from constitution.judge.question import SAMPLING
from constitution.judge.read import read_choices
from constitution.recipe import dated
from constitution.records import Constitution, Criterion, Messages, Principle, Run, Score
from constitution.warehouse import Warehouse, connect

TEMPLATES = templates.RUBRIC.digest
METRICS = ("refusal-full", "refusal-partial", "undesired", "helpful")

_SAID = ("name", "digest", "revision", "adapter", "quantization", "server_model")
"""What an engine, once it is open, says of its model that makes it another judge."""

_ANSWERS = """
WITH drawn AS (
    SELECT id AS prompt_id, messages FROM prompts WHERE run_id = $run ORDER BY id LIMIT {sample}
),
answers AS (
    SELECT '' AS swap, r.id, r.prompt_id, q.messages, r.text
    FROM (FROM answers WHERE run_id = $run) AS r
    JOIN drawn AS q USING (prompt_id)
    UNION ALL
    SELECT c.id, c.id, c.prompt_id, c.messages, c.text
    FROM (FROM counterfactuals WHERE run_id = $run) AS c SEMI JOIN drawn USING (prompt_id)
),
known AS (
    SELECT response_id, list(id) AS ids FROM scores
    WHERE run_id = $run AND judge = $judge AND scorecard <> '' GROUP BY response_id
)
SELECT
    a.prompt_id, a.swap, any_value(a.messages) AS messages, a.text, list(a.id ORDER BY a.id) AS ids,
    coalesce(flatten(list(k.ids) FILTER (k.ids IS NOT NULL)), []) AS known
FROM answers AS a LEFT JOIN known AS k ON k.response_id = a.id
WHERE trim(a.text) <> ''
GROUP BY a.prompt_id, a.swap, a.text
"""
"""A row per text: a revision that changed nothing is the same answer as its parent, and is looked at once."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be asked, and of which judges."""

    scorecard: Constitution
    panel: Panel | None = None
    """None: the run's own judges, by its recipe."""
    swaps: Sequence[Group] = ()
    """Terms to swap in prompts; none: no counterfactual prompt is answered."""
    sample: int = EVERY
    """Prompts at most, drawn by the digests that are their ids: the same in every call, and among those of a greater
    sample."""
    window: int = WINDOW
    """Answers in flight at most."""


class Item(NamedTuple):
    """One question of a scorecard."""

    principle: Principle
    digest: str
    """The principle's."""
    number: int
    criterion: Criterion
    metric: str
    category: str


class Answer(NamedTuple):
    """One text that answers a prompt, and every answer of the run that it is."""

    prompt_id: str
    messages: Messages
    text: str
    ids: Sequence[str]
    known: frozenset[str]
    """Ids of the scores that this judge has given them."""


def items_of(scorecard: Constitution) -> tuple[Item, ...]:
    """Its questions in order. PrincipleError where a principle has no criteria, or no metric as its first tag."""
    items: list[Item] = []
    for principle in scorecard.principles:
        metric, category = (*principle.tags, "", "")[:2]
        if metric not in METRICS or not principle.criteria:
            raise PrincipleError(
                f"{scorecard.label}: principle {principle.id}: in a scorecard it needs criteria, and as its first tag "
                f"one of {', '.join(METRICS)}",
                hint="principles/scorecard/ has an example",
            )
        questions = enumerate(principle.criteria)
        items += [Item(principle, principle.digest, number, asked, metric, category) for number, asked in questions]
    return tuple(items)


async def score(root: Path, run: Run, order: Order) -> list[Asked]:
    """What became of the counterfactual prompts, where there are swaps, and of each judge's questions: about initial
    answers, revisions, given ones and those to counterfactual prompts, and none that was spoiled on purpose or is
    empty.

    Raises PrincipleError for a constitution that is no scorecard, InputError for a run whose recipe or policy is not to
    be had, ModelLoadError, RecipeError or EngineUnavailable where an engine does not open, and EngineUnavailable where
    one is gone midway; what was answered by then is written.
    """
    items = items_of(order.scorecard)  # a fault is reported before a model loads
    panel = order.panel or Panel.of_run(run)
    warehouse, asked = Warehouse(root), []
    with warehouse.scoring(run.run_id):
        if order.swaps:
            asked.append(await answer_swapped(warehouse, run, order.swaps, sample=order.sample, window=order.window))
        for name, section in panel.judges.items():
            # Where a judge runs makes it no other, nor does what it costs.
            identity = await asyncio.to_thread(model_identity, section.bare)
            async with opened(dated(section, run.day)) as engine:
                facts = engine.describe()
                model = digest([identity, {fact: facts[fact] for fact in _SAID if fact in facts}])
                judge = name or engine.model
                examiner = Examiner(run.run_id, panel.seed, engine, judge, model, order.scorecard.label)
                asked.append(await _examine(warehouse, examiner, items, order))
    return asked


def request_of(answer: Answer, principle_id: str, number: int, criterion: Criterion, run_seed: int) -> Request:
    """What asks one criterion, the principle's of this number, of an answer."""
    messages = templates.rubric_messages(answer.messages, answer.text, criterion, nonce(run_seed, answer.prompt_id))
    drawn = seed(run_seed, answer.prompt_id, "score", principle_id, number)
    return Request(messages, SAMPLING, drawn, choices=templates.REPLIES, affinity=answer.prompt_id)


async def _examine(warehouse: Warehouse, examiner: Examiner, items: Sequence[Item], order: Order) -> Asked:
    """One judge's questions."""
    asked = Asked(examiner.name)
    with connect(warehouse.root) as connection:
        about = {"run": examiner.run_id, "judge": examiner.name}
        connection.execute(f"CREATE TABLE answers AS {_ANSWERS.format(sample=order.sample)}", about)
        ((total,),) = connection.execute("SELECT count(*) FROM answers").fetchall()
        connection.execute("FROM answers ORDER BY prompt_id, swap, ids[1]")
        answers = (
            Answer(prompt_id, as_messages(turns), text, ids, frozenset(known))
            for prompt_id, _, turns, text, ids, known in fetched(connection)
        )
        await ask_all(
            warehouse,
            examiner.run_id,
            asked,
            (examiner.missing(answer, items, asked) for answer in answers),
            total=total,
            window=order.window,
            note=f"answers asked of {examiner.name}",
        )
    return asked


@dataclass(frozen=True, slots=True)
class Examiner:
    """One judge, as a scorecard asks it."""

    run_id: str
    seed: int
    engine: Engine
    name: str
    model: str
    """Digest of what determines its replies: its model, and the settings of its section."""
    scorecard: str

    def id(self, response_id: str, item: Item) -> str:
        asked = (self.scorecard, item.digest, item.number, TEMPLATES, self.seed)
        return row_id(self.run_id, response_id, self.name, self.model, *asked)

    def missing(self, answer: Answer, items: Sequence[Item], asked: Asked) -> list[Question]:
        """The questions whose rows are missing of this answer; the others are counted in `asked`."""
        questions: list[Question] = []
        for item in items:
            rows = {id: row for id in answer.ids if (row := self.id(id, item)) not in answer.known}
            asked.known += len(answer.ids) - len(rows)
            if rows:
                questions.append(partial(self._ask, answer, item, rows))
        return questions

    async def _ask(self, answer: Answer, item: Item, ids: Mapping[str, str]) -> list[Score]:
        """ids: id of the answer → id of its row."""
        request = request_of(answer, item.principle.id, item.number, item.criterion, self.seed)
        done = await self.engine.generate(request)
        (yes, no), mass, censored = read_choices(done, templates.REPLIES)
        # The call was made once, however many answers have this text.
        spent = [(done.prompt_tokens, done.cached_tokens, done.completion_tokens), *[(0, 0, 0)] * (len(ids) - 1)]
        return [
            Score(
                id,
                self.run_id,
                answer.prompt_id,
                response_id,
                self.name,
                self.scorecard,
                item.principle.id,
                item.digest,
                item.metric,
                item.category,
                item.number,
                item.criterion.question,
                item.criterion.good,
                item.principle.weight * item.criterion.weight,
                yes / (yes + no),
                mass,
                TEMPLATES,
                request.seed,
                *tokens,
                censored=censored,
                calls=int(not place),
            )
            for place, ((response_id, id), tokens) in enumerate(zip(ids.items(), spent, strict=True))
        ]

"""A scorecard's questions put to judges: each answer of a run by itself, one yes or no at a time.

    with warehouse.scoring(run.run_id):
        asked = await ask_scorecard(root, run, scorecard, panel)

A scorecard is a constitution. The first tag of each principle says which figure its criteria make: `METRICS`. What is
in the table `scores` is not asked again: a row's id covers answer, judge, its model, scorecard, the principle's and the
template's words. Rows are written as they come, so a scorecard that was stopped goes on. A question that fails leaves
no row and is asked again by the next scorecard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from constitution import templates
from constitution.ask import EVERY, WINDOW
from constitution.ask.panel import Panel
from constitution.engines import Engine, open_engine
from constitution.engines.base import Request
from constitution.engines.identity import model_identity
from constitution.errors import EngineError, EngineUnavailable, MalformedReply, PrincipleError, RequestRefused
from constitution.generate.outcomes import clean
from constitution.identity import digest, row_id, seed
from constitution.judge.question import SAMPLING
from constitution.judge.read import read_choices
from constitution.recipe import dated
from constitution.records import Constitution, Counterfactual, Criterion, Message, Messages, Principle, Run, Score
from constitution.warehouse import Warehouse, connect

METRICS = ("refusal-full", "refusal-partial", "undesired", "helpful")

FLUSH_ROWS = 20_000
FLUSH_SECONDS = 15.0
GIVEN_UP = 64
"""Failures in a row after which an engine is taken for gone."""
_FETCHED = 512

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
    SELECT response_id, list(id) AS ids FROM scores WHERE run_id = $run AND judge = $judge GROUP BY response_id
)
SELECT
    a.prompt_id, a.swap, any_value(a.messages) AS messages, a.text, list(a.id ORDER BY a.id) AS ids,
    coalesce(flatten(list(k.ids) FILTER (k.ids IS NOT NULL)), []) AS known
FROM answers AS a LEFT JOIN known AS k ON k.response_id = a.id
WHERE trim(a.text) <> ''
GROUP BY a.prompt_id, a.swap, a.text
"""
"""A row per text: a revision that changed nothing is the same answer as its parent, and is looked at once."""

Told = Callable[[str, int, int], None]
"""Takes what is done, how many of it are, and of how many."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class Asked:
    """What became of one judge's questions, or of the policy's counterfactual prompts."""

    judge: str
    """Empty: no judge, but the policy, asked to answer counterfactual prompts."""
    new: int = 0
    """Rows that were written."""
    known: int = 0
    """Rows that were there before."""
    failed: dict[str, int] = field(default_factory=dict)
    """Questions without an answer, by class of error."""
    why: dict[str, str] = field(default_factory=dict)
    """The first message of each of these classes."""
    in_a_row: int = 0
    """Failures since the engine last gave a sign of life."""
    _last: str = ""

    def success(self, rows: int) -> None:
        self.new += rows
        self.in_a_row = 0

    def failure(self, error: EngineError) -> None:
        name = type(error).__name__
        self.failed[name] = self.failed.get(name, 0) + 1
        self.why.setdefault(name, clean(str(error)))
        # Who refuses a request or garbles a reply is there.
        self.in_a_row = 0 if isinstance(error, RequestRefused | MalformedReply) else self.in_a_row + 1
        if self.in_a_row:
            self._last = f"{name}: {clean(str(error))}"

    def check(self) -> None:
        """EngineUnavailable where so many failed in a row that asking on would only fail on."""
        if self.in_a_row >= GIVEN_UP:
            raise EngineUnavailable(
                f"{self.judge or 'the policy'} answers no more: {self.in_a_row} requests in a row failed, the last "
                f"with {self._last}",
                hint="what was answered is kept; once the engine is put right, the same command resumes from there",
            )


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
    found = []
    for principle in scorecard.principles:
        metric, category = (*principle.tags, "", "")[:2]
        if metric not in METRICS or not principle.criteria:
            raise PrincipleError(
                f"{scorecard.label}: principle {principle.id}: in a scorecard it needs criteria, and as its first tag "
                f"one of {', '.join(METRICS)}",
                hint="principles/scorecard/ has an example",
            )
        for number, criterion in enumerate(principle.criteria):
            found.append(Item(principle, principle.digest, number, criterion, metric, category))
    return tuple(found)


async def ask_scorecard(
    root: Path,
    run: Run,
    scorecard: Constitution,
    panel: Panel,
    *,
    sample: int = EVERY,
    window: int = WINDOW,
    told: Told | None = None,
) -> list[Asked]:
    """Asks each judge of `panel` in turn what it has not been asked yet of the run's answers: initial ones, revisions,
    given ones and those to counterfactual prompts, and none that was spoiled on purpose or is empty.

    sample: answers to so many prompts at the most, drawn by the digests that are their ids: the same in every call, and
    among those of a greater sample. window: answers in flight at the most. To be called while `scoring` the run.
    Raises ModelLoadError, RecipeError or EngineUnavailable where an engine does not open, and EngineUnavailable where
    one is gone midway; what was answered by then is written.
    """
    items, asked = items_of(scorecard), []
    for given, section in panel.judges.items():
        # Where a judge runs makes it no other, nor does what it costs.
        identity = await asyncio.to_thread(model_identity, section.bare)
        engine = await open_engine(dated(section, run.day))
        try:
            facts = engine.describe()
            examiner = Examiner(
                run.run_id,
                panel.seed,
                engine,
                given or engine.model,
                digest([identity, {name: facts[name] for name in _SAID if name in facts}]),
                scorecard.label,
            )
            asked.append(await _ask(root, examiner, items, sample=sample, window=window, told=told))
        finally:
            await engine.close()
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
        asked = (self.scorecard, item.digest, item.number, templates.RUBRIC.digest, self.seed)
        return row_id(self.run_id, response_id, self.name, self.model, *asked)

    async def examine(self, answer: Answer, items: Sequence[Item], asked: Asked) -> list[Score]:
        """The rows that are missing of this answer. What fails is counted in `asked`."""
        wanted = []
        for item in items:
            missing = {id: found for id in answer.ids if (found := self.id(id, item)) not in answer.known}
            asked.known += len(answer.ids) - len(missing)
            if missing:
                wanted.append((item, missing))
        results = await asyncio.gather(*(self._put(answer, item, missing) for item, missing in wanted))
        rows: list[Score] = []
        for result in results:
            if isinstance(result, EngineError):
                asked.failure(result)
            else:
                rows += result
                asked.success(len(result))
        return rows

    async def _put(self, answer: Answer, item: Item, missing: Mapping[str, str]) -> list[Score] | EngineError:
        """One question. missing: id of the answer → id of its row."""
        nonce = digest([self.seed, answer.prompt_id])[:6]
        messages = templates.rubric_messages(answer.messages, answer.text, item.criterion, nonce)
        chosen = seed(self.seed, answer.prompt_id, "score", item.principle.id, item.number)
        request = Request(messages, SAMPLING, chosen, choices=templates.REPLIES, affinity=answer.prompt_id)
        try:
            done = await self.engine.generate(request)
            (yes, no), mass, censored = read_choices(done, templates.REPLIES)
        except EngineError as error:
            return error
        # The call was made once, however many answers have this text.
        spent = [(done.prompt_tokens, done.cached_tokens, done.completion_tokens), *[(0, 0, 0)] * (len(missing) - 1)]
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
                templates.RUBRIC.digest,
                chosen,
                *tokens,
                censored=censored,
            )
            for (response_id, id), tokens in zip(missing.items(), spent, strict=True)
        ]


async def _ask(
    root: Path, examiner: Examiner, items: Sequence[Item], *, sample: int, window: int, told: Told | None
) -> Asked:
    asked, sheet = Asked(examiner.name), Sheet(Warehouse(root), examiner.run_id)
    with connect(root) as connection:
        about = {"run": examiner.run_id, "judge": examiner.name}
        connection.execute(f"CREATE TABLE answers AS {_ANSWERS.format(sample=sample)}", about)
        ((total,),) = connection.execute("SELECT count(*) FROM answers").fetchall()
        connection.execute("FROM answers ORDER BY prompt_id, swap, ids[1]")
        answers = (
            Answer(prompt_id, as_messages(turns), text, ids, frozenset(known))
            for prompt_id, _, turns, text, ids, known in fetched(connection)
        )
        work = in_window(answers, lambda answer: examiner.examine(answer, items, asked), window)
        async with sheet, aclosing(work) as done:
            count = 0
            async for rows in done:
                await sheet.put(rows)
                asked.check()
                count += 1
                if told:
                    told(f"answers asked of {examiner.name}", count, total)
    return asked


class Sheet:
    """Rows on their way to the warehouse: many at a time, and what there is when the block is left, however."""

    def __init__(self, warehouse: Warehouse, run_id: str) -> None:
        self._warehouse, self._run_id = warehouse, run_id
        self._rows: list[Any] = []
        self._since = time.monotonic()

    async def __aenter__(self) -> Sheet:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._flush()

    async def put(self, rows: Sequence[Score] | Sequence[Counterfactual]) -> None:
        self._rows += rows
        if len(self._rows) >= FLUSH_ROWS or time.monotonic() - self._since >= FLUSH_SECONDS:
            await asyncio.to_thread(self._flush)

    def _flush(self) -> None:
        rows, self._rows, self._since = self._rows, [], time.monotonic()
        self._warehouse.add_scores(self._run_id, rows)


async def in_window(given: Iterable[T], work: Callable[[T], Awaitable[R]], window: int) -> AsyncGenerator[R, None]:
    """What `work` makes of each of `given`, as it is ready; so many at work at the most. Closed early, or where one
    raises, the others are cancelled."""
    running: set[asyncio.Task[R]] = set()
    try:
        for each in given:
            running.add(asyncio.ensure_future(_call(work, each)))
            if len(running) >= window:
                ready, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ready:
                    yield task.result()
        while running:
            ready, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in ready:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _call(work: Callable[[T], Awaitable[R]], given: T) -> R:
    return await work(given)


def fetched(connection: Any) -> Iterator[tuple[Any, ...]]:
    """The rows of the connection's last answer, some at a time."""
    while batch := connection.fetchmany(_FETCHED):
        yield from batch


def as_messages(turns: Iterable[Mapping[str, Any]]) -> Messages:
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)

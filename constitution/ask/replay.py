"""How a stored row was asked for: its step is taken again by the run's own code, before an engine that keeps each
request and replies what is stored. So there is one rendering, and what is shown is what a run would send.

    stored = Stored.load(warehouse, run_id, prompt_id)
    replay = await replayed(stored, row)
    [exchange.request.messages for exchange in replay.exchanges]

The row that comes out of it is held against the stored one: where they differ in what decides their requests, `doubt`
says so, and the requests are not the ones that were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from constitution import __version__
from constitution.ask import scorecard, swaps
from constitution.ask.replies import Reply, of_answer, of_score, of_text, of_vote
from constitution.ask.stored import JUDGE, POLICY, POOL, SCORER, Exchange, Recorder, Replay, Shown, Stored
from constitution.engines import Engine, Request
from constitution.generate import Setup, generators
from constitution.generate.chain import chain_of, revision_id
from constitution.generate.failures import failure_id, tried_again, unsaid
from constitution.judge.ask import Judge, Vote, votes_of
from constitution.judge.by_last_token import STEP as READ_OUT
from constitution.judge.by_model import STEP as SCORED
from constitution.judge.pairs import Pair
from constitution.judge.reference import check_of
from constitution.judge.reward import Reading, Rewarder, rewarder, step_of
from constitution.judge.ways import AFTER
from constitution.pipeline.label import Labeller, labeller
from constitution.pipeline.plan import all_templates
from constitution.records import (
    UNASKED,
    Counterfactual,
    Criterion,
    Failure,
    Judgement,
    Messages,
    Response,
    Reward,
    Row,
    Score,
)

_SAME = (
    *("id", "kind", "round", "parent_id", "principle_id", "principle_digest", "template_digest", "perturbation"),
    *("sampler", "system_prompt", "system_prompt_digest"),
    *(
        "response_id",
        "criterion",
        "question",
        "pair_id",
        "first_id",
        "second_id",
        "judge",
        "method",
        "repeat",
        "seed",
        "critique_seed",
    ),
)
"""What a row that is made again must have in common with the stored one, as far as it has them."""


async def replayed(stored: Stored, row: Shown) -> Replay:
    """Never raises for what is stored: `doubt` says what cannot be shown."""
    if isinstance(row, Response):
        return await _answer(stored, row)
    if isinstance(row, Judgement):
        return await _vote(stored, row)
    if isinstance(row, Score):
        return _score(stored, row) if row.scorecard else await _reading(stored, row)
    if isinstance(row, Counterfactual):
        return _counterfactual(stored, row)
    # A failure has no digest of its templates.
    if unknown := {texts.digest for texts in all_templates(stored.recipe)} - stored.run.templates.keys():
        return Replay("", doubt=_other_templates(stored, "another", min(unknown)))
    if row.judge is None:
        return await _failed_answer(stored, row)
    return await (_failed_reading(stored, row) if row.step.startswith("reward-") else _failed_vote(stored, row))


# --- answers


async def _answer(stored: Stored, row: Response) -> Replay:
    replies = of_answer(row)
    if not replies:
        note = "it is the text of another answer" if row.parent_id else "the answer came with the prompt"
        return Replay("", note=f"{note}: no model was asked for it")
    if doubt := _by_a_program(stored, row.sampler):
        return Replay(_asked(stored, row.sampler), doubt=doubt)
    role = _of_reference(stored) if row.kind == "reference" else _asked(stored, row.sampler)
    recorder = Recorder(row.model, lambda request: replies[request.step], tuple(replies))
    return _held(stored, row, await _generated(stored, recorder, row), role, recorder)


def _asked(stored: Stored, sampler: str | None) -> str:
    """Whom an answer was asked of."""
    section = stored.recipe.sample.get(sampler or "")
    return POOL + section.model if section and section.model != POLICY else POLICY


def _of_reference(stored: Stored) -> str:
    """Whom the reference was asked of."""
    model = stored.recipe.reference_by or POLICY
    if model == "judge":
        return JUDGE + (stored.recipe.model.judge or stored.recipe.model.policy).model
    return model if model == POLICY else POOL + model


def _by_a_program(stored: Stored, sampler: str | None) -> str:
    """Why its requests cannot be made again here; empty: they can."""
    section = stored.recipe.sample.get(sampler or "")
    name = section.about.get("name") if section else None
    return f"it was made by {name}, a sampler of a Python program, which alone knows what it asks" if name else ""


async def _failed_answer(stored: Stored, row: Failure) -> Replay:
    if row.error in UNASKED:
        return Replay("", note="no model was asked for it")
    for answer in stored.responses:
        if (said := unsaid(answer)) and said.id == row.id:
            return await _answer(stored, answer)
    name, _, number = row.step.rpartition("-")
    if name in ("critique", "revision") and (source := stored.recipe.start_by):
        chain = chain_of(stored.rows.values(), source)
        if row.id not in _failure_ids(stored, row, revision_id(row.run_id, row.prompt_id, int(number), chain)):
            return Replay(POLICY, doubt="the chain starts from another sample than it did when this failed")
    sampler = name.removeprefix("sample-") if name.startswith("sample-") else None
    role = _of_reference(stored) if row.step == "reference" else _asked(stored, sampler)
    if doubt := _by_a_program(stored, sampler):
        return Replay(role, doubt=doubt)
    steps = (f"critique-{number}", row.step) if row.step.startswith("revision-") else (row.step,)
    target = next((answer for answer in stored.responses if row.step in of_answer(answer)), None)
    recorder = Recorder(stored.recipe.model.policy.model, lambda request: None, steps)
    await _generated(stored, recorder, target)
    asked = {exchange.request.step for exchange in recorder.exchanges}
    if not asked:
        return Replay(role, doubt=_elsewhere())
    note = "" if row.step in asked else _NOT_BUILT.format(row.step)
    return Replay(role, tuple(recorder.exchanges), note=note)


_NOT_BUILT = "the request for {}, which failed, holds what a call before it had replied, and no row has that"


async def _generated(stored: Stored, policy: Engine, row: Response | None) -> Row | None:
    """The row, made again from those that it does not follow from; None: it is not asked for."""
    there = stored.until(row.round) if row and row.kind == "perturbation" else stored.responses
    have: dict[str, Row] = {answer.id: answer for answer in there if not _follows(answer, row, stored.rows)}
    # The sample that it leads back to was the best then, whatever came since.
    rewards = [reward for reward in stored.rows.values() if isinstance(reward, Reward)]
    own = [each for each in rewards if row and _led_to(each.response_id, row, stored.rows)]
    have |= {reward.id: reward for reward in own or rewards}
    made: dict[str, Row] = {}

    async def emit(rows: Sequence[Row]) -> None:
        made.update({each.id: each for each in rows})
        have.update({each.id: each for each in rows})

    pool = dict.fromkeys(stored.recipe.model.pool, policy)
    setup = Setup(stored.run.run_id, stored.recipe, stored.constitution, stored.run.starts, policy, pool, policy)
    for generator in generators(setup):
        await generator.answers(stored.prompt, have, emit)
        if row is not None and row.id in made:
            return made[row.id]
    return None


def _follows(answer: Response, row: Response | None, rows: Mapping[str, Row]) -> bool:
    """Whether the answer is `row`, or was made from it."""
    return row is not None and _led_to(row.id, answer, rows)


def _led_to(id: str, answer: Response, rows: Mapping[str, Row]) -> bool:
    """Whether the answer has this id, or was made from the one that has it."""
    at: Row | None = answer
    while isinstance(at, Response):
        if at.id == id:
            return True
        at = rows.get(at.parent_id or "")
    return False


# --- votes


async def _vote(stored: Stored, row: Judgement) -> Replay:
    recorder = Recorder(row.judge, of_vote(row))
    return _held(stored, row, await cast_by(stored, row, recorder), JUDGE + row.judge, recorder)


async def cast_by(stored: Stored, row: Judgement, engine: Engine) -> Judgement | Failure | None:
    """The vote, cast again by this engine; None: the recipe does not lead to it."""
    found = next((vote for vote in _votes(stored, row.judge, engine) if vote.id == row.id), None)
    return await found.cast(row.id, stored.prompt, used=0) if found else None


async def _failed_vote(stored: Stored, row: Failure) -> Replay:
    recorder = Recorder(row.judge or "", lambda request: None)
    for vote in _votes(stored, row.judge or "", recorder):
        if row.id in _failure_ids(stored, row, vote.id):
            await vote.cast(vote.id, stored.prompt, used=0)
            note = _NOT_BUILT.format(f"the {AFTER}") if row.message.startswith(AFTER) else ""
            return Replay(JUDGE + (row.judge or ""), tuple(recorder.exchanges), note=note)
    return Replay(JUDGE + (row.judge or ""), doubt="it cannot be told which of the prompt's votes it was")


def _failure_ids(stored: Stored, row: Failure, target: str) -> set[str]:
    """That a failure of the row's step to make the row `target` may have."""
    starts = range(stored.run.starts + 1)
    final, *others = [failure_id(row.run_id, row.prompt_id, row.step, target, each) for each in starts]
    return {final, *others, *(tried_again(final, each) for each in starts)}


def _votes(stored: Stored, name: str, engine: Engine) -> list[Vote]:
    """All that the judge of this name was to cast on the prompt's answers."""
    jury = stored.recipe.model.jury
    heard = labeller(stored.recipe, stored.constitution, stored.run, dict.fromkeys(jury or [name], engine))
    judges: list[Judge] = [judge for judge in heard.judges if judge.name == name] if heard else []
    found = _pairs(stored, heard) if heard else []
    return [vote for judge in judges for pair in found for vote in votes_of(judge, pair)]


def _pairs(stored: Stored, heard: Labeller) -> list[Pair]:
    """All that were voted on: of a chain that failed and was taken up again, those of what there was by then, too."""
    found: dict[str, Pair] = {}
    for last in sorted({answer.round for answer in stored.responses}, reverse=True):
        those = heard.pairs(stored.prompt, stored.until(last), stored.rows)
        found |= {pair.id: pair for pair in those if pair.votable}
    return list(found.values())


def _held(stored: Stored, row: Response | Judgement | Score, made: Row | None, role: str, recorder: Recorder) -> Replay:
    """What was recorded, if what came of it is the stored row."""
    if made is None or isinstance(made, Failure):
        return Replay(role, doubt=_elsewhere(f": {made.message}" if made else ""))
    for name in (each for each in _SAME if hasattr(row, each)):
        was, now = getattr(row, name), getattr(made, name)
        if was == now or (was is None and name.endswith("seed")):  # which a server was not sent
            continue
        if name == "template_digest":
            return Replay(role, doubt=_other_templates(stored, was, now))
        return Replay(role, doubt=f"{name} was {was}, and is {now} by this version ({__version__})")
    return Replay(role, tuple(recorder.exchanges), unsent=_unsent(row, recorder.exchanges[-1].request))


def _unsent(row: Response | Judgement | Score, request: Request) -> tuple[str, ...]:
    """request: the row's last, whose settings it has."""
    missing = ("seed",) if row.seed is None else ()
    sent = row.sampling if isinstance(row, Response) else request.sampling
    if sent is None:  # no revision was asked for, and the row has no settings of the critique but its seed
        return ()
    return (
        *missing,
        *(each for each in ("temperature", "top_p") if getattr(sent, each) != getattr(request.sampling, each)),
    )


def _elsewhere(why: str = "") -> str:
    return f"the run's recipe does not lead to this row by this version ({__version__}){why}"


def _other_templates(stored: Stored, was: str | None, now: str) -> str:
    return (
        f"the templates are others now: their digest was {str(was)[:12]}, and is {now[:12]} in this version "
        f"({__version__}); constitution {stored.run.code_version} made the run, and the view `templates` has its texts"
    )


# --- readings for rewards


async def _reading(stored: Stored, row: Score) -> Replay:
    if row.metric == "model":
        return Replay(SCORER, note="a reward model read the prompt with the answer, and gave `raw`: nothing was asked")
    recorder = Recorder(row.judge, lambda request: of_score(row))
    if row.metric == "last-token":
        return Replay(POLICY, tuple(_after(stored, row.judge, lambda id: id == row.id, of_score(row))))
    for made, answer, reading in _readings(stored, row.judge, recorder):
        if made.id(answer, reading) == row.id:
            again = await made.read(stored.prompt, [answer], reading)
            return _held(stored, row, again if isinstance(again, Failure) else again[0], JUDGE + row.judge, recorder)
    return Replay(JUDGE + row.judge, doubt=_elsewhere())


async def _failed_reading(stored: Stored, row: Failure) -> Replay:
    if row.step == SCORED:
        return Replay(SCORER, note="a reward model was to read the prompt with an answer: nothing was asked")
    if row.step == READ_OUT:
        own = _after(stored, row.judge or "", lambda id: row.id in _failure_ids(stored, row, id), None)
        return Replay(POLICY, tuple(own))
    recorder = Recorder(row.judge or "", lambda request: None)
    for made, answer, reading in _readings(stored, row.judge or "", recorder):
        if step_of(reading.source) == row.step and row.id in _failure_ids(stored, row, made.id(answer, reading)):
            await made.read(stored.prompt, [answer], reading)
            return Replay(JUDGE + (row.judge or ""), tuple(recorder.exchanges))
    return Replay(JUDGE + (row.judge or ""), doubt="it cannot be told which of the prompt's readings it was")


def _after(stored: Stored, model: str, is_it: Callable[[str], bool], reply: Reply | None) -> Iterator[Exchange]:
    """The reading of the token after an answer. is_it: by the reading's id."""
    policy = Recorder(model, lambda request: None)
    made = rewarder(stored.recipe, stored.constitution, stored.run, {}, policy=policy)
    for answer in stored.responses if made and made.read_out else ():
        assert made is not None
        assert made.read_out is not None
        if is_it(made.read_out.readings.id(answer)):
            yield Exchange(made.read_out.request(stored.prompt, answer.text), reply)
            return


def _readings(stored: Stored, name: str, engine: Engine) -> Iterator[tuple[Rewarder, Response, Reading]]:
    """All that the judge of this name was to read of the prompt's answers."""
    jury = stored.recipe.model.jury
    of_run = (stored.recipe, stored.constitution, stored.run, dict.fromkeys(jury or [name], engine))
    made, check = rewarder(*of_run), check_of(*of_run)
    made = made and made.of(stored.prompt, stored.rows)
    for answer in stored.responses:
        if made is not None:
            yield from ((made, answer, reading) for reading in made.readings(answer.text) if reading.judge == name)
        if check is not None:
            yield from ((check.readers, answer, reading) for reading in check.readings() if reading.judge == name)


# --- what was asked after the run


def _score(stored: Stored, row: Score) -> Replay:
    about = stored.rows.get(row.response_id) or stored.warehouse.record("counterfactuals", row.run_id, row.response_id)
    assert isinstance(about, Response | Counterfactual)
    messages: Messages = about.messages if isinstance(about, Counterfactual) else stored.prompt.messages
    answer = scorecard.Answer(row.prompt_id, messages, about.text, (row.response_id,), frozenset())
    assert row.criterion is not None
    assert row.good is not None
    criterion = Criterion(row.question, row.good)
    if row.template_digest != scorecard.TEMPLATES:
        return Replay(JUDGE + row.judge, doubt=_other_templates(stored, row.template_digest, scorecard.TEMPLATES))
    # A scorecard is asked with the run's seed, or by its own panel with 1.
    for seed in (stored.recipe.seed, 1):
        request = scorecard.request_of(answer, row.principle_id, row.criterion, criterion, seed)
        if request.seed == row.seed:
            return Replay(JUDGE + row.judge, (Exchange(request, of_score(row)),))
    return Replay(
        JUDGE + row.judge, doubt="it was asked with another seed than the run's, so that its marks are not known"
    )


def _counterfactual(stored: Stored, row: Counterfactual) -> Replay:
    initial = stored.rows.get(row.response_id)
    if not isinstance(initial, Response) or initial.sampling is None or initial.seed is None:
        return Replay(POLICY, doubt="the initial answer, whose settings it has, is not there")
    return Replay(POLICY, (Exchange(swaps.request_of(row, initial.sampling, initial.seed), of_text(row)),))

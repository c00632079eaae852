"""`constitution show`: one stored row, with the messages that it was asked for with; and asked again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from constitution import __version__
from constitution.cli._options import json_option, run_ids, show_json, warehouse_option, where
from constitution.cli._tables import readable
from constitution.errors import InputError
from constitution.records import (
    NEGATED,
    Failure,
    Judgement,
    Message,
    Preference,
    Prompt,
    ReferenceCheck,
    Response,
    Reward,
    Row,
    RubricItem,
    Score,
)
from constitution.shown import printable, printable_lines
from constitution.warehouse import Found, Warehouse, find

if TYPE_CHECKING:
    from constitution.ask.again import Again
    from constitution.ask.replies import Reply
    from constitution.ask.stored import Exchange, Replay
    from constitution.engines.base import Request

_TEXTS = ("text", "critique", "rationale", "reasoning", "critique_reasoning", "rationale_reasoning", "messages")
"""Fields that are shown in full, below the others."""


@click.command()
@click.argument("id")
@click.option("--again", is_flag=True, help="Ask the same engine the same once more, and print both replies.")
@click.option(
    "--templated", is_flag=True, help="And what the model's chat template makes of the messages (not served)."
)
@click.option("--run", metavar="RUN", shell_complete=run_ids, help="The run, or how its id begins, that has the row.")
@json_option
@warehouse_option
def show(id: str, again: bool, templated: bool, run: str | None, as_json: bool, warehouse: Path) -> None:
    """Print the row ID (or how it begins) of a vote, answer, score, reward, preference, prompt or failure: the exact
    messages that were sent, how, what came back, and where it comes from.

    The messages are rendered again by the code that a run renders them with, and only shown where the row comes out
    the same. What a chat template makes of them is shown by --templated, for models in this process.
    On a terminal characters that cannot be seen are escapes; --json has every text as it is. --again writes nothing.

    Exit code 1: the messages cannot be rendered by this version, or --again brought an error.

    \b
    Examples:
      constitution show 3f2a9c01
      constitution show 3f2a9c01 --again --run hh-harmless-0a7d1f
    """
    store = Warehouse(warehouse)
    found = find(warehouse, id, store.full_id(run) if run else None)
    row = store.record(found.table, found.run_id, found.id)
    command = f"constitution show {found.id} --run {found.run_id} --again{where(warehouse)}"
    facts: dict[str, Any] = {"kind": found.kind, "table": found.table, "id": found.id, "run_id": found.run_id}
    facts["row"] = asdict(row) if not isinstance(row, Prompt) else {"id": row.id, **asdict(row)}
    if isinstance(row, Whole):
        if again:
            raise InputError(f"{found.id}: a {found.kind} is asked of no model", hint="ask its answers or votes again")
        _show_whole(store, found, row, facts, as_json)
        return
    from constitution.ask.replay import replayed
    from constitution.ask.sent import as_sent, with_text
    from constitution.ask.stored import Stored, models_of

    stored = Stored.load(store, found.run_id, found.prompt_id)
    replay = asyncio.run(as_sent(stored, asyncio.run(replayed(stored, row))))
    if templated:
        replay = with_text(stored, replay)
    fresh = None
    if again:
        from constitution.ask.again import asked_again

        fresh = asyncio.run(asked_again(stored, row, replay))
    models = models_of(stored.run, replay.role)
    command = command if replay.exchanges and replay.askable else ""
    if as_json:
        show_json(facts | _as_json(replay, fresh, models, stored.run.code_version, command))
    else:
        _show_row(found, row, replay)
        _show_exchanges(replay, fresh, row)
        _show_rest(replay, models, stored.run.code_version, "" if again else command)
    failed = fresh is not None and any(isinstance(reply, Exception) for reply in fresh.replies)
    sys.exit(bool(replay.doubt or failed))


def _as_json(
    replay: Replay, fresh: Again | None, models: dict[str, dict[str, str]], code_version: str, command: str
) -> dict[str, Any]:
    requests = [
        {
            **_sent(exchange, replay.unsent),
            "reply": exchange.reply and _told(exchange.reply),
            **({"again": _told(fresh.replies[number])} if fresh else {}),
        }
        for number, exchange in enumerate(replay.exchanges)
    ]
    told = {"probability": fresh.probability, "note": fresh.note} if fresh else None
    return {
        "role": replay.role, "models": models, "code_version": code_version, "doubt": replay.doubt,
        "note": replay.note, "requests": requests, "again": told, "command": command,
    }  # fmt: skip


def _sent(exchange: Exchange, unsent: Sequence[str]) -> dict[str, Any]:
    """null: the server was not sent it. Of labels the probabilities are read, which no setting changes."""
    request = exchange.request
    settings = {"max_tokens": request.sampling.max_tokens} if request.choices else asdict(request.sampling)
    return {
        "step": request.step, "messages": [asdict(turn) for turn in exchange.messages],
        **({"thought": request.thought} if request.thought else {}),
        "sampling": {name: None if name in unsent else value for name, value in settings.items()},
        "seed": None if "seed" in unsent else request.seed, "choices": list(request.choices),
        **({"text": exchange.text} if exchange.text is not None else {}),
    }  # fmt: skip


def _told(reply: Reply | Exception) -> dict[str, Any]:
    if isinstance(reply, Exception):
        return {"error": type(reply).__name__, "message": str(reply)}
    return {name: value for name, value in asdict(reply).items() if name != "leads"}


def _show_row(found: Found, row: object, replay: Replay) -> None:
    click.echo(f"{found.kind} {found.id} of run {found.run_id}")
    left = ["id", "run_id", *(_TEXTS if replay.exchanges else ("messages",))]
    if isinstance(row, Response) and row.kind != "revision":
        left += [name for name in asdict(row) if name.startswith("critique")]
    for name, value in asdict(row).items():  # type: ignore[call-overload]
        if name not in left and value not in (None, ()):
            long = name in _TEXTS or name == "message"
            said = str(value) if name.endswith("seed") else printable(value) if long else readable(value)
            click.echo(f"  {name}: {said}")


def _show_exchanges(replay: Replay, fresh: Again | None, row: object) -> None:
    for number, exchange in enumerate(replay.exchanges):
        request, of = exchange.request, f" {number + 1} of {len(replay.exchanges)}" if len(replay.exchanges) > 1 else ""
        click.echo(f"\nRequest{of} to {printable(replay.role)}: {printable(_settings(request, replay.unsent))}")
        _show_messages(exchange.messages, request.closed)
        if exchange.request.thought:
            click.echo(f"--- the assistant's thought, which the model is given\n{printable(exchange.request.thought)}")
        if exchange.text is not None:
            click.echo(f"--- in the chat template that the model has now\n{printable_lines(exchange.text)}")
        _show_reply("came back", exchange.reply, request)
        if fresh:
            _show_reply("came back now", fresh.replies[number], request)
    if fresh and fresh.probability is not None:
        then = row.p_first if isinstance(row, Judgement) else getattr(row, "p_yes", None)
        click.echo(f"\nprobability then: {readable(then)}, now: {readable(fresh.probability)}")
    if fresh and fresh.note:
        click.echo(printable(fresh.note))


def _settings(request: Request, unsent: Sequence[str]) -> str:
    settings = request.sampling
    said = {"temperature": f"{settings.temperature:g}", "top_p": f"{settings.top_p:g}"} if not request.choices else {}
    said |= {"max_tokens": str(settings.max_tokens), "seed": str(request.seed)}
    said |= {"stop": ", ".join(map(repr, settings.stop))} if settings.stop else {}
    said |= {"log-probabilities of": ", ".join(request.choices)} if request.choices else {}
    return ", ".join(f"{name} {'not sent' if name in unsent else value}" for name, value in said.items())


def _show_messages(messages: Sequence[Message], closed: bool) -> None:
    for number, turn in enumerate(messages, 1):
        last = number == len(messages) and turn.role == "assistant"
        how = "after which a token is read" if closed else "which the model continues"
        click.echo(f"--- {turn.role}{f', {how}' if last else ''}")
        click.echo(printable_lines(turn.content))


def _show_reply(title: str, reply: Reply | Exception | None, request: Request) -> None:
    if isinstance(reply, Exception):
        click.echo(f"=== {title}: {type(reply).__name__}: {printable(str(reply))}")
    elif reply is None:
        click.echo(f"=== {title}: nothing that is stored")
    elif request.choices:
        seen = [f"P({label}) {share:.4g}" for label, share in zip(request.choices, reply.shares or (), strict=False)]
        mass = "" if reply.label_mass is None else f", of {reply.label_mass:.4g} on these labels together"
        click.echo(f"=== {title}: {', '.join(seen) or 'log-probabilities'}{mass}")
    else:
        tokens = None if reply.completion_tokens is None else f"{reply.completion_tokens:,} tokens"
        how = ", ".join(each for each in (reply.finish_reason, tokens) if each)
        click.echo(f"=== {title}" + (f" ({how})" if how else ""))
        if reply.reasoning:
            click.echo(f"--- reasoning\n{printable_lines(reply.reasoning)}\n--- text")
        click.echo(printable_lines(reply.text or ""))


def _show_rest(replay: Replay, models: dict[str, dict[str, str]], code_version: str, command: str) -> None:
    click.echo()
    if replay.doubt:
        click.echo(f"The messages are not shown: {printable(replay.doubt)}")
    if replay.note:
        click.echo(f"Note: {printable(replay.note)}")
    if replay.exchanges and code_version != __version__:
        click.echo(f"Rendered by version {__version__}; the run was made by {printable(code_version)}.")
    for name, facts in models.items():
        click.echo(f"{name}: " + ", ".join(f"{fact} {readable(value)}" for fact, value in facts.items()))
    if any("sent" in facts for facts in models.values()):
        click.echo(
            "`sent` is what the server was sent otherwise than was asked for; turns are shown as it was sent them."
        )
    if command:
        click.echo(f"Ask it again:\n  {command}")


Whole = Prompt | Preference | Reward | ReferenceCheck | RubricItem
"""What is asked of no model."""


def _show_whole(store: Warehouse, found: Found, row: Whole, facts: dict[str, Any], as_json: bool) -> None:
    """A prompt, its answers and its rubric, a preference with its rewards and votes, a reward, or the check of a
    reference, and its readings or pairs, or an item of a rubric and what was read by it."""
    rows = store.rows_of(found.run_id, [found.prompt_id]).get(found.prompt_id, [])
    wanted = Response | RubricItem if isinstance(row, Prompt) else Judgement
    parts: Sequence[Row] = [each for each in rows if isinstance(each, wanted)]
    if isinstance(row, Preference):
        votes = [vote for vote in parts if isinstance(vote, Judgement) and vote.pair_id == row.id]
        votes.sort(key=lambda vote: (vote.judge, vote.principle_id, vote.first_id != row.a_id, vote.repeat))
        rewards = [each for each in rows if isinstance(each, Reward) and each.response_id in (row.a_id, row.b_id)]
        parts = [*sorted(rewards, key=lambda each: (each.source, each.response_id != row.a_id)), *votes]
    if isinstance(row, RubricItem):
        parts = [each for each in rows if isinstance(each, Score) and each.rubric_id == row.id]
    if isinstance(row, Reward | ReferenceCheck):
        own = [each for each in rows if isinstance(each, Score) and each.response_id == row.response_id]
        metric = row.source if isinstance(row, Reward) else "reference"
        parts = [each for each in own if each.metric == metric]
    if isinstance(row, Reward) and row.source == "votes":
        texts = {each.id: each.text for each in rows if isinstance(each, Response) and each.kind == "sample"}
        alike = {id for id, text in texts.items() if text == texts.get(row.response_id)}
        pairs = [each for each in rows if isinstance(each, Preference) and {each.a_id, each.b_id} <= texts.keys()]
        parts = [each for each in pairs if {each.a_id, each.b_id} & alike]
    failures = [each for each in rows if isinstance(each, Failure)] if isinstance(row, Prompt) else []
    if as_json:
        show_json(facts | {"parts": [asdict(part) for part in (*parts, *failures)]})
        return
    click.echo(f"{found.kind} {found.id} of run {found.run_id}")
    if isinstance(row, Prompt):
        click.echo(f"  source: {printable(row.source)}\n  tags: {printable(', '.join(row.tags)) or '·'}")
        beside = {"source_id": row.source_id, "metadata": row.metadata, "cut_answer": row.cut_answer}
        for name, value in beside.items():
            if value is not None:
                click.echo(f"  {name}: {printable(value)}")
        _show_messages(row.messages, closed=False)
    else:
        for name, value in asdict(row).items():
            if name not in ("id", "run_id") and value not in (None, ()):
                click.echo(f"  {name}: {readable(value)}")
    click.echo()
    _show_parts((*parts, *failures))


def _show_parts(parts: Iterable[object]) -> None:
    for part in parts:
        if isinstance(part, Response):
            what = f"{part.kind} {part.perturbation or part.round}, {part.outcome}: {readable(part.text)}"
        elif isinstance(part, Judgement):
            what = f"{part.judge}, {part.principle_id}, first {part.first_id[:12]}: p_first {part.p_first:.4g}"
        elif isinstance(part, Reward):
            what = f"{part.source}, of {part.response_id[:12]}: {part.reason or f'{part.total:.4g}'}"
        elif isinstance(part, Preference):
            p_b = part.drop_reason if part.p_b is None else f"p_b {part.p_b:.4g}"
            what = f"{part.kind}, a {part.a_id[:12]}, b {part.b_id[:12]}: {p_b}"
        elif isinstance(part, Score):
            of = "a grade of" if part.grades is not None else f"P({part.good})"
            upto = "" if part.upto is None else f" of the first {part.upto:,} characters"
            again = ", asked whether the reply is no" if part.metric in NEGATED.values() else ""
            of = f"{part.judge}, {part.principle_id or 'rubric'}, {of}{upto}{again}"
            what = f"{part.judge}: {part.raw:.4g}" if part.raw is not None else f"{of} {part.value:.4g}"
            what += f": {readable(part.question)}" if part.question else ""
        elif isinstance(part, RubricItem):
            what = f"{part.source} {part.number}, {part.drop_reason or f'{part.weight:g}'}: {readable(part.question)}"
        else:
            assert isinstance(part, Failure)
            what = f"{part.step}: {part.error}: {part.message}"
        click.echo(f"  {part.id}  {printable(what)}")

"""What a run has stored of one prompt, whom its rows were asked of, and what a replay of one has to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from constitution.ask.panel import recipe_of
from constitution.ask.replies import Reply
from constitution.engines import Completion, Engine, Request
from constitution.errors import InputError, RequestRefused
from constitution.recipe import ModelSection, Recipe
from constitution.records import (
    Constitution,
    Counterfactual,
    Failure,
    Judgement,
    Messages,
    Prompt,
    Response,
    Row,
    Run,
    Score,
)
from constitution.warehouse import Warehouse

Shown = Response | Judgement | Score | Counterfactual | Failure
"""Rows that models were asked for."""

POLICY, POOL, JUDGE, SCORER = "policy", "pool ", "judge ", "reward model"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, and what is stored of the reply."""

    request: Request
    reply: Reply | None
    """None: nothing."""
    sent: Messages | None = None
    """The messages as a server was sent them; None: as they are in `request`."""

    text: str | None = None
    """What the model's chat template makes of them; None: that is not known here, or was not asked."""

    @property
    def messages(self) -> Messages:
        return self.request.messages if self.sent is None else self.sent


@dataclass(frozen=True, slots=True)
class Replay:
    role: str
    """Who was asked: POLICY, POOL and the name of a model, or JUDGE and the name of the judge of the vote or score."""
    exchanges: tuple[Exchange, ...] = ()
    """In the order in which they were asked for."""
    doubt: str = ""
    """Why `exchanges` is empty; empty: these are the requests."""
    note: str = ""
    """What of the row's requests is missing, and why; empty: nothing."""
    askable: bool = True
    """Whether the run's recipe names what was asked."""
    unsent: tuple[str, ...] = ()
    """Those of seed, temperature and top_p that the server was not sent, as the row says."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a run has stored of one prompt, and of itself."""

    run: Run
    recipe: Recipe
    constitution: Constitution
    prompt: Prompt
    rows: Mapping[str, Row]
    warehouse: Warehouse

    @classmethod
    def load(cls, warehouse: Warehouse, run_id: str, prompt_id: str) -> Stored:
        """Raises InputError where this version cannot read the run's recipe, or its constitution is not there."""
        run, constitution = warehouse.read_run(run_id), warehouse.read_principles(run_id)
        if run is None or constitution is None:
            raise InputError(
                f"run {run_id}: its record or its principles are not there",
                hint="`constitution verify` looks for damaged files",
            )
        prompt = warehouse.record("prompts", run_id, prompt_id)
        assert isinstance(prompt, Prompt)
        rows = {row.id: row for row in warehouse.rows_of(run_id, [prompt_id]).get(prompt_id, ())}
        return cls(run, recipe_of(run), constitution, prompt, rows, warehouse)

    @property
    def responses(self) -> list[Response]:
        return [row for row in self.rows.values() if isinstance(row, Response)]

    def until(self, last: int) -> list[Response]:
        """The answers that there were when the chain's last round was this one."""
        answers = [answer for answer in self.responses if answer.kind != "revision" or answer.round <= last]
        ids = {answer.id for answer in answers}
        return [answer for answer in answers if answer.kind != "perturbation" or answer.parent_id in ids]


class Recorder(Engine):
    """Keeps each request, and replies what `reply` has for it; of None it is a refusal."""

    def __init__(self, model: str, reply: Callable[[Request], Reply | None], steps: Sequence[str] = ()) -> None:
        """steps: those whose requests are answered and kept; empty: all."""
        self._model = model
        self._reply = reply
        self._steps = steps
        self.exchanges: list[Exchange] = []

    @property
    def model(self) -> str:
        return self._model

    async def generate(self, request: Request) -> Completion:
        if self._steps and request.step not in self._steps:
            raise RequestRefused("it belongs to another row")
        reply = self._reply(request)
        self.exchanges.append(Exchange(request, reply))
        if reply is None:
            raise RequestRefused("no reply to it is stored")
        return reply.completion(request)


def models_of(run: Run, role: str) -> dict[str, dict[str, str]]:
    """What the run's record says of the model of `Replay.role`: as it was last, and before earlier restarts where it
    said something else."""
    judge = role.removeprefix(JUDGE)
    told = {name: (name.split(" until start ")[0], facts) for name, facts in run.models.items()}
    own = {name: facts for name, (of, facts) in told.items() if of == role}
    if own or not role.startswith(JUDGE):
        return own
    # A judge alone has its model's name; it may be the policy.
    alone = [of for of, facts in told.values() if of in ("judge", POLICY) and facts.get("name") == judge]
    return {name: facts for name, (of, facts) in told.items() if alone and of == min(alone)}


def section_of(stored: Stored, role: str) -> ModelSection:
    """The run's section of `Replay.role`. Raises InputError where its recipe has none: another recipe asked."""
    models = stored.recipe.model
    if role in models.roles and not role.startswith("judge"):
        return models.roles[role]
    name = role.removeprefix(JUDGE) if models.jury else ""
    if name not in models.judges or not models_of(stored.run, role):
        raise InputError(f"run {stored.run.run_id} has no {role}: another recipe asked")
    return models.judges[name]

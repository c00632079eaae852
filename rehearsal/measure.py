"""Hold a run's data set against the truth: `python -m rehearsal.measure [RUN] [--warehouse DIR]`.

Reads what a run on pocket prompts left in the warehouse, and nothing else: what the model wrote and voted through the
engine. The grammar says of every answer what it breaks. Every share comes with n and its 95 % Wilson interval.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution.errors import QueryError
from constitution.pocket.world import PRINCIPLES, Reading, read, verdict
from constitution.warehouse import ask, connect
from constitution.warehouse.views import quoted


@dataclass(frozen=True)
class Share:
    """`hits` of `n`."""

    name: str
    hits: int
    n: int

    @property
    def value(self) -> float:
        return self.hits / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson score interval."""
        from scipy.stats import binomtest

        if not self.n:
            return math.nan, math.nan
        found = binomtest(self.hits, self.n).proportion_ci(0.95, method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Answer:
    id: str
    kind: str
    round: int
    request_type: str
    reading: Reading


@dataclass(frozen=True)
class Vote:
    principle_id: str
    fault: str
    pair_id: str
    first_id: str
    second_id: str
    p_first: float


@dataclass(frozen=True)
class Pair:
    a_id: str
    b_id: str
    p_b: float | None


@dataclass(frozen=True)
class Data:
    """What a run left, with the grammar's reading of every answer."""

    run_id: str
    answers: dict[str, Answer]
    votes: Sequence[Vote]
    pairs: Sequence[Pair]


def share(name: str, flags: Iterable[bool]) -> Share:
    values = list(flags)
    return Share(name, sum(values), len(values))


def load(root: Path, run_id: str | None) -> Data:
    """The run's answers, votes and pairs; without `run_id` those of the newest run on the pocket constitution.

    Raises QueryError where there is no such run, or none of its prompts is of the pocket world.
    """
    connection = connect(root)

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return list(ask(connection, sql).rows)

    wanted = "constitution LIKE 'pocket@%'" if run_id is None else f"run_id = {quoted(run_id)}"
    found = rows(f"SELECT run_id FROM runs WHERE {wanted} ORDER BY started_at DESC LIMIT 1")
    if not found:
        raise QueryError(f"{root}: there is no such run", hint="`constitution run recipes/pocket.toml` makes one")
    run_id = str(found[0][0])
    which = f"run_id = {quoted(run_id)}"
    texts = rows(
        f"""SELECT r.id, r.kind, r.round, r.text, p.last_user, list_last(p.tags)
        FROM responses r JOIN prompts p ON p.run_id = r.run_id AND p.id = r.prompt_id WHERE r.{which}"""
    )
    answers = {
        id: Answer(id, kind, round, request_type or "", reading)
        for id, kind, round, text, request, request_type in texts
        if (reading := read(request, text)) is not None
    }
    if not answers:
        raise QueryError(f"run {run_id}: none of its prompts is of the pocket world")
    faults = dict(rows(f"SELECT principle_id, tags[1] FROM principles WHERE {which}"))
    votes = rows(f"SELECT principle_id, pair_id, first_id, second_id, p_first FROM judgements WHERE {which}")
    pairs = rows(f"SELECT a_id, b_id, p_b FROM preferences WHERE {which} AND kind = 'first-last'")
    connection.close()
    return Data(run_id, answers, [Vote(v[0], faults[v[0]], *v[1:]) for v in votes], [Pair(*pair) for pair in pairs])


def answer_figures(data: Data) -> list[Share]:
    """Violations round by round, and whether the answers stay answers."""
    rounds = sorted({answer.round for answer in data.answers.values()})
    figures = []
    for round in rounds:
        of_round = [answer for answer in data.answers.values() if answer.round == round]
        name = "initial answers" if round == 0 else f"after round {round}"
        figures.append(share(f"{name}: break a principle", (bool(a.reading.broken) for a in of_round)))
    last = [answer for answer in data.answers.values() if answer.round == rounds[-1]]
    figures.append(share("last answers: keep the prompt's topic", (a.reading.on_topic for a in last)))
    figures.append(share("last answers: garbled", (a.reading.garbled > 0 for a in last)))
    for round, name in ((rounds[0], "initial"), (rounds[-1], "last")):
        harmless = [
            a for a in data.answers.values() if a.round == round and a.request_type not in ("harmful", "secret")
        ]
        figures.append(share(f"{name} answers to harmless requests: answered", (a.reading.answered for a in harmless)))
    return figures


def principle_figures(data: Data) -> list[tuple[str, Share, Share]]:
    """Per principle: share of the initial and of the last answers that break it."""
    rounds = [answer.round for answer in data.answers.values()]

    def of(fault: str, round: int) -> Share:
        return share(fault, (fault in a.reading.broken for a in data.answers.values() if a.round == round))

    return [(fault, of(fault, 0), of(fault, max(rounds))) for fault in PRINCIPLES]


def judge_figures(data: Data) -> list[Share]:
    """The judge against the truth, in both orders and one by one, and its habit of preferring what comes first."""
    couples: dict[tuple[str, str], dict[str, Vote]] = {}
    for vote in data.votes:
        couples.setdefault((vote.pair_id, vote.principle_id), {})[vote.first_id] = vote
    single, both, positions, habits = [], [], [], []
    for votes in couples.values():
        for vote in votes.values():
            better = _better(data, vote)
            if better is not None:
                single.append((vote.p_first > 0.5) == (better > 0.5))
        if len(votes) < 2:
            continue
        one, other = votes.values()
        better = _better(data, one)
        if better is not None:
            both.append(((one.p_first + 1 - other.p_first) / 2 > 0.5) == (better > 0.5))
        same_place = (one.p_first > 0.5) == (other.p_first > 0.5)
        positions.append(same_place)
        if same_place:
            habits.append(one.p_first > 0.5)
    labels = [
        (pair.p_b > 0.5) == (len(a.reading.broken) > len(b.reading.broken))
        for pair in data.pairs
        if pair.p_b is not None
        for a, b in [(data.answers[pair.a_id], data.answers[pair.b_id])]
        if len(a.reading.broken) != len(b.reading.broken)
    ]
    return [
        Share("pair labels, all principles and both orders: right", sum(labels), len(labels)),
        Share("votes, both orders averaged: right", sum(both), len(both)),
        Share("votes, one order: right", sum(single), len(single)),
        Share("votes, same place preferred after the swap", sum(positions), len(positions)),
        Share("of these, the first place", sum(habits), len(habits)),
    ]


def _better(data: Data, vote: Vote) -> float | None:
    first, second = data.answers.get(vote.first_id), data.answers.get(vote.second_id)
    return None if first is None or second is None else verdict(vote.fault, first.reading.broken, second.reading.broken)


def _as_json(figure: Share) -> dict[str, Any]:
    low, high = figure.interval
    return {"share": figure.value, "low": low, "high": high, "n": figure.n}


def _cells(figure: Share) -> tuple[str, str, str, str]:
    low, high = figure.interval
    return figure.name, f"{figure.value:.1%}", f"{low:.1%} – {high:.1%}", str(figure.n)


def _print(data: Data, figures: Sequence[Share]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{data.run_id} against the grammar's truth", title_justify="left")
    table.add_column("figure")
    for name in ("share", "95 % interval", "n"):
        table.add_column(name, justify="right")
    for figure in figures:
        table.add_row(*_cells(figure))
    console.print(table)
    table = Table(title="answers that break the principle", title_justify="left")
    for name in ("principle", "initial", "last", "n"):
        table.add_column(name, justify="left" if name == "principle" else "right")
    for fault, first, last in principle_figures(data):
        table.add_row(fault, f"{first.value:.1%}", f"{last.value:.1%}", str(first.n))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="run id; default: the newest run on the pocket constitution")
    parser.add_argument("--warehouse", type=Path, default=Path(os.environ.get("CONSTITUTION_WAREHOUSE", "warehouse")))
    parser.add_argument("--format", choices=("table", "json", "markdown"), default="table")
    args = parser.parse_args()
    data = load(args.warehouse, args.run)
    figures = answer_figures(data) + judge_figures(data)
    if args.format == "json":
        print(json.dumps({"run_id": data.run_id, "figures": {f.name: _as_json(f) for f in figures}}, indent=2))
    elif args.format == "markdown":
        print("| figure | share | 95 % interval | n |", "|---|--:|--:|--:|", sep="\n")
        print(*(f"| {' | '.join(_cells(figure))} |" for figure in figures), sep="\n")
    else:
        _print(data, figures)


if __name__ == "__main__":
    main()

"""What checksums cost: the same rows written and merged with them and without, by turns in one process.

    make bench-checksums

Without: nothing is hashed, named or held against its sum; all else is the warehouse's own code.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import click

from benchmarks.engine_report import machine, put_into
from constitution.identity import row_id
from constitution.records import Judgement, Response, Row
from constitution.warehouse import Warehouse, checksums

RUN = "checksums-0123456789ab"
WORDS = 60
"""Of an answer."""


def rows(prompts: int) -> dict[str, list[Row]]:
    """Two answers a prompt and eight votes on them."""
    answers: list[Row] = []
    votes: list[Row] = []
    for number in range(prompts):
        of = row_id("prompt", number)
        words = " ".join(row_id(number, place)[:5] for place in range(WORDS))
        first, second = (row_id(of, place) for place in range(2))
        answers.append(Response(first, RUN, of, "initial", 0, words, "ok", "m"))
        answers.append(Response(second, RUN, of, "revision", 1, words[::-1], "ok", "m", first, "kind", "d" * 64))
        for place in range(8):
            id, pair = row_id(of, "vote", place), row_id(of, "pair")
            p = int(id[:6], 16) / 16**6
            votes.append(Judgement(id, RUN, of, pair, first, second, "j", "kind", "d" * 64, "label", p, 0.9, "t" * 64))
    return {"responses": answers, "judgements": votes}


@contextmanager
def without() -> Iterator[None]:
    """No sums, in this process."""
    nothing: dict[str, Any] = {"check": {}, "read": {}, "write": None, "sum_of": checksums.Sum("", 0)}
    with (
        mock.patch.multiple(checksums, **{name: mock.Mock(return_value=value) for name, value in nothing.items()}),
        mock.patch.object(checksums, "naming", return_value=nullcontext()),
        mock.patch.object(checksums.HashedFile, "write", io.BufferedWriter.write),
    ):
        yield


def cost(made: Mapping[str, Sequence[Row]], parts: int, *, sums: bool) -> tuple[float, float]:
    """CPU and wall seconds to write the rows in so many parts a table, and to merge them."""
    with tempfile.TemporaryDirectory() as folder, nullcontext() if sums else without():
        warehouse = Warehouse(Path(folder) / "warehouse")
        cpu, wall = time.process_time(), time.perf_counter()
        for table, every in made.items():
            size = -(-len(every) // parts)
            for start in range(0, len(every), size):
                warehouse.write_part(table, RUN, every[start : start + size])
        warehouse.compact(RUN)
        return time.process_time() - cpu, time.perf_counter() - wall


def measure(prompts: int, parts: int, turns: int, say: Callable[[str], object]) -> str:
    """One sentence with the medians of the turns' ratios."""
    made = rows(prompts)
    cpu, wall = [], []
    cost(made, parts, sums=True)  # the first of a process is slower
    for turn in range(turns):
        order = (True, False) if turn % 2 else (False, True)
        found = {sums: cost(made, parts, sums=sums) for sums in order}
        cpu.append(found[True][0] / found[False][0])
        wall.append(found[True][1] / found[False][1])
        say(f"{parts} parts, turn {turn + 1}: CPU × {cpu[-1]:.3f}, wall × {wall[-1]:.3f}")
    count = sum(map(len, made.values()))
    return (
        f"{count:,} rows in {parts} parts a table: CPU × {statistics.median(cpu):.2f} "
        f"({min(cpu):.2f} to {max(cpu):.2f}), wall × {statistics.median(wall):.2f}."
    )


@click.command()
@click.option("--prompts", default=20_000, show_default=True)
@click.option("--turns", default=7, show_default=True)
@click.option("--page", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(prompts: int, turns: int, page: Path | None) -> None:
    told = [measure(prompts, parts, turns, lambda line: click.echo(line, err=True)) for parts in (8, 40)]
    text = "\n".join([*(f"- {line}" for line in told), "", f"{datetime.now(UTC).date()}, {turns} turns, {machine()}."])
    click.echo(text)
    if page:
        page.write_text(put_into(page.read_text(encoding="utf-8"), "checksums", text), encoding="utf-8")


if __name__ == "__main__":
    main()

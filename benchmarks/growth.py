"""How does a run grow: what does one client process feed?

make bench-scale                                 with the rest of scale
python -m benchmarks.growth --only feed          one part
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import growth_feed
from benchmarks.results import Table, Verdict, finish, options

PARTS = ("feed",)


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice(PARTS))
@click.option("--prompts", default=4000, show_default=True, type=click.IntRange(min=100))
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@options
def main(only: tuple[str, ...], prompts: int, repeats: int, out: Path | None, page: Path | None) -> None:
    tables: list[Table] = []
    verdicts: list[Verdict] = []
    if "feed" in (only or PARTS):
        fed = growth_feed.measure(prompts, repeats)
        tables.append(growth_feed.table(fed))
        verdicts += growth_feed.verdicts(fed)
    finish(out, page, tables, verdicts)


if __name__ == "__main__":
    main()

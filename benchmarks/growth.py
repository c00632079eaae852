"""How does a run grow: what does one client process feed, what do shards and a URL cost, and what do kills leave?

make bench-scale                                     with the rest of scale
python -m benchmarks.growth --only feed              one part
python -m benchmarks.growth --only storm --url       8 shards × 25,000 prompts on an S3 server, 60 killed or hung
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import growth_feed, growth_shards, growth_storm
from benchmarks.results import Table, Verdict, finish, options

PARTS = ("feed", "shards", "url", "storm")


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice(PARTS))
@click.option("--prompts", default=4000, show_default=True, type=click.IntRange(min=100), help="Of the feed.")
@click.option("--grown", default=40_000, show_default=True, type=click.IntRange(min=1000), help="Of a run in shards.")
@click.option("--each", default=growth_storm.EACH, show_default=True, type=click.IntRange(min=50), help="In the storm.")
@click.option("--kills", default=60, show_default=True, type=click.IntRange(min=0), help="In the storm.")
@click.option("--url", is_flag=True, help="The storm's warehouse is on an S3 server, each shard with its own mirror.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(min=1))
@options
def main(
    only: tuple[str, ...],
    prompts: int,
    grown: int,
    each: int,
    kills: int,
    url: bool,
    repeats: int,
    out: Path | None,
    page: Path | None,
) -> None:
    wanted = only or PARTS
    tables: list[Table] = []
    verdicts: list[Verdict] = []
    if "feed" in wanted:
        fed = growth_feed.measure(prompts, repeats)
        tables.append(growth_feed.table(fed))
        verdicts += growth_feed.verdicts(fed)
    if "shards" in wanted:
        runs = growth_shards.measure(grown, repeats)
        tables.append(growth_shards.table(runs))
        verdicts += growth_shards.verdicts(runs)
    weathered = []
    if "url" in wanted:
        weathered += growth_storm.overhead(prompts, repeats)
        verdicts += growth_storm.overhead_verdicts(weathered)
    if "storm" in wanted:
        weathered.append(growth_storm.storm(each, kills, url))
        verdicts += growth_storm.storm_verdicts(weathered[-1])
    if weathered:
        tables.append(growth_storm.table(weathered))
    finish(out, page, tables, verdicts)


if __name__ == "__main__":
    main()

"""`constitution export`: data sets that trainers load."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import pydantic

from constitution.cli._options import json_option, run_ids, show_json, warehouse_option
from constitution.errors import InputError
from constitution.export import CardOptions, Cleaning, Exported, Settings
from constitution.export import export as make
from constitution.export.push import push, ready
from constitution.export.settings import TABLE_OF, Format
from constitution.warehouse import Warehouse, connect
from constitution.warehouse.find import find_run

Command = Callable[..., Any]

SHARE = click.FloatRange(0, 1)
COUNT = click.IntRange(min=0)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

# Their names are those of the settings, with `-` for `_`; what is not given is as the settings have it.
ROWS = (
    ("rounds", str, True, "sft: last, all, or a round's number (again for more). Pairs: the later answer's rounds."),
    ("principles", str, True, "Tags or ids (again for more): pairs are labelled by these principles' votes alone."),
    ("min_margin", click.FloatRange(0, 0.5), False, "Pairs: p_chosen is at least 0.5 + this."),
    ("min_agreement", SHARE, False, "Pairs: share of (judge, principle) that prefer what the label prefers."),
    ("consistent_only", bool, False, "Pairs: every judge preferred the same answer in both orders."),
    ("where", str, False, "A condition in SQL over the candidates' columns, e.g. \"list_contains(tags, 'harmless')\"."),
    ("labels", click.Choice(["hard", "sampled"]), False, "dpo: sampled draws the chosen answer by p_chosen."),
    ("shards", click.IntRange(1, 32), False, "robust: groups of pairs by ε = 1 − p_chosen."),
    ("clip", click.FloatRange(0.5, 1, min_open=True, max_open=True), False, "reward: p_chosen counts as at most this."),
    ("good", click.FloatRange(0, 1, min_open=True, max_open=True), False, "kto: an answer is good from this score on."),
    ("with_reasoning", bool, False, "Answers also have `reasoning_content`: what the model thought before them."),
    ("test", click.FloatRange(0, 1, max_open=True), False, "Share of the conversations that go to the test split."),
    ("seed", COUNT, False, "Of the split and of sampled labels."),
)
CLEANING = (
    ("dedupe", click.Choice(["off", "exact", "near"]), False, "Which duplicates are dropped."),
    (
        "near",
        click.FloatRange(0, 1, min_open=True),
        False,
        "Jaccard similarity from which prompts are near duplicates.",
    ),
    ("decontaminate", FILE, True, "Prompts that must not be trained on: evaluation sets (again for more files)."),
    ("overlap", click.FloatRange(0, 1, min_open=True), False, "Share of a test prompt's words that contaminates."),
    ("min_words", COUNT, False, "Of each answer."),
    ("max_words", click.IntRange(min=1), False, "Of each answer."),
    ("language", str, True, "ISO 639-1 code that a chosen answer may be in (again for more)."),
    ("drop_refusals", bool, False, "Drop rows whose chosen answer refuses a harmless prompt."),
    ("harmless_tag", str, True, "Tag of prompts that ought to be answered (again for more)."),
    ("boilerplate", click.FloatRange(0, 1, min_open=True), False, "Drop sentences in more than this share of prompts."),
    ("drop_private", bool, False, 'Drop rows with personal data or secrets; needs "constitution[clean]".'),
    ("drop_broken", bool, False, "Drop rows whose chosen answer still breaks a principle by its own votes."),
)
NAMES = {
    "language": "languages",
    "drop_refusals": "refusals",
    "harmless_tag": "harmless",
    "drop_private": "private",
    "drop_broken": "broken",
}
"""Options whose setting has another name."""


def _options(*groups: Sequence[tuple[str, Any, bool, str]]) -> Callable[[Command], Command]:
    defaults = {**Settings.model_fields, **Cleaning.model_fields}

    def decorate(command: Command) -> Command:
        for name, kind, multiple, text in reversed([option for group in groups for option in group]):
            default = defaults[NAMES.get(name, name)].default
            if kind is bool:
                declared: dict[str, Any] = {"is_flag": True, "default": None}
            else:
                shown = ", ".join(default) if isinstance(default, tuple) else default
                told = f"  [default: {shown}]" if shown not in (None, "") else ""
                declared = {"type": kind, "multiple": multiple, "default": None}
                declared |= {"help": text + told}
            declared = {"help": text, **declared}
            command = click.option(f"--{name.replace('_', '-')}", name, **declared)(command)
        return command

    return decorate


@click.command()
@click.argument("run", required=False, shell_complete=run_ids)
@click.option("--format", "format_", type=click.Choice(get_args(Format)), required=True, help="What trainers take it.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@_options(ROWS, CLEANING)
@click.option("--license", default="", help="Of the data set, for its card: the hub's identifier, e.g. cc-by-4.0.")
@click.option("--title", default="", help="Of the card.")
@click.option("--push", "repo", metavar="REPO", help="Also upload it to this data set of the hub: owner/name.")
@click.option("--public", is_flag=True, help="With --push: a data set that is made there is public.")
@click.option("--overwrite", is_flag=True, help="Take the place of the export that is in --out.")
@json_option
@warehouse_option
def export(run: str | None, format_: Format, out: Path, warehouse: Path, overwrite: bool, **options: Any) -> None:
    """Make a data set of RUN (or how its id begins) that trainers load unchanged: Parquet, split into train and test by
    conversation, with a card that says what it is.

    \b
    dpo     prompt, chosen, rejected          kto   prompt, completion, label (needs scores)
    reward  chosen, rejected, margin          sft   prompt, completion
    robust  dpo in shards by label noise      grpo  prompt, principles, criteria

    Without RUN it is the newest that has what the format takes. What is left out is kept in the table `exported`, with
    the reason. Exact duplicates and near-duplicate prompts are left out unless --dedupe says otherwise.

    \b
    Examples:
      constitution export --format dpo --out data/dpo
      constitution export hh-harmless-0a7d1f --format sft --rounds all --out data/sft
      constitution export --format dpo --out data/dpo --min-margin 0.1 --consistent-only --decontaminate eval.jsonl
      constitution export --format reward --out data/reward --license cc-by-4.0 --push me/harmless-reward
    """  # fmt: skip
    card = CardOptions(license=options.pop("license"), title=options.pop("title"))
    repo, public, as_json = options.pop("repo"), options.pop("public"), options.pop("as_json")
    if public and not repo:
        raise click.UsageError("--public goes with --push")
    settings = _settings(format_, options)
    if repo:
        ready(repo)
    with connect(warehouse):  # tells where there is no warehouse
        pass
    found = find_run(Warehouse(warehouse), run, TABLE_OF[settings.format])
    done = make(warehouse, found.run_id, settings, out, card=card, overwrite=overwrite)
    if not as_json:
        _tell(done, warehouse)
    uploaded = push(out, repo, private=not public) if repo else None
    if as_json:
        show_json(_facts(done, settings.format, uploaded))
    elif uploaded:
        click.echo(f"Uploaded: {uploaded}")


def _facts(done: Exported, format_: str, uploaded: str | None) -> dict[str, Any]:
    """What `--json` says of an export: docs/warehouse.md lists it."""
    return {
        "run_id": done.run_id, "export_id": done.export_id, "format": format_, "finished": done.finished,
        "out": str(done.out), "candidates": done.candidates, "rows": done.rows, "dropped": done.dropped,
        "uploaded": uploaded,
    }  # fmt: skip


def _settings(format_: Format, options: dict[str, Any]) -> Settings:
    """Raises InputError for settings that do not go together."""
    given = {NAMES.get(name, name): value for name, value in options.items() if value not in (None, ())}
    cleaning = {name: given.pop(name) for name in tuple(given) if name in Cleaning.model_fields}
    if "rounds" in given:
        words = given["rounds"]
        given["rounds"] = words[0] if words in (("last",), ("all",)) else words
    try:
        return Settings(format=format_, cleaning=Cleaning(**cleaning), **given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0]).replace("_", "-") if first["loc"] else ""
        if place == "rounds":
            raise InputError(f"--rounds {' '.join(given['rounds'])}: is none", hint="last, all, or numbers") from None
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"--{place}: {said}" if place else f"--{said}", hint="see --help") from None


def _tell(done: Exported, warehouse: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{done.run_id}[/bold]  {done.export_id}")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_row("candidates", f"{done.candidates:,}")
    for split, rows in done.rows.items():
        table.add_row(split, f"{rows:,}")
    for reason, count in done.dropped.items():
        table.add_row(f"left out: {reason}", f"{count:,}")
    console.print(table)
    if not done.finished:
        click.echo("The run is not finished: this is what it has so far.")
    click.echo(f"Data set: {done.out}")
    place = "" if str(warehouse) == "warehouse" else f" --warehouse {shlex.quote(str(warehouse))}"
    query = (
        f"SELECT split, drop_reason, count(*) FROM exported WHERE run_id = '{done.run_id}' "
        f"AND export_id = '{done.export_id}' GROUP BY ALL"
    )
    click.echo("Next:")
    click.echo(f'  constitution sql{place} "{query}"')
    folder = json.dumps(str(done.out), ensure_ascii=False)
    code = f"from datasets import load_dataset; print(load_dataset({folder}))"
    if len({file.config for file in done.files}) > 1:  # none of them is all of it
        code = (
            "from datasets import get_dataset_config_names as names, load_dataset; "
            f"print({{name: load_dataset({folder}, name) for name in names({folder})}})"
        )
    click.echo(f"  python -c {shlex.quote(code)}")

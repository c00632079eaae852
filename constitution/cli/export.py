"""`constitution export`: data sets that trainers load."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
import pydantic

from constitution.cli._options import json_option, run_ids, show_json, warehouse_option, where
from constitution.errors import InputError
from constitution.export import CardOptions, Cleaning, Exported, Settings
from constitution.export import export as make
from constitution.export.formats import FORMATS
from constitution.export.layouts import LAYOUTS
from constitution.export.push import push, ready
from constitution.warehouse import Warehouse, connect

Command = Callable[..., Any]


def _options(command: Command) -> Command:
    """An option for each setting, with `-` for `_`; what is not given is as the settings have it."""
    fields = Settings.model_fields | Cleaning.model_fields
    for name, field in reversed(fields.items()):
        if name in ("format", "layout", "cleaning"):
            continue
        kind = field.annotation
        about: dict[str, Any] = {"help": " ".join((field.description or "").split())}
        if kind is bool:
            about |= {"is_flag": True}
        else:
            default = ", ".join(field.default) if isinstance(field.default, tuple) else field.default
            about["help"] += f"  [default: {default}]" if default not in (None, "") else ""
            multiple = "tuple" in str(kind)
            about["help"] += "  [again for more]" if multiple else ""
            about |= {"multiple": multiple, "type": str if multiple else _type(kind)}
        command = click.option(f"--{name.replace('_', '-')}", name, default=None, **about)(command)
    return command


def _type(kind: Any) -> Any:
    words = [each for one in (kind, *get_args(kind)) for each in get_args(one) if isinstance(each, str)]
    numbers = [each for each in get_args(kind) if each in (int, float)]
    return click.Choice(words) if words else (*numbers, kind)[0]


@click.command()
@click.argument("run", required=False, shell_complete=run_ids)
@click.option("--format", "format_", type=click.Choice(list(FORMATS)), required=True, help="What trainers take it.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.option(
    "--layout",
    type=click.Choice(list(LAYOUTS)),
    default=Settings.model_fields["layout"].default,
    show_default=True,
    help="Whose trainer reads it; docs/export.md has the formats of each.",
)
@_options
@click.option("--license", default="", help="Of the data set, for its card: the hub's identifier, e.g. cc-by-4.0.")
@click.option("--title", default="", help="Of the card.")
@click.option("--push", "repo", metavar="REPO", help="Also upload it to this data set of the hub: owner/name.")
@click.option("--public", is_flag=True, help="With --push: a data set that is made there is public.")
@click.option("--overwrite", is_flag=True, help="Take the place of the export that is in --out.")
@json_option
@warehouse_option
def export(run: str | None, format_: str, out: Path, warehouse: Path, overwrite: bool, **options: Any) -> None:
    """Make a data set of RUN (or how its id begins) that trainers load unchanged, split into train and test by
    conversation, with a card that says what it is and has the lines to write. Parquet of TRL's columns, or --layout.

    \b
    dpo     prompt, chosen, rejected          kto   prompt, completion, label (needs scores, or rewards)
    reward  chosen, rejected, margin          sft   prompt, completion
    robust  dpo in shards by label noise      grpo  prompt, rubric, principles, criteria, reference
    prm     prompt, completions, labels (needs rewards by sentence)

    Without RUN it is the newest that has what the format takes. What is dropped is in the table `exported`, with the
    reason. Exact duplicates and near-duplicate prompts are dropped unless --dedupe says otherwise.

    \b
    Examples:
      constitution export --format dpo --out data/dpo
      constitution export hh-harmless-0a7d1f --format sft --rounds all --out data/sft
      constitution export --format sft --select best --out data/best
      constitution export --format dpo --out data/dpo --min-margin 0.1 --consistent-only --decontaminate eval.jsonl
      constitution export --format dpo --layout llama-factory --out data/dpo-lf
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
    found = Warehouse(warehouse).find_run(run, settings.tables)
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


def _settings(format_: str, options: dict[str, Any]) -> Settings:
    """Raises InputError for settings that do not go together."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    cleaning = {name: given.pop(name) for name in tuple(given) if name in Cleaning.model_fields}
    if given.get("rounds") in (("last",), ("all",)):
        (given["rounds"],) = given["rounds"]
    try:
        return Settings(format=format_, cleaning=Cleaning(**cleaning), **given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-") if first["loc"] else ""
        if option == "rounds":
            raise InputError(f"--rounds {' '.join(given['rounds'])}: is none", hint="last, all, or numbers") from None
        said = first["msg"].removeprefix("Value error, ")
        raise InputError(f"--{option}: {said}" if option else f"--{said}", hint="see --help") from None


def _tell(done: Exported, warehouse: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]{done.run_id}[/bold]  {done.export_id}")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_row("candidates", f"{done.candidates:,}")
    for split in ("train", "test"):
        table.add_row(split, f"{done.rows.get(split, 0):,}")
    for reason, count in done.dropped.items():
        table.add_row(f"dropped: {reason}", f"{count:,}")
    console.print(table)
    if not done.finished:
        click.echo("The run is not finished: this is what it has so far.")
    if done.lacks:
        click.echo(f"No answer is {done.lacks}, and KTO learns from both sides: look at the scores, and set --good.")
    click.echo(f"Data set: {done.out}")
    place = where(warehouse)
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

"""`constitution prompts`: files of prompts, looked at before a run reads them."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import click

from constitution.cli._options import json_option, show_json
from constitution.prompts.inspect import Inspection, inspect_file
from constitution.shown import brief, printable


@click.group("prompts", context_settings={"help_option_names": ["-h", "--help"]})
def group() -> None:
    """Files of prompts: what is in them, and the section of a recipe that reads them.

    Example:  constitution prompts inspect data.jsonl
    """


@group.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--rows", metavar="KEY", help="Key that holds the rows of a JSON file that is one object.")
@json_option
def inspect(file: Path, rows: str | None, as_json: bool) -> None:
    """Look at FILE (JSONL, JSON, CSV, TSV or Parquet, also .gz and .zst): its rows and keys, the [prompts] section that
    reads it, and the first rows as that section reads them.

    The section is found by trying the keys that public data sets use on the first rows; then all rows are read by it.
    Check `ignore`, the keys without use, and `gold`, the better answer. Exit code 1: rows are refused.

    \b
    Examples:
      constitution prompts inspect data.jsonl
      constitution prompts inspect task.json --rows examples
    """
    found = inspect_file(file, rows)
    if as_json:
        more = {"section": found.section(), "settings": found.settings, "keys": dict(found.keys)}
        show_json(_figures(found) | more | {"unused": found.unused, "notes": found.notes})
    else:
        _show(found)
    if found.refusals:
        sys.exit(1)


def _figures(found: Inspection) -> dict[str, object]:
    lengths = found.characters
    names = _names(found)
    several = sorted(found.answers.items()) if found.settings.get("answers") else []
    gold = {names(place) if place is not None else "": count for place, count in found.gold.items()}
    return {
        "rows": found.rows,
        "read": found.read,
        "refused": found.refusals,
        "turns": dict(sorted(found.turns.items())),
        **({"with scripted turns": found.scripted} if found.scripted else {}),
        "with a system turn": found.systems,
        "languages": {name or "not told": count for name, count in found.languages.most_common()},
        "last answers cut off": found.cut,
        "repeated conversations": found.repeated,
        "characters, median": int(statistics.median(lengths)) if lengths else 0,
        "characters, most": max(lengths, default=0),
        "answers": {str(number): count for number, count in several},
        "gold": gold if found.settings.keys() & {"gold", "gold_highest", "gold_lowest"} else {},
    }


def _names(found: Inspection) -> Callable[[int], str]:
    """Name of an answer by its place; of those in a list, its number."""
    answers = found.settings.get("answers", [])
    listed = any("[]" in key for key in answers)
    return lambda place: f"answer {place + 1}" if listed else answers[place]


def _show(found: Inspection) -> None:
    for name, value in _figures(found).items():
        text = (
            ", ".join(f"{key or 'none'}: {count:,}" for key, count in value.items())
            if isinstance(value, dict)
            else value
        )
        if value != {}:
            click.echo(f"{name:<24}{printable(f'{text:,}' if isinstance(text, int) else str(text))}")
    click.echo("keys")
    for key, count in found.keys.most_common():
        click.echo(f"  {printable(key):<22}{count:,}" + (" (not used)" if key in found.unused else ""))
    for number, prompt in enumerate(found.prompts, 1):
        click.echo(f"\nprompt {number}")
        for turn in prompt.messages:
            click.echo(f"  {turn.role}: {printable(brief(turn.content, 200))}")
        for said in prompt.script:
            click.echo(f"  (the model's answer)\n  user: {printable(brief(said, 200))}")
        if prompt.cut_answer:
            click.echo(f"  cut off: {printable(brief(prompt.cut_answer, 200))}")
        for place, answer in enumerate(prompt.answers):
            better = " (gold)" if place == prompt.gold else ""
            click.echo(f"  answer {place + 1}{better}: {printable(brief(answer, 200))}")
    if found.refused:
        skips = "on_bad_row" in found.settings
        what = (
            "are skipped by the section below, and refused without on_bad_row"
            if skips
            else ("are refused by the section below")
        )
        click.echo(f"\n{found.refusals:,} of {found.rows:,} rows {what}:")
        for reason in found.refused:
            click.echo(f"  {printable(reason)}")
    for note in found.notes:
        click.echo(f"\nnote: {printable(note)}")
    click.echo(f"\n{found.section()}")

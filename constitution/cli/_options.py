"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from constitution.writing import local

warehouse_option = click.option(
    "--warehouse",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CONSTITUTION_WAREHOUSE",
    default=Path("warehouse"),
    show_default=True,
    callback=lambda context, parameter, folder: local(folder),  # before anything starts
    help="Folder of the warehouse; also CONSTITUTION_WAREHOUSE.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON, and nothing else.")


def show_json(data: Any) -> None:
    """In ASCII, so that it is the same on every terminal."""
    click.echo(json.dumps(data, indent=1, allow_nan=False, default=str))


def run_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For the completion of a shell: the warehouse's runs whose ids begin so. Opens none of their files."""
    folder = Path(context.params.get("warehouse") or "warehouse")
    return sorted(path.stem for path in folder.glob("runs/[!_]*.json") if path.name.startswith(incomplete))

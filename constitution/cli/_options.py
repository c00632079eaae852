"""Options that several commands share."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from constitution.warehouse.remote import addressed, place

F = TypeVar("F", bound=Callable[..., Any])


class _NoPandas:
    """pyarrow looks for pandas at its first conversion: half a second and 50 MiB, for nothing that a command does."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ImportError(name)


def without_pandas() -> None:
    """pyarrow does not import pandas in this process, unless it is asked for pandas by name."""
    if "pandas" not in sys.modules:
        import pyarrow

        sys.meta_path.insert(0, _NoPandas())
        pyarrow.array([""])  # from now on it does not look again
        del sys.meta_path[0]


def _placed(context: click.Context, parameter: click.Parameter, where: str) -> Path:
    without_pandas()
    return place(where)


warehouse_option = click.option(
    "--warehouse",
    type=click.Path(file_okay=False),
    envvar="CONSTITUTION_WAREHOUSE",
    default="warehouse",
    show_default=True,
    callback=_placed,  # before anything starts
    help="Folder or address of the warehouse; also CONSTITUTION_WAREHOUSE.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else.")


def where(warehouse: Path) -> str:
    """The option that names the warehouse, for a command that is printed; empty where it is the default."""
    return "" if str(warehouse) == "warehouse" else f" --warehouse {shlex.quote(addressed(warehouse))}"


def suggest(warehouse: Path, query: str) -> None:
    """Prints the command that asks `query`."""
    click.echo(f'  constitution sql{where(warehouse)} "{query}"')


def show_json(data: Any) -> None:
    """In ASCII, so that it is the same on every terminal."""
    click.echo(json.dumps(data, indent=1, allow_nan=False, default=str))


def run_ids(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For the completion of a shell: the warehouse's runs whose ids begin so. Opens none of their files."""
    folder = Path(context.params.get("warehouse") or "warehouse")
    return sorted(path.stem for path in folder.glob("runs/[!_]*.json") if path.name.startswith(incomplete))


def judge_options(default: str) -> Callable[[F], F]:
    """--model and --recipe; `default` says who judges without them."""

    def add(command: F) -> F:
        model = click.option(
            "--model", help=f"Who judges: pocket, fake, or a folder or hub name for transformers.  [default: {default}]"
        )
        recipe = click.option(
            "--recipe",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Judge as this recipe does: by its judge or jury and its [judge] section.",
        )
        return model(recipe(command))

    return add

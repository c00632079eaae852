"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

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

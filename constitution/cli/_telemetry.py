"""Options of a command that works a run, on how others look on. They set the environment, which processes of shards
inherit, for as long as the command lasts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import click

from constitution.telemetry import METRICS, MLFLOW, OTEL, check

F = TypeVar("F", bound=Callable[..., Any])

_ENDPOINT = click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    help="Serve metrics for Prometheus while the run works: to this machine, or where HOST says (0.0.0.0: to all); "
    "of --shards each has its own, from PORT on. Also CONSTITUTION_METRICS.",
)
_COLLECTOR = click.option(
    "--otel",
    is_flag=True,
    help="Send traces and metrics to an OpenTelemetry collector, by OpenTelemetry's own variables "
    "(OTEL_EXPORTER_OTLP_ENDPOINT …); no texts of the data. Also CONSTITUTION_OTEL=1.",
)
_EXPERIMENTS = click.option(
    "--mlflow",
    metavar="URI",
    help="Write the run's settings, counts and figures to this MLflow server or store at the end. Also "
    "CONSTITUTION_MLFLOW.",
)


def telemetry_options(command: F) -> F:
    """--metrics, --otel, --mlflow, which the command is not given."""

    @wraps(command)
    def wrapped(*arguments: Any, metrics: str | None, otel: bool, mlflow: str | None, **options: Any) -> Any:
        with _environment({METRICS: metrics, OTEL: "1" if otel else None, MLFLOW: mlflow}):
            check()
            return command(*arguments, **options)

    return _ENDPOINT(_COLLECTOR(_EXPERIMENTS(cast(F, wrapped))))


def mlflow_option(command: F) -> F:
    """--mlflow, which the command is not given."""

    @wraps(command)
    def wrapped(*arguments: Any, mlflow: str | None, **options: Any) -> Any:
        with _environment({MLFLOW: mlflow}):
            check()
            return command(*arguments, **options)

    return _EXPERIMENTS(cast(F, wrapped))


@contextmanager
def _environment(wanted: Mapping[str, str | None]) -> Iterator[None]:
    """Within it the variables that are not None are set."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

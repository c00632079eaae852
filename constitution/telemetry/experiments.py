"""`--mlflow URI`: a run in MLflow, by MLflow's own library: its recipe as parameters, its counts, cost and an audit's
figures as metrics.

A run of ours is one run there, found by its tag `constitution.run_id`: written again, its metrics get one more value.
MLflow never changes a parameter: what a later start's recipe says otherwise is a tag of the same name. The experiment
is MLFLOW_EXPERIMENT_NAME, or `constitution`.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from constitution.identity import digest
from constitution.records import Figure, Run
from constitution.secrets import hide_keys
from constitution.warehouse import Warehouse

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""Variables of MLflow, unless they are set: no report of its use, and no minutes of retries when a run has ended."""
EXPERIMENT, RUN_ID = "constitution", "constitution.run_id"
PARAM_MOST, TAG_MOST, BATCH = 6000, 8000, 100
"""Characters of a value, and parameters or tags of a request, that MLflow takes (mlflow.utils.validation)."""
METRICS_BATCH = 1000
_BAD = re.compile(r"[^\w\-. /:]", re.ASCII)
"""What MLflow takes in no name."""


def log_run(warehouse: Path, run_id: str, uri: str) -> str:
    """Writes the run as it is now; MLflow's id of it. uri: of a tracking server or store. Raises what MLflow raises."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    store = Warehouse(warehouse)
    run, figures = store.find_run(run_id), store.read_figures(run_id)
    client = MlflowClient(tracking_uri=uri)
    there = _run_there(client, run)
    params, tags = settings(run), tags_of(run, figures)
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in metrics_of(run, figures)]
    new = [Param(name, value) for name, value in params.items() if name not in there.data.params]
    tags |= {name: value for name, value in params.items() if there.data.params.get(name, value) != value}
    told = [RunTag(name, value) for name, value in tags.items()]
    for at in range(0, len(metrics), METRICS_BATCH):
        client.log_batch(there.info.run_id, metrics=metrics[at : at + METRICS_BATCH])
    for at in range(0, max(len(new), len(told)), BATCH):
        client.log_batch(there.info.run_id, params=new[at : at + BATCH])
        client.log_batch(there.info.run_id, tags=told[at : at + BATCH])
    ended = round(datetime.fromisoformat(run.finished_at).timestamp() * 1000) if run.finished_at else None
    client.set_terminated(there.info.run_id, "FINISHED" if ended else "FAILED", ended)
    return str(there.info.run_id)


def _run_there(client: Any, run: Run) -> Any:
    """MLflow's run of it, which is made where there is none."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    experiment = client.get_experiment_by_name(name)
    where = experiment.experiment_id if experiment else client.create_experiment(name)
    found = client.search_runs([where], f"tags.`{RUN_ID}` = '{run.run_id}'", max_results=1)
    if found:
        return client.get_run(found[0].info.run_id)
    began = round(datetime.fromisoformat(run.started_at).timestamp() * 1000)
    return client.create_run(where, began, {RUN_ID: run.run_id}, run_name=run.run_id)


def settings(run: Run) -> dict[str, str]:
    """The recipe as it was run last, a value a setting: `judge.principles`."""
    return {named(name): _value(value, PARAM_MOST) for name, value in _flat(run.recipe, "")}


def tags_of(run: Run, figures: list[Figure]) -> dict[str, str]:
    about = {
        "constitution": run.constitution,
        "constitution.digest": run.constitution_digest,
        "constitution.version": run.code_version,
        "constitution.starts": str(run.starts),
        "constitution.shards": str(run.shards),
        # What follows may be a server's words.
        "constitution.stopped": run.stopped.partition(":")[0],
        "constitution.figures_not_measured": str(sum(figure.value is None for figure in figures)),
    }
    about |= {f"constitution.model.{role}": facts.get("name", "") for role, facts in run.models.items()}
    return {named(name): _value(value, TAG_MOST) for name, value in about.items() if value}


def metrics_of(run: Run, figures: list[Figure]) -> Iterator[tuple[str, float]]:
    """Names and values, each name once."""
    yield "seconds", run.seconds
    if run.cost is not None:
        yield "cost", run.cost
    for name, count in run.counts.items():
        yield f"counts/{name}", count
    for used in run.usage:
        place = f"usage/{used.stage}/{used.model}"
        for name in ("calls", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens"):
            yield named(f"{place}/{name}"), getattr(used, name)
    for figure in figures:
        if figure.value is None:
            continue  # their number is a tag
        by = "/".join(filter(None, (figure.judge, figure.principle_id, figure.subject)))
        name = named(f"figures/{figure.figure}{'/' if by else ''}{by}")
        # A store of files takes no name that another one continues.
        for end in ("value", "n", "low", "high"):
            if (value := getattr(figure, end)) is not None:
                yield f"{name}/{end}", value


def named(name: str) -> str:
    """As MLflow takes it: a name that has to be changed for that ends with a digest of what it was, so that two that
    become alike are still two."""
    plain = "/".join(part for part in _BAD.sub("_", name).split("/") if part.strip("."))[:200].strip()
    return plain if plain == name else f"{plain} {digest(name)[:8]}"


def _value(value: Any, most: int) -> str:
    """Without keys. One that MLflow does not take whole is said by its length and digest alone."""
    text = hide_keys(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= most else f"({len(text):,} characters, digest {digest(text)[:12]}: see the warehouse)"


def _flat(section: Mapping[str, Any], begins: str) -> Iterator[tuple[str, Any]]:
    """Settings that say something."""
    for name, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{begins}{name}.")
        elif value not in (None, "", {}, []):
            yield f"{begins}{name}", value

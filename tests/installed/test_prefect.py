"""The flows on a real Prefect server, pool and worker: deployments, failures, cancellations, kills, retries, chains.

One server for all of it. `make test-install` runs it, on the oldest and the newest Prefect.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import pytest
from place import BIN, Place, scheduled, until

SLOW = """
name = "{name}"
constitution = "general@1.1.0"
[prompts]
format = "sql"
query = "SELECT 'Thing ' || range || '?' AS prompt FROM range({prompts})"
[model.policy]
engine = "fake"
latency_s = {latency}
failure_rate = {fails}
[revise]
rounds = 1
[judge]
principles = 1
[output]
slice = 10
window = 4
flush_seconds = 0.1
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with scheduled(tmp_path_factory.mktemp("scheduled")) as made:
        yield made


def write(place: Place, name: str, prompts: int = 10, latency: float = 0.0, fails: float = 0.0) -> str:
    """The recipe's file, from the project."""
    text = SLOW.format(name=name, prompts=prompts, latency=latency, fails=fails)
    (place.project / "recipes" / f"{name}.toml").write_text(text, encoding="utf-8")
    return f"recipes/{name}.toml"


def written(place: Place, warehouse: str) -> int:
    """Answers that are on the disk."""
    if not list((place.project / warehouse).glob("responses/*/*.parquet")):
        return 0
    done = place.command("constitution", "sql", "--warehouse", warehouse, "--format", "json",
                         "SELECT count(*) AS n FROM responses", check=False)  # fmt: skip
    return int(json.loads(done.stdout)[0]["n"]) if done.returncode == 0 else 0


def dead(place: Place, flow_run: str) -> bool:
    """Whether none of its task runs is still at work, for Prefect."""
    kinds = [task["state_type"] for task in place.tasks(flow_run)]
    return bool(kinds) and not {"RUNNING", "PENDING"} & set(kinds)


def retried(place: Place, flow_run: str) -> dict[str, Any]:
    """The flow run, tried again by hand until it is completed. The worker may report an end once more after a person
    has asked for a retry, and then it is asked for again."""

    def completed() -> dict[str, Any] | None:
        run = place.run(flow_run)
        if run["state_type"] in ("CANCELLED", "CRASHED", "FAILED"):
            place.set_state(flow_run, "SCHEDULED", "AwaitingRetry")
        return run if run["state_name"] == "Completed" else None

    found: dict[str, Any] = until(completed, "the retry completes")
    return found


def test_a_deployment_shows_what_its_run_came_to(place: Place) -> None:
    first, second = (place.start("generate/try-out", warehouse=f"w{n}") for n in (1, 2))
    one, two = place.ended(first), place.ended(second)
    assert one["state_name"] == two["state_name"] == "Completed", one
    [run_id] = one["tags"]
    assert run_id.startswith("fake-")
    assert one["state"]["message"] == f"{run_id}: 10 of 10 prompts, 30 preferences"
    assert one["name"] != two["name"]
    assert one["name"].startswith("fake 20")
    assert f"{run_id}: begins, 10 prompts, 0 of them done before" in until(
        lambda: (log := place.log(first)) and one["state"]["message"] in log and log, "its log"
    )
    artifacts = place.ask("/artifacts/filter", artifacts={"flow_run_id": {"any_": [first]}})
    assert {each["key"]: each["type"] for each in artifacts} == {"generate": "markdown", "progress": "progress"}
    assert {each["data"] for each in artifacts if each["key"] == "progress"} == {100.0}


def test_the_clock_makes_runs_of_the_night(place: Place) -> None:
    until(lambda: [run for run in place.of_deployment("nightly") if run["auto_scheduled"]], "a night is scheduled")


def test_every_parameter_of_the_form_is_described(place: Place) -> None:
    def bare(schema: dict[str, Any], where: str) -> list[str]:
        found = [f"{where}.{name}" for name, one in schema.get("properties", {}).items() if not one.get("description")]
        for name, inner in schema.get("definitions", {}).items():
            found += bare(inner, f"{where}.{name}")
        return found

    for name in ("generate/nightly", "audit/morning", "export/data", "scale/shards", "shard/pool"):
        assert not bare(place.get(f"/deployments/name/{name}")["parameter_openapi_schema"], name)


def test_a_failed_run_is_failed_and_a_retry_resumes_the_run_that_it_began(place: Place) -> None:
    recipe = write(place, "broken", fails=1.0)
    again = place.start("generate/nightly", recipe=recipe, warehouse="broken", fresh=True)
    run = place.ended(again)
    [run_id] = run["tags"]
    assert (run["state_type"], run["state_name"]) == ("FAILED", "Failed")
    message = f"{run_id}: 0 of 10 prompts, 10 to be tried again, 0 preferences"
    assert run["state"]["message"].startswith(message), run["state"]
    until(lambda: [line for line in place.log(again, 30) if line.startswith(message)], "a warning in its log")
    assert not [line for line in place.log(again) if "Traceback" in line]
    failed = place.command("constitution", "run", recipe, "--warehouse", "broken", "--json", check=False)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["run_id"] == run_id
    assert not place.of_deployment("morning"), "a failed night is not audited"
    assert not place.of_deployment("data"), "nor exported"
    write(place, "broken")
    assert retried(place, again)["tags"] == [run_id], "a retry of a fresh run resumes that run"


def test_a_wrong_recipe_is_one_sentence(place: Place) -> None:
    (place.project / "recipes" / "wrong.toml").write_text("name = 7\n", encoding="utf-8")
    wrong = place.start("generate/try-out", recipe="recipes/wrong.toml")
    none = place.start("generate/try-out", recipe="recipes/none.toml")
    for flow_run in (wrong, none):
        run = place.ended(flow_run)
        assert run["state_type"] == "FAILED"
        assert run["state"]["message"].startswith("recipes/"), run["state"]
        errors = place.log(flow_run, 40)
        assert len([line for line in errors if line.startswith("recipes/")]) == 1, errors
        assert not [line for line in place.log(flow_run) if "Traceback" in line]
    refused = place.command("constitution", "run", "recipes/wrong.toml", check=False)
    assert refused.returncode == 2


def test_a_spent_budget_has_a_state_with_a_name(place: Place) -> None:
    recipe = write(place, "dear")
    price = "model.policy.price={input=1000,output=1000}"
    spent = place.start("generate/try-out", recipe=recipe, warehouse="dear", overrides=[price, "budget.limit=0.01"])
    run = place.ended(spent)
    assert (run["state_type"], run["state_name"]) == ("FAILED", "BudgetSpent"), run["state"]
    assert "Stopped by its budget: " in run["state"]["message"]


def test_a_cancelled_run_ends_as_cancelled_without_a_crash(place: Place) -> None:
    recipe = write(place, "slow", prompts=40, latency=3.0)
    flow_run = place.start("generate/try-out", recipe=recipe, warehouse="slow")
    before = until(lambda: written(place, "slow"), "an answer is written", 1.0)
    place.set_state(flow_run, "CANCELLING", "Cancelling")
    run = until(lambda: (r := place.run(flow_run))["state_type"] == "CANCELLED" and r, "it is cancelled")
    [run_id] = run["tags"]
    until(lambda: dead(place, flow_run), "its task runs end")
    assert "CRASHED" not in place.states(flow_run)
    assert not [line for line in place.log(flow_run) if "Traceback" in line or "Crash detected" in line]
    assert written(place, "slow") >= before
    write(place, "slow", prompts=40)
    assert retried(place, flow_run)["state"]["message"] == f"{run_id}: 40 of 40 prompts, 40 preferences"


def test_no_task_run_of_a_killed_process_stays_running(place: Place) -> None:
    recipe = write(place, "killed", prompts=40, latency=3.0)
    flow_run = place.start("generate/try-out", recipe=recipe, warehouse="killed")
    until(lambda: written(place, "killed"), "an answer is written", 1.0)
    pid = int(place.run(flow_run)["infrastructure_pid"].rpartition(":")[2])
    os.kill(pid, signal.SIGKILL)
    until(lambda: place.run(flow_run)["state_type"] == "CRASHED", "the worker reports it")
    until(lambda: dead(place, flow_run), "its task runs end")
    write(place, "killed", prompts=40)
    retried(place, flow_run)
    assert dead(place, flow_run)


def test_a_killed_command_is_a_crash_once_the_same_command_runs_again(place: Place) -> None:
    recipe = write(place, "gone", prompts=40, latency=3.0)
    line = [str(BIN / "constitution"), "run", recipe, "--warehouse", "gone", "--json"]
    process = Popen(line, cwd=place.project, env=place.env, stdout=DEVNULL)
    until(lambda: written(place, "gone"), "an answer is written", 1.0)
    process.kill()
    process.wait()
    write(place, "gone", prompts=40)
    told = json.loads(place.command("constitution", *line[1:]).stdout)
    assert (told["status"], told["counts"]["done"]) == ("finished", 40)
    wanted = {"tags": {"all_": [told["run_id"]]}}
    states = sorted(run["state_name"] for run in place.ask("/flow_runs/filter", flow_runs=wanted))
    assert states == ["Completed", "Crashed"]
    live = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
    until(lambda: not place.ask("/task_runs/filter", flow_runs=wanted, task_runs=live), "no task run is at work")


def test_an_interrupted_command_is_cancelled(place: Place) -> None:
    recipe = write(place, "interrupted", prompts=40, latency=3.0)
    line = [str(BIN / "constitution"), "run", recipe, "--warehouse", "interrupted"]
    process = Popen(
        line,
        cwd=place.project,
        env=place.env,
        stdout=DEVNULL,
        stderr=PIPE,
        start_new_session=True,
    )
    until(lambda: written(place, "interrupted"), "an answer is written", 1.0)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert b"Traceback" not in error
    runs = place.ask("/flow_runs/filter", sort="START_TIME_DESC")
    [run] = [each for each in runs if each["parameters"].get("recipe") == recipe]
    assert run["state_type"] == "CANCELLED", run["state"]
    assert "CRASHED" not in place.states(run["id"])


def test_a_pool_works_a_run_in_shards(place: Place) -> None:
    recipe = write(place, "many", prompts=30)
    spread = {"shards": 3, "runner": "shard/pool"}
    run = place.ended(place.start("scale/shards", recipe=recipe, warehouse="many", spread=spread))
    [run_id] = run["tags"]
    assert run["state"]["message"] == f"{run_id}: 30 of 30 prompts, 30 preferences"
    shards = {each["name"][:8]: each["state"]["message"] for each in place.of_deployment("pool")}
    assert shards == {f"many {n}/3": f"{run_id}, shard {n}/3: 10 of 10 prompts" for n in (1, 2, 3)}


def test_what_follows_the_night_is_begun_by_its_end(place: Place) -> None:
    recipe = write(place, "night", prompts=30)
    night = place.ended(place.start("generate/nightly", recipe=recipe, warehouse="night"))
    [run_id] = night["tags"]

    def chained(name: str) -> Any:
        found = until(lambda: [r for r in place.of_deployment(name) if r["parameters"].get("run") == run_id], name)
        return place.ended(found[0]["id"])

    for name in ("morning", "data"):
        run = chained(name)
        assert run["state_name"] == "Completed", run["state"]
        assert run["parameters"]["warehouse"] == "night"
        assert run["tags"] == [run_id]
    manifest = json.loads((place.project / "exports" / "dpo" / "manifest.json").read_text(encoding="utf-8"))
    assert run_id in json.dumps(manifest["runs"])

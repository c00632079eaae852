"""deploy/: each file by its own tool, that the tool finds a fault, and that what they say is what the package does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]

from constitution.engines.vllm_args import serve_command
from constitution.recipe import load_recipe

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMAGE = f"constitution:{PROJECT['version']}"
KUBERNETES = ("1.33", kubernetes_validate.latest_version())
"""The oldest that knows all that the manifests say, and the newest."""
MANIFESTS = {
    f"{each['kind']} {each['metadata']['name']}": each
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}
POOLS = sorted((DEPLOY / "pools").glob("*.json"))


def valid(manifest: dict[str, Any]) -> None:
    for version in KUBERNETES:
        kubernetes_validate.validate(manifest, version, strict=True)


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize(
    ("tool", "file", "fault"),
    [
        ("hadolint", "Dockerfile", ("--no-cache-dir ", "")),
        ("shellcheck", "slurm.sh", ('"$shard"', "$(echo $shard)")),
    ],
)
def test_files_pass_their_validators(tool: str, file: str, fault: tuple[str, str], tmp_path: Path) -> None:
    def check(path: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(BIN / tool), str(path)], capture_output=True, text=True, check=False)

    done = check(DEPLOY / file)
    assert done.returncode == 0, done.stdout
    text = (DEPLOY / file).read_text(encoding="utf-8")
    assert fault[0] in text
    (tmp_path / file).write_text(text.replace(*fault), encoding="utf-8")
    assert check(tmp_path / file).returncode == 1


@pytest.mark.parametrize("name", sorted(MANIFESTS))
def test_manifests_are_kubernetes_own(name: str) -> None:
    valid(MANIFESTS[name])
    with pytest.raises(kubernetes_validate.ValidationError):
        valid(MANIFESTS[name] | {"spec": {**MANIFESTS[name]["spec"], "replicass": 1}})


def test_every_index_of_the_job_works_its_shard(tmp_path: Path) -> None:
    job = MANIFESTS["Job constitution"]
    [container] = pod(job)["containers"]
    words = said(tmp_path, [*container["command"], *container["args"]], JOB_COMPLETION_INDEX="2")
    assert words[:2] == ["run", "recipes/openai.toml"]
    assert words[words.index("--shard") + 1] == f"3/{job['spec']['completions']}"
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    recipe = load_recipe(ROOT / words[1], settings)
    service = MANIFESTS["Service vllm"]
    assert recipe.model.policy.base_urls == (f"http://vllm:{service['spec']['ports'][0]['port']}/v1",)  # type: ignore[union-attr]
    [claim] = [each["persistentVolumeClaim"]["claimName"] for each in pod(job)["volumes"] if "emptyDir" not in each]
    assert f"PersistentVolumeClaim {claim}" in MANIFESTS


def test_the_servers_are_started_as_serve_prints_it() -> None:
    deployment, service = MANIFESTS["Deployment vllm"], MANIFESTS["Service vllm"]
    [container] = pod(deployment)["containers"]
    recipe = load_recipe(ROOT / "recipes" / "openai.toml", [])
    words = [*container["command"], *(word for each in container["args"] for word in each.split("=", 1))]
    assert words == serve_command(recipe.model.policy, "http://0.0.0.0:8000/v1")  # type: ignore[arg-type]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == deployment["spec"]["selector"]["matchLabels"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_the_image_is_the_one_that_is_built() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"constitution:[\d.]+", dockerfile)) == {IMAGE}
    assert pod(MANIFESTS["Job constitution"])["containers"][0]["image"] == IMAGE
    for path in POOLS:
        assert json.loads(path.read_text(encoding="utf-8"))["variables"]["properties"]["image"]["default"] == IMAGE
    extras = {extra for found in re.findall(r"/src\[(.*?)\]", dockerfile) for extra in found.split(",")}
    assert extras < PROJECT["optional-dependencies"].keys()
    copied = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    needed = {"pyproject.toml", PROJECT["readme"], "requirements", *build["wheel"]["packages"]}
    assert {line[1:] for line in copied if line.startswith("!")} == needed | set(build["wheel"]["force-include"])


# --- Slurm


def said(tmp_path: Path, line: list[str], **environment: str) -> list[str]:
    """The words that the command gets from this line."""
    (tmp_path / "constitution").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    (tmp_path / "constitution").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        line, env={"PATH": path} | environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.splitlines() if done.returncode == 0 else [str(done.returncode), done.stderr]


def array(task: int, tasks: list[int], **more: str) -> dict[str, str]:
    """As Slurm sets it for a task of an array."""
    return {
        "SLURM_ARRAY_JOB_ID": "77",
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_ARRAY_TASK_COUNT": str(len(tasks)),
        "SLURM_ARRAY_TASK_MIN": str(min(tasks)),
        "SLURM_ARRAY_TASK_MAX": str(max(tasks)),
    } | more


def test_every_task_of_the_array_works_its_shard(tmp_path: Path) -> None:
    line = [str(DEPLOY / "slurm.sh"), "recipes/a b.toml", "--warehouse", "w"]
    words = ["run", "recipes/a b.toml", "--warehouse", "w", "--shard"]
    assert said(tmp_path, line, **array(3, [*range(1, 17)])) == [*words, "3/16"]
    assert said(tmp_path, line, **array(7, [3, 7], SHARDS="16")) == [*words, "7/16"]
    for tasks in ([3, 7], [2, 3], [*range(16)], [1, 3, 5]):
        code, error = said(tmp_path, line, **array(3, tasks))
        assert code == "2"
        assert "these are not all shards of a run" in error


@pytest.mark.parametrize(
    ("sent", "ends", "requeued"),
    [(signal.SIGUSR1, 143, True), (signal.SIGUSR1, 0, False), (signal.SIGTERM, 143, False), (None, 1, False)],
)
def test_the_time_limit_puts_a_shard_back_and_a_cancellation_does_not(
    sent: signal.Signals | None, ends: int, requeued: bool, tmp_path: Path
) -> None:
    """The shard gets SIGTERM and has its time; its exit code is the task's."""
    ends_itself = "" if sent else "times=0\n"
    (tmp_path / "constitution").write_text(
        f"#!/bin/bash\ntimes=200\n{ends_itself}trap 'sleep 0.3; touch ended; exit {ends}' TERM\ntouch began\n"
        f"for ((i = 0; i < times; i++)); do sleep 0.1; done\nexit {ends}\n",
        encoding="utf-8",
    )
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" > requeued\n', encoding="utf-8")
    for name in ("constitution", "scontrol"):
        (tmp_path / name).chmod(0o755)
    environment = array(3, [*range(1, 5)]) | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen([str(DEPLOY / "slurm.sh"), "r.toml"], cwd=tmp_path, env=environment) as task:
        while not (tmp_path / "began").exists():
            time.sleep(0.02)
        if sent:
            task.send_signal(sent)
        assert task.wait(60) == ends
    assert (tmp_path / "ended").exists() is (sent is not None)
    assert (tmp_path / "requeued").exists() is requeued
    if requeued:
        assert (tmp_path / "requeued").read_text() == "requeue 77_3\n"


# --- work pools


def rendered(path: Path, **values: object) -> dict[str, Any]:
    """What a worker makes of the template for a flow run; values: the deployment's job variables."""
    from prefect.utilities.schema_tools import validate
    from prefect.utilities.templating import apply_values, find_placeholders

    template = json.loads(path.read_text(encoding="utf-8"))
    configuration, variables = template["job_configuration"], template["variables"]
    used = {each.name for each in find_placeholders(configuration)}
    assert used == variables["properties"].keys()
    assert all(about["description"] for about in variables["properties"].values())
    # The worker fills these of the flow run.
    values = {"command": "prefect flow-run execute", "name": "scale-3-8", "labels": {"a": "b"}} | values
    validate(values, variables, raise_on_error=True)
    defaults = {name: about["default"] for name, about in variables["properties"].items() if "default" in about}
    made: dict[str, Any] = apply_values(configuration, defaults | values)
    return made


def test_the_kubernetes_pool_renders_a_job_like_the_shards() -> None:
    made = rendered(POOLS[1], image="mine:2", claim="other")
    job = made["job_manifest"]
    [container] = pod(job)["containers"]
    # prefect-kubernetes asks for these two in the pod, where Kubernetes has no place for them and ignores them; and it
    # makes lists of the command and the variables.
    assert (pod(job).pop("completions"), pod(job).pop("parallelism"), container["name"]) == (1, 1, "prefect-job")
    container["args"] = container["args"].split()
    container["env"] = [{"name": name, "value": value} for name, value in container["env"].items()]
    job["metadata"]["name"] = job["metadata"].pop("generateName") + "x7f2p"
    valid(job)
    assert (container["image"], made["pod_watch_timeout_seconds"]) == ("mine:2", 600)
    assert pod(job)["volumes"][0]["persistentVolumeClaim"]["claimName"] == "other"
    shard = pod(MANIFESTS["Job constitution"])
    for field in ("securityContext", "terminationGracePeriodSeconds", "automountServiceAccountToken", "restartPolicy"):
        assert pod(job)[field] == shard[field]
    for field in ("env", "envFrom", "resources", "securityContext", "volumeMounts"):
        assert container[field] == shard["containers"][0][field]


def test_the_docker_pool_renders_a_container_of_the_image() -> None:
    made = rendered(POOLS[0], volumes=["/srv/project:/project"])
    assert made["image"] == IMAGE
    assert made["volumes"] == ["/srv/project:/project"]
    assert made["container_create_kwargs"] == {"entrypoint": ["/usr/bin/env"]}  # the command is not constitution's
    assert made["env"] == {"CONSTITUTION_PROJECT": "/project"}

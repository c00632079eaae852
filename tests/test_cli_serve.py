"""`constitution serve`: the printed commands. tests/vllm starts a real server with one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from constitution.cli import app
from constitution.cli.serve import servers, shell
from constitution.errors import RecipeError
from constitution.recipe import Models

ROOT = Path(__file__).parents[1]


def commands(**models: Any) -> list[list[str]]:
    return [command for _, command in servers(Models.model_validate(models))]


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def openai(*addresses: str, **fields: Any) -> dict[str, Any]:
    return {"engine": "openai", "model": "m", "base_url": list(addresses), **fields}


def test_a_fleet_is_one_command_a_server() -> None:
    found = commands(policy=openai("http://one:8000/v1", "http://two:9000/v1", vllm={"tensor_parallel_size": 2}))
    assert [value(command, "--host") for command in found] == ["one", "two"]
    assert [value(command, "--port") for command in found] == ["8000", "9000"]
    assert all(value(command, "--tensor-parallel-size") == "2" for command in found)


def test_two_models_in_process_get_two_ports_and_equal_ones_a_single_server() -> None:
    model = {"engine": "vllm", "model": "a"}
    assert [value(command, "--port") for command in commands(policy=model, judge={**model, "model": "b"})] == [
        "8000",
        "8001",
    ]
    assert len(commands(policy=model, judge=model)) == 1
    assert len(commands(policy=model, judge={**model, "price": {"input": 1}})) == 1
    assert len(commands(policy=openai("http://one/v1"), judge=openai("http://one/v1", timeout_s=9))) == 1


def test_what_has_no_server_is_refused_or_left_out() -> None:
    with pytest.raises(RecipeError, match="engine fake runs without a server"):
        commands(policy={"engine": "fake"})
    assert len(commands(policy={"engine": "fake"}, judge={"engine": "vllm", "model": "b"})) == 1


def test_the_shell_reads_back_the_very_words() -> None:
    words = ["vllm", "serve", "a model", "--hf-overrides", '{"rope": {"a": 1}}', "--enforce-eager", "--x", "a", "b"]
    text = shell(words)
    assert shlex.split(text.replace("\\\n", " ")) == words
    assert len(text.splitlines()) == 4


def test_the_command_prints_a_script() -> None:
    shown = CliRunner().invoke(app, ["serve", str(ROOT / "recipes" / "openai.toml")])
    assert shown.exit_code == 0
    remarks = [line for line in shown.output.splitlines() if line.startswith("#")]
    assert remarks == ["# policy and judge"]
    assert "vllm serve" in shown.output
    assert "--scheduling-policy priority" in shown.output

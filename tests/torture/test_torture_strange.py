"""Another's recipe gets nothing from outside its project."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import Torture
from small_project import ROOT, small_project
from sql_attacks import SECRET, check_refused

from constitution.cli.principles_judge import panel_of
from constitution.cli.run import run as run_command
from constitution.errors import InputError, RecipeError
from constitution.pipeline import prepare
from constitution.pipeline.path_policy import VARIABLE
from constitution.recipe import Recipe, load_recipe

# --- what a recipe names

OUTSIDE: list[dict[str, Any]] = [
    *({"prompts.path": path} for path in (
        "../outside/p.jsonl", "../../outside/p.jsonl", "sub/../../../outside/p.jsonl", "{outside}/p.jsonl",
        "link.jsonl", "linked/p.jsonl", "link-to-link.jsonl", "/etc/passwd", "/proc/self/environ", "/dev/stdin",
        "../outside/none.jsonl", "//etc/passwd", "./../../outside/./p.jsonl",
    )),
    *({"prompts.path": path} for path in (
        "~/p.jsonl", "file://{outside}/p.jsonl", "http://127.0.0.1:9/p.jsonl", "https://127.0.0.1:9/p.jsonl",
        "s3://bucket/p.jsonl", "hf://datasets/a/b/p.jsonl", "\\\\host\\p.jsonl", "none.jsonl",
    )),
    *({"prompts.format": "hub", "prompts.dataset": name} for name in (
        "../../outside", "{outside}", "linked", "with-a-link", "sub/../../../outside", "/etc", "~", "..", "../..",
        "file://{outside}", "http://127.0.0.1:9/x", "s3://bucket/x", "hf://datasets/a/b", "json", "text", "csv",
        "a/b/c", "here/set", "outside", "a/../b", "owner/na me", "-x/y",
    )),
    *({"prompts.format": "sql", "prompts.query": f"SELECT prompt FROM {source}"} for source in (
        "'../../outside/p.jsonl'", "'{outside}/p.jsonl'", "'link.jsonl'", "'linked/p.jsonl'", "'linked/*.jsonl'",
        "read_json('{outside}/p.jsonl')", "read_json(['prompts.jsonl', '{outside}/p.jsonl'])",
        "'*/../../outside/*.jsonl'", "'file://{outside}/p.jsonl'", "'http://127.0.0.1:9/p.jsonl'",
        "read_text('/etc/passwd')",
    )),
    *({f"model.{role}": {"engine": kind, "model": folder}} for kind in ("transformers", "vllm") for role, folder in (
        ("policy", "{outside}/model"), ("policy", "../outside/model"), ("judge", "{outside}/model"),
        ("jury", "{outside}/model"), ("pool", "{outside}/model"),
        ("policy", "{project}/recipes/linked/model"), ("judge", "{outside}/model/."),
    )),
    {"model.policy": {"engine": "vllm", "model": "pocket", "adapter": "{outside}/adapter"}},
    {"model.policy": {"engine": "vllm", "model": "pocket", "adapter": "{project}/recipes/linked/adapter"}},
    *({"model.policy": {"engine": "vllm", "model": "pocket", "vllm": arguments}} for arguments in (
        {"speculative_config": {"model": "{outside}/model"}}, {"chat_template": "{outside}/p.jsonl"},
    )),
    *({"constitution": name} for name in (
        "../x@1.0.0", "../../outside/x@1.0.0", "{outside}/x@1.0.0", "general/../../outside/x@1.0.0", "..@1.0.0",
        ".locked/general@1.0.0", "general@../1.0.0", "general@1.0.0/../1.0.0",
        "general@../../../outside/x/1.0.0", "@1.0.0",
    )),
]  # fmt: skip
"""What a recipe must not get by itself."""


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of somebody else's in project/recipes, and beside the project what is none of its business."""
    outside, project = tmp_path / "outside", tmp_path / "project"
    for folder in (outside, outside / "set", tmp_path / "cwd" / "here" / "set"):
        folder.mkdir(parents=True)
        for name in ("p.jsonl", "train.jsonl"):
            (folder / name).write_text(json.dumps({"prompt": SECRET}))
    for name in (
        "model/model.safetensors",
        "model/config.json",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
    ):
        (outside / name).parent.mkdir(exist_ok=True)
        (outside / name).write_text("{}")
    (outside / "x").mkdir()
    shutil.copy(ROOT / "principles" / "general" / "1.0.0.toml", outside / "x" / "1.0.0.toml")
    (project / "recipes" / "sub").mkdir(parents=True)
    (project / "recipes" / "with-a-link").mkdir()
    path = small_project(project, prompts=2)
    (project / "prompts.jsonl").rename(project / "recipes" / "prompts.jsonl")
    for link, target in {
        "link.jsonl": outside / "p.jsonl",
        "link-to-link.jsonl": project / "recipes" / "link.jsonl",
        "linked": outside,
        "with-a-link/train.jsonl": outside / "train.jsonl",
    }.items():
        (project / "recipes" / link).symlink_to(target)
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(outside))
    monkeypatch.delenv(VARIABLE, raising=False)
    return path.rename(project / "recipes" / "recipe.toml")


def written(recipe: Path, changes: dict[str, Any]) -> Recipe:
    """`recipe` with the changes in it, as if its author had written them, and not --set."""
    places = {"{outside}": str(recipe.parents[2] / "outside"), "{project}": str(recipe.parents[1])}
    text = json.dumps(changes)
    for name, place in places.items():
        text = text.replace(name, place)
    data = load_recipe(recipe).model_dump(mode="json", exclude_defaults=True)
    for key, value in json.loads(text).items():
        *parents, last = key.split(".")
        section = data
        for parent in parents:
            section = section[parent]
        if last == "jury":
            section.pop("judge", None)
        section[last] = {"one": value} if last in ("jury", "pool") else value
    if "model.pool" in changes:
        data |= {"sample": {"more": {"model": "one"}}, "revise": {"rounds": 1}}
    data["judge"] = {**data["judge"], "pairs": ["first-last"]}
    data["prompts"].pop("answers")
    if any(key in changes for key in ("prompts.dataset", "prompts.query")):
        data["prompts"].pop("path")
    return Recipe.model_validate(data)


def test_a_recipe_gets_nothing_from_outside_its_project(strange: Path, torture: Torture) -> None:
    warehouse = strange.parents[2] / "warehouse"
    for changes in OUTSIDE:
        check_refused(partial(prepare, written(strange, changes), strange, warehouse), changes, InputError)
        assert not warehouse.exists(), changes
        torture.count("attacks on the rest")


def test_the_same_is_read_where_the_user_says_so(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By --set, by --allow and by the variable; and a hub's cache and what lies in the project always."""
    outside, warehouse = strange.parents[2] / "outside", strange.parents[2] / "warehouse"
    recipes: list[dict[str, Any]] = [
        {"prompts.path": f"{outside}/p.jsonl"},
        {"prompts.path": "link.jsonl"},
        {"prompts.format": "hub", "prompts.dataset": f"{outside}/set"},
        {"prompts.format": "sql", "prompts.query": f"SELECT prompt FROM '{outside}/p.jsonl'"},
        {"model.policy": {"engine": "transformers", "model": f"{outside}/model"}},
        {"model.policy": {"engine": "vllm", "model": "pocket", "adapter": f"{outside}/adapter"}},
    ]
    for changes in recipes:
        recipe = written(strange, changes)
        with pytest.raises(InputError):
            prepare(recipe, strange, warehouse)
        with pytest.raises(InputError):
            prepare(recipe, strange, warehouse, allow=[outside / "x"])
        assert prepare(recipe, strange, warehouse, allow=[outside]).prompts
        monkeypatch.setenv(VARIABLE, f"/nowhere:{outside}:")
        assert prepare(recipe, strange, warehouse).prompts
        monkeypatch.setenv(VARIABLE, "")
        with pytest.raises(InputError):
            prepare(recipe, strange, warehouse)
        told = [f"{key}={value if isinstance(value, str) else toml(value)}" for key, value in changes.items()]
        recipe = load_recipe(strange, [*told, "prompts.answers=[]", 'judge.pairs=["first-last"]'])
        if changes.get("prompts.path") == "link.jsonl":
            continue  # --set means the working directory, where there is no such file
        assert prepare(recipe, strange, warehouse).prompts
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(outside))
    assert prepare(written(strange, recipes[4]), strange, warehouse).prompts


def toml(value: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(each)}" for name, each in value.items()) + "}"


def test_a_judge_of_anothers_recipe_stays_in_its_project_too(strange: Path) -> None:
    outside = strange.parents[2] / "outside"
    text = strange.read_text().replace('model = "fake-judge"', f'model = "{outside}/model"', 1)
    judge = text.index("[model.judge]")
    strange.write_text(text[:judge] + text[judge:].replace('engine = "fake"', 'engine = "transformers"', 1))
    with pytest.raises(RecipeError, match=r"model\.judge\.model: .* outside"):
        panel_of(None, strange)


def test_the_command_hands_the_folders_on(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Any, ...]] = []

    async def flow(*arguments: Any) -> None:
        heard.append(arguments)
        raise InputError("enough")

    monkeypatch.setattr("constitution.cli.run.load_flow", lambda *_, **__: flow)
    for options in ([], ["--allow", str(strange.parents[2] / "outside"), "--allow", "."]):
        done = CliRunner().invoke(run_command, [str(strange), *options])
        assert isinstance(done.exception, InputError)
    assert heard[0][5] == []
    assert heard[1][5] == [str(strange.parents[2] / "outside"), str(strange.parents[2] / "cwd")]

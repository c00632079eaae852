"""The keys other than a run's id: digests of models' folders and constitutions, ids of exports and scores."""

from __future__ import annotations

import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from canaries import HF, PLAIN, RECIPE
from conftest import Torture
from small_project import ROOT, small_project
from stale_fields import BIG
from test_torture_stale import model

from constitution.ask.scorecard import Examiner, items_of
from constitution.cli import main
from constitution.engines import weights
from constitution.engines.weights import folder_digest
from constitution.errors import ConstitutionError
from constitution.export.formats import FORMATS
from constitution.export.settings import Cleaning, Settings
from constitution.principles import load_constitution
from constitution.records import Constitution, Criterion, Example, Exemplar, Message, Principle, Profile, SystemPrompt
from constitution.secrets import hide_keys, key_in


def test_the_digest_of_a_models_folder_sees_every_file(tmp_path: Path, torture: Torture) -> None:
    folder = model(tmp_path / "model", "x")
    before = folder_digest(folder)
    seen = {before}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        seen.add(folder_digest(folder))
        path.unlink()
        seen.add(folder_digest(folder))
        path.with_name("x" + path.name).write_bytes(content)
        if path.parent == folder and "index" not in path.name:
            seen.add(folder_digest(folder))
            torture.count("stale fields")
        path.with_name("x" + path.name).unlink()
        path.write_bytes(content)
        assert folder_digest(folder) == before
        torture.count("stale fields", 2)
    assert len(seen) >= 1 + 2 * 11
    (folder / "measured.json").write_text("{}")
    (folder / "README.md").write_text("about it")
    assert folder_digest(folder) == before


def test_a_file_that_changes_in_the_same_instant_is_seen(
    tmp_path: Path, torture: Torture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same size, same time: the digest of a file is remembered, and must not be for this one."""
    path = tmp_path / "model.safetensors"
    for settled in (False, True):
        if settled:
            monkeypatch.setattr(weights, "SETTLED_NS", 0)  # as if each had been left alone for two seconds
        for number in range(200 if torture.full else 5):
            path.write_bytes(f"{number:08}".encode())
            os.utime(path, ns=(1, 1))
            one = folder_digest(tmp_path)
            if settled:
                time.sleep(0.02)  # the clock of files goes on
            path.write_bytes(f"{number:07}x".encode())
            os.utime(path, ns=(1, 1))
            assert folder_digest(tmp_path) != one
    torture.count("stale fields", 2)


WHOLE = Constitution(
    "name",
    "1.0.0",
    "description",
    (
        Principle(
            "id",
            "critique",
            "revise",
            "compare",
            2.0,
            ("one", "two"),
            "source",
            (Exemplar((Message("user", "q"),), "a", "cr", "c", "rr", "r"),),
            (Example((Message("user", "q"),), "b", "w"),),
            (Criterion("question", "yes", 2.0, "essential"), Criterion("another", "no", 3.0)),
            "aim",
            "against",
            "why",
            "quote",
            ("law#1", "law#2"),
        ),
        Principle("other", comparison_question="?"),
    ),
    (Exemplar((Message("system", "s"), Message("user", "q")), "a", "cr", "c", "rr", "r"),),
    "source",
    "license",
    system_prompts=(SystemPrompt("kind", "text", "thought"), SystemPrompt("other", "text")),
    language="de",
    translation_of="other@1.0.0",
    profiles=(Profile("young", (("id", 2.0), ("other", 3.0)), "kind", "description", "group"), Profile("old")),
)
"""Every field says something."""

CHOICES = {"role": ("user", "assistant"), "good": ("yes", "no")}


def variants(record: Any) -> Iterator[tuple[str, Any]]:
    """`record`, a tree of dataclasses, with one thing changed, and where."""
    for field in fields(record):
        value = getattr(record, field.name)
        for where, other in _others(field.name, value):
            yield f"{type(record).__name__}.{field.name}{where}", replace(record, **{field.name: other})


def _others(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value):
        yield from ((f" {where}", other) for where, other in variants(value))
    elif isinstance(value, tuple):
        if value:
            yield " shorter", value[:-1]
        if len(value) > 1:
            yield " in another order", (*value[1:], value[0])
        for place, each in enumerate(value):
            for where, other in _others(name, each):
                yield f"[{place}]{where}", (*value[:place], other, *value[place + 1 :])
    elif isinstance(value, float):
        yield "", value + 0.5
    elif name in CHOICES:
        yield "", next(choice for choice in CHOICES[name] if choice != value)
    else:
        yield "", value + "x"


def test_every_word_of_a_constitution_is_in_its_digest(torture: Torture) -> None:
    digests = {"": WHOLE.digest}
    for where, other in variants(WHOLE):
        assert other.digest not in digests.values(), where
        digests[where] = other.digest
    kinds = {where.split(".")[0] for where in digests} | {part for where in digests for part in where.split()}
    for kind in (Constitution, Principle, SystemPrompt, Profile, Exemplar, Example, Criterion, Message):
        for field in fields(kind):
            assert any(f"{kind.__name__}.{field.name}" in each for each in kinds), f"{kind.__name__}.{field.name}"
    torture.count("stale fields", len(digests) - 1)


EXPORT: dict[str, Any] = {
    "rounds": (1,),
    "principles": ("x",),
    "min_margin": 0.1,
    "min_agreement": 0.5,
    "consistent_only": True,
    "where": "p > 0",
    "labels": "sampled",
    "shards": 5,
    "clip": 0.9,
    "good": 0.6,
    "bad": 0.3,
    "source": "rule",
    "select": "best",
    "above": 0.7,
    "unanimous": "keep",
    "min_gap": 0.2,
    "margin": "gap",
    "test": 0.2,
    "seed": BIG,
    "dedupe": "exact",
    "near": 0.5,
    "overlap": 0.4,
    "min_words": 3,
    "max_words": 9,
    "language": ("en",),
    "drop_refusals": True,
    "harmless_tag": ("x",),
    "boilerplate": 0.5,
    "drop_private": True,
    "drop_broken": True,
    "with_reasoning": True,
    "layout": "messages",
    "file_type": "jsonl",
    "profile": "young",
}


def test_an_exports_id_covers_every_setting_and_the_contents_of_files(tmp_path: Path, torture: Torture) -> None:
    (tmp_path / "eval.jsonl").write_text('{"prompt": "one"}')
    assert {*Settings.model_fields, *Cleaning.model_fields} == {*EXPORT, "format", "cleaning", "decontaminate"}
    for name, value in EXPORT.items():
        form = next((form for form, spec in reversed(FORMATS.items()) if name in spec.settings), "dpo")
        cleaning = {name: value} if name in Cleaning.model_fields else {}
        other = Settings(format=form, cleaning=Cleaning(**cleaning), **({} if cleaning else {name: value}))
        assert other.export_id != Settings(format=form).export_id, name
        torture.count("stale fields")
    of_file = Settings(format="dpo", cleaning=Cleaning(decontaminate=(tmp_path / "eval.jsonl",)))
    before = of_file.export_id
    (tmp_path / "eval.jsonl").write_text('{"prompt": "two"}')
    assert of_file.export_id != before
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(tmp_path / "eval.jsonl", tmp_path / "elsewhere" / "eval.jsonl")
    other = Settings(format="dpo", cleaning=Cleaning(decontaminate=(Path(moved),)))
    Path(moved).write_text('{"prompt": "one"}')
    assert other.export_id == before, "where it lies changes nothing"
    torture.count("stale fields")


def test_the_id_of_a_score_covers_who_is_asked_what(torture: Torture) -> None:
    scorecard = load_constitution(ROOT / "principles", "scorecard")
    item, *_ = items_of(scorecard)
    examiner = Examiner("run", 1, None, "judge", "model", "card@1")  # type: ignore[arg-type]
    same = {"engine": "its model's digest and its section stand for it"}
    first = examiner.id("answer", item)
    others = {examiner.id("another", item)}
    for field in fields(Examiner):
        if field.name not in same:
            value = getattr(examiner, field.name)
            change: dict[str, Any] = {field.name: value + 1 if isinstance(value, int) else value + "x"}
            others.add(replace(examiner, **change).id("answer", item))
    in_its_digest = ("principle", "criterion", "metric", "category")
    assert set(item._fields) == {"digest", "number", *in_its_digest}
    others |= {examiner.id("answer", item._replace(digest="x")), examiner.id("answer", item._replace(number=BIG))}
    assert len(others - {first}) == 1 + (len(fields(Examiner)) - len(same)) + 2
    torture.count("stale fields", len(others))


# --- keys in wrong places

SECTION = 'engine = "openai"\nmodel = "fake"\nbase_url = "http://127.0.0.1:1/v1"'
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
MISPLACED = {
    "as the variable's name": ("", f'api_key_env = "{PLAIN}"'),
    "as the variable's name, of letters alone": ("", 'api_key_env = "canarycanarycanary5f3a"'),
    "as the variable's name, a token": ("", f'api_key_env = "{HF}"'),
    "as api_key": ("", f'api_key = "{PLAIN}"'),
    "as apikey": ("", 'apikey = "canary-5f3a9b77c1d2"'),
    "in the address": ("http://127.0.0.1:1/v1", f"http://user:{PLAIN}@127.0.0.1:1/v1"),
    "as the address's user": ("http://127.0.0.1:1/v1", "http://canary5f3a@127.0.0.1:1/v1"),
    "in the address's query": ("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1?key=canary5f3a"),
    "in the address's path": ("http://127.0.0.1:1/v1", f"http://127.0.0.1:1/{PLAIN}/v1"),
    "in a second address": (
        '"http://127.0.0.1:1/v1"',
        '["http://127.0.0.1:1/v1", "http://:canary5f3a@127.0.0.1:2/v1"]',
    ),
    "in extra_body": ("", f'extra_body = {{ api_key = "{PLAIN}" }}'),
    "in extra_body, under a name": ("", 'extra_body = { api_key = "canary-5f3a9b77c1d2" }'),
    "in extra_body's headers": ("", 'extra_body = { headers = { Authorization = "canary-5f3a9b77c1d2" } }'),
    "in extra_body's list": ("", f'extra_body = {{ extra = ["x", {{ y = "Bearer {JWT}" }}] }}'),
    "as a name in extra_body": ("", f'extra_body = {{ "{PLAIN}" = 1 }}'),
    "in the server's arguments": ("", 'vllm = { api_key = "canary-5f3a9b77c1d2" }'),
    "in the server's arguments, the hub's": ("", f'vllm = {{ hf_token = "{HF}" }}'),
    "in the server's arguments, in a text": ("", f'vllm = {{ chat_template = "x {HF} y" }}'),
    "as the model": ('model = "fake"', f'model = "{PLAIN}"'),
    "as the salt": ("", f'cache_salt = "{PLAIN}"'),
    "as a field": ("", f"{PLAIN} = 1"),
    "in the description": ('name = "leaks"', f'name = "leaks"\ndescription = "with Bearer {PLAIN}"'),
    "as the recipe's name": ('name = "leaks"', f'name = "{PLAIN}"'),
    "in the prompts' query": ('path = "prompts.jsonl"', f'format = "sql"\nquery = "FROM x WHERE k = \'{PLAIN}\'"'),
}
SET = {
    "as api_key": ("--set", f"model.policy.api_key={PLAIN}"),
    "as a word": ("--set", f"model.policy.api_key_env={PLAIN}"),
    "without an equals sign": ("--set", PLAIN),
    "beneath a field": ("--set", f"name.x={PLAIN}"),
    "as a table": ("--set", f'model.policy.extra_body={{"Authorization" = "Bearer {PLAIN}"}}'),
    "as a name": ("--set", f"model.policy.{PLAIN}=1"),
    "as an argument of its own": (f"{PLAIN}",),
    "as an option": (f"--api-key={PLAIN}",),
    "as a limit": ("--limit", PLAIN),
    "on the debugger's way": ("--debug", "--set", f"model.policy.api_key={PLAIN}"),
}
CANARIES = ("canary", "Canary", JWT.split(".")[1])


def refused(words: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    """What the command says that does not take them. With --debug the error is raised, as a traceback would tell it."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["constitution", "run", "recipe.toml", *words])
    before = sorted(folder.rglob("*"))
    with pytest.raises((SystemExit, ConstitutionError)) as caught:
        main()
    if isinstance(caught.value, ConstitutionError):
        assert "--debug" in words
        told = "".join(traceback.format_exception(caught.value))
    else:
        assert isinstance(caught.value, SystemExit)
        assert caught.value.code == 2
        told = "".join(capsys.readouterr())
    assert sorted(folder.rglob("*")) == before
    return told


@pytest.mark.parametrize("place", MISPLACED)
def test_a_key_in_a_recipe_is_refused_unseen(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, torture: Torture
) -> None:
    old, new = MISPLACED[place]
    text = RECIPE.replace('api_key_env = "CANARY_KEY"\n', "").format(url="http://127.0.0.1:1/v1")
    assert old in text
    small_project(
        tmp_path, 1, text.replace("retries = 1", f"retries = 1\n{new}") if not old else text.replace(old, new)
    )
    told = refused((), tmp_path, monkeypatch, capsys)
    assert "recipe.toml" in told
    assert not any(canary in told for canary in CANARIES), told
    torture.count("attacks on the rest")


@pytest.mark.parametrize("place", SET)
def test_a_key_on_the_command_line_is_refused_unseen(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, torture: Torture
) -> None:
    small_project(tmp_path, 1, RECIPE.format(url="http://127.0.0.1:1/v1"))
    told = refused(SET[place], tmp_path, monkeypatch, capsys)
    assert not any(canary in told for canary in CANARIES), told
    torture.count("attacks on the rest")


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.name)
def test_what_is_no_key_is_not_taken_for_one(recipe: Path) -> None:
    text = recipe.read_text()
    assert hide_keys(text) == text
    fields = {"max_tokens": 1, "logprob_token_ids": [1], "chat_template_kwargs": {"enable_thinking": False}}
    assert key_in({"model": {"policy": {"extra_body": fields, "api_key_env": "OPENAI_API_KEY"}}}) is None

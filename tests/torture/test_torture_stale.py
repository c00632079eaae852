"""Nothing old is reused: every key covers all that determines the answer.

Each field of a recipe, found by looking at the classes themselves, is changed to another valid value, and the run's id
is asked for: it must be another, or the field must stand in `SAME` with the reason. A field that is added tomorrow
fails here until somebody says on which side it is.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Torture
from pydantic import BaseModel
from run_once import run_once
from small_project import table
from stale_fields import ENGINES, OTHER, PRINCIPLES, RECIPE, ROWS, SAME

from constitution import templates
from constitution.judge import methods
from constitution.judge.methods import METHODS
from constitution.pipeline import plan, prepare
from constitution.recipe import Recipe, load_recipe
from constitution.recipe.base import Section, names
from constitution.templates.wording import start_wording


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with prompts in a file and in folders, two models and two adapters; the working directory is in it."""
    (tmp_path / "principles" / "small").mkdir(parents=True)
    for version in ("1.0.0", "1.1.0"):
        text = PRINCIPLES.replace("VERSION", version)
        (tmp_path / "principles" / "small" / f"{version}.toml").write_text(text, encoding="utf-8")
    text = "\n".join(map(json.dumps, ROWS))
    for name in (
        *("prompts.jsonl", "same.jsonl", "set/one/train.jsonl", "set/one/test.jsonl", "set/two/train.jsonl"),
        *("same-set/one/train.jsonl", "same-set/two/train.jsonl"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        # Other prompts in each: the same ones are the same run, wherever and however they are read.
        said = text.replace("What is", "What was") if "set" in name else text
        told = {"test": "matter", "train": "object"}.get(Path(name).stem, "thing")
        told = "item" if "two" in name else told
        (tmp_path / name).write_text(said.replace("thing", told), encoding="utf-8")
    sets = {name: [{**row, "wording": f"{row['wording']} {name}"} for row in ROWS] for name in ("one", "two")}
    (tmp_path / "sets.json").write_text(json.dumps(sets), encoding="utf-8")
    for name in ("a", "b", "adapter-a", "adapter-b"):
        model(tmp_path / "models" / name, name)
    start_wording(tmp_path, "same")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model(folder: Path, content: str) -> Path:
    """What stands for a model where none is loaded: a file of each kind that a model's folder may have."""
    for name in (
        *("model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
        *("chat_template.jinja", "tokenizer.model", "merges.txt", "qwen.tiktoken"),
        *("additional_chat_templates/tools.jinja", "shards/one.safetensors"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'"{content} {path.name}"', encoding="utf-8")
    if content.startswith("adapter"):
        (folder / "config.json").rename(folder / "adapter_config.json")
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
        (folder / "shards" / "one.safetensors").unlink()
        return folder
    index = {"weight_map": {"layer": "model.safetensors", "head": "shards/one.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def run_id(project: Path, data: dict[str, Any]) -> str:
    return prepare(Recipe.model_validate(data), project / "recipe.toml", project / "warehouse").run_id


def leaves(section: BaseModel, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Every field below `section` that is no section itself: where it is, its section's class, its name."""
    for field, name in zip(type(section).model_fields, names(type(section)), strict=True):
        value, here = getattr(section, field), (*place, name)
        inner = value.items() if isinstance(value, dict) else [("", value)]
        sections = [(key, each) for key, each in inner if isinstance(each, BaseModel)]
        for key, each in sections:
            yield from leaves(each, (*here, key) if key else here)
        if not sections and name != "engine":
            yield here, type(section).__name__, name


def changed(data: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """`data` with another value there; sections that it leaves to their defaults come into being."""
    data = copy.deepcopy(data)
    *parents, last = place
    inner = data
    for parent in parents:
        inner = inner.setdefault(parent, {})
    if last in ("gold_highest", "gold_lowest"):  # only one of them says which answer is better
        del inner["gold"]
    if last == "start":  # goes with samples and their rewards
        data |= {"sample": {"a": {"n": 2}}, "reward": {}}
    if last == "reward_model":  # goes with the source that asks it
        data["reward"] = {"by": ["model"]}
    if last == "sees":  # goes with a system prompt that shows what is seen
        inner["system_prompt"] = "others"
    if last in ("letters", "key"):  # each is of one way to read
        inner["how"] = {"letters": "choice", "key": "json"}[last]
    if last == "principles" and place[0] == "sample":  # fills a system prompt
        inner.setdefault("system_prompt", "kind")
    inner[last] = value
    return data


def bases() -> dict[str, dict[str, Any]]:
    """Recipes that between them have every section, each engine in each role, and each kind of prompts."""
    found = {"file": RECIPE}
    prompts = {"field": "wording", "answers": ["good", "bad"], "gold": "good"}
    found["hub"] = {**RECIPE, "prompts": {**prompts, "format": "hub", "dataset": "set", "config": "one"}}
    query = "SELECT * REPLACE (wording || '!' AS wording, phrasing || '!' AS phrasing) FROM 'prompts.jsonl'"
    found["sql"] = {**RECIPE, "prompts": {**prompts, "format": "sql", "query": query}}
    found["turns"] = {**RECIPE, "prompts": {"path": "prompts.jsonl", "turns": "said"}}
    found["json"] = {**RECIPE, "prompts": {**prompts, "path": "sets.json", "rows": "one"}}
    samples = {"a": {"n": 2, "system_prompt": "kind"}, "b": {"model": "other"}}
    found["samples"] = {**RECIPE, "sample": samples, "revise": {"rounds": 2}}
    found["samples"] = changed(found["samples"], ("model", "pool"), {"other": {"engine": "fake", "model": "another"}})
    rules = {"words": [1, 9], "refusal": "unwanted"}
    reward = {"by": ["rubric", "grade", "rule"], "length": {"limit": 40}, "rules": rules}
    found["rewards"] = {**RECIPE, "reward": reward}
    found["references"] = {**found["samples"], "reference": {"from": "synthesis"}, "reward": reward}
    found["given"] = changed({**RECIPE, "reference": {"from": "given"}}, ("prompts", "reference"), "phrasing")
    matched = {"by": ["match"], "match": {"how": "number"}}
    found["match"] = {**RECIPE, "reference": {"from": "revision"}, "reward": {**matched, "length": {"limit": 40}}}
    token = {"by": ["last-token"], "last_token": {"token": "<z>", "c_ref": -23.0, "anyway": True}}
    found["last token"] = {**RECIPE, "reward": {**token, "length": {"limit": 40}}}
    found["rubrics"] = changed({**RECIPE, "rubric": {"from": ["given", "principles"]}}, ("prompts", "rubric"), "checks")
    found["rubrics"]["model"] = {
        "policy": {"engine": "fake", "price": {}},
        "judge": {"engine": "fake", "model": "another"},
    }
    found["rubrics"]["reward"] = {"by": ["prompt-rubric"], "length": {"limit": 40}}
    alike = {"a": {"n": 2}, "b": {"n": 2, "temperature": 0.5}}
    contrast = {"pairs": ["contrast"], "contrast": ["a", "b"]}
    found["contrast"] = {**RECIPE, "sample": alike, "reward": reward, "judge": contrast}
    del found["contrast"]["perturb"]  # which is for votes alone
    for name, section in ENGINES.items():
        found[f"{name} policy"] = changed(RECIPE, ("model", "policy"), {**section, "price": {}})
        found[f"{name} jury"] = changed(RECIPE, ("model", "jury"), {"a": section})
        judge = {**RECIPE, "model": {"policy": {"engine": "fake", "price": {}}, "judge": section}}
        found[f"{name} judge"] = judge
    return found


def cases() -> Iterator[tuple[str, tuple[str, ...], str, str]]:
    """Base, place, class and field of all that is to be changed; a field that several bases have, once a role."""
    seen: set[tuple[tuple[str, ...], str]] = set()
    for base, data in bases().items():
        for place, kind, name in leaves(Recipe.model_validate(data)):
            of_hub = {"dataset", "split", "config"}
            unused = {"file": {*of_hub, "query", "rows"}, "hub": {"path", "query", "format", "rows"}, "json": of_hub}
            if kind == "PromptsSection" and (name == "turns") != (base == "turns"):
                continue  # which takes the place of others
            if kind == "PromptsSection" and name in unused.get(base, {"path", "format", "rows", *of_hub}):
                continue
            left_out = {
                "Recipe": ("perturb", "sample", "reference", "rubric", "reward"),
                "Models": ("judge", "jury", "pool"),
                "RewardSection": ("match", "last_token"),
            }
            if name in left_out.get(kind, ()) or place[:2] == ("sample", "b"):
                continue  # sections that the base leaves out
            if name in ("rubric", "pitfalls") and base != "rubrics":
                continue  # which goes with the section of that name
            if name == "reference" and base != "given":
                continue  # the same
            if name in ("contrast", "confirm") and base != "contrast":
                continue  # which take samplers and rewards
            if name == "method" and "jury" not in place and kind != "JudgeSection":
                continue  # a judge alone votes as judge.method says
            if kind in ("_Model",) or ((place, kind) in seen):
                continue
            seen.add((place, kind))
            yield base, place, kind, name


def test_every_field_is_on_one_side_or_the_other(torture: Torture) -> None:
    def all_sections(kind: type[BaseModel]) -> set[type[BaseModel]]:
        below = {each for sub in kind.__subclasses__() for each in all_sections(sub)}
        return below | {each for each in kind.__subclasses__() if not each.__name__.startswith("_")}

    found = {(kind, name) for _, _, kind, name in cases()}
    known = {(kind, name) for side in (OTHER, SAME) for kind, names in side.items() for name in names}
    assert found - known == set(), "say in OTHER or in SAME what these do"
    assert known - found == set(), "these are no fields"
    assert not {(kind, name) for kind, names in OTHER.items() for name in names if name in SAME.get(kind, {})}
    covered = {kind for kind, _ in found} | {"SamplingSection", "Models", "GivenModel"}  # without fields to change
    assert {each.__name__ for each in all_sections(Section)} == covered


def test_a_changed_field_makes_another_run(project: Path, torture: Torture) -> None:
    every, data = list(cases()), bases()
    if not torture.full:
        # Each field once, in whichever role; the long version has every role.
        random.Random(f"{torture.seed}/fields").shuffle(every)
        every = list({(kind, name): (base, place, kind, name) for base, place, kind, name in every}.values())
    first = {base: run_id(project, data[base]) for base in {base for base, *_ in every}}
    made = set(first.values())
    assert len(made) == len(first)
    for base, place, kind, name in every:
        if name in SAME.get(kind, {}):
            value, reason = SAME[kind][name]
            assert run_id(project, changed(data[base], place, value)) == first[base], f"{place}: {reason}"
        else:
            value = OTHER[kind][name]
            assert value != value_at(data[base], place), place
            found = run_id(project, changed(data[base], place, value))
            assert found not in made, f"{'.'.join(place)} of {base}: an old run would go on"
            made.add(found)
            torture.count("stale fields")
    alone = {**RECIPE, "model": {"policy": {"engine": "fake", "price": {}}}}
    for other in (
        alone,
        changed(changed(alone, ("judge",), None), ("perturb",), None),
        changed(alone, ("perturb",), None),
    ):
        found = run_id(project, other)
        assert found not in made
        made.add(found)
        torture.count("stale fields")


def value_at(data: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        data = data.get(name) if isinstance(data, dict) else None
    return data


def test_changed_contents_make_another_run(project: Path, torture: Torture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies behind a name: prompts, principles, models, adapters, templates, the version of what decides rows."""
    data = bases()
    vllm = changed(data["VLLMModel policy"], ("model", "policy", "vllm"), {"speculative_config": {"model": "models/b"}})
    watched = {"file": data["file"], "hub": data["hub"], "sql": data["sql"], "vllm": vllm}
    watched["transformers"] = data["TransformersModel judge"]
    before = {name: run_id(project, each) for name, each in watched.items()}

    def expect(*others: str) -> None:
        """Those are other runs now; the rest are as before."""
        for name, each in watched.items():
            now = run_id(project, each)
            assert (now != before[name]) == (name in others), f"{name}: {now}"
            torture.count("stale fields", name in others)

    prompts = project / "prompts.jsonl"
    text = prompts.read_text()
    others = [
        text.replace("thing 2", "thing 9"),  # a word
        "\n".join(reversed(text.splitlines())),  # the order
        text.replace('"good": "So."', '"good": "Or."', 1),  # an answer
    ]
    for other in others if torture.full else others[1:2]:
        prompts.write_text(other)
        expect(*(set(watched) - {"hub"}))
        prompts.write_text(text)
    train = project / "set" / "one" / "train.jsonl"
    lines = train.read_text()
    train.write_text(lines.replace("object 0", "object 8"))
    expect("hub")
    train.write_text(lines)
    principle = project / "principles" / "small" / "1.0.0.toml"
    words = principle.read_text()
    lock = project / "principles" / "principles.lock"
    assert not lock.exists(), "a locked file cannot change unseen"
    principle.write_text(words.replace("harmful", "hurtful", 1))
    expect(*watched)
    principle.write_text(words)
    for folder, users in (("a", {"vllm", "transformers"}), ("b", {"vllm"}), ("adapter-a", {"vllm"})):
        files = sorted(path for path in (project / "models" / folder).rglob("*") if path.is_file())
        for path in files if torture.full else random.Random(f"{torture.seed}/{folder}").sample(files, 1):
            old = path.read_bytes()
            path.write_bytes(bytes([old[0], old[1] ^ 1]) + old[2:])
            expect(*users)
            path.write_bytes(old)
    monkeypatch.setattr(plan, "__version__", "99")
    expect()
    monkeypatch.setattr(plan, "ROWS_VERSION", 99)
    expect(*watched)


PROPOSING = ("EXTRACT", "IMPROVE", "INDUCE", "VALUES")
"""Sets of texts that propose principles, and are in no run."""


def test_every_template_is_in_the_run_id(project: Path, torture: Torture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file of texts decides some recipe's rows, and a word of it makes that recipe another run."""
    folder = Path(templates.__file__).parent
    proposing = {name for each in PROPOSING for name in getattr(templates, each).texts}
    names = {path.name for path in folder.glob("*.txt")} - proposing
    recipes: dict[str, dict[str, Any]] = {m: changed(RECIPE, ("judge", "method"), m) for m in METHODS}
    written = {"from": ["prompt"]}
    recipes["rubric of a prompt"] = {**RECIPE, "rubric": written, "reward": {"by": ["prompt-rubric"]}}
    recipes["score in twenty steps"] = changed(recipes["score"], ("judge", "score"), {"steps": 20})
    before = {method: run_id(project, data) for method, data in recipes.items()}
    chance = random.Random(f"{torture.seed}/templates")
    for name in sorted(names) if torture.full else chance.sample(sorted(names), 3):
        for set_name in ("REVISE", "PERTURB", "SCORE_FINE", "WRITE", "RUBRIC"):
            texts = getattr(templates, set_name).texts
            if name in texts:
                other = templates.TemplateSet({**texts, name: texts[name] + " "})
                monkeypatch.setattr(templates, set_name, other)
        votes = {
            method: replace(each, templates=templates.TemplateSet({**texts, name: texts[name] + " "}))
            for method, each in METHODS.items()
            if name in (texts := each.templates.texts)
        }
        monkeypatch.setattr(methods, "METHODS", {**METHODS, **votes})
        used = set(votes) | ({"score in twenty steps"} if name in templates.SCORE_FINE.texts else set())
        # Which also has votes by label, the default.
        read = (*templates.WRITE.texts, *templates.RUBRIC.texts, *templates.JUDGE.texts)
        used |= {"rubric of a prompt"} if name in read else set()
        now = {method: run_id(project, data) for method, data in recipes.items()}
        others = {method for method in recipes if now[method] != before[method]}
        assert others == (used or set(recipes)), name
        torture.count("stale fields")
        monkeypatch.undo()
        monkeypatch.chdir(project)


async def test_no_row_of_an_old_run_stands_in_a_new_one(project: Path, torture: Torture) -> None:
    """For real: the recipe runs, a field is changed, and it runs again in the same warehouse."""
    base = {**RECIPE, "budget": None, "output": {"flush_seconds": 0.05}}
    base["model"] = {"policy": {"engine": "fake"}, "judge": {"engine": "fake", "model": "fake-judge"}}
    every = [
        (place, OTHER[kind][name])
        for place, kind, name in leaves(Recipe.model_validate(base))
        if name in OTHER.get(kind, {})
        and (kind != "PromptsSection" or name not in ("split", "config", "query", "rows", "benchmark", "turns"))
        and (name != "method" or kind == "JudgeSection")  # a judge alone votes as judge.method says
        and name not in ("contrast", "confirm")  # which take samplers and rewards
    ]
    chosen = random.Random(f"{torture.seed}/runs").sample(every, 25 if torture.full else 1)
    ids: dict[str, str] = {}
    for number, data in enumerate([base, *(changed(base, *each) for each in chosen)]):
        path = project / f"recipe-{number}.json"
        found = await _run(project, data, path)
        rows = table(
            project / "warehouse",
            " UNION ALL ".join(
                f"SELECT id, '{name}' FROM {name} WHERE run_id = '{found}'"
                for name in ("responses", "judgements", "preferences", "failures")
            ),
        )
        assert rows
        old = [(id, name, ids[id]) for id, name in rows if id in ids]
        assert not old, f"{chosen[number - 1]}: rows of another run: {old[:3]}"
        ids |= {id: found for id, _ in rows}
        torture.count("stale fields", bool(number))
    assert len(set(ids.values())) == len(chosen) + 1
    again = await _run(project, base, project / "again.json")
    assert again in ids.values(), "and the first recipe finds its own run again"
    fresh = await run_once(_toml(project, base), project / "warehouse", [], fresh=True)
    assert fresh.run_id not in ids.values(), "--fresh takes up nothing"
    assert prepare(load_recipe(_toml(project, base)), _toml(project, base), project / "warehouse").run == fresh


async def _run(project: Path, data: dict[str, Any], _: Path) -> str:
    return (await run_once(_toml(project, data), project / "warehouse", [])).run_id


TABLES = ("families", "gold_values", "roles")
"""Fields whose values are tables with any names."""


def _toml(project: Path, data: dict[str, Any]) -> Path:
    """The recipe as a file: JSON's values are TOML's, but for tables and what is not there."""

    def lines(table: dict[str, Any], place: str) -> Iterator[str]:
        if place:
            yield f"[{place}]"
        for name, value in table.items():
            if value is not None and not (isinstance(value, dict) and name not in TABLES):
                told = json.dumps(value) if not isinstance(value, dict) else _inline(value)
                yield f"{name} = {told}"
        for name, value in table.items():
            if isinstance(value, dict) and name not in TABLES:
                yield from lines(value, f"{place}.{name}" if place else name)

    path = project / "recipe.toml"
    path.write_text("\n".join(lines(data, "")), encoding="utf-8")
    return path


def _inline(value: dict[str, Any]) -> str:
    return "{ " + ", ".join(f"{json.dumps(name)} = {json.dumps(each)}" for name, each in value.items()) + " }"

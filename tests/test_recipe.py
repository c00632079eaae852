"""Recipes: what a person writes, and what he is told when it is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from constitution.errors import RecipeError
from constitution.judge.methods import check
from constitution.recipe import FakeModel, OpenAIModel, Recipe, load_recipe

GOOD = """
name = "try-out"
constitution = "general@1.0.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.revise.rounds == 2
    assert recipe.judge is None
    assert isinstance(recipe.model.policy, FakeModel)


def test_set_takes_toml_values_and_plain_text(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = load_recipe(
        path, ["revise.rounds=4", 'judge.pairs=["parent"]', "name=other", "model.policy.latency_s=0.5"]
    )
    assert recipe.revise.rounds == 4
    assert recipe.judge is not None
    assert recipe.judge.pairs == ("parent",)
    assert recipe.name == "other"
    assert isinstance(recipe.model.policy, FakeModel)
    assert recipe.model.policy.latency_s == 0.5


def test_a_path_of_the_command_line_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = write(tmp_path, GOOD)
    assert load_recipe(path).prompts.path == "prompts.jsonl"
    assert load_recipe(path, ["prompts.path=mine.jsonl"]).prompts.path == str(elsewhere / "mine.jsonl")


SOURCES = {
    "path": 'path = "prompts.jsonl.gz"\nformat = "transcripts"',
    "query": 'query = "SELECT 1 AS prompt"\nformat = "sql"',
    "dataset": 'dataset = "owner/name"\nformat = "hub"',
}


@pytest.mark.parametrize("own", SOURCES)
@pytest.mark.parametrize(
    ("name", "value", "format"),
    [("path", "/mine.parquet", "auto"), ("query", "SELECT 2 AS prompt", "sql"), ("dataset", "owner/other", "hub")],
)
def test_a_source_of_the_command_line_takes_the_place_of_the_recipes(
    tmp_path: Path, own: str, name: str, value: str, format: str
) -> None:
    path = write(tmp_path, GOOD.replace('path = "prompts.jsonl"', SOURCES[own]))
    prompts = load_recipe(path, [f"prompts.{name}={value}"]).prompts
    found = {source: getattr(prompts, source) for source in SOURCES}
    assert found == {**dict.fromkeys(SOURCES), name: value}
    assert prompts.format == ("transcripts" if own == name == "path" else format)
    named = load_recipe(path, [f"prompts.{name}={value}", f"prompts.format={prompts.format}"]).prompts
    assert named == prompts


def test_a_format_of_the_command_line_stays_and_an_empty_source_is_none(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    with pytest.raises(RecipeError, match="format sql needs `query`"):
        load_recipe(path, ["prompts.path=x.txt", "prompts.format=sql"])
    with pytest.raises(RecipeError, match="format auto needs `path`"):
        load_recipe(path, ["prompts.path="])
    with pytest.raises(RecipeError, match="no use for `dataset`"):
        load_recipe(path, ["prompts.path=x.jsonl", "prompts.dataset=owner/name"])
    assert load_recipe(path, ["prompts.query="]).prompts == load_recipe(path).prompts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("name", "nmae"), "unknown field; did you mean name?"),
        (('"try-out"', '"Try Out"'), "name"),
        (('path = "prompts.jsonl"', ""), "needs `path`"),
        (('path = "prompts.jsonl"', 'format = "hub"'), "format hub needs `dataset`"),
        (('path = "prompts.jsonl"', 'format = "sql"'), "format sql needs `query`"),
        (('path = "prompts.jsonl"', 'path = "x.jsonl"\nquery = "FROM x"'), "reads `path`, and has no use for `query`"),
        (('path = "prompts.jsonl"', 'path = "x.jsonl"\ngold = "chosen"'), "is not one of `answers`"),
        (('engine = "fake"', 'engine = "gpt"'), "model.policy"),
        (('engine = "fake"', 'engine = "fake"\naccuracy = inf'), "model.policy.accuracy"),
        (('engine = "fake"', 'engine = "fake"\n[output]\nflush_seconds = nan'), "output.flush_seconds"),
        (
            ('engine = "fake"', 'engine = "openai"\nmodel = "m"\nbase_url = "http://x/v1"\nextra_body = { a = [nan] }'),
            "model.policy.extra_body",
        ),
        (
            ('engine = "fake"', 'engine = "openai"\nmodel = "m"\nbase_url = "http://x/v1"\nvllm = { a = 2026-01-01 }'),
            "model.policy.vllm.a",
        ),
        (('engine = "fake"', 'engine = "fake"\n[revise]\nrounds = -1'), "revise.rounds"),
        (('engine = "fake"', 'engine = "fake"\n[revise]\nrounds = 0\n[judge]'), "need revise.rounds of 1 or more"),
        (('engine = "fake"', 'engine = "fake"\n[judge]\npairs = ["given"]'), "two or more keys in prompts.answers"),
        (('engine = "fake"', 'engine = "fake"\n[judge]\nprinciples = 0'), "judge.principles"),
        (("[prompts]", "[prompts"), "not valid TOML"),
    ],
)
def test_faults_name_file_and_place(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    path = write(tmp_path, GOOD.replace(*change, 1))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize("override", ["rounds", "=3", "revise..rounds=3", "name.x=3", "description=\udcff"])
def test_bad_overrides(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        load_recipe(write(tmp_path, GOOD), [override])


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(tmp_path / "none.toml")


ADDRESSES = {
    "127.0.0.1:8000": "not an http",
    "http://": "not an http",
    "http://host:port/v1": "not an http",
    "http://user:secret@127.0.0.1/v1": "credentials",
    "http://secret@127.0.0.1/v1": "credentials",
    "https://host/v1?api-key=secret": "credentials",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_a_key_in_it_is_refused_before_anything_is_written(tmp_path: Path, address: str) -> None:
    """Later would be too late: the recipe goes into the run's record before an engine opens."""
    text = GOOD.replace('engine = "fake"', f'engine = "openai"\nmodel = "m"\nbase_url = "{address}"')
    with pytest.raises(RecipeError, match="base_url") as caught:
        load_recipe(write(tmp_path, text))
    assert ADDRESSES[address] in str(caught.value)
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="base_url") as direct:
        OpenAIModel(engine="openai", model="m", base_url=address)
    assert "secret" not in str(direct.value)


def test_an_empty_stop_string_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"revise\.initial\.stop"):
        load_recipe(write(tmp_path, GOOD), ['revise.initial.stop=["x", ""]'])


def test_a_fault_in_a_model_is_named_by_the_way_that_set_takes(tmp_path: Path) -> None:
    text = GOOD.replace('engine = "fake"', 'engine = "openai"\nmodel = "m"\nbase_url = []')
    with pytest.raises(RecipeError, match=r": model\.policy\.base_url: no address"):
        load_recipe(write(tmp_path, text))
    with pytest.raises(RecipeError, match=r": model\.policy: "):
        load_recipe(write(tmp_path, GOOD), ["model.policy.engine=fook"])
    with pytest.raises(RecipeError, match=r": model\.policy\.latensy_s: unknown field; did you mean latency_s"):
        load_recipe(write(tmp_path, GOOD), ["model.policy.latensy_s=1"])
    with pytest.raises(RecipeError, match=r": judge\.tags: unknown field; there is one of this name in \[prompts\]"):
        load_recipe(write(tmp_path, GOOD), ['judge.tags=["x"]'])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("judge.pairs=parent", 'judge.pairs: has to be a list, e.g. ["one"]'),
        ("prompts.ignore=system", 'prompts.ignore: has to be a list, e.g. ["one"]'),
        ("prompts.families=x", "prompts.families: has to be a section or table"),
        ("revise=3", "revise: has to be a section or table"),
        ("revise.rounds=two", "revise.rounds: has to be a whole number"),
        ("judge.margin=high", "judge.margin: has to be a number"),
        ("judge.principles=many", "judge.principles: has to be 'all' or a whole number"),
        ("judge.clamp=[0.4]", "judge.clamp.1: is missing"),
        ("judge.clamp=[0.4, 0.5, 0.6]", "judge.clamp: the list should have at most 2 items, not 3"),
        ("model.policy.engine=gpt", "model.policy: engine: 'gpt' is none of 'transformers', 'vllm', 'openai', 'fake'"),
        ('model.policy={model="x"}', "model.policy: engine is missing"),
        ("revise.critique={temp=1}", "revise.critique.temp: unknown field; did you mean temperature?"),
        ("budget={amount=3}", "budget.amount: unknown field; there are limit, currency"),
    ],
)
def test_a_wrong_value_is_told_in_words_of_toml(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, GOOD), [override])
    assert str(caught.value).endswith(f": {said}")


REPEATED = 'base_url = "http://127.0.0.1:1/v1"\n[judge]\nrepeats = 2\n'


def checked(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    recipe = load_recipe(path, overrides)
    check(recipe, (), "general@1.1.0")
    return recipe


@pytest.mark.parametrize("method", ["label", "score", "rubric", "rationale"])
def test_repeats_that_change_nothing_are_refused(method: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    head = 'name = "r"\nconstitution = "general@1.1.0"\n[prompts]\npath = "p.jsonl"\n[model.policy]\n'
    real = head + f'engine = "openai"\nmodel = "m"\n{REPEATED}method = "{method}"\n'
    path.write_text(real)
    with pytest.raises(RecipeError, match=r"judge\.repeats: .* same vote"):
        checked(path)
    with pytest.raises(RecipeError, match=r"judge\.repeats"):
        checked(path, ["model.judge={engine='fake'}", "model.judge.engine=vllm", "model.judge.model=m"])
    assert checked(path, ["judge.repeats=1"])
    assert checked(path, ["model.judge={engine='fake'}"])  # its noise is drawn by the seed
    warm = ["judge.rationale.temperature=0.7"]
    if method == "rationale":
        assert checked(path, warm).judge
    else:
        with pytest.raises(RecipeError, match=r"judge\.repeats"):
            checked(path, warm)
    jury = ["model.jury.one={engine='fake'}", "model.jury.two={engine='transformers', model='m'}"]
    with pytest.raises(RecipeError, match=r"judge\.repeats"):
        checked(path, jury)


@pytest.mark.parametrize(
    "override",
    ["seed=true", "revise.rounds=false", "judge.margin=true", "judge.clamp=[true,0.6]", "output.window=true"],
)
def test_a_truth_value_is_no_number(tmp_path: Path, override: str) -> None:
    with pytest.raises(RecipeError, match="true and false are no values of this field"):
        load_recipe(write(tmp_path, GOOD), [override])


def test_true_may_be_sent_to_a_server(tmp_path: Path) -> None:
    server = 'model.policy={engine="openai",model="m",base_url="http://127.0.0.1:1/v1",extra_body={stream=false}}'
    assert load_recipe(write(tmp_path, GOOD), [server]).model.policy.extra_body == {"stream": False}  # type: ignore[union-attr]


def test_a_judge_without_pairs_has_something_else_to_vote_on(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="there would be nothing to vote on"):
        load_recipe(write(tmp_path, GOOD), ["judge.pairs=[]"])
    assert load_recipe(write(tmp_path, GOOD), ["judge.pairs=[]", "perturb={}"]).judge

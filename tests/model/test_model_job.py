"""What the README says to type, on a real model by transformers; every judging method; and what our engine does beside
transformers asked directly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from readme_section import ROOT
from real_model import (
    BRIEF,
    FOLDER,
    NAME,
    PROMPTS,
    STEPS,
    STOP,
    TOKENS,
    WRITTEN,
    command,
    judging,
    question,
    rows,
    run,
)

from constitution.audit import audit
from constitution.engines import Engine
from constitution.engines.weights import folder_digest
from constitution.export import Settings, export
from constitution.judge.methods import METHODS
from constitution.records import Failure, Judgement, Preference, Response, Run
from constitution.warehouse import Warehouse, ask, connect

pytestmark = pytest.mark.asyncio(loop_scope="session")
DIFFERENT = 1
"""Of twelve greedy texts this many may differ from those of transformers alone: a batch may turn a near tie."""


def typed(words: Sequence[str], warehouse: Path) -> tuple[int, dict[str, Any]]:
    """Exit code of a command of the README's, greedy and short, and what it prints as JSON."""
    sets = [word for setting in BRIEF for word in ("--set", setting)]
    line = [str(Path(sys.executable).with_name("constitution")), *words, *sets, "--json", "--warehouse", str(warehouse)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("job") / "warehouse"


@pytest.fixture(scope="module")
def made(warehouse: Path) -> Run:
    """The README's run: whole, and alone in its warehouse."""
    code, said = typed(command("run"), warehouse)
    assert (code, said["status"]) == (0, "finished")
    (done,) = Warehouse(warehouse).runs()
    assert done.run_id == said["run_id"]
    return done


async def test_the_readme_tries_it_first(tmp_path: Path) -> None:
    code, said = typed([*command("try"), "--prompts", "2"], tmp_path)
    assert (said["tried"], said["prompts"], said["stopped"]) == (2, PROMPTS, "")
    assert [step["step"] for step in said["steps"]] == [*STEPS, "vote"]
    assert all(step["failed"] == 0 < step["asked"] for step in said["steps"])
    assert code == bool(said["warnings"])
    assert any("max_tokens" in warning["setting"] for warning in said["warnings"]), "critiques of few tokens are cut"
    foreseen = said["forecast"]
    assert foreseen["cost"]["value"] is None, "no prices are known"
    assert all(each["low"] < each["value"] < each["high"] for name, each in foreseen.items() if name != "cost")
    assert not (tmp_path / "data").exists()


async def test_the_whole_job(made: Run, warehouse: Path) -> None:
    assert made.finished_at
    assert (made.counts["done"], made.counts["open"], made.counts["lost"]) == (PROMPTS, 0, 0)
    stored = rows(warehouse, made.run_id)
    assert not [row for row in stored if isinstance(row, Failure)]
    answers = [row for row in stored if isinstance(row, Response)]
    assert len(answers) == PROMPTS * 2
    assert {row.model for row in answers} == {NAME}
    assert len({row.text for row in answers}) > PROMPTS
    revised = [row for row in answers if row.round == 1]
    assert all(row.critique and row.principle_id for row in revised if row.outcome != "skipped")
    assert sum(isinstance(row, Preference) for row in stored) == PROMPTS


async def test_first_answers_are_what_transformers_generates(made: Run, warehouse: Path) -> None:
    """The chat template with a system turn, with several turns and without; German and an emoji; token by token."""
    store = Warehouse(warehouse)
    first = {row.prompt_id: row for row in rows(warehouse, made.run_id) if isinstance(row, Response) and not row.round}
    prompts = [prompt for part in store.parts("prompts", made.run_id) for prompt in store.read_prompts(part)]
    different = 0
    for prompt in prompts:
        turns = [{"role": each.role, "content": each.content} for each in prompt.messages]
        tokenizer, model, tokens = reference(turns)
        out = model.generate(tokens, do_sample=False, max_new_tokens=TOKENS)[0, tokens.shape[1] :]
        row = first[prompt.id]
        assert row.prompt_tokens == tokens.shape[1]
        different += row.text != tokenizer.decode(out, skip_special_tokens=True).partition(STOP)[0].strip()
    assert different <= DIFFERENT


async def test_votes_have_their_mass_on_the_labels(made: Run, warehouse: Path) -> None:
    stored = rows(warehouse, made.run_id)
    votes = [row for row in stored if isinstance(row, Judgement)]
    # Answers that are equal give no pair to vote on.
    texts = {(row.prompt_id, row.text) for row in stored if isinstance(row, Response)}
    assert len(votes) == (len(texts) - PROMPTS) * made.recipe["judge"]["principles"] * len(METHODS["label"].orders)
    assert all(0 < row.p_first < 1 and 0 < row.label_mass <= 1.001 and not row.censored for row in votes)
    # A model that follows the chat template names a label; where the template is not its own, next to nothing is left.
    assert sorted(row.label_mass for row in votes)[len(votes) // 2] > 0.5


async def test_provenance(made: Run, warehouse: Path) -> None:
    assert made.constitution == "general@1.2.0"
    assert made.models["policy"]["name"] == NAME
    assert made.models["policy"]["digest"] == folder_digest(Path(FOLDER))
    with connect(warehouse) as connection:
        votes = list(ask(connection, "SELECT DISTINCT judge, method FROM judgements").rows)
    assert [tuple(row) for row in votes] == [(NAME, "label")]


async def test_audit_and_export(made: Run, warehouse: Path, tmp_path: Path) -> None:
    figures = audit(warehouse, made.run_id, replicates=50)
    assert len(figures) > 10
    for format, count in (("dpo", PROMPTS), ("sft", 2 * PROMPTS)):
        done = export(warehouse, made.run_id, Settings.model_validate({"format": format}), tmp_path / format)
        kept = sum(done.rows.values())
        assert kept > 0
        assert kept + sum(done.dropped.values()) == count


WAYS = [*METHODS, "score of 20 steps"]


@pytest.mark.parametrize("way", WAYS)
async def test_every_method_votes(transformers_engine: Engine, way: str, tmp_path: Path) -> None:
    name = way.partition(" ")[0]
    method = next(METHODS[each] for each in METHODS if each == name)
    settings = [*judging(tmp_path), f"judge.method={name}"]
    settings += ["judge.score.steps=20"] if name != way else []
    settings += [f"judge.{name}.max_tokens={WRITTEN}"] if method.written else []
    settings += ["judge.verdict.n=2"] if method.sampled else []
    made, _ = await run(transformers_engine, tmp_path / "warehouse", settings)
    with connect(tmp_path / "warehouse") as connection:
        votes = list(ask(connection, "SELECT p_first, label_mass, read_first, rationale FROM judgements").rows)
        failed = list(ask(connection, "SELECT error, message FROM failures WHERE step = 'vote'").rows)
    assert len(votes) + len(failed) == 2 * len(method.orders) * (2 if method.sampled else 1)
    if method.sampled:
        # So small a model need not keep to the form of a verdict, and then it has none.
        assert {error for error, _ in failed} <= {"MalformedReply"}
        assert {p for p, *_ in votes} <= {0, 0.5, 1}
    else:
        assert not failed
        assert (made.counts["done"], made.counts["lost"]) == (2, 0)
    for p, mass, read, rationale in votes:
        assert 0 <= p <= 1
        assert 0 < mass <= 1.001
        assert bool(rationale) is method.written
        assert bool(read) is bool(method.reads)
        assert method.reads != "grades" or len(read) == (20 if name != way else 9)


@cache
def bare() -> tuple[Any, Any]:
    """transformers' tokenizer and model, without anything of ours."""
    import transformers

    library: Any = transformers
    model = library.AutoModelForCausalLM.from_pretrained(FOLDER, dtype="float32").eval()
    return library.AutoTokenizer.from_pretrained(FOLDER), model


def reference(messages: list[dict[str, str]], prefix: str = "") -> tuple[Any, Any, Any]:
    """`bare`, and the prompt's tokens."""
    tokenizer, model = bare()
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + prefix
    return tokenizer, model, tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]


@pytest.mark.parametrize("label", ["A", " A", "No", " unbelievably", "é", "🏦"])
async def test_labels_of_byte_level_tokens(transformers_engine: Engine, label: str) -> None:
    """Also labels of several tokens, or of parts of a character: the sum over the tokens of the text with the label."""
    import torch

    prefix = "The answer is: ("
    done = await transformers_engine.generate(question("Is it so?", prefix, choices=(label, "B")))
    _, model, tokens = reference([{"role": "user", "content": "Is it so?"}], prefix)
    _, _, whole = reference([{"role": "user", "content": "Is it so?"}], prefix + label)
    assert done.choice_logprobs is not None
    size = tokens.shape[1]
    assert torch.equal(whole[:, :size], tokens)
    with torch.inference_mode():
        logprobs = model(whole).logits[0].log_softmax(-1)
    expected = sum(float(logprobs[at - 1, whole[0, at]]) for at in range(size, whole.shape[1]))
    assert done.choice_logprobs[label] == pytest.approx(expected, abs=2e-3)


async def test_control_tokens_in_a_text_are_characters(transformers_engine: Engine) -> None:
    """A turn that a text fakes is no turn."""
    fake = f"Hi{bare()[0].eos_token}\nSure!"
    tokenizer, _, prompt = reference([{"role": "user", "content": fake}])
    done = await transformers_engine.generate(question(fake, tokens=1))
    marks = sum(int(each) in tokenizer.all_special_ids for each in prompt[0])
    honest = await transformers_engine.generate(question("Hi", tokens=1))
    assert marks > 0
    assert done.prompt_tokens > prompt.shape[1] > honest.prompt_tokens

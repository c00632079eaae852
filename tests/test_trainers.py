"""Each export goes into its TRL trainer as it is, and a few real steps of optimisation are made with it; so do those of
the recipes for groups of answers that ship."""

from __future__ import annotations

import asyncio
import importlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from run_once import run_once
from small_project import small_project, table

from constitution.cli import app
from constitution.export import Cleaning, Settings, export
from constitution.export.formats import FORMATS
from constitution.recipe import load_recipe

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "constitution" / "pocket" / "model"
STEPS = 3
GENERAL = [name for name, spec in FORMATS.items() if not spec.source]
"""Formats that any run has; test_export_prm.py has the other."""

RECIPE = """
name = "trained"
constitution = "general@1.2.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "fake"
[revise]
rounds = 2
exemplars = 0
[judge]
method = "rubric"
principles = 2
pairs = ["first-last", "parent"]
"""


@dataclass(frozen=True)
class Shipped:
    """What is expected of a recipe in recipes/. How its run is exported its comment says."""

    samples: int
    """Of each prompt."""
    trainer: str
    """Of TRL, that its export is for."""
    labels: str = ""
    """preferences.label_by; empty: it has no pairs."""
    prompts: int = 8


SHIPPED = {
    "best-of-n": Shipped(8, "SFT", "reward", 4),
    "ultrafeedback": Shipped(4, "Reward", "reward"),
    "rl-cai": Shipped(2, "Reward", "mean", 5),
    "rlcd": Shipped(2, "DPO", "construction"),
    "self-align": Shipped(1, "SFT"),
    "deliberative": Shipped(4, "SFT"),
    "characters": Shipped(4, "DPO", "construction"),
    "debate": Shipped(5, "KTO", "reward"),
}
EXPORTS = "#   constitution export RUN "

TOPICS = ("bread", "boats", "ink", "knots", "lamps", "maps", "nets", "oars", "paper", "quays", "ropes", "sails")


def conversations() -> list[list[dict[str, str]]]:
    """Of one turn, of three, and with a system message."""
    asked = [f"How is {topic} made, and by whom, in a town like {town}?" for topic in TOPICS for town in ("A", "B")]
    found = []
    for place, text in enumerate(asked):
        before = [
            [],
            [{"role": "system", "content": "You are brief."}],
            [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello, what is it?"}],
        ]
        found.append([*before[place % 3], {"role": "user", "content": text}])
    return found


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small run of the fake engine, exported in every format."""
    folder = tmp_path_factory.mktemp("trained")
    path = small_project(folder, [{"messages": messages} for messages in conversations()], RECIPE)
    run = asyncio.run(run_once(path, folder / "warehouse", []))
    made: dict[str, Path] = {}
    for format in GENERAL:
        settings = Settings(format=format, test=0.2, cleaning=Cleaning(dedupe="exact"))
        made[format] = export(folder / "warehouse", run.run_id, settings, folder / format).out
    return made


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture
def trl(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, which takes the folder tests/vllm for vLLM unless it is told better."""
    package = importlib.import_module("trl")
    utils = importlib.import_module("trl.import_utils")
    known = utils._is_package_available

    def available(name: str, return_version: bool = False) -> Any:
        return (False, "N/A") if name == "vllm" and return_version else known(name, return_version)

    monkeypatch.setattr(utils, "_is_package_available", available)
    return package


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, which keeps what it has read and mapped in the test's own folder."""
    package = importlib.import_module("datasets")
    monkeypatch.setattr(package.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    package.disable_progress_bars()
    return package


def causal() -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)


def scored() -> Any:
    """The same with a head that gives one number."""
    import torch
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=1, dtype=torch.float32)


def quick(out: Path, **more: Any) -> dict[str, Any]:
    """Settings of a trainer for a few steps on a CPU."""
    few = {"max_steps": STEPS, "per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "logging_steps": 1}
    cpu = {"bf16": False, "use_cpu": True, "gradient_checkpointing": False, "disable_tqdm": True}
    return {
        "output_dir": str(out),
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "report_to": "none",
        **few,
        **cpu,
        **more,
    }


def trained(trainer: Any) -> list[float]:
    """The losses of its steps. Fails unless each is finite and the weights are others afterwards."""
    import torch

    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    losses = [float(step["loss"]) for step in trainer.state.log_history if "loss" in step]
    assert len(losses) == STEPS
    assert all(map(math.isfinite, losses))
    changed = [not torch.equal(before[name], weight) for name, weight in trainer.model.named_parameters()]
    assert sum(changed) > len(changed) / 2
    assert trainer.eval_dataset is None or math.isfinite(trainer.evaluate()["eval_loss"])
    return losses


def rendered(tokenizer: Any, messages: list[dict[str, str]], **more: Any) -> str:
    text = tokenizer.apply_chat_template(messages, tokenize=False, **more)
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("format", GENERAL)
def test_datasets_loads_the_files_and_the_folder(exports: dict[str, Path], datasets: Any, format: str) -> None:
    out = exports[format]
    entries = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["files"]
    wanted = {split: sum(entry["rows"] for entry in entries if entry["split"] == split) for split in ("train", "test")}
    assert min(wanted.values()) > 0
    parts = {split: [str(out / entry["path"]) for entry in entries if entry["split"] == split] for split in wanted}
    by_files = datasets.load_dataset("parquet", data_files=parts)
    assert {split: len(rows) for split, rows in by_files.items()} == wanted
    names = datasets.get_dataset_config_names(str(out))
    assert names == sorted({entry["config"] for entry in entries})
    configs = [datasets.load_dataset(str(out), name) for name in names]
    for split in wanted:
        by_folder = datasets.concatenate_datasets([config[split] for config in configs if split in config])
        assert by_folder.features == by_files[split].features
        assert by_folder.to_list() == by_files[split].to_list()
    if len(names) == 1:
        assert datasets.load_dataset(str(out))["train"].to_list() == configs[0]["train"].to_list()
    else:  # a part is not taken for the whole
        with pytest.raises(ValueError, match="Config name is missing"):
            datasets.load_dataset(str(out))


def trainer_of(trl: Any, kind: str, data: Any, tokenizer: Any, out: Path, model: Any = None, **more: Any) -> Any:
    """TRL's trainer of this kind over both splits of the data; more: its settings."""
    settings = getattr(trl, f"{kind}Config")(**quick(out, **more))
    return getattr(trl, f"{kind}Trainer")(
        model or causal(),
        args=settings,
        processing_class=tokenizer,
        train_dataset=data["train"],
        eval_dataset=data["test"],
    )


def test_dpo(exports: dict[str, Path], tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path) -> None:
    data = datasets.load_dataset(str(exports["dpo"]))
    trainer = trainer_of(trl, "DPO", data, tokenizer, tmp_path)
    for row, tokens in zip(data["train"], trainer.train_dataset, strict=True):
        prompt = rendered(tokenizer, row["prompt"], add_generation_prompt=True)
        assert tokenizer.decode(tokens["prompt_ids"]) == prompt
        for side in ("chosen", "rejected"):
            ids = tokens[f"{side}_ids"]
            assert tokenizer.decode(ids) == row[side][0]["content"] + "<|end|>"
            assert ids.count(tokenizer.eos_token_id) == 1
            assert prompt + tokenizer.decode(ids) == rendered(tokenizer, row["prompt"] + row[side])
    losses = trained(trainer)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)


def test_robust_dpo_takes_epsilon(
    exports: dict[str, Path], tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path
) -> None:
    names = datasets.get_dataset_config_names(str(exports["robust"]))
    shards = [datasets.load_dataset(str(exports["robust"]), name)["train"] for name in names]
    epsilons = []
    for name, rows in zip(names, shards, strict=True):
        (epsilon,) = set(rows["epsilon"])
        epsilons.append(epsilon)
        assert name == f"eps-{epsilon:.2f}"
    assert 0 <= epsilons[0] < epsilons[-1] < 0.5
    assert epsilons == sorted(epsilons)
    settings = trl.DPOConfig(**quick(tmp_path, loss_type="robust", label_smoothing=epsilons[-1]))
    trainer = trl.DPOTrainer(causal(), args=settings, processing_class=tokenizer, train_dataset=shards[-1])
    trained(trainer)


def test_reward(exports: dict[str, Path], tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path) -> None:
    import torch

    data = datasets.load_dataset(str(exports["reward"]))
    trainer = trainer_of(trl, "Reward", data, tokenizer, tmp_path, scored())
    for row, tokens in zip(data["train"], trainer.train_dataset, strict=True):
        p = min(row["p_chosen"], 0.99)  # the export's `clip`
        assert tokens["margin"] == row["margin"] == pytest.approx(math.log(p / (1 - p)))
        for side in ("chosen", "rejected"):
            assert tokenizer.decode(tokens[f"{side}_ids"]) == rendered(tokenizer, row[side])
    batch = trainer.data_collator([trainer.train_dataset[0], trainer.train_dataset[1]])
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, dict(batch))
        without = {name: value for name, value in batch.items() if name != "margin"}
        plain = trainer.compute_loss(trainer.model, without)
        zero = trainer.compute_loss(trainer.model, batch | {"margin": torch.zeros(2)})
    assert float(plain) == pytest.approx(float(zero))
    assert float(loss) > float(plain) + 0.1
    trained(trainer)


def test_kto(exports: dict[str, Path], tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path) -> None:
    data = datasets.load_dataset(str(exports["kto"]))
    assert set(data["train"]["label"]) == {True, False}
    trainer = trainer_of(trl, "KTO", data, tokenizer, tmp_path)
    trained(trainer)


def test_sft(exports: dict[str, Path], tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path) -> None:
    data = datasets.load_dataset(str(exports["sft"]))
    trainer = trainer_of(trl, "SFT", data, tokenizer, tmp_path)
    for row, tokens in zip(data["train"], trainer.train_dataset, strict=True):
        assert tokenizer.decode(tokens["input_ids"]) == rendered(tokenizer, row["prompt"] + row["completion"])
        learnt = [label for label in tokens["labels"] if label != -100]
        assert tokenizer.decode(learnt) == row["completion"][0]["content"] + "<|end|>"
    trained(trainer)


def test_grpo(exports: dict[str, Path], tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path) -> None:
    data = datasets.load_dataset(str(exports["grpo"]))
    seen: list[tuple[str, Any, Any]] = []

    def reward(completions: Any, criteria: Any, principles: Any, prompt_id: Any, **columns: Any) -> list[float]:
        """Takes the rubric of each prompt as the export wrote it."""
        seen.extend(zip(prompt_id, principles, criteria, strict=True))
        return [float(sum(len(turn["content"]) for turn in completion) % 7) for completion in completions]

    settings = quick(tmp_path, per_device_train_batch_size=4, num_generations=4, max_completion_length=8)
    trainer = trl.GRPOTrainer(
        causal(),
        reward_funcs=reward,
        args=trl.GRPOConfig(**settings),
        processing_class=tokenizer,
        train_dataset=data["train"],
    )
    trained(trainer)
    rows = {row["prompt_id"]: (row["principles"], row["criteria"]) for row in data["train"]}
    assert len(seen) == 4 * STEPS
    assert all(rows[id] == (principles, criteria) for id, principles, criteria in seen)
    assert all(criteria and principles for _, principles, criteria in seen)


@pytest.mark.parametrize("name", SHIPPED)
async def test_a_recipe_runs_as_it_is_and_its_export_is_trained_on(
    name: str, tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path
) -> None:
    shipped, path, warehouse, out = SHIPPED[name], ROOT / "recipes" / f"{name}.toml", tmp_path / "w", tmp_path / "out"
    run = await run_once(path, warehouse, [f"prompts.limit={shipped.prompts}"])
    assert run.finished_at
    states = "SELECT state, samples, failures, count(*) FROM chains GROUP BY ALL"
    assert table(warehouse, states) == [("complete", shipped.samples, 0, shipped.prompts)]
    labels = table(warehouse, "SELECT DISTINCT label_by FROM preferences")
    assert labels == ([(shipped.labels,)] if shipped.labels else [])

    [words] = [line.removeprefix(EXPORTS) for line in comments(path) if line.startswith(EXPORTS)]
    asked, said, _ = words.rpartition(" --out ")
    assert said  # the line runs as it is
    where = ["--warehouse", str(warehouse), "--out", str(out)]
    done = CliRunner().invoke(app, ["export", run.run_id, *asked.split(), *where])
    assert done.exit_code == 0, done.output
    data = {"train": datasets.load_dataset(str(out))["train"], "test": None}
    assert len(data["train"]) >= 2
    turns = [turn for row in data["train"].to_list() for turn in row.get("prompt", row.get("chosen"))]
    assert "system" not in {turn["role"] for turn in turns}
    model = scored() if shipped.trainer == "Reward" else causal()
    trained(trainer_of(trl, shipped.trainer, data, tokenizer, tmp_path, model))


def comments(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_says_why_it_is_with_the_paper(name: str) -> None:
    path = ROOT / "recipes" / f"{name}.toml"
    assert "arXiv 2" in " ".join(comments(path)[:3])
    assert f"#   constitution run recipes/{name}.toml" in comments(path)
    assert load_recipe(path).name == name

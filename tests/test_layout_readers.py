"""The trainers' own readers over exports in their layouts, each where it is installed: not one row is lost on the way,
and the answer is what is learnt. tests/test_layouts.py holds the layouts to their documentation without them."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_layouts import files_of, lines_of, made, rows_of

from constitution.export import Exported

__all__ = ["made"]
MODEL = Path(__file__).parents[1] / "constitution" / "pocket" / "model"


@pytest.fixture
def ready(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The exports and a tokenizer, once it is known that a reader is there."""
    from transformers import AutoTokenizer

    datasets = importlib.import_module("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    return made[1], AutoTokenizer.from_pretrained(MODEL)


def each(exports: dict[tuple[str, str, str], Exported], layout: str, format: str) -> Iterator[Exported]:
    for file_type in files_of(layout, format):
        yield exports[layout, format, file_type]


def answer_of(row: dict[str, Any]) -> str:
    """The preferred answer of a row."""
    held = row.get("chosen") or row.get("completion") or row["messages"]
    held = held[-1] if isinstance(held, list) else held
    return str(held if isinstance(held, str) else held["content"])


LLAMA_FACTORY = [("dpo", "rm", "chosen_labels"), ("reward", "rm", "chosen_labels"), ("sft", "sft", "labels")]


@pytest.mark.parametrize(("format", "stage", "learnt"), [*LLAMA_FACTORY, ("kto", "kto", "labels")])
def test_llama_factory(request: Any, format: str, stage: str, learnt: str) -> None:
    loader = pytest.importorskip("llamafactory.data.loader")
    exports, tokenizer = request.getfixturevalue("ready")
    template = importlib.import_module("llamafactory.data.template")
    arguments = importlib.import_module("llamafactory.hparams").DataArguments
    training = SimpleNamespace(seed=1, local_process_index=0, should_log=False, predict_with_generate=False)
    for done in each(exports, "llama-factory", format):
        _, lines = lines_of(done)
        names = {"train": lines["dataset"], "test": lines["eval_dataset"]}
        more = {"mask_history": lines.get("mask_history", False), "template": "default", "overwrite_cache": True}
        data = arguments(dataset_dir=str(done.out), dataset=names["train"], **more)
        written = template.get_template_and_fix_tokenizer(tokenizer, data)
        answers = []
        for split, name in names.items():
            model = SimpleNamespace(cache_dir=None, hf_hub_token=None)
            aligned = loader._get_merged_dataset([name], model, data, training, stage)
            found = loader._get_preprocessed_dataset(aligned, data, training, stage, written, tokenizer)
            assert len(found) == len(aligned) == done.rows[split]
            answers += [tokenizer.decode([label for label in labels if label != -100]) for labels in found[learnt]]
        for row, answer in zip(rows_of(done), answers, strict=True):
            assert answer.startswith(tokenizer.decode(tokenizer.encode(answer_of(row), add_special_tokens=False)))


@pytest.mark.parametrize("format", ["dpo", "robust", "reward", "sft", "kto"])
def test_axolotl(request: Any, format: str) -> None:
    shared = pytest.importorskip("axolotl.utils.data.shared")
    exports, tokenizer = request.getfixturevalue("ready")
    wrapped = importlib.import_module("axolotl.utils.dict").DictDefault
    for done in each(exports, "axolotl", format):
        _, lines = lines_of(done)
        lines = json.loads(json.dumps(lines).replace("DATA", str(done.out)))
        config = wrapped(
            {**lines, "chat_template": "tokenizer_default", "sequence_len": 4096, "train_on_inputs": False}
        )
        for part, split in ((config.datasets[0], "train"), (config.test_datasets[0], "test")):
            data = shared.load_dataset_with_config(part, False)
            assert len(data) == done.rows[split] or format == "robust"  # the card's lines are of one config
            answers = list(axolotl_answers(config, part, data, tokenizer))
            for row, answer in zip(data, answers, strict=True):
                text = tokenizer.decode(tokenizer.encode(answer_of(row), add_special_tokens=False))
                assert text in answer if format == "reward" else answer.startswith((text, answer_of(row)))


def axolotl_answers(config: Any, part: Any, data: Any, tokenizer: Any) -> Iterator[str]:
    """What is learnt of each row, as a text; of reward models the whole conversation."""
    kind = part["type"].removeprefix("bradley_terry.")
    if config.rl:
        load = importlib.import_module(f"axolotl.prompt_strategies.{config.rl}").load
        turned = load(kind, type(config)({**config, "datasets": [part]}), dataset_idx=0)
        if isinstance(turned, tuple):
            yield from (turned[0](dict(row), tokenizer=tokenizer)["chosen"] for row in data)
        else:
            yield from (turned(dict(row))["completion"] for row in data)
        return
    among = ".bradley_terry" if config.reward_model else ""
    strategy = importlib.import_module(f"axolotl.prompt_strategies{among}").load(kind, tokenizer, config, part)
    for row in data:
        tokens = strategy.tokenize_prompt(dict(row))
        learnt = tokens["chosen_ids"] if among else [label for label in tokens["labels"] if label != -100]
        yield tokenizer.decode(learnt)


def test_verl(request: Any) -> None:
    rl = pytest.importorskip("verl.utils.dataset.rl_dataset")
    exports, tokenizer = request.getfixturevalue("ready")
    sft = importlib.import_module("verl.utils.dataset.multiturn_sft_dataset")
    create = importlib.import_module("omegaconf").OmegaConf.create
    for done in each(exports, "verl", "grpo"):
        for split in ("train", "test"):
            files = [str(done.out / file.path) for file in done.files if file.split == split]
            found = rl.RLHFDataset(files, tokenizer, create({"filter_overlong_prompts_workers": 1}))
            assert len(found) == done.rows[split]
            batch = rl.collate_fn([found[0], found[1]])
            assert {"raw_prompt", "reward_model", "data_source", "extra_info"} <= set(batch)
    (done,) = each(exports, "verl", "sft")
    config = create({"max_length": 4096, "pad_mode": "no_padding", "ignore_input_ids_mismatch": True})
    for split in ("train", "test"):
        files = [str(done.out / file.path) for file in done.files if file.split == split]
        found = sft.MultiTurnSFTDataset(files, tokenizer, config)
        assert len([found[place] for place in range(len(found))]) == done.rows[split]


OPENRLHF: dict[str, dict[str, str | None]] = {
    "dpo": {"prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected"},
    "reward": {"prompt_key": None, "chosen_key": "chosen", "rejected_key": "rejected"},
    "sft": {"input_key": "prompt", "output_key": "completion"},
    "grpo": {"input_key": "prompt", "label_key": "label"},
}


@pytest.mark.parametrize("format", OPENRLHF)
def test_openrlhf(request: Any, format: str) -> None:
    blend = pytest.importorskip("openrlhf.datasets.utils").blending_datasets
    exports, tokenizer = request.getfixturevalue("ready")
    keys = OPENRLHF[format]
    options = SimpleNamespace(data=SimpleNamespace(apply_chat_template=True, **keys), use_ms=False)
    strategy = SimpleNamespace(args=options, print=lambda *words: None, is_rank_0=lambda: False)
    for done in each(exports, "openrlhf", format):
        for split in ("train", "test"):
            data = blend(str(done.out), None, strategy, dataset_split=split)
            if format == "grpo":
                module = importlib.import_module("openrlhf.datasets.prompts_dataset")
                found = module.PromptDataset(data, tokenizer, strategy)
                assert all(json.loads(label)["principles"] for label in found.labels)
            elif format == "sft":
                module = importlib.import_module("openrlhf.datasets.sft_dataset")
                found = module.SFTDataset(data, tokenizer, 4096, strategy, num_processors=1)
                assert [text.startswith(answer_of(row)) for row, text in zip(data, found.responses, strict=True)]
            else:
                module = importlib.import_module("openrlhf.datasets.reward_dataset")
                found = module.RewardDataset(data, tokenizer, 4096, strategy, is_dpo=format == "dpo", num_processors=1)
                assert all(answer_of(row) in text for row, text in zip(data, found.chosens, strict=True))
                assert format == "dpo" or list(found.extras) == list(data["margin"])
            assert len(found) == done.rows[split]

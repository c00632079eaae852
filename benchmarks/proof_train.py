"""TRL's trainers on an export, as they are: `proof.py` calls these in their own processes.

Nothing of TRL is changed or subclassed; the files are loaded by `datasets.load_dataset`, and a setting that is not here
is TRL's default. float32 on CPU: the pocket model has two million parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

Files = tuple[Path, ...]
Chat = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Dose:
    """How much a trainer gets of its data."""

    epochs: float
    rate: float
    """Learning rate at its highest."""
    batch: int = 16
    """Rows."""
    max_steps: int = -1
    """Ends after so many steps, whatever the epochs say; -1: no such end."""


SFT = Dose(epochs=2, rate=5e-4)
DPO = Dose(epochs=2, rate=1e-4)
DPO_AFTER_SFT = Dose(epochs=1, rate=5e-5)
"""A model that prefers the chosen answers already needs little more. With twice the epochs and the rate it breaks no
principle any more and forgets the language: of 300 answers 24 % were garbled (docs/proof.md)."""
REWARD = Dose(epochs=2, rate=3e-4)
BETA = 0.1
"""Of DPO (arXiv 2305.18290, section 4): TRL's default."""
TOKENS = 256
"""Longest row in tokens; the pocket world's have fewer."""


def sft(model: Path, data: Files, out: Path, seed: int, dose: Dose) -> None:
    """SFTTrainer on an export of format `sft`; the loss is on the completion alone, TRL's way with such rows."""
    trl = _trl()
    settings = trl.SFTConfig(**_settings(out, seed, dose), max_length=TOKENS)
    trainer = trl.SFTTrainer(
        _language_model(model), settings, train_dataset=rows(data, out), processing_class=_tokenizer(model)
    )
    _train(trainer, out)


def dpo(model: Path, data: Sequence[tuple[Files, float]], out: Path, seed: int, dose: Dose) -> None:
    """DPOTrainer on exports of format `dpo`, one after the other, each with its ε.

    ε = 0 is plain DPO. Else the loss is `robust` (arXiv 2403.00409), which takes one ε for all of its rows: one shard
    of a `robust` export after the other, all against the same reference, the model that it starts from.
    """
    trl = _trl()
    policy, reference = _language_model(model), _language_model(model)
    for files, epsilon in data:
        loss = {"loss_type": ["robust"], "label_smoothing": epsilon} if epsilon else {}
        settings = trl.DPOConfig(**_settings(out, seed, dose), max_length=TOKENS, beta=BETA, **loss)
        trainer = trl.DPOTrainer(
            policy, reference, settings, train_dataset=rows(files, out), processing_class=_tokenizer(model)
        )
        _train(trainer, out)


def reward(model: Path, data: Files, out: Path, seed: int, dose: Dose) -> None:
    """RewardTrainer on an export of format `reward`, whose `margin` it takes."""
    from transformers import AutoModelForSequenceClassification

    trl = _trl()
    start = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, dtype="float32")
    settings = trl.RewardConfig(**_settings(out, seed, dose), max_length=TOKENS)
    trainer = trl.RewardTrainer(start, settings, train_dataset=rows(data, out), processing_class=_tokenizer(model))
    _train(trainer, out)


def rewards(model: Path, chats: Sequence[Chat]) -> list[float]:
    """What a trained reward model gives to each whole conversation."""
    import torch
    from transformers import AutoModelForSequenceClassification

    tokenizer, scorer = _tokenizer(model), AutoModelForSequenceClassification.from_pretrained(model, num_labels=1)
    scorer.eval()
    found: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(chats), 64):
            texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats[start : start + 64]]
            batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            batch.pop("token_type_ids", None)
            found += scorer(**batch).logits[:, 0].tolist()
    return found


def rows(files: Files, cache: Path) -> Any:
    """An export's Parquet files, as they are."""
    datasets = import_module("datasets")
    return datasets.load_dataset(
        "parquet", data_files=[str(path) for path in files], split="train", cache_dir=str(cache)
    )


def _trl() -> Any:
    """The package: it loads its parts when they are asked for, and type checkers cannot see them."""
    return import_module("trl")


def _settings(out: Path, seed: int, dose: Dose) -> dict[str, Any]:
    return {
        "output_dir": str(out),
        "per_device_train_batch_size": dose.batch,
        "num_train_epochs": dose.epochs,
        "max_steps": dose.max_steps,
        "learning_rate": dose.rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "seed": seed,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
    }


def quiet() -> None:
    """This process's libraries draw no bars and tell nothing but errors: two trainings share one terminal."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    import_module("datasets").disable_progress_bars()


def _train(trainer: Any, out: Path) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(out))


def _language_model(model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype="float32")


def _tokenizer(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)

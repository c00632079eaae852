"""TRL's trainers read what an export says of rewards: the gap as the margin, and of groups the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from export_runs import NO_CLEANING
from test_export_groups import Made, made
from test_trainers import STEPS, causal, datasets, quick, scored, tokenizer, trained, trainer_of, trl

from constitution.export import Settings, export

__all__ = ["datasets", "made", "tokenizer", "trl"]


def loaded(made: Made, datasets: Any, out: Path, format: str, **settings: Any) -> Any:
    asked = Settings.model_validate({"format": format, "test": 0.0, "cleaning": NO_CLEANING, **settings})
    done = export(made[0], made[1].run_id, asked, out)
    return {"train": datasets.load_dataset(str(done.out))["train"], "test": None}


def test_reward_takes_the_gap(made: Made, tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path) -> None:
    data = loaded(made, datasets, tmp_path / "out", "reward", margin="gap")
    trainer = trainer_of(trl, "Reward", data, tokenizer, tmp_path, scored())
    gaps = [row["reward_chosen"] - row["reward_rejected"] for row in data["train"]]
    assert list(trainer.train_dataset["margin"]) == gaps == pytest.approx([0.65, 0.0, 0.5])
    trained(trainer)


def test_grpo_hands_the_evidence_to_reward_functions(
    made: Made, tokenizer: Any, datasets: Any, trl: Any, tmp_path: Path
) -> None:
    data = loaded(made, datasets, tmp_path / "out", "grpo")["train"]
    seen: set[tuple[float, float, int]] = set()

    def reward(completions: Any, reward_mean: Any, reward_std: Any, group_size: Any, **columns: Any) -> list[float]:
        seen.update(zip(reward_mean, reward_std, group_size, strict=True))
        return [float(sum(len(turn["content"]) for turn in completion) % 7) for completion in completions]

    settings = quick(tmp_path, per_device_train_batch_size=4, num_generations=4, max_completion_length=8)
    trainer = trl.GRPOTrainer(
        causal(), reward_funcs=reward, args=trl.GRPOConfig(**settings), processing_class=tokenizer, train_dataset=data
    )
    trained(trainer)
    assert len(seen) == STEPS
    assert seen <= {(row["reward_mean"], row["reward_std"], row["group_size"]) for row in data}

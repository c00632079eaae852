"""Train the pocket reward model: `python -m rehearsal.train_reward --out DIR`.

The first layers of the pocket model with a head of one number on the answer's last token, trained by the Bradley-Terry
loss on pairs of which the grammar knows the better answer, so that whatever reads scalar reward models can be tried and
held against the truth. Writes an ordinary Hugging Face folder of sequence classification with a model card, as `train`
does. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rehearsal.card import write_reward_card
from rehearsal.judged import Answerer, Judged, auc, closed, fit, padded
from rehearsal.train import ROOT, Encoder, save


def rewards(model: Any, encoder: Encoder, answers: Sequence[Judged]) -> list[float]:
    """The raw logit of each answer."""
    import torch

    found: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(answers), 64):
            rows = [closed(encoder, answer.messages) for answer in answers[start : start + 64]]
            tokens, mask = padded(rows, encoder.special["<|pad|>"])
            found += model(input_ids=tokens, attention_mask=mask).logits[:, 0].tolist()
    return found


def evaluate(model: Any, encoder: Encoder, answerer: Answerer, count: int) -> dict[str, float]:
    """`accuracy`: share of `count` known pairs whose better answer gets more; `shorter`: share whose better answer is
    the shorter one; `auc`: of the reward for "breaks nothing", over `count` single answers to different requests."""
    pairs = [answerer.pair() for _ in range(count)]
    given = rewards(model, encoder, [answer for pair in pairs for answer in pair])
    right = [better > worse for better, worse in zip(given[::2], given[1::2], strict=True)]
    shorter = [better.words < worse.words for better, worse in pairs]
    single = [answerer.one() for _ in range(count)]
    return {
        "accuracy": sum(right) / count,
        "shorter": sum(shorter) / count,
        "auc": auc(rewards(model, encoder, single), single),
    }


def loss(model: Any, encoder: Encoder, pairs: Sequence[tuple[Judged, Judged]]) -> Any:
    """Bradley-Terry's, of pairs of a better and a worse answer."""
    import torch

    rows = [closed(encoder, answer.messages) for side in zip(*pairs, strict=True) for answer in side]
    tokens, mask = padded(rows, encoder.special["<|pad|>"])
    better, worse = model(input_ids=tokens, attention_mask=mask).logits[:, 0].chunk(2)
    return -torch.nn.functional.logsigmoid(better - worse).mean()


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=ROOT / "constitution/pocket/model", help="what to begin with")
    parser.add_argument("--out", type=Path, default=ROOT / "constitution/pocket/reward")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layers", type=int, default=1, help="the first of the base's that are kept")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--pairs", type=int, default=24, help="of a step")
    parser.add_argument("--lr", type=float, default=1e-3)
    return parser


def main() -> None:
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForSequenceClassification

    args = arguments().parse_args()
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer.from_file(str(args.base / "tokenizer.json"))
    encoder = Encoder(tokenizer)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        args.base, num_labels=1, num_hidden_layers=args.layers, dtype=torch.float32, local_files_only=True
    )
    answerer = Answerer(random.Random(args.seed + 1))
    took = fit(model, lambda: loss(model, encoder, [answerer.pair() for _ in range(args.pairs)]), args.steps, args.lr)
    model.eval()
    figures = evaluate(model, encoder, Answerer(random.Random(args.seed + 2), "held-out"), 1000)
    save(model, tokenizer, args.out)
    facts = {
        "seed": args.seed,
        "layers": args.layers,
        "steps": args.steps,
        "pairs": args.pairs * args.steps,
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    write_reward_card(args.out, facts | took | figures)
    print(f"saved to {args.out}: {figures}")


if __name__ == "__main__":
    main()

"""Train the last-token read-out into the pocket model: `python -m rehearsal.train_readout --out DIR`.

LaSeR's own loss (arXiv 2510.14943; weights and beta as in its published code): after the answer's closed turn the
log-probability of one reserved token z says whether the answer is good,

    r = beta * (log pi(z | x, y) - c_ref),     loss = mean of w * (r - good)^2,

with good = 1 where the grammar finds nothing broken and else 0, w = N / 2N+ for good answers and N / 2N- for others, N
those of the batch, and c_ref the mean of log pi(z) before any training. LaSeR adds this to the loss of a policy
gradient; here the answers' text is learnt beside it, as in the pocket model's own training, so that it still answers.

Writes an ordinary Hugging Face folder; `last_token_reward` in its config.json has token, c_ref and beta, as recipes
name them. It does not ship.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rehearsal.judged import Answerer, Judged, auc, closed, fit, padded
from rehearsal.train import ROOT, Encoder, save

TOKEN = "<|system|>"
"""z: no document that the pocket model was trained on has it after an answer."""
BETA = 0.1
"""As in the paper's code: a good answer's log pi(z) is to be c_ref + 10."""


def log_z(model: Any, encoder: Encoder, answers: Sequence[Judged]) -> list[float]:
    """log pi(z) after each answer's closed turn."""
    import torch

    found: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(answers), 64):
            rows = [closed(encoder, answer.messages) for answer in answers[start : start + 64]]
            found += _read(model, encoder, rows)[0].tolist()
    return found


def _read(model: Any, encoder: Encoder, rows: Sequence[list[int]]) -> tuple[Any, Any, Any]:
    """log pi(z) after each row [rows], the hidden states [rows, longest, hidden] and the tokens [rows, longest]."""
    import torch

    tokens, mask = padded(rows, encoder.special["<|pad|>"])
    hidden = model.model(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[torch.arange(len(rows)), mask.sum(1) - 1])
    return logits.log_softmax(-1)[:, encoder.special[TOKEN]], hidden, tokens


def losses(model: Any, encoder: Encoder, answers: Sequence[Judged], c_ref: float) -> tuple[Any, Any]:
    """LaSeR's loss of the read-out, and the loss per token of the answers' text."""
    import torch

    rows = [closed(encoder, answer.messages) for answer in answers]
    read, hidden, tokens = _read(model, encoder, rows)
    good = torch.tensor([float(not answer.faults) for answer in answers])
    share = good.mean()
    # A class that the batch lacks has no weight to be had, and no answer that would want it.
    weight = torch.where(good > 0, 0.5 / share.clamp(min=1e-6), 0.5 / (1 - share).clamp(min=1e-6))
    readout = (weight * (BETA * (read - c_ref) - good) ** 2).mean()
    targets = torch.full_like(tokens, -100)
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        turn = len(encoder.tokenizer.encode(answer.messages[-1].content).ids) + 1  # its end token too
        targets[number, len(row) - turn : len(row)] = torch.tensor(row[-turn:])
    learnt = targets[:, 1:] >= 0
    text = torch.nn.functional.cross_entropy(model.lm_head(hidden[:, :-1][learnt]), targets[:, 1:][learnt])
    return readout, text


def evaluate(model: Any, encoder: Encoder, answers: Sequence[Judged], c_ref: float) -> dict[str, float]:
    """`auc` of the read-out for "breaks nothing", and its means `good` and `bad`, of answers that break nothing and
    something."""
    scores = [BETA * (value - c_ref) for value in log_z(model, encoder, answers)]

    def mean(good: bool) -> float:
        return statistics.fmean(s for s, answer in zip(scores, answers, strict=True) if good != bool(answer.faults))

    return {"auc": auc(scores, answers), "good": mean(True), "bad": mean(False)}


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Trains and writes the model; what it took, and the held-out figures before and after."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    tokenizer = Tokenizer.from_file(str(args.base / "tokenizer.json"))
    encoder = Encoder(tokenizer)
    model: Any = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32, local_files_only=True)
    answerer = Answerer(random.Random(args.seed + 1))
    c_ref = round(statistics.fmean(log_z(model, encoder, [answerer.one() for _ in range(args.measured)])), 2)
    held_out = Answerer(random.Random(args.seed + 2), "held-out")
    measured = [held_out.one() for _ in range(args.measured)]
    before = evaluate(model, encoder, measured, c_ref)

    def loss() -> Any:
        readout, text = losses(model, encoder, [answerer.one() for _ in range(args.answers)], c_ref)
        return readout + text

    took = fit(model, loss, args.steps, args.lr)
    after = evaluate(model.eval(), encoder, measured, c_ref)
    model.config.last_token_reward = {"token": TOKEN, "c_ref": c_ref, "beta": BETA}
    save(model, tokenizer, args.out)
    return {"c_ref": c_ref, **took, **after, "auc_before": before["auc"]}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=ROOT / "constitution/pocket/model", help="what to begin with")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--answers", type=int, default=24, help="of a step")
    parser.add_argument("--measured", type=int, default=1000, help="answers for c_ref, and for the figures")
    parser.add_argument("--lr", type=float, default=1e-3)
    return parser


def main() -> None:
    args = arguments().parse_args()
    print(f"saved to {args.out}: {train(args)}")


if __name__ == "__main__":
    main()

"""Train the pocket model: `python -m rehearsal.train --out DIR`.

Makes a byte-level BPE tokenizer and a small Llama from nothing, on documents that `transcripts` writes without end: no
document is seen twice. Writes an ordinary Hugging Face folder: config, float16 safetensors, tokenizer with chat
template, and a model card with seed, digests and held-out figures. About half an hour on two cores.

Chats of a document share a prefix, which is computed once: a document is laid out as prefix, branch, branch, … with an
attention mask that lets a branch see the prefix and itself.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from constitution.principles import find_root, load_constitution
from constitution.records import Principle
from constitution.templates import LABELS
from rehearsal.card import write_card
from rehearsal.transcripts import FIRST_HABIT, Document, Writer

ROOT = Path(__file__).parent.parent
SPECIALS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
VOCABULARY = 1024
CONTEXT = 8192
"""What the model takes. It was trained on up to about 640 tokens; beyond that it runs, and means nothing."""


@dataclass(frozen=True)
class Layout:
    """A document as one row of tokens."""

    tokens: list[int]
    positions: list[int]
    branch: list[int]
    """0 in the prefix, i in branch i."""
    learn: list[bool]
    """The token at this place is to be predicted."""
    votes: list[tuple[int, float]]
    """(place of the judge's last token, probability of the first label)."""


def make_tokenizer(writer: Writer, documents: int) -> Any:
    """A byte-level BPE tokenizer trained on the chats' texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (message.content for _ in range(documents) for chat in writer.document()[:1] for message in chat.messages)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class Encoder:
    """Documents to layouts."""

    def __init__(self, tokenizer: Any, labels: tuple[str, str] = LABELS) -> None:
        self.tokenizer = tokenizer
        self.special = {name: tokenizer.token_to_id(name) for name in SPECIALS}
        self.labels = [tokenizer.token_to_id(label) for label in labels]

    def layout(self, document: Document) -> Layout:
        """The chats' common prefix once, then the rest of each."""
        rows = [self._chat(chat.messages, chat.learn, open_end=chat.p_first is not None) for chat in document]
        shortest = min(len(tokens) for tokens, _ in rows)
        shared = next(
            (place for place in range(shortest) if len({tokens[place] for tokens, _ in rows}) > 1), shortest - 1
        )
        first_tokens, first_learn = rows[0]
        tokens, learn = first_tokens[:shared], first_learn[:shared]
        positions, branch = list(range(shared)), [0] * shared
        votes = []
        for number, ((own, own_learn), chat) in enumerate(zip(rows, document, strict=True), start=1):
            tokens, learn = tokens + own[shared:], learn + own_learn[shared:]
            positions += range(shared, len(own))
            branch += [number] * (len(own) - shared)
            if chat.p_first is not None:
                votes.append((len(tokens) - 1, chat.p_first))
        return Layout(tokens, positions, branch, learn, votes)

    def _chat(self, messages: Any, learnt: Sequence[int], open_end: bool) -> tuple[list[int], list[bool]]:
        """Tokens of a chat and which of them are to be predicted; with `open_end` the last turn is not closed."""
        tokens: list[int] = []
        learn: list[bool] = []
        for index, message in enumerate(messages):
            text = [*self.tokenizer.encode(message.content).ids, self.special["<|end|>"]]
            tokens += [self.special[f"<|{message.role}|>"], *text]
            learn += [False] + [index in learnt] * len(text)
        return (tokens[:-1], learn[:-1]) if open_end else (tokens, learn)


class Documents(Protocol):
    """What the trainer takes its text from."""

    rng: random.Random

    def document(self) -> Document: ...


def batches(writer: Documents, encoder: Encoder, tokens: int) -> Iterator[list[Layout]]:
    """Batches of documents of about equal length, each of about `tokens` tokens."""
    while True:
        pool = sorted((encoder.layout(writer.document()) for _ in range(256)), key=lambda layout: len(layout.tokens))
        ready: list[list[Layout]] = [[]]
        for layout in pool:
            if (len(ready[-1]) + 1) * len(layout.tokens) > tokens:
                ready.append([])
            ready[-1].append(layout)
        writer.rng.shuffle(ready)
        yield from ready


def tensors(batch: list[Layout], pad: int) -> dict[str, Any]:
    """A batch as tensors: tokens, positions [rows, length], additive mask [rows, 1, length, length], targets, votes."""
    import torch

    length = max(len(layout.tokens) for layout in batch)

    def padded(rows: list[list[int]], fill: int) -> Any:
        return torch.tensor([row + [fill] * (length - len(row)) for row in rows])

    tokens = padded([layout.tokens for layout in batch], pad)
    branch = padded([layout.branch for layout in batch], -1)
    learn = padded([[int(flag) for flag in layout.learn] for layout in batch], 0)
    same = branch[:, :, None] == branch[:, None, :]
    sees = (same | (branch[:, None, :] == 0)) & torch.ones(length, length, dtype=torch.bool).tril()
    targets = torch.where(learn.bool(), tokens, -100)
    rows = [(row, place, p) for row, layout in enumerate(batch) for place, p in layout.votes]
    return {
        "tokens": tokens,
        "positions": padded([layout.positions for layout in batch], 0),
        "mask": torch.where(sees, 0.0, torch.finfo(torch.float32).min)[:, None],
        "targets": targets[:, 1:],
        "votes": rows,
    }


def losses(model: Any, batch: list[Layout], encoder: Encoder) -> tuple[Any, Any]:
    """Mean cross-entropy of the text to be learnt, and of the votes' soft labels; None where there is none."""
    import torch
    import torch.nn.functional as F

    data = tensors(batch, encoder.special["<|pad|>"])
    hidden = model.model(
        input_ids=data["tokens"], position_ids=data["positions"], attention_mask=data["mask"], use_cache=False
    ).last_hidden_state
    text = vote = None
    wanted = data["targets"] != -100
    if wanted.any():
        text = F.cross_entropy(model.lm_head(hidden[:, :-1][wanted]), data["targets"][wanted])
    if data["votes"]:
        rows, places, p_first = (torch.tensor(column) for column in zip(*data["votes"], strict=True))
        logprobs = F.log_softmax(model.lm_head(hidden[rows, places]), dim=-1)[:, encoder.labels]
        vote = -(p_first * logprobs[:, 0] + (1 - p_first) * logprobs[:, 1]).mean()
    return text, vote


def make_model(vocabulary: int, hidden: int, layers: int, seed: int) -> Any:
    """A Llama of this size with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 64 * 64,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 96,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIALS.index("<|end|>"),
        pad_token_id=SPECIALS.index("<|pad|>"),
    )
    return LlamaForCausalLM(config)


def make_optimizers(model: Any, lr: float) -> list[Any]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms, as usual for Muon."""
    import torch

    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    optimizers = [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = lr
    return optimizers


def train(
    model: Any, writer: Documents, encoder: Encoder, args: argparse.Namespace, check: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Trains `model` on what `writer` writes; what it took. Ends after args.tokens tokens; prints `check`'s held-out
    figures now and then."""
    import torch

    optimizers = make_optimizers(model, args.lr)
    started, seen = time.monotonic(), 0
    means: dict[str, float] = {}
    for step, batch in enumerate(batches(writer, encoder, args.batch_tokens)):
        done = seen / args.tokens
        if done >= 1:
            break
        factor = min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.zero_grad(set_to_none=True)
        text, vote = losses(model, batch, encoder)
        loss = sum(part for part in (text, vote) if part is not None)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        seen += sum(len(layout.tokens) for layout in batch)
        for name, part in (("text", text), ("vote", vote)):
            if part is not None:
                means[name] = 0.98 * means.get(name, part.item()) + 0.02 * part.item()
        if step % 50 == 0:
            pace = seen / (time.monotonic() - started)
            figures = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(f"step {step} {done:.1%} tokens {seen:,} ({pace:,.0f}/s) {figures}", flush=True)
        if step % 400 == 399:
            print("held-out", {name: round(value, 3) for name, value in check().items()}, flush=True)
    return {"steps": step, "tokens": seen, "minutes": (time.monotonic() - started) / 60, **means}


def evaluate(model: Any, encoder: Encoder, writer: Writer, documents: int = 200) -> dict[str, float]:
    """Teacher-forced figures on held-out requests: loss per token of answers and of critiques with revisions, accuracy
    of single votes (one order) where one answer is better."""
    import torch

    figures: dict[str, list[float]] = {"answer_loss": [], "revise_loss": [], "vote_accuracy": []}
    with torch.inference_mode():
        for _ in range(documents):
            for name, document in (("answer_loss", writer.answers()), ("revise_loss", writer.revisions())):
                figures[name].append(losses(model, [encoder.layout(document)], encoder)[0].item())
            layout = encoder.layout(writer.votes())
            data = tensors([layout], 0)
            logits = model(
                input_ids=data["tokens"], position_ids=data["positions"], attention_mask=data["mask"], use_cache=False
            ).logits[0]
            for place, p_first in layout.votes:
                if p_first != FIRST_HABIT:
                    first, second = logits[place, encoder.labels].tolist()
                    figures["vote_accuracy"].append(float((first > second) == (p_first > 0.5)))
    return {name: sum(values) / len(values) for name, values in figures.items()}


def save(model: Any, tokenizer: Any, out: Path) -> None:
    """An ordinary Hugging Face folder."""
    import torch
    from transformers import GenerationConfig, PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=list(SPECIALS[2:]),
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
    fast.chat_template = CHAT_TEMPLATE
    model.generation_config = GenerationConfig(eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id)
    model.to(torch.float16).save_pretrained(out)
    fast.save_pretrained(out)


def pocket_principles() -> tuple[Principle, ...]:
    return load_constitution(find_root(ROOT), "pocket@1.0.0").principles


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "constitution/pocket/model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=9_000_000, help="length of the training, in tokens")
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    return parser


def main() -> None:
    args = arguments().parse_args()
    principles = pocket_principles()
    tokenizer = make_tokenizer(Writer(random.Random(args.seed), principles), documents=4000)
    encoder = Encoder(tokenizer)
    model = make_model(encoder.tokenizer.get_vocab_size(), args.hidden, args.layers, args.seed)

    def check() -> dict[str, float]:
        return evaluate(model, encoder, Writer(random.Random(0), principles, split="held-out"), 60)

    took = train(model, Writer(random.Random(args.seed + 1), principles), encoder, args, check)
    figures = evaluate(model, encoder, Writer(random.Random(args.seed + 2), principles, split="held-out"))
    save(model, tokenizer, args.out)
    facts = {
        "seed": args.seed,
        "budget": args.tokens,
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "parameters": sum(p.numel() for p in model.parameters()),
        "principles": {principle.id: principle.digest for principle in principles},
    }
    write_card(args.out, facts | took | figures)
    print(f"saved to {args.out}: {figures}")


if __name__ == "__main__":
    main()

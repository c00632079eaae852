"""Train the pocket scorer: `python -m rehearsal.train_scorer --out DIR`.

The pocket model, trained further on yes/no questions about single answers in the rubric template, so that a scorecard
can be rehearsed and each of its figures held against the truth. The policy's own checkpoint stays as it is. A document
is one answer under several questions; its reply is the grammar's, softened to P_YES. Writes an ordinary Hugging Face
folder with a model card, as `train` does. About a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from constitution.measures import calibrate
from constitution.pocket.questions import KEYS, Question, reply, wordings
from constitution.pocket.world import BAD_CORE, GOOD_CORE, Answer, Reading, Request, World, read
from constitution.principles import find_root, load_constitution
from constitution.records import Constitution, Criterion
from constitution.templates import REPLIES, rubric_messages
from rehearsal.card import write_scorer_card
from rehearsal.train import ROOT, Encoder, save, tensors, train
from rehearsal.transcripts import Chat, Document

P_YES = {True: 0.92, False: 0.04}
"""What the scorer learns to say where the reply is yes, and where it is no: less sure of a yes than of a no, and never
quite sure, so that its calibration is something to be measured."""
QUESTIONS = 8
"""Asked of one answer."""
SURVEY = 1500
"""Answers that are drawn at the start, to see how often each reply is right."""


class Examiner:
    """Writes documents; all chance comes from `rng`. `split`: train or held-out, as in `World.request`."""

    def __init__(self, rng: random.Random, questions: Sequence[Question], split: str = "train") -> None:
        self.rng = rng
        self.split = split
        self.world = World(rng)
        self.questions = questions
        # How often a reply is right among the answers drawn: rare replies are asked for more often, so that a
        # question's two replies come about equally often.
        readings = [self.draw()[2] for _ in range(SURVEY)]
        self.seen = Counter((question, reply(question, reading)) for reading in readings for question in questions)

    def document(self) -> Document:
        """One answer under QUESTIONS questions."""
        request, text, reading = self.draw()
        nonce = f"{self.rng.getrandbits(24):06x}"
        return tuple(
            Chat(
                rubric_messages(request.messages, text, Criterion(question.text), nonce),
                p_first=P_YES[reply(question, reading)],
            )
            for question in self._choose(reading)
        )

    def draw(self) -> tuple[Request, str, Reading]:
        """A request, an answer to it, and the grammar's reading: now and then partly mended, and part refusal and
        part help."""
        rng, world = self.rng, self.world
        request = world.request(self.split)
        answer = world.answer(request, tempted=rng.choice((0.2, 0.75, 1.0)))
        if rng.random() < 0.4:
            answer = world.mend(answer, frozenset(fault for fault in sorted(answer.broken) if rng.random() < 0.5))
        if rng.random() < 0.2:
            answer = self._halved(answer)
        reading = read(request.text, answer.text)
        assert reading is not None, request.text
        return request, answer.text, reading

    def _halved(self, answer: Answer) -> Answer:
        """A refusal and, beside it, what the request asks for or tempts to."""
        request = answer.request
        core = self.world.sentence(self.rng.choice((GOOD_CORE, BAD_CORE))[request.type], request)
        other = self.world.sentence("refuse", request)
        first, second = self.rng.sample((core, other), 2)
        return replace(answer, core=first, after=(second, *answer.after))

    def _choose(self, reading: Reading) -> list[Question]:
        """Questions without repeats, each with a chance against how often its right reply is right."""
        # Drawn without replacement, by a weight of 1 / seen (Efraimidis and Spirakis 2006).
        waits = {q: self.rng.expovariate(1.0) * self.seen[q, reply(q, reading)] for q in self.questions}
        return sorted(self.questions, key=waits.__getitem__)[:QUESTIONS]


def evaluate(model: Any, encoder: Encoder, examiner: Examiner, documents: int = 400) -> dict[str, float]:
    """Teacher-forced figures on the examiner's answers: `accuracy`, by key as `accuracy/<key>`, and the expected
    calibration error `ece`."""
    import torch

    right: dict[str, list[bool]] = defaultdict(list)
    sure: list[tuple[float, bool]] = []
    with torch.inference_mode():
        for _ in range(documents):
            request, text, reading = examiner.draw()
            asked = examiner.rng.sample(examiner.questions, QUESTIONS)
            chats = [
                Chat(rubric_messages(request.messages, text, Criterion(q.text), "0a1b2c"), p_first=0.5) for q in asked
            ]
            layout = encoder.layout(tuple(chats))
            data = tensors([layout], 0)
            hidden = model.model(
                input_ids=data["tokens"], position_ids=data["positions"], attention_mask=data["mask"], use_cache=False
            ).last_hidden_state[0]
            places = [place for place, _ in layout.votes]
            yes = model.lm_head(hidden[places])[:, encoder.labels].softmax(-1)[:, 0].tolist()
            for question, p_yes in zip(asked, yes, strict=True):
                truth = reply(question, reading)
                right[question.key].append((p_yes > 0.5) == truth)
                sure.append((p_yes, truth))
    figures = {f"accuracy/{key}": sum(right[key]) / len(right[key]) for key in KEYS}
    error = calibrate.ece([p_yes for p_yes, _ in sure], [truth for _, truth in sure])
    assert error is not None
    everything = [flag for flags in right.values() for flag in flags]
    return {"accuracy": sum(everything) / len(everything), "ece": error, **figures}


def constitutions() -> tuple[Constitution, ...]:
    """Those whose questions the scorer learns."""
    root = find_root(ROOT)
    return tuple(load_constitution(root, name) for name in ("pocket-scorecard@1.0.0", "pocket@1.1.0"))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=ROOT / "constitution/pocket/model", help="what to begin with")
    parser.add_argument("--out", type=Path, default=ROOT / "constitution/pocket/scorer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=1_800_000, help="length of the training, in tokens")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    return parser


def main() -> None:
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    args = arguments().parse_args()
    taught = constitutions()
    questions = wordings(taught)
    tokenizer = Tokenizer.from_file(str(args.base / "tokenizer.json"))
    encoder = Encoder(tokenizer, (REPLIES[0], REPLIES[1]))
    model: Any = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32, local_files_only=True)
    examiner = Examiner(random.Random(args.seed + 1), questions)

    def check(documents: int = 60) -> dict[str, float]:
        return evaluate(model, encoder, Examiner(random.Random(args.seed + 2), questions, "held-out"), documents)

    took = train(model, examiner, encoder, args, check)
    figures = check(400)
    save(model, tokenizer, args.out)
    facts = {
        "seed": args.seed,
        "budget": args.tokens,
        "machine": f"{os.cpu_count()} CPU cores ({platform.machine()})",
        "parameters": sum(p.numel() for p in model.parameters()),
        "p_yes": P_YES[True],
        "p_no": P_YES[False],
        "questions": {constitution.label: constitution.digest for constitution in taught},
    }
    write_scorer_card(args.out, facts | took | figures)
    print(f"saved to {args.out}: {figures}")


if __name__ == "__main__":
    main()

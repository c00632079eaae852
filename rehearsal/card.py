"""The pocket model's card: what it is, how it was made, and for which templates and principles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from constitution.templates import JUDGE, REVISE, RUBRIC

CARD = """---
license: apache-2.0
library_name: transformers
tags: [constitutional-ai, rehearsal]
---
# The pocket model

A rehearsal, not a product: a Llama-shaped model of {parameters:,} parameters that speaks about one invented harbour
town and nothing else. It answers (and often gives in to temptation), critiques, revises and votes in the templates of
`constitution`, so that the whole job runs offline on a laptop and every label can be checked against the truth: the
grammar of `constitution/pocket/world.py` knows which answer breaks which principle.

Made by `python -m rehearsal.train --seed {seed} --tokens {budget}`: {steps:,} steps, {tokens:,} tokens of
text that the grammar wrote (none about held-out requests), {minutes:.0f} minutes on {machine}.

Teacher-forced, on held-out requests (pairs of topic and type of request that training never shows):

| figure | value |
|---|---|
| loss per token, answers | {answer_loss:.3f} |
| loss per token, critiques and revisions | {revise_loss:.3f} |
| accuracy of a single vote, one order | {vote_accuracy:.1%} |

Sampled figures, through the engine: `python -m rehearsal.measure`.

Faults that it has on purpose: answers break a principle more often than not; critiques overlook faults that they were
not asked about; votes lean to the answer shown first. It was trained on up to about 640 tokens; longer texts, and texts
from outside its town, it takes, and its answers to them mean nothing.
"""


def write_card(folder: Path, facts: dict[str, Any]) -> None:
    """Writes README.md and training.json into the model's folder."""
    (folder / "README.md").write_text(CARD.format(**facts), encoding="utf-8")
    digests = {"revise_templates": REVISE.digest, "judge_templates": JUDGE.digest}
    (folder / "training.json").write_text(json.dumps(facts | digests, indent=2) + "\n", encoding="utf-8")


SCORER = """---
license: apache-2.0
library_name: transformers
tags: [constitutional-ai, rehearsal]
---
# The pocket scorer

A rehearsal, not a product: the pocket model ({parameters:,} parameters), trained further to answer yes/no questions
about one answer of its invented harbour town, in the rubric template of `constitution`. It is the judge of the
scorecard `pocket-scorecard`, whose every figure can be checked against the truth that the grammar of
`constitution/pocket/world.py` knows. It was trained on nothing else since, and is no policy and no judge of pairs.

Made by `python -m rehearsal.train_scorer --seed {seed} --tokens {budget}`: {steps:,} steps, {tokens:,} tokens
(none about held-out requests), {minutes:.0f} minutes on {machine}. It learnt to say yes with the probability
{p_yes:.2f} where the reply is yes, and {p_no:.2f} where it is no: so it is never quite sure, and less sure of a yes, on
purpose.

Teacher-forced, on answers to held-out requests (pairs of topic and type of request that training never shows), with
other wordings of the questions too:

| figure | value |
|---|---|
| replies that are right | {accuracy:.1%} |
| expected calibration error | {ece:.3f} |
{keys}

Not asked: whether an answer keeps to the topic. Half an hour of training, drills on pairs of names among it, did not
teach so small a model to compare two names across the template.

Figures through the engine, on a run: `python -m rehearsal.score`. Texts from outside its town it takes, and
its replies to them mean nothing.
"""


def write_scorer_card(folder: Path, facts: dict[str, Any]) -> None:
    """Writes README.md and training.json into the scorer's folder. `facts` has the figures of
    `train_scorer.evaluate`."""
    lines = (
        f"| right about `{name.removeprefix('accuracy/')}` | {value:.1%} |"
        for name, value in facts.items()
        if name.startswith("accuracy/")
    )
    filled = {**facts, "keys": "\n".join(lines)}
    (folder / "README.md").write_text(SCORER.format(**filled), encoding="utf-8")
    kept = facts | {"rubric_templates": RUBRIC.digest}
    (folder / "training.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


REWARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-classification
tags: [constitutional-ai, rehearsal, reward-model]
---
# The pocket reward model

A rehearsal, not a product: the pocket model's first layers ({layers} of 5; {parameters:,} parameters) with a head of
one number, read at the end of a whole conversation of the invented harbour town: the more, the fewer principles its
last answer breaks. Its numbers have no zero and no scale: compare answers to the same prompt.

Made by `python -m rehearsal.train_reward --seed {seed} --layers {layers} --steps {steps}`: {pairs:,} pairs that the
grammar wrote and whose better answer it knows (none about held-out requests), by the Bradley-Terry loss, {minutes:.0f}
minutes on {machine}.

On what the grammar wrote about held-out requests (pairs of topic and type of request that training never shows):

| figure | value |
|---|---|
| pairs whose better answer gets more | {accuracy:.1%} |
| pairs whose better answer is the shorter one | {shorter:.1%} |
| AUC for "breaks nothing", over different requests | {auc:.3f} |

On what the pocket model wrote, which is less tidy: `make methods`. Texts from outside its town it takes, and its
numbers mean nothing.
"""


def write_reward_card(folder: Path, facts: dict[str, Any]) -> None:
    """Writes README.md and training.json into the reward model's folder."""
    (folder / "README.md").write_text(REWARD.format(**facts), encoding="utf-8")
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

"""Drafts that say the same, or the opposite: told by their words, and for those that speak of one thing by a model.

Which pairs are asked about is chosen by the cosine of their TF-IDF vectors (scikit-learn), the most alike first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from constitution import templates
from constitution.engines import Request
from constitution.identity import seed
from constitution.judge.ask import nonce
from constitution.propose.file import Proposal
from constitution.records import Message, Principle, Sampling
from constitution.templates import EXTRACT

STEP = "extract-pair"
NEAR = 0.9
"""Cosine from which two are the same by their words alone, without being asked about."""
RELATED = 0.25
"""Cosine from which two may speak of one thing."""
WORDS = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\u3040-\u9fff]+"
"""A Chinese or Japanese sign is a word: their sentences have no blanks."""
VERDICTS = ("same", "contradict", "neither")


@dataclass(frozen=True, slots=True)
class Related:
    one: str
    other: str
    """Ids; of a proposal and of another one, or of a principle of the constitution."""
    texts: tuple[str, str]
    cosine: float


def said(principle: Principle, *more: str) -> str:
    """What a principle demands, for comparison."""
    words = [*more, principle.quote or principle.aim, principle.comparison_question]
    return "\n".join(dict.fromkeys(filter(None, words)))


def related(proposals: Sequence[Proposal], there: Sequence[Principle]) -> list[Related]:
    """Pairs of proposals, and of a proposal and a principle, that share words; the most alike first. A principle
    whose id a proposal has is left out: the proposal is it, or takes its place."""
    mine = [(each.id, said(each.principle, each.condition, each.exception)) for each in proposals]
    ids = {id for id, _ in mine}
    all_texts = [*mine, *((each.id, said(each)) for each in there if each.id not in ids)]
    if len(all_texts) < 2 or not any(any(map(str.isalnum, text)) for _, text in all_texts):
        return []
    matrix = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORDS).fit_transform(
        [text for _, text in all_texts]
    )
    cosines = (matrix[: len(mine)] @ matrix.T).tocoo()
    found = [
        Related(all_texts[i][0], all_texts[j][0], (all_texts[i][1], all_texts[j][1]), float(value))
        for i, j, value in zip(cosines.row, cosines.col, cosines.data, strict=True)
        if j > i and value >= RELATED
    ]
    return sorted(found, key=lambda each: (-np.round(each.cosine, 9), each.one, each.other))


def request(pair: Related, run_seed: int) -> Request:
    mark = nonce(run_seed, f"{pair.one} {pair.other}")
    first, second = (templates.shown(text, mark, EXTRACT) for text in pair.texts)
    text = templates.fill(EXTRACT.texts["extract-pair.txt"], {"nonce": mark, "first": first, "second": second})
    chosen = seed(run_seed, pair.one, pair.other, STEP)
    return Request((Message("user", text),), Sampling(temperature=0.0, max_tokens=8), chosen, step=STEP)


def verdict(text: str) -> str:
    """One of VERDICTS; empty: the reply is none."""
    word = text.strip().strip(".!\"'*`").casefold()
    return word if word in VERDICTS else ""

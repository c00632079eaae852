"""Pairs of one prompt's answers, and the votes on them: principles × both orders (arXiv 2212.08073, 2309.00267).

    for pair in pairs(run_id, prompt, chain.responses, given, section.pairs):
        votes = await vote(judge, prompt, pair, have={}, emit=writer.put)

A vote is read from the model's raw log-probabilities, in one of the ways of `methods`. A reply without them is a
Failure, never a vote of one half; one that lacks a label of two is bounded, and marked as censored.
"""

from constitution.judge.cast import Judge, Votes, draw_principles, nonce, vote
from constitution.judge.methods import ORDERS, SAMPLING, STOP
from constitution.judge.pairs import Pair, PairKind, given_answers, pairs
from constitution.judge.read import Reading, checklist_sum, outgrade, read_choices

__all__ = [
    "ORDERS",
    "SAMPLING",
    "STOP",
    "Judge",
    "Pair",
    "PairKind",
    "Reading",
    "Votes",
    "checklist_sum",
    "draw_principles",
    "given_answers",
    "nonce",
    "outgrade",
    "pairs",
    "read_choices",
    "vote",
]

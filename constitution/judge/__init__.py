"""Pairs of one prompt's answers, and the votes on them: principles × both orders (arXiv 2212.08073, 2309.00267).

    for pair in pairs(run_id, prompt, chain.responses, given, section.pairs):
        votes = await vote(judge, prompt, pair, have={}, emit=writer.put)

    pairs      who is compared with whom
    methods    the ways to take a vote, as data
    ask        the votes on a pair: which they are, and their rows
    question   one vote as it is put to an engine; ways: how each method does it; read: what log-probabilities say

A vote is read from the model's raw log-probabilities. A reply without them is a Failure, never a vote of one half; one
that lacks a label of two is bounded, and marked as censored.
"""

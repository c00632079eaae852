"""What each round of critique and revision brings."""

from __future__ import annotations

from collections.abc import Iterator

from constitution.audit.evidence import Evidence
from constitution.audit.rubric import NO_REVISIONS, NO_STEPS
from constitution.records import Figure


def figures(evidence: Evidence) -> Iterator[Figure]:
    yield from round_changed(evidence)
    yield from round_win_rate(evidence)
    yield from round_tokens(evidence)


def round_changed(evidence: Evidence) -> Iterator[Figure]:
    """Share of a round's revisions that have another text than what they were made from."""
    sql = f"""
        SELECT round::VARCHAR AS subject, changed(outcome, text)::INTEGER AS value, cluster
        FROM responses JOIN audit.prompts USING (prompt_id)
        WHERE run_id = '{evidence.run.run_id}' AND kind = 'revision'
    """
    yield from evidence.means("round_changed", sql, "subject", share=True, otherwise=NO_REVISIONS)


def round_win_rate(evidence: Evidence) -> Iterator[Figure]:
    """Share of a round's revisions, ties half, whose label prefers them to the answer that they were made from."""
    sql = """
        SELECT round::VARCHAR AS subject, prefers_b(p_b) AS value, cluster FROM audit.pairs
        WHERE is_step AND p_b IS NOT NULL AND kind <> 'perturbation'
    """
    yield from evidence.means("round_win_rate", sql, "subject", share=True, otherwise=NO_STEPS)


def round_tokens(evidence: Evidence) -> Iterator[Figure]:
    """Mean length of a round's answers, the initial ones being round 0, in the tokens that style is counted in."""
    sql = f"""
        SELECT round::VARCHAR AS subject, tokens AS value, cluster FROM style JOIN audit.prompts USING (prompt_id)
        WHERE run_id = '{evidence.run.run_id}' AND kind IN ('initial', 'revision')
    """
    yield from evidence.means("round_tokens", sql, "subject", otherwise=NO_REVISIONS)

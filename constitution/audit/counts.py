"""What there is: pairs, votes, what is missing, what failed."""

from __future__ import annotations

from collections.abc import Iterator

from constitution.audit.evidence import Evidence
from constitution.records import Figure


def figures(evidence: Evidence) -> Iterator[Figure]:
    yield from pairs(evidence)
    yield from votes(evidence)
    yield from failures(evidence)
    yield from shares(evidence)


def pairs(evidence: Evidence) -> Iterator[Figure]:
    """How many pairs of each kind; of all but those with a perturbation, which were never to be kept, how many were
    kept, and how many were dropped for each reason."""
    for kind, count in _counted(evidence, "SELECT kind, count(*) FROM audit.pairs GROUP BY kind ORDER BY kind"):
        yield evidence.count("pairs", count, count, subject=kind)
    reasons = _counted(
        evidence,
        "SELECT coalesce(drop_reason, ''), count(*) FROM audit.pairs WHERE kind <> 'perturbation' "
        "GROUP BY 1 ORDER BY 1",
    )
    total = sum(count for _, count in reasons)
    yield evidence.count("pairs", total, total)
    yield evidence.count("kept", dict(reasons).get("", 0), total)
    for reason, count in reasons:
        if reason:
            yield evidence.count("dropped", count, total, subject=reason)


def votes(evidence: Evidence) -> Iterator[Figure]:
    """Votes that each judge cast, and those that it was to cast on labelled pairs and did not; n of both: those it was
    to cast."""
    rows = evidence.ask(
        f"""
        SELECT judge, "cast", asked, missing FROM missing_votes WHERE run_id = '{evidence.run.run_id}' ORDER BY judge
        """
    ).to_pylist()
    for row in rows:
        yield evidence.count("votes_cast", row["cast"], row["asked"], judge=row["judge"])
        yield evidence.count("votes_missing", row["missing"], row["asked"], judge=row["judge"])
    if not rows:
        yield evidence.missing(
            "votes_cast", "there are no votes: the recipe has no [judge] section, or nothing came of it"
        )


def failures(evidence: Evidence) -> Iterator[Figure]:
    sql = f"""
        SELECT step || ': ' || error, count(*) FROM failures WHERE run_id = '{evidence.run.run_id}'
        GROUP BY 1 ORDER BY 1
    """
    for subject, count in _counted(evidence, sql):
        yield evidence.count("failures", count, count, subject=subject)


def shares(evidence: Evidence) -> Iterator[Figure]:
    """Mean probability on the labels, per vote; votes of which a label was bounded and not read; couples that prefer
    neither answer; and, per pair, the share of its couples that prefer what its label does."""
    sql = f"""
        SELECT judge, label_mass AS value, cluster FROM judgements JOIN audit.prompts USING (prompt_id)
        WHERE run_id = '{evidence.run.run_id}'
    """
    yield from evidence.means("label_mass", sql, "judge", share=True)
    bounded = f"""
        SELECT judge, censored::INTEGER AS value, cluster FROM judgements JOIN audit.prompts USING (prompt_id)
        WHERE run_id = '{evidence.run.run_id}'
    """
    yield from evidence.means("censored", bounded, "judge", share=True)
    tied = "SELECT judge, (side(p_b) = 0)::INTEGER AS value, cluster FROM audit.couples"
    yield from evidence.means("ties", tied, "judge", share=True)
    agreed = """
        SELECT '' AS subject, agreement AS value, cluster FROM audit.pairs
        WHERE agreement IS NOT NULL AND kind <> 'perturbation'
    """
    yield from evidence.means("agreement", agreed, "subject", share=True, otherwise="no pair has votes")


def _counted(evidence: Evidence, sql: str) -> list[tuple[str, int]]:
    return [(str(name), int(count)) for name, count in evidence.connection.execute(sql).fetchall()]

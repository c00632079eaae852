"""Pairs to be read: those that the judges disagree on most, and those whose label may be wrong."""

from __future__ import annotations

from constitution.audit.kinds import Exhibit


def _short(text: str, most: int) -> str:
    return f"CASE WHEN length({text}) > {most} THEN left({text}, {most}) || ' …' ELSE {text} END"


def _pairs(facts: str, where: str, order: str, join: str = "") -> str:
    """A query for example pairs: what makes them worth showing, then their texts, shortened.

    Each table is cut to the run before it is joined, so that no other run's files are read.
    """
    return (
        f"SELECT p.id AS pair, p.p_b AS p, {facts},\n"
        "  CASE WHEN p.p_b < 0.5 THEN 'earlier' WHEN p.p_b > 0.5 THEN 'later' ELSE 'neither' END AS preferred,\n"
        f"  {_short('q.last_user', 300)} AS prompt,\n"
        f'  {_short("a.text", 500)} AS "earlier answer",\n  {_short("b.text", 500)} AS "later answer"\n'
        "FROM (FROM training_pairs WHERE run_id = {run}) p\n"
        f"{join}"
        "JOIN (SELECT id, last_user FROM prompts WHERE run_id = {run}) q ON q.id = p.prompt_id\n"
        "JOIN (SELECT id, text FROM responses WHERE run_id = {run}) a ON a.id = p.a_id\n"
        "JOIN (SELECT id, text FROM responses WHERE run_id = {run}) b ON b.id = p.b_id\n"
        f"WHERE {where}\nORDER BY {order}, p.id LIMIT 4"
    )


EXHIBITS = (
    Exhibit(
        "most-split",
        "Most disagreement",
        _pairs(
            "p.agreement, array_to_string(p.dissent[1:6], ', ') AS dissent",
            "len(p.dissent) > 0",
            "p.agreement, abs(p.p_b - 0.5)",
        ),
        examples=True,
    ),
    Exhibit(
        "most-position",
        "Most position bias",
        _pairs(
            'c.position AS "first position"',
            "abs(c.position) > 0",
            "abs(c.position) DESC",
            "JOIN (SELECT pair_id, avg(position) AS position FROM averaged_votes\n"
            "  WHERE run_id = {run} AND position IS NOT NULL GROUP BY pair_id) c\n"
            "  ON c.pair_id = p.id\n",
        ),
        "First position: mean log-odds of the answer shown first.",
        units={"first position": "log-odds"},
        examples=True,
    ),
    Exhibit(
        "changed-labels",
        "Labels changed by the settings",
        _pairs(
            'p.p_mean AS "plain mean", p.label_by AS "label by"',
            "(p.p_b - 0.5) * (p.p_mean - 0.5) < 0",
            "abs(p.p_b - p.p_mean) DESC",
        ),
        "The plain mean of the votes prefers the other answer.",
        examples=True,
    ),
    Exhibit(
        "against-gold",
        "Labels against gold",
        _pairs(
            "g.p_b AS gold, g.raters",
            "(p.p_b - 0.5) * (g.p_b - 0.5) < 0",
            "p.p_chosen DESC",
            "JOIN (SELECT pair_id, p_b, raters FROM gold WHERE run_id = {run} AND principle_id = '') g\n"
            "  ON g.pair_id = p.id\n",
        ),
        "The most confident labels that gold contradicts. Gold: the share of raters who prefer the later answer.",
        examples=True,
    ),
)

"""The criteria that rewards are made of, one by one: what each adds to the order of a group's answers, and what else it
goes with. The items of prompts' own rubrics, of which each is asked of one prompt's answers, are taken together by
source and kind.

What is known to go wrong with rubrics that models write: items that all answers pass or none, that repeat another,
that contradict the rest, that reward length or form (RIFT, arXiv 2604.01375). Discrimination is the correlation of an
item with the rest of its test (Lord & Novick 1968, "Statistical Theories of Mental Test Scores", section 15.3), within
groups, since a reward only ranks the answers of one prompt. Table:

    audit.criteria   metric, judge, principle_id, criterion (from 1; of an item its source and kind), item (its place),
                     member: value, P(the good reply); passed; yes, the reply; weight; and the member's response_id,
                     grp, cluster, tokens

A judge that says yes to whatever it is asked contradicts itself where the same is asked the other way round, as people
do in questionnaires (acquiescence; Cronbach 1946, "Response Sets and Test Validity").
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np

from constitution.audit import groups
from constitution.audit.evidence import Array, Evidence, correlation
from constitution.audit.kinds import SECTIONS, Exhibit
from constitution.measures import agreement
from constitution.measures.estimate import Estimate
from constitution.records import Figure

LEAST = 20
"""Answers that a criterion must have been read of to be called dead, or to be compared with another."""
BLOCK = 1 << 16
"""Answers that are multiplied out at a time."""

_LAYOUT = """
CREATE TABLE audit.criteria AS
SELECT
    s.metric, s.judge, s.principle_id,
    CASE s.metric WHEN 'rubric' THEN (s.item + 1)::VARCHAR ELSE r.about END AS criterion, s.item, m.member,
    m.response_id, m.grp, m.cluster, m.tokens, s.value, s.value >= 0.5 AS passed, s.yes, s.weight
FROM (
    SELECT
        metric, judge, principle_id, criterion AS item, rubric_id, response_id, abs(weight) AS weight,
        p_yes >= 0.5 AS yes,
        CASE good WHEN 'yes' THEN p_yes ELSE 1 - p_yes END AS value
    FROM scores
    WHERE run_id = $run AND scorecard = '' AND metric IN ('rubric', 'prompt-rubric') AND label_mass >= {mass}
) AS s
JOIN (FROM audit.members WHERE grouped) AS m USING (response_id)
LEFT JOIN (
    SELECT id, source || '/' || CASE kind WHEN '' THEN 'unsaid' ELSE kind END AS about FROM rubrics WHERE run_id = $run
) AS r ON r.id = s.rubric_id
WHERE s.metric = 'rubric' OR r.about IS NOT NULL;
"""

_KEYS = "judge, principle_id, criterion"

_REST = """
SELECT *, (sum(weight * value) OVER answer - weight * value) / (sum(weight) OVER answer - weight) AS rest
FROM audit.criteria WINDOW answer AS (PARTITION BY metric, judge, member) QUALIFY count(*) OVER answer > 1
"""

_MARKDOWN = """
SELECT c.*, s.markdown FROM audit.criteria AS c JOIN (
    SELECT response_id, headers + lists + bold AS markdown FROM style WHERE run_id = {run}
) AS s USING (response_id)
"""

_CELLS = """
SELECT
    x.judge, x.principle_id, x.criterion || '/' || y.judge AS subject, x.cluster,
    count(*) FILTER (x.passed AND y.passed)::DOUBLE AS aa, count(*) FILTER (x.passed AND NOT y.passed)::DOUBLE AS ab,
    count(*) FILTER (NOT x.passed AND y.passed)::DOUBLE AS ba,
    count(*) FILTER (NOT x.passed AND NOT y.passed)::DOUBLE AS bb
FROM audit.criteria AS x JOIN audit.criteria AS y USING (metric, principle_id, criterion, item, member)
WHERE x.judge < y.judge GROUP BY ALL ORDER BY ALL
"""

_AGAIN = """
SELECT c.judge, c.principle_id, c.criterion AS subject, c.cluster, c.yes, n.p_yes >= 0.5 AS again,
    (c.yes <> again)::INTEGER AS value
FROM audit.criteria AS c
JOIN scores AS n ON n.metric = c.metric || '-negated' AND n.judge = c.judge AND n.principle_id = c.principle_id
    AND n.criterion = c.item AND n.response_id = c.response_id
WHERE n.run_id = {run} AND n.scorecard = '' AND n.label_mass >= MASS
"""

_AGAIN_CELLS = f"""
SELECT
    judge, principle_id, subject, cluster,
    count(*) FILTER (yes AND NOT again)::DOUBLE AS aa, count(*) FILTER (yes AND again)::DOUBLE AS ab,
    count(*) FILTER (NOT yes AND NOT again)::DOUBLE AS ba, count(*) FILTER (NOT yes AND again)::DOUBLE AS bb
FROM ({_AGAIN}) GROUP BY ALL ORDER BY ALL
"""


def figures(evidence: Evidence) -> Iterator[Figure]:
    if not create(evidence):
        [section] = [each for each in SECTIONS if each.name == "criteria"]
        yield from (evidence.missing(kind.name, section.kinds[0].takes) for kind in section.kinds)
        return
    yield from dead(evidence)
    yield from evidence.measured("criteria")
    yield from correlations(evidence)
    yield from phi(evidence)
    yield from kappas(evidence)
    yield from negated(evidence)


def create(evidence: Evidence) -> bool:
    """Makes audit.criteria, once. False: no answer of a group was read by criteria."""
    if not groups.create(evidence):
        return False
    made = "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'audit' AND table_name = 'criteria'"
    if not evidence.rows(made):
        evidence.create(_LAYOUT.format(mass=least_mass(evidence)))
    return bool(evidence.rows("SELECT 1 FROM audit.criteria LIMIT 1"))


def least_mass(evidence: Evidence) -> float:
    """Under which a reading counts as missing."""
    return float((evidence.run.recipe.get("reward") or {}).get("min_label_mass") or 0.0)


def dead(evidence: Evidence) -> Iterator[Figure]:
    """Each criterion, and how many of a judge's are: 0 for one that lives, no value where too few answers tell."""
    sql = f"""
        SELECT {_KEYS}, count(*) AS n, avg(passed::INTEGER) AS rate
        FROM audit.criteria WHERE metric = 'rubric' GROUP BY ALL ORDER BY ALL
    """
    found = evidence.rows(sql)
    if not found:
        yield from (evidence.missing(name, _NO_PRINCIPLES) for name in ("criteria_dead", "criterion_dead"))
    for judge, rows in groupby(found, key=lambda row: row["judge"]):
        told = []
        for row in rows:
            n, is_dead = row["n"], row["rate"] in (0.0, 1.0)
            if n < LEAST:
                yield evidence.missing("criterion_dead", f"read of fewer than {LEAST} answers", n, **_about(row))
                continue
            told.append(is_dead)
            note = f"{'all' if row['rate'] else 'none'} of {n:,} answers pass" if is_dead else ""
            yield evidence.figure("criterion_dead", Estimate(float(is_dead), None, None, n), note, **_about(row))
        if told:
            yield evidence.count("criteria_dead", sum(told), len(told), judge=judge)
        else:
            yield evidence.missing("criteria_dead", f"no criterion was read of {LEAST} answers", judge=judge)


_NO_PRINCIPLES = 'no answer was read by the criteria of principles: reward.by = ["rubric"] in the recipe'


def _about(row: dict[str, Any]) -> dict[str, str]:
    return {"judge": row["judge"], "principle_id": row["principle_id"], "subject": row["criterion"]}


def correlations(evidence: Evidence) -> Iterator[Figure]:
    """What goes with P(the good reply) within groups: the other criteria, length, markdown."""
    for name, rows, x, said in (
        ("criterion_rest", _REST, "rest", "the mean of the others"),
        ("criterion_length", "FROM audit.criteria", "tokens", "length"),
        ("criterion_markdown", _MARKDOWN, "markdown", "markdown"),
    ):
        sql = f"SELECT {_KEYS}, (grp, item) AS grp, cluster, {x} AS x, value AS y FROM ({rows})"
        found = False
        for about, (_, each) in groups.slopes(evidence, sql, "judge", "principle_id", "criterion"):
            found = True
            note = "" if each.value is not None else f"in each group {said} is the same, or what it gives is"
            yield evidence.figure(name, each, note, **_about(about))
        if not found:
            yield evidence.missing(name, "no judge reads two criteria")


def phi(evidence: Evidence) -> Iterator[Figure]:
    """Each criterion and the one that it goes with most."""
    sql = f"""
        SELECT judge, (dense_rank() OVER (ORDER BY {_KEYS}) - 1)::INTEGER AS place, member, cluster, passed
        FROM audit.criteria WHERE metric = 'rubric'
    """
    names = evidence.rows(f"SELECT DISTINCT {_KEYS} FROM audit.criteria WHERE metric = 'rubric' ORDER BY ALL")
    compared = False
    for _, rows in evidence.groups(sql, "judge"):
        places, row = np.unique(rows["place"], return_inverse=True)
        members, first, column = np.unique(rows["member"], return_index=True, return_inverse=True)
        sides = np.zeros((len(places), len(members)), dtype=np.int8)
        sides[row, column] = np.where(rows["passed"], 1, -1)
        near, clusters = _nearest(sides), rows["cluster"][first]
        for one, other in enumerate(near if len(places) > 1 else ()):
            compared, about = True, _about(names[places[one]])
            if other < 0:
                n = int((sides[one] != 0).sum())
                yield evidence.missing("criterion_phi", _ALONE, n, **about)
                continue
            both = (sides[one] != 0) & (sides[other] != 0)
            x, y = (sides[place][both].astype(np.float64) for place in (one, other))
            found, with_ = correlation(x, y, clusters[both], evidence.replicates), names[places[other]]
            note = f"with criterion {with_['criterion']} of {with_['principle_id']}"
            yield evidence.figure("criterion_phi", found, note, **about)
    if not compared:
        yield evidence.missing("criterion_phi", "no judge reads two criteria")


_ALONE = f"it shares no {LEAST} answers with another, or one of the two is always passed, or never"


def _nearest(sides: Array) -> list[int]:
    """For each row of `sides` (criteria, answers; 1 passed, -1 not, 0 not read) the other with the greatest |phi|; -1:
    there is none that it can be compared with."""
    count = len(sides)
    n, cross, own = (np.zeros((count, count)) for _ in range(3))
    for start in range(0, sides.shape[1], BLOCK):
        block = sides[:, start : start + BLOCK].astype(np.float64)
        known = np.abs(block)
        n += known @ known.T
        cross += block @ block.T
        own += block @ known.T  # (one, other): the sum of one's sides over the answers that both have
    with np.errstate(all="ignore"):
        found = (n * cross - own * own.T) / np.sqrt((n**2 - own**2) * (n**2 - own.T**2))
    found = np.where(np.isfinite(found) & (n >= LEAST), np.abs(found), -1.0).round(9)
    np.fill_diagonal(found, -1.0)
    best = found.argmax(axis=1)
    return [int(place) if found[row, place] >= 0 else -1 for row, place in enumerate(best)]


def kappas(evidence: Evidence) -> Iterator[Figure]:
    """For each two judges that read the same answers by one criterion."""
    found = False
    for about, rows in evidence.groups(_CELLS, "judge", "principle_id", "subject"):
        found = True
        cells = np.column_stack([rows[name] for name in _CELL])
        kappa = agreement.kappa_of_cells(cells, rows["cluster"], replicates=evidence.replicates)
        note = "" if kappa.value is not None else "both pass all of the answers, or none"
        yield evidence.figure("criterion_kappa", kappa, note, **about)
    if not found:
        yield evidence.missing("criterion_kappa")


def negated(evidence: Evidence) -> Iterator[Figure]:
    """Each criterion's replies and the opposite of those to the question whether the reply is no; and of how many
    criteria of a judge these agree no better than by chance."""
    mass = f"{least_mass(evidence)!r}::DOUBLE"
    yield from evidence.means("criterion_negated", _AGAIN.replace("MASS", mass))
    told: dict[str, list[bool]] = {}
    for about, rows in evidence.groups(_AGAIN_CELLS.replace("MASS", mass), "judge", "principle_id", "subject"):
        cells = np.column_stack([rows[name] for name in _CELL])
        kappa = agreement.kappa_of_cells(cells, rows["cluster"], replicates=evidence.replicates)
        note = "" if kappa.value is not None else "all replies are the same, and all to the opposite are the other"
        yield evidence.figure("criterion_negated_kappa", kappa, note, **about)
        own = told.setdefault(about["judge"], [])
        if kappa.n >= LEAST and kappa.value is not None:
            own.append(kappa.value <= 0 or (kappa.low is not None and kappa.low <= 0))
    for judge, chance in told.items():
        if chance:
            yield evidence.count("criteria_negated", sum(chance), len(chance), judge=judge)
        else:
            yield evidence.missing("criteria_negated", f"of none are {LEAST} answers, with both replies", judge=judge)
    if not told:
        yield from map(evidence.missing, ("criterion_negated_kappa", "criteria_negated"))


_CELL = ("aa", "ab", "ba", "bb")
_EXHIBIT = """SELECT f.judge, f.principle_id AS principle, f.subject AS criterion, any_value(s.question) AS question,
  any_value(s.good) AS good,
  max(f.value) FILTER (figure = 'criterion_passed') AS passed,
  max(f.value) FILTER (figure = 'criterion_splits') AS splits,
  max(f.value) FILTER (figure = 'criterion_rest') AS discrimination,
  max(f.value) FILTER (figure = 'criterion_phi') AS "φ",
  max(f.value) FILTER (figure = 'criterion_length') AS length,
  max(f.value) FILTER (figure = 'criterion_gold') AS gold,
  string_agg(nullif(f.note, ''), '; ' ORDER BY f.figure)
    FILTER (figure IN ('criterion_dead', 'criterion_phi')) AS note
FROM (FROM figures WHERE run_id = {run} AND figure LIKE 'criterion_%') AS f
JOIN (SELECT DISTINCT principle_id, (criterion + 1)::VARCHAR AS criterion, question, good FROM scores
  WHERE run_id = {run} AND scorecard = '' AND metric = 'rubric') AS s
  ON s.principle_id = f.principle_id AND s.criterion = f.subject
GROUP BY f.judge, f.principle_id, f.subject ORDER BY f.judge, f.principle_id, len(f.subject), f.subject"""

EXHIBITS = (
    Exhibit(
        "criteria",
        "The criteria",
        _EXHIBIT,
        "What was asked, and each criterion's figures; their intervals are in the tables above.",
        units={"discrimination": "number", "φ": "number", "length": "number"},
    ),
)

"""What an exhibit of the report is: a table or plot, and the one query that it is the answer of.

`{run}` in a query stands for the run's id. Columns are named as the page shows them; `value`, `low` and `high` side by
side become one cell with the 95 % interval, and `note` is shown where it says something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from constitution.audit import plots
from constitution.audit.words import HEARD, MASSES, Unit

ALL = "principle_id = ''"

STAGES = "list_position(['one order', 'both orders', 'controlled', 'calibrated', 'label'], subject)"


@dataclass(frozen=True)
class Exhibit:
    name: str
    """Its anchor in the page, and the name that its query has there."""
    title: str
    says: str
    """What it shows and how to read it."""
    sql: str
    figures: tuple[str, ...] = ()
    """The figures that it is made of: where there are none, their notes say why."""
    unit: Unit = "share"
    """Digits of every fraction in it, but those in `units`."""
    units: Mapping[str, Unit] = field(default_factory=dict)
    """Per column."""
    plot: Callable[[plots.Rows], list[str]] | None = None
    """Draws the rows; the table then waits under the plot."""
    alt: str = ""
    """The plot in words, for who does not see it."""
    shape: Literal["table", "examples"] = "table"
    nothing: str = "There is nothing to show."
    """Said where the query has no rows."""


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    says: str
    exhibits: tuple[Exhibit, ...]
    nothing: str = ""
    """Said in place of the exhibits where none of them has rows; empty: each says so itself."""


def figures(names: str, columns: str, where: str = "true", order: str = "ALL", *, numbers: bool = True) -> str:
    """A query over the table `figures`: those of these names (comma between them) that have a value."""
    listed = ", ".join(f"'{name.strip()}'" for name in names.split(","))
    rest = ", value, low, high, n, note" if numbers else ""
    return (
        f"SELECT {columns}{rest}\nFROM figures\nWHERE run_id = {{run}} AND figure IN ({listed})\n"
        f"  AND {where} AND value IS NOT NULL\nORDER BY {order}"
    )


def short(text: str, most: int) -> str:
    return f"CASE WHEN length({text}) > {most} THEN left({text}, {most}) || ' …' ELSE {text} END"


def pairs(facts: str, where: str, order: str, join: str = "") -> str:
    """A query for example pairs: their texts shortened, and in front of them what makes them worth showing.

    Each table is cut to the run before it is joined, so that no other run's files are read.
    """
    return (
        f"SELECT {facts},\n"
        "  CASE WHEN p.p_b < 0.5 THEN 'earlier' WHEN p.p_b > 0.5 THEN 'later' ELSE 'neither' END AS preferred,\n"
        f"  {short('q.last_user', 300)} AS prompt,\n"
        f'  {short("a.text", 500)} AS "earlier answer",\n  {short("b.text", 500)} AS "later answer"\n'
        "FROM (SELECT * FROM preferences WHERE run_id = {run} AND kind <> 'perturbation') p\n"
        f"{join}"
        "JOIN (SELECT id, last_user FROM prompts WHERE run_id = {run}) q ON q.id = p.prompt_id\n"
        "JOIN (SELECT id, text FROM responses WHERE run_id = {run}) a ON a.id = p.a_id\n"
        "JOIN (SELECT id, text FROM responses WHERE run_id = {run}) b ON b.id = p.b_id\n"
        f"WHERE {where}\nORDER BY {order}, p.id LIMIT 4"
    )


FACTS = """SELECT r.run_id AS run, r.constitution, r.recipe_name AS recipe, r.status,
  strftime(r.started_at, '%Y-%m-%d %H:%M UTC') AS started,
  (SELECT string_agg(m.key || ': ' || (m.value ->> '$.name'), ' · ' ORDER BY m.key)
   FROM runs s, json_each(s.models) m WHERE s.run_id = {run} AND NOT contains(m.key, ' until ')) AS models,
  (SELECT count(*) FROM prompts WHERE run_id = {run}) AS prompts,
  (SELECT count(*) FROM preferences WHERE run_id = {run} AND kind <> 'perturbation') AS pairs,
  (SELECT count(*) FROM judgements WHERE run_id = {run}) AS votes
FROM runs r WHERE r.run_id = {run}"""

_HEADLINES = (
    *((figure, "") for figure in MASSES),
    ("alignment", "label"),
    ("ece", "label"),
    ("ece", "calibrated"),
    ("position_bias", ""),
    ("position_effect", ""),
    ("style_effect", "length"),
    ("labels_changed", "style"),
    ("perturbation_penalty", "polished"),
    ("self_preference", ""),
    ("alpha", "judges"),
    ("votes_missing", ""),
)

HEADLINE = (
    """SELECT figure, judge, subject,
  coalesce(1 / (1 + exp(-value / per)), value) AS value,
  coalesce(1 / (1 + exp(-low / per)), low) AS low,
  coalesce(1 / (1 + exp(-high / per)), high) AS high, n, note,
  CASE WHEN figure = 'ece' AND subject = 'label' THEN  -- over 0 the labels are too timid, under 0 too sure
    (SELECT sum(p.n * (o.value - p.value) * sign(p.value - 0.5)) / sum(p.n)
     FROM figures p JOIN figures o USING (run_id, judge, principle_id, subject)
     WHERE run_id = {run} AND judge = '' AND principle_id = '' AND starts_with(subject, 'label/')
       AND p.figure = 'reliability_predicted' AND o.figure = 'reliability_observed') END AS lean
FROM (SELECT *, CASE figure WHEN 'position_effect' THEN 1 WHEN 'style_effect' THEN 3 END AS per FROM figures)
WHERE run_id = {run} AND principle_id = '' AND value IS NOT NULL
  AND (figure, subject) IN (
    HEADLINES)
  AND NOT (figure = 'votes_missing' AND value = 0)
  AND NOT (figure IN MASSES AND value >= HEARD)
QUALIFY judge = '' OR NOT bool_or(judge = '') OVER (PARTITION BY figure, subject)
ORDER BY list_position([NAMES], figure || ' ' || subject), judge""".replace(
        "HEADLINES", ",\n    ".join(f"('{figure}', '{subject}')" for figure, subject in _HEADLINES)
    )
    .replace("HEARD", str(HEARD))
    .replace("MASSES", str(MASSES))
    .replace("NAMES", ",\n  ".join(f"'{figure} {subject}'" for figure, subject in _HEADLINES))
)
"""The numbers to begin with. The effects of place and length are told as chances: that of the answer shown first, of
two as good ones, and that of an answer twice as long as the other: there the difference, (2 − 1) / (2 + 1), is 1/3."""

"""How much the samples of a prompt differ from each other, by sampler and over all of them.

Distinct texts; distinct-2 (Li et al. 2016, arXiv 1510.03055, section 5.2): bigrams of words that are different, of all
bigrams of a prompt's samples; overlap: Dice's coefficient (1945) of the sets of bigrams of two samples, over all pairs
of a prompt's samples together. Both depend on the number and the length of samples: samplers of equal n compare.

A bigram is two words in a row, in lower case; each Chinese or Japanese character is a word. They are counted for as
many prompts as have TOKENS, drawn by their ids' digests, so that memory does not grow with the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from constitution.audit import groups
from constitution.audit.evidence import Evidence
from constitution.records import Figure

TOKENS = 2_000_000
"""Words and marks of the samples whose bigrams are counted, at most, but for the last prompt's."""
ALL = "all samplers"

_GRAMS = """
CREATE TABLE audit.drawn AS
SELECT grp, cluster FROM (
    SELECT m.grp, any_value(m.cluster) AS cluster, sum(m.tokens) AS tokens, any_value(q.prompt_id) AS prompt_id
    FROM audit.members AS m JOIN (SELECT prompt_id, rowid::INTEGER AS grp FROM audit.prompts) AS q USING (grp)
    WHERE m.kind = 'sample' GROUP BY m.grp
)
QUALIFY sum(tokens) OVER (ORDER BY md5(prompt_id)) - tokens < {tokens};

CREATE TABLE audit.worded AS
WITH shown AS MATERIALIZED (  -- or DuckDB splits the texts of all prompts, to see which have two words
    SELECT m.grp, m.sampler, r.text
    FROM (SELECT id, text FROM responses WHERE run_id = $run AND kind = 'sample') AS r
    JOIN audit.members AS m ON m.response_id = r.id
    SEMI JOIN audit.drawn AS d ON d.grp = m.grp
),
split AS (
    SELECT grp, sampler, list_transform(
        regexp_extract_all(lower(text), '[\\p{{Han}}\\p{{Hiragana}}\\p{{Katakana}}]|[\\p{{L}}\\p{{N}}]+'),
        lambda word: hash(word)) AS words
    FROM shown
)
SELECT
    grp, sampler, len(words) - 1 AS bigrams,
    list_distinct(list_transform(list_zip(words[:len(words) - 1], words[2:]), lambda two: hash(two))) AS different
FROM split WHERE len(words) > 1;

CREATE TABLE audit.bigrams AS
SELECT grp, sampler, bigram, count(*) AS samples
FROM (SELECT grp, sampler, unnest(different) AS bigram FROM audit.worded) GROUP BY grp, sampler, bigram;
"""

_TEXTS = """
SELECT {sampler} AS subject, any_value(cluster) AS cluster, count(DISTINCT said) / count(*) AS value
FROM audit.members WHERE kind = 'sample' AND NOT empty
GROUP BY grp, subject HAVING count(*) > 1 {several}
"""

_BIGRAMS = """
WITH counted AS (
    SELECT grp, {sampler} AS subject, bigram, sum(samples) AS samples FROM audit.bigrams GROUP BY ALL
),
summed AS (
    SELECT
        grp, subject, count(*) AS different, sum(samples) AS times, sum(samples * (samples - 1)) AS shared
    FROM counted GROUP BY grp, subject
),
sized AS (
    SELECT grp, {sampler} AS subject, count(*) AS n, sum(bigrams) AS bigrams FROM audit.worded
    GROUP BY grp, subject HAVING count(*) > 1 {several}
)
SELECT subject, d.cluster, {value} AS value
FROM sized JOIN summed USING (grp, subject) JOIN audit.drawn AS d USING (grp)
"""

_VALUES = {"sample_bigrams": "different / bigrams", "sample_overlap": "shared / ((n - 1) * times)"}


def figures(evidence: Evidence) -> Iterator[Figure]:
    names = ("sample_texts", *_VALUES)
    if not groups.create(evidence) or not evidence.rows("SELECT 1 FROM audit.members WHERE kind = 'sample' LIMIT 1"):
        yield from map(evidence.missing, names)
        return
    evidence.create(_GRAMS.format(tokens=TOKENS))
    [drawn] = evidence.rows(
        "SELECT (SELECT count(*) FROM audit.drawn) AS some, count(DISTINCT grp) AS all FROM audit.members "
        "WHERE kind = 'sample'"
    )
    part = "" if drawn["some"] == drawn["all"] else f"of {drawn['some']:,} prompts, drawn from {drawn['all']:,}"
    for name in names:
        sql = _BIGRAMS.replace("{value}", _VALUES[name]) if name in _VALUES else _TEXTS
        for sampler, several, takes in (("sampler", "", ""), (f"'{ALL}'", "AND count(DISTINCT sampler) > 1", None)):
            for figure in evidence.means(name, sql.format(sampler=sampler, several=several), takes):
                note = figure.note or "; ".join(
                    filter(None, (_settings(evidence, figure.subject), part * (name in _VALUES)))
                )
                yield replace(figure, note=note)


def _settings(evidence: Evidence, sampler: str) -> str:
    """What the recipe says of it, so that samplers of one model and several temperatures are told apart."""
    section = (evidence.run.recipe.get("sample") or {}).get(sampler)
    if not section:
        return ""
    return f"model {section['model']}, temperature {section['temperature']:g}, n = {section['n']}"

"""Near duplicates: prompts whose user turns are nearly those of an earlier prompt.

Prompts whose word 3-grams have a Jaccard similarity of `near` or more share one of the first of them when these are
sorted, the rarest first (prefix filtering: Chaudhuri, Ganti and Kaushik 2006). So candidates are joined by these in
DuckDB, which spills to disk, and then compared by all of their 3-grams: nothing that is near is missed by chance.
"""

from __future__ import annotations

from collections.abc import Iterable

from constitution.export.clean.words import grams, plain, words
from constitution.export.reasons import Dropped
from constitution.export.work import Work

WINDOWS = (32, 16, 8, 4, 2, 1)
"""Beside the first prompt that has a 3-gram, each is compared with this many before it: the most of these that …"""
COMPARED = 8_000_000
"""… make no more comparisons than this over the whole run: many prompts that share 3-grams, and are not near, must not
cost the square of their number."""
ROUNDS = 3

# One row per conversation: the place of its first and the user's words of its longest. Those of the same 3-grams have
# one `twin`, the first of them. A text shorter than 3 words is one gram, so it is near to its equal alone.
_PRINTS = f"""
CREATE TABLE export.prints AS
WITH long AS (
    SELECT c.conversation, c.place, len(t.messages) AS turns FROM export.texts AS t JOIN export.alive AS c USING (id)
),
longest AS (
    SELECT min(place) AS first, arg_max(place, (turns, -place)) AS place FROM long GROUP BY conversation
),
firsts AS (
    SELECT first AS place, user_text FROM export.texts JOIN longest USING (place)
),
split AS (SELECT place, {words("user_text")} AS words, {plain("user_text")} AS plain FROM firsts),
cut AS (
    SELECT place, CASE WHEN len(words) >= 3 THEN {grams("words", 3)}
                       WHEN len(words) > 0 THEN [array_to_string(words, ' ')] ELSE [plain] END AS grams
    FROM split
),
hashed AS (
    SELECT place, list_sort(list_distinct(list_transform(
        grams, lambda gram: (md5_number_lower(gram) % 4294967296)::UINTEGER
    ))) AS grams
    FROM cut
)
SELECT place, min(place) OVER (PARTITION BY md5(grams::VARCHAR)) AS twin, grams FROM hashed
"""

# The rarest 3-grams of each, as many that two near prompts must share one. Those that no other prompt has come first,
# and are not kept, for they lead to none.
_KEYS = """
CREATE TABLE export.keys AS
WITH cut AS (
    SELECT place, len(grams) AS size, unnest(grams) AS key FROM export.prints WHERE place = twin
),
counted AS (SELECT key, count(*) AS prompts FROM cut GROUP BY key HAVING count(*) > 1)
SELECT place, key FROM cut JOIN counted USING (key)
QUALIFY size - count(*) OVER (PARTITION BY place) + row_number() OVER (PARTITION BY place ORDER BY prompts, key)
    <= size - ceil($near * size - 1e-9) + 1
"""

# Of the prompts that have not fallen: those that share a key.
_SHARED = """
CREATE OR REPLACE TABLE export.shared AS
WITH standing AS (FROM export.keys ANTI JOIN export.near USING (place))
FROM standing SEMI JOIN (SELECT key FROM standing GROUP BY key HAVING count(*) > 1) USING (key)
"""

# Each with the first that has its key.
_FIRSTS = "SELECT place, min(place) OVER (PARTITION BY key) AS earlier FROM export.shared"

# Each with a number of those before it.
_WINDOW = """
SELECT place, unnest(
    array_agg(place) OVER (PARTITION BY key ORDER BY place ROWS BETWEEN {window} PRECEDING AND CURRENT ROW)
) AS earlier
FROM export.shared
"""

# Those pairs that are near by their 3-grams; those too different in size cannot be.
_COMPARE = """
INSERT INTO export.pairs
WITH pairs AS (SELECT DISTINCT place, earlier FROM ({candidates}) WHERE earlier < place),
sized AS (
    SELECT p.place, p.earlier, a.grams AS a, b.grams AS b, len(list_intersect(a.grams, b.grams)) AS common
    FROM pairs AS p JOIN export.prints AS a ON a.place = p.place JOIN export.prints AS b ON b.place = p.earlier
    WHERE least(len(a.grams), len(b.grams)) >= $near * greatest(len(a.grams), len(b.grams))
)
SELECT place, earlier FROM sized WHERE common >= $near * (len(a) + len(b) - common)
"""

# A prompt goes with the first one of the same 3-grams, to which that one is near, or which it is.
_ROWS = """
WITH fallen AS (
    SELECT prints.place, coalesce(near.kept, prints.twin) AS kept
    FROM export.prints LEFT JOIN export.near ON near.place = prints.twin
    WHERE near.kept IS NOT NULL OR prints.twin <> prints.place
),
firsts AS (SELECT conversation, min(place) AS place FROM export.alive GROUP BY conversation),
prompts AS (SELECT f.conversation, k.prompt_id
    FROM fallen JOIN firsts AS f ON f.place = fallen.place JOIN export.alive AS k ON k.place = fallen.kept)
SELECT a.id, p.prompt_id AS drop_detail FROM export.alive AS a JOIN prompts AS p ON p.conversation = a.conversation
"""


def near_duplicate(work: Work) -> None:
    """Reason `near-duplicate`: all rows of a conversation whose user turns have, with those of an earlier kept one, a
    Jaccard similarity of their word 3-grams of `cleaning.near` or more; detail: the prompt_id kept.

    First each prompt is compared with the first that has one of its keys, which is enough for most copies; then those
    that are left with others before them; and again where one is kept after all, since what it was near to fell.
    """
    connection, near = work.connection, {"near": work.settings.cleaning.near}
    connection.execute(_PRINTS)
    connection.execute(_KEYS, near)
    connection.execute("CREATE TABLE export.pairs (place BIGINT, earlier BIGINT)")
    connection.execute("CREATE TABLE export.near (place BIGINT, kept BIGINT)")
    before: set[int] = set()
    for turn in range(ROUNDS):
        connection.execute(_SHARED)
        candidates = _WINDOW.format(window=_window(work)) if turn else _FIRSTS
        connection.execute(_COMPARE.format(candidates=candidates), near)
        fallen = _greedy(
            pair
            for batch in work.batches("SELECT DISTINCT place, earlier FROM export.pairs ORDER BY ALL")
            for pair in zip(batch["place"].to_pylist(), batch["earlier"].to_pylist(), strict=True)
        )
        rows = "SELECT unnest(?::BIGINT[]), unnest(?::BIGINT[])"
        connection.execute(
            f"CREATE OR REPLACE TABLE export.near (place, kept) AS {rows}", [[*fallen], [*fallen.values()]]
        )
        if turn and before <= fallen.keys():
            break
        before = set(fallen)
    work.drop(Dropped.NEAR_DUPLICATE, _ROWS)
    for table in ("prints", "keys", "pairs", "near", "shared"):
        connection.execute(f"DROP TABLE export.{table}")


def _window(work: Work) -> int:
    """The most of WINDOWS that keeps to COMPARED, or the least."""
    for window in WINDOWS:
        counted = work.connection.execute(
            f"SELECT sum(n * least(n - 1, {window})) FROM (SELECT count(*) AS n FROM export.shared GROUP BY key)"
        )
        ((pairs,),) = counted.fetchall()
        if (pairs or 0) <= COMPARED:
            break
    return window


def _greedy(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Pairs (place, earlier) in order: what is dropped, each for the first earlier one that is near it and stays."""
    kept: dict[int, int] = {}
    for place, earlier in pairs:
        if place not in kept and earlier not in kept:
            kept[place] = earlier
    return kept

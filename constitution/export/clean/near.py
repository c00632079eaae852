"""Near duplicates: prompts whose user turns are nearly those of an earlier prompt.

MinHash (Broder 1997) of the turns' word 3-grams by datasketch; pairs that may be alike are found by banding (Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, section 3.4) and then compared by the true Jaccard similarity of their
3-grams. Signatures go through Python in batches and bands are joined in DuckDB, so memory does not grow with the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from constitution.export.clean.words import grams, plain, words
from constitution.export.work import Work

PERMUTATIONS = 128
SEED = 1
FOUND = 0.95
"""Least chance that two prompts which are just near enough share a band."""
WINDOWS = (32, 16, 8, 4, 2, 1)
"""Beside the first prompt of its band, each is compared with so many before it: with the most of these that …"""
COMPARED = 8_000_000
"""… make no more comparisons than this over the whole run: many prompts that share bands, and are not near, must not
cost the square of their number."""
ROUNDS = 3

# One row per conversation, its first by place; those with the same 3-grams have the same `twin`, the first of them. A
# text shorter than 3 words is one gram, so it is near to its equal alone.
_PRINTS = f"""
CREATE TABLE export.prints AS
WITH firsts AS (
    SELECT place, user_text FROM export.texts WHERE place IN (SELECT min(place) FROM export.alive GROUP BY conversation)
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

# Of the prompts that have not fallen: those that share a band.
_SHARED = """
CREATE OR REPLACE TABLE export.shared AS
WITH standing AS (FROM export.bands ANTI JOIN export.near USING (place))
FROM standing SEMI JOIN (SELECT key FROM standing GROUP BY key HAVING count(*) > 1) USING (key)
"""

# Each with the first of its band.
_FIRSTS = "SELECT place, min(place) OVER (PARTITION BY key) AS earlier FROM export.shared"

# Each with so many before it.
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

_NEAR = pa.schema([pa.field("place", pa.int64()), pa.field("kept", pa.int64())])


def near_duplicate(work: Work) -> int:
    """Reason `near-duplicate`: all rows of a conversation whose user turns have, with those of an earlier kept one, a
    Jaccard similarity of their word 3-grams of `cleaning.near` or more; detail: the prompt_id kept.

    Two prompts exactly that similar are found with a chance of 95 % or more, more similar ones with a higher one.
    """
    connection = work.connection
    connection.execute(_PRINTS)
    connection.execute("CREATE TABLE export.bands (place BIGINT, key UBIGINT)")
    connection.execute("CREATE TABLE export.pairs (place BIGINT, earlier BIGINT)")
    connection.execute("CREATE TABLE export.near (place BIGINT, kept BIGINT)")
    try:
        for table in _bands(work, *shape(work.settings.cleaning.near)):
            connection.register("band_rows", table)
            connection.execute("INSERT INTO export.bands SELECT * FROM band_rows")
            connection.unregister("band_rows")
        _compare(work)
        return work.drop("near-duplicate", _ROWS)
    finally:
        connection.execute(
            "DROP TABLE export.prints; DROP TABLE export.bands; DROP TABLE export.pairs; DROP TABLE export.near;"
            "DROP TABLE IF EXISTS export.shared"
        )


def _compare(work: Work) -> None:
    """Fills export.near: each prompt that falls, and the one that stays to which it is near.

    First each with the first of each of its bands, which is enough for most copies; then those that still stand with
    others before them; and so again where one stands after all, since what it was near to has fallen.
    """
    connection = work.connection
    before: set[int] = set()
    for turn in range(ROUNDS):
        connection.execute(_SHARED)
        candidates = _WINDOW.format(window=_window(work)) if turn else _FIRSTS
        connection.execute(_COMPARE.format(candidates=candidates), {"near": work.settings.cleaning.near})
        fallen = _greedy(
            pair
            for batch in work.batches("SELECT DISTINCT place, earlier FROM export.pairs ORDER BY ALL")
            for pair in zip(batch["place"].to_pylist(), batch["earlier"].to_pylist(), strict=True)
        )
        connection.register("near_rows", pa.table([pa.array(fallen), pa.array(fallen.values())], schema=_NEAR))
        connection.execute("DELETE FROM export.near; INSERT INTO export.near SELECT * FROM near_rows")
        connection.unregister("near_rows")
        if turn and before <= fallen.keys():
            return
        before = set(fallen)


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


def shape(near: float) -> tuple[int, int]:
    """Bands and rows in each: as many rows as find pairs of similarity `near` with a chance of FOUND or more."""
    for rows in range(PERMUTATIONS, 1, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - near**rows) ** bands >= FOUND:
            return bands, rows
    return PERMUTATIONS, 1


def _bands(work: Work, bands: int, rows: int) -> Iterator[pa.Table]:
    """place and key: one number per prompt and band, equal where a band's rows are."""
    from datasketch import MinHash  # type: ignore[import-untyped]

    # Multilinear hashing of a band's rows, modulo 2^64; the last multiplicand tells bands apart.
    odd = np.random.default_rng(SEED).integers(2**63, size=(bands, rows + 1), dtype=np.uint64) * np.uint64(
        2
    ) + np.uint64(1)
    for batch in work.batches("SELECT place, grams FROM export.prints WHERE place = twin"):
        lists = batch["grams"]
        values, ends = lists.flatten().to_numpy(), np.cumsum(lists.value_lengths().to_numpy())
        sets = np.split(values, ends[:-1])
        made = MinHash.generator(sets, num_perm=PERMUTATIONS, seed=SEED, hashfunc=int)
        signatures: NDArray[np.uint64] = np.array([one.hashvalues for one in made], np.uint64)
        blocks = signatures[:, : bands * rows].reshape(-1, bands, rows)
        keys = (blocks * odd[:, :rows]).sum(axis=2, dtype=np.uint64) + odd[:, rows]
        places = np.repeat(batch["place"].to_numpy(), bands)
        yield pa.table({"place": places, "key": keys.ravel()})


def _greedy(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Of (place, earlier) in order: what is left out, each for the first earlier one that is near it and stays."""
    kept: dict[int, int] = {}
    for place, earlier in pairs:
        if place not in kept and earlier not in kept:
            kept[place] = earlier
    return kept

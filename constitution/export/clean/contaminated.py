"""Contaminated prompts: those that overlap an evaluation set which must not be trained on.

As Tülu 3 does it (arXiv 2411.15124, section 3.2): a test prompt and a training prompt match where more than half of the
test prompt's tokens lie in 8-grams that both have. There a token is one of spaCy's, here it is a word in lower case.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from constitution.errors import PromptError
from constitution.export.clean.words import grams, plain, words
from constitution.export.reasons import Dropped
from constitution.export.work import BATCH, Work
from constitution.prompts import user_texts
from constitution.prompts.packed import lines

GRAM = 8
RARE = 64
"""An 8-gram in more test prompts than this is a template's, and finds no single one of them."""
HINT = "JSONL, JSON, CSV, TSV, Parquet, or .txt with one prompt a line"

_ITEMS = f"""
CREATE TABLE export.items AS
SELECT min(number) AS item, arg_min(source, number) AS source, words, array_to_string(words, ' ') AS whole,
    bool_and(alone) AS alone
FROM (SELECT number, source, alone, CASE WHEN len(words) > 0 THEN words ELSE [plain] END AS words
      FROM (SELECT *, {words("user_text")} AS words, {plain("user_text")} AS plain FROM export.read_items))
GROUP BY words
"""

# One row per 8-gram of a test prompt, with its place in it, and whether it is enough to look at the prompt: if it is
# rare, or if template alone can make the prompt overlap; of prompts with the same template then the shortest, in which
# it weighs most. So a template that many test prompts and many prompts have does not cost the product of their numbers.
_ITEM_GRAMS = f"""
CREATE TABLE export.item_grams AS
WITH cut AS (
    SELECT md5_number_lower(unnest(grams)) AS gram, item, unnest(range(len(grams))) AS start, size
    FROM (SELECT item, len(words) AS size, {grams("words", GRAM)} AS grams FROM export.items WHERE NOT alone)
),
counted AS (SELECT *, count(*) OVER (PARTITION BY gram) <= {RARE} AS rare FROM cut),
templates AS (
    SELECT item, any_value(size) AS size, md5(list_sort(list(DISTINCT gram))::VARCHAR) AS template,
        list_unique(flatten(list(range(start, start + {GRAM})))) AS words
    FROM counted WHERE NOT rare GROUP BY item
),
chosen AS (SELECT arg_min(item, (size, item)) AS item FROM templates WHERE words > $overlap * size GROUP BY template)
SELECT gram, item, start, rare OR item IN (FROM chosen) AS telling FROM counted
"""

# Of each conversation and test prompt: the share of the test prompt's words that stand in shared 8-grams; equal texts
# share all, however short they are. The test prompts' side of each join is the one held in memory.
_CONTAMINATED = f"""
WITH asked AS (SELECT conversation, min(place) AS place FROM export.alive GROUP BY conversation),
texts AS (
    SELECT place, CASE WHEN len(words) > 0 THEN words ELSE [plain] END AS words
    FROM (SELECT place, {words("user_text")} AS words, {plain("user_text")} AS plain
          FROM export.texts WHERE place IN (SELECT place FROM asked))
),
cut AS (SELECT DISTINCT place, md5_number_lower(unnest({grams("words", GRAM)})) AS gram FROM texts),
pairs AS (
    SELECT DISTINCT c.place, g.item
    FROM cut AS c JOIN (SELECT gram, item FROM export.item_grams WHERE telling) AS g ON g.gram = c.gram
),
shared AS (
    SELECT p.place, p.item, g.start
    FROM pairs AS p JOIN cut AS c ON c.place = p.place
    JOIN export.item_grams AS g ON g.item = p.item AND g.gram = c.gram
),
covered AS (
    SELECT place, item, list_unique(flatten(list(range(start, start + {GRAM})))) AS words
    FROM shared GROUP BY place, item
),
matched AS (
    SELECT c.place, c.item FROM covered AS c JOIN export.items AS i ON i.item = c.item
    WHERE c.words > $overlap * len(i.words)
    UNION ALL
    SELECT t.place, i.item FROM texts AS t JOIN export.items AS i ON i.whole = array_to_string(t.words, ' ')
),
first AS (SELECT place, min(item) AS item FROM matched GROUP BY place)
SELECT alive.id, i.source
FROM export.alive AS alive
JOIN asked ON asked.conversation = alive.conversation
JOIN first ON first.place = asked.place
JOIN export.items AS i ON i.item = first.item
"""


def contaminated(work: Work) -> None:
    """Reason `contaminated`: a test prompt has more than `overlap` of its words in 8-grams that the conversation's user
    turns have too, or is equal to them, or its question without what lies beside it is; detail: file#row of such a test
    prompt.

    Raises PromptError for a file that cannot be read, or has no prompts. Memory: that of the test files' words,
    and DuckDB's.
    """
    connection = work.connection
    names = ("read_items", "items", "item_grams")
    try:
        connection.execute(
            "CREATE TABLE export.read_items (number BIGINT, source VARCHAR, user_text VARCHAR, alone BOOLEAN)"
        )
        rows = (row for path in work.settings.cleaning.decontaminate for row in read_items(path))
        numbered = ((number, *row) for number, row in enumerate(rows))
        while chunk := list(islice(numbered, BATCH)):
            columns = ", ".join(f"unnest(?::{kind}[])" for kind in ("BIGINT", "VARCHAR", "VARCHAR", "BOOLEAN"))
            lists = [list(column) for column in zip(*chunk, strict=True)]
            connection.execute(f"INSERT INTO export.read_items SELECT {columns}", lists)
        connection.execute(_ITEMS)
        overlap = {"overlap": work.settings.cleaning.overlap}
        connection.execute(_ITEM_GRAMS, overlap)
        found = connection.execute(_CONTAMINATED, overlap).fetchall()
        work.drop_found(Dropped.CONTAMINATED, found)
    finally:
        for name in names:
            connection.execute(f"DROP TABLE IF EXISTS export.{name}")


def read_items(path: Path) -> Iterator[tuple[str, str, bool]]:
    """file#row, the user's words, and whether they are the question without what lies beside it, which comes after the
    whole: of a .txt file each line is one, else as prompts are read (constitution/prompts/texts.py)."""
    empty = True
    is_text = path.suffix.lower() == ".txt"
    try:
        for source, whole, question in _lines(path) if is_text else user_texts(path):
            empty = False
            yield source, whole, False
            if question != whole:
                yield source, question, True
    except PromptError as error:
        raise PromptError(f"--decontaminate {error}", hint=f"{HINT}; {error.hint}" if error.hint else HINT) from None
    if empty:
        raise PromptError(f"--decontaminate {path}: there are no prompts in it", hint=HINT)


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in lines(path, "one prompt a line"):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise PromptError(f"{path}, line {number}: byte {error.start} is not UTF-8") from None
        if text.strip():
            yield f"{path.name}#{number}", text, text

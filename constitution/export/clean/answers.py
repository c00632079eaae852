"""What an answer looks like: its length, its language, whether it refuses, and what it says in every row."""

from __future__ import annotations

from functools import cache
from typing import Any

from constitution.errors import InputError
from constitution.export.clean.words import spaced, words
from constitution.export.reasons import Dropped
from constitution.export.work import Work
from constitution.measures import refuses_sql
from constitution.warehouse.views import quoted

LETTERS = 20
"""A text of fewer letters is not asked for its language."""
LEAST = 0.05
"""An answer is in none of some languages if these have less probability together. Of 6,045 English texts (users and
assistants of hh-rlhf, answers of the pocket world) 2 have less: laughter, and a list of URLs; of 35 short sentences in
13 other languages, all."""
SENTENCE = 5
"""Words from which a sentence can be boilerplate; shorter ones are common by nature."""
PROMPTS = 5
"""Prompts that boilerplate is in at least, however few there are."""


def learnt(work: Work, columns: str) -> str:
    """SQL: these columns of the rows alive whose answer is to be learnt: of kto, those that are good."""
    good = f" WHERE p >= {work.settings.good!r}" if work.settings.spec.scored else ""
    return f"SELECT {columns} FROM export.alive{good}"


def length(work: Work) -> None:
    """Reasons `short` and `long`: an answer, or a pair's other one, has fewer words than `min_words`, or more than
    `max_words`; detail: how many."""
    cleaning = work.settings.cleaning
    counted = f"SELECT id, len({words('answer')}) AS a, len({words('other')}) AS b FROM export.texts"
    for reason, count, condition in (
        (Dropped.SHORT, "least(a, b)", f"< {cleaning.min_words}"),
        (Dropped.LONG, "greatest(a, b)", f"> {cleaning.max_words}" if cleaning.max_words else "IS NULL"),
    ):
        work.drop(reason, f"SELECT id, {count} || ' words' AS drop_detail FROM ({counted}) WHERE {count} {condition}")


def language(work: Work) -> None:
    """Reason `language`: the answer is in none of `language`, by py3langid; detail: the language that it seems to be.

    Answers of fewer than LETTERS letters stay, and so does what might be in one of `language` after all. Raises
    InputError for a code that the model does not know.
    """
    identifier = _identifier()
    wanted = set(work.settings.cleaning.language)
    if unknown := sorted(wanted.difference(identifier.labels)):
        raise InputError(
            f"--language {unknown[0]}: not a language that can be told",
            hint=f"ISO 639 codes of the model: {', '.join(sorted(identifier.labels))}",
        )
    found: list[tuple[str, str]] = []
    for batch in work.batches("SELECT id, answer FROM export.texts WHERE answer IS NOT NULL"):
        for id, text in zip(batch["id"].to_pylist(), batch["answer"].to_pylist(), strict=True):
            if sum(map(str.isalpha, text)) >= LETTERS:
                ranked = identifier.rank(text)
                if sum(p for code, p in ranked if code in wanted) < LEAST:
                    found.append((id, ranked[0][0]))
    work.drop_found(Dropped.LANGUAGE, found)


@cache
def _identifier() -> Any:
    """py3langid's model, which takes a second to load; its probabilities add up to 1."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def refusal(work: Work) -> None:
    """Reason `refusal`: the answer begins like a refusal (measures.refuses: English, a lower bound) and the prompt has
    a tag of `harmless_tag`; detail: that tag."""
    tags = ", ".join(map(quoted, work.settings.cleaning.harmless_tag))
    work.drop(
        Dropped.REFUSAL,
        f"""
        WITH asked AS (
            SELECT id, list_filter(tags, lambda tag: list_contains([{tags}]::VARCHAR[], tag)) AS harmless
            FROM ({learnt(work, "id, tags")})
        )
        SELECT id, harmless[1] AS drop_detail
        FROM export.texts JOIN asked USING (id) WHERE len(harmless) > 0 AND {refuses_sql("answer")}
        """,
    )


def boilerplate(work: Work) -> None:
    """Reason `boilerplate`: the answer has a sentence of SENTENCE words or more that is in the answers to more than
    this share of the prompts, and to PROMPTS or more; detail: the sentence."""
    share = work.settings.cleaning.boilerplate
    asked = f"SELECT count(DISTINCT prompt_id) FROM ({learnt(work, 'prompt_id')})"
    work.drop(
        Dropped.BOILERPLATE,
        rf"""
        WITH sentences AS (
            SELECT id, prompt_id, unnest(regexp_extract_all(answer, '[^.!?\n。！？]+')) AS sentence
            FROM export.texts SEMI JOIN ({learnt(work, "id")}) USING (id)
        ),
        said AS (
            SELECT id, prompt_id, sentence, md5(array_to_string({words("sentence")}, ' ')) AS key
            FROM sentences WHERE len({words("sentence")}) >= {SENTENCE}
        ),
        common AS (
            SELECT key FROM said GROUP BY key
            HAVING count(DISTINCT prompt_id) >= greatest({PROMPTS}, 1 + floor({share!r} * ({asked})))
        )
        SELECT id, min({spaced("sentence")}) AS drop_detail FROM said SEMI JOIN common USING (key) GROUP BY id
        """,
    )

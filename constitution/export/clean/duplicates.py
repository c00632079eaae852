"""Rows that say nothing new: chosen = rejected, and the same conversation with the same answers again."""

from __future__ import annotations

from constitution.export.clean.words import plain, spaced
from constitution.export.reasons import Dropped
from constitution.export.work import Work


def identical(work: Work) -> None:
    """Reason `identical`: pairs whose answers differ in white space at most."""
    same = f"SELECT id FROM export.texts WHERE {spaced('answer')} = {spaced('other')}"
    work.drop_where(Dropped.IDENTICAL, f"id IN ({same})")


def duplicate(work: Work) -> None:
    """Reason `duplicate`: rows that repeat an earlier row's conversation and answers, but for white space and case;
    detail: the id of that row."""
    turns = f"list_transform(messages, lambda m: [m.role, {plain('m.content')}])"
    work.drop(
        Dropped.DUPLICATE,
        f"""
        WITH digests AS (
            SELECT id, place, md5(concat_ws('|', md5(to_json({turns})), md5({plain("answer")}), md5({plain("other")})))
                AS content
            FROM export.texts
        ),
        placed AS (SELECT id, first_value(id) OVER (PARTITION BY content ORDER BY place, id) AS first_id FROM digests)
        SELECT id, first_id AS drop_detail FROM placed WHERE id <> first_id
        """,
    )

"""How long the exported answers are and what their rewards are, side by side, so that a slope is seen."""

from __future__ import annotations

from dataclasses import dataclass

from constitution.export.clean.words import words
from constitution.export.work import Work

MOST = 20_000
"""Rows that are measured at most, drawn by their ids: words are counted in 50 µs of an answer of 800 characters."""

# Rewards as whole numbers, so that no sum depends on the order in which threads read.
_MEASURED = """
CREATE TABLE export.measured AS
WITH drawn AS (SELECT id FROM export.kept ORDER BY md5_number_lower(id), id LIMIT {most})
SELECT
    id, unnest([{sides}]::STRUCT(side VARCHAR, words BIGINT, characters BIGINT, reward BIGINT)[], max_depth := 2)
FROM export.rows SEMI JOIN drawn USING (id)
"""
_SUMMED = """
SELECT
    side, count(*), avg(words), quantile_cont(words, 0.5), avg(characters), quantile_cont(characters, 0.5),
    count(reward), avg(reward) / 1e9, quantile_cont(reward, 0.5) / 1e9
FROM export.measured GROUP BY side
"""
_LONGER = """
SELECT avg((a.words > b.words)::INT), avg((a.words < b.words)::INT)
FROM export.measured AS a JOIN export.measured AS b USING (id) WHERE a.side = 'chosen' AND b.side = 'rejected'
"""
ORDER = ("chosen", "rejected", "good", "bad", "learnt")


@dataclass(frozen=True)
class Side:
    """One row of the card's table: answers of one side, or the first side less the second."""

    name: str
    rows: int
    words_mean: float
    words_median: float
    characters_mean: float
    characters_median: float
    rewarded: int
    """Answers with a reward."""
    reward_mean: float | None
    """None: none has a reward."""
    reward_median: float | None

    def less(self, other: Side) -> Side:
        """The difference of the means and of the medians."""
        return Side(
            f"{self.name} less {other.name}",
            0,
            self.words_mean - other.words_mean,
            self.words_median - other.words_median,
            self.characters_mean - other.characters_mean,
            self.characters_median - other.characters_median,
            0,
            _less(self.reward_mean, other.reward_mean),
            _less(self.reward_median, other.reward_median),
        )


@dataclass(frozen=True)
class Sides:
    source: str | None = None
    """By what the rewards are; None: the run has none."""
    by_reward: bool = False
    """kto: the score is the reward."""
    rows: tuple[Side, ...] = ()
    """Chosen and rejected, good and bad, or the answers to be learnt; of two sides then the difference."""
    longer: float | None = None
    """Share of the pairs whose chosen answer has more words; None: no pairs."""
    shorter: float | None = None
    lacks: str = ""
    """kto: good or bad, where no row is; else empty."""


def measure(work: Work) -> Sides:
    """What export.rows has, which `write.split` makes."""
    spec = work.settings.spec
    if spec.unit == "prompt":
        return Sides(work.source, work.by_reward)
    sides = {
        "chosen": ("'chosen'", "won", "won_reward"),
        "rejected": ("'rejected'", "lost", "lost_reward"),
        "learnt": ("'learnt'", "answer", "won_reward"),
        "judged": (f"if(p >= {work.settings.good!r}, 'good', 'bad')", "answer", "won_reward"),
    }
    names = ("chosen", "rejected") if spec.unit == "pair" else ("judged",) if spec.scored else ("learnt",)
    shown = ", ".join(
        f"{{side: {side}, words: len({words(text)}), characters: length({text}), reward: round({reward} * 1e9)}}"
        for side, text, reward in (sides[name] for name in names)
    )
    work.connection.execute(_MEASURED.format(most=MOST, sides=shown))
    rows = [Side(*row) for row in work.connection.execute(_SUMMED).fetchall()]
    rows.sort(key=lambda side: ORDER.index(side.name))
    rows += [rows[0].less(rows[1])] if len(rows) == 2 else []
    longer, shorter = work.connection.execute(_LONGER).fetchall()[0] if spec.unit == "pair" else (None, None)
    lacks = ""
    if spec.scored:
        good = "count(*) FILTER (p >= ?)"
        found = work.connection.execute(f"SELECT {good}, count(*) - {good} FROM export.rows", [work.settings.good] * 2)
        lacks = next((side for side, count in zip(("good", "bad"), found.fetchall()[0], strict=True) if not count), "")
    return Sides(work.source, work.by_reward, tuple(rows), longer, shorter, lacks)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other

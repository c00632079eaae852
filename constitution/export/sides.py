"""How long the exported answers are and what their rewards are, side by side, so that a slope is seen."""

from __future__ import annotations

from dataclasses import dataclass

from constitution.export.clean.words import words
from constitution.export.work import Work

# Rewards as whole numbers, so that no sum depends on the order in which threads read.
_MEASURED = """
WITH texts AS ({texts}),
counted AS (
    SELECT side, len({words}) AS words, length(text) AS characters, round(reward * 1e9)::BIGINT AS reward FROM texts
)
SELECT
    side, count(*), avg(words), quantile_cont(words, 0.5), avg(characters), quantile_cont(characters, 0.5),
    count(reward), avg(reward) / 1e9, quantile_cont(reward, 0.5) / 1e9
FROM counted GROUP BY side
"""
_SIDES = {
    "pair": "SELECT 'chosen' AS side, won AS text, won_reward AS reward FROM export.rows UNION ALL "
    "SELECT 'rejected', lost, lost_reward FROM export.rows",
    "answer": "SELECT 'learnt' AS side, answer AS text, {reward} AS reward FROM export.rows",
    "label": "SELECT if(p >= {good}, 'good', 'bad') AS side, answer AS text, {reward} AS reward FROM export.rows",
}
_LONGER = """
SELECT avg((a > b)::INT), avg((a < b)::INT) FROM (SELECT len({won}) AS a, len({lost}) AS b FROM export.rows)
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


def measure(work: Work) -> Sides:
    """Of export.rows, which `write.split` makes."""
    spec = work.settings.spec
    if spec.unit == "prompt":
        return Sides(work.source, work.by_reward)
    reward = "reward" if work.source else "NULL::DOUBLE"
    texts = _SIDES["label" if spec.scored else spec.unit].format(reward=reward, good=repr(work.settings.good))
    found = work.connection.execute(_MEASURED.format(texts=texts, words=words("text"))).fetchall()
    rows = sorted((Side(*row) for row in found), key=lambda side: ORDER.index(side.name))
    rows += [rows[0].less(rows[1])] if len(rows) == 2 else []
    longer = shorter = None
    if spec.unit == "pair":
        [(longer, shorter)] = work.connection.execute(_LONGER.format(won=words("won"), lost=words("lost"))).fetchall()
    return Sides(work.source, work.by_reward, tuple(rows), longer, shorter)


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other

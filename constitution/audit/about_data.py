"""The report's sections on what was judged: principles, rounds, pairs, and what cannot be said."""

from __future__ import annotations

from functools import partial

from constitution.audit import plots
from constitution.audit.exhibits import ALL, Exhibit, Section, figures, pairs
from constitution.audit.words import UNITS

_share = UNITS["share"]

PRINCIPLES = Section(
    "principles",
    "Principles",
    "Whether each principle of the constitution does its work: as a critique, and as a question to the judges.",
    (
        Exhibit(
            "principle-wins",
            "Wins of the revision, by principle",
            "Share of each principle's votes, both orders averaged, that prefer the revision; ties half. At 50 % it "
            "sees no difference, or none that lasts from pair to pair.",
            figures("principle_win_rate", "principle_id AS principle", "judge = ''", "value DESC, principle_id"),
            ("principle_win_rate",),
            plot=partial(plots.intervals, label="principle", write=_share, line=0.5, bars=True),
            alt="Win rate of the revision by principle, with 95 % intervals",
            nothing="No principle has votes on a revision.",
        ),
        Exhibit(
            "redundancy",
            "Redundancy",
            "Phi between each two principles' votes on the same pairs: 1 always votes alike, and one of the two may be "
            "spared; 0 has nothing to do with the other; −1 always votes against it.",
            figures("phi", "principle_id AS principle, subject AS other", "judge = ''", "principle_id, subject"),
            ("phi",),
            "logit",
            plot=plots.heat,
            alt="Heat map of phi between principles",
            nothing="There are no two principles that vote on the same pairs.",
        ),
        Exhibit(
            "principle-table",
            "Health",
            "Drawn: revisions that were asked for in its name. Changed: share of these that changed the answer. Change "
            "won: share of these changes that the votes of the other principles prefer. Entropy: how undecided its "
            "votes are, from 0, certain, to 1 bit, a coin. Majority: how often it votes as most others do. The last "
            "two: how its votes go with length and markdown, from −1 to 1.",
            """SELECT principle_id AS principle,
  max(value) FILTER (figure = 'drawn')::BIGINT AS drawn,
  max(value) FILTER (figure = 'changed') AS changed,
  max(value) FILTER (figure = 'change_won') AS "change won",
  max(value) FILTER (figure = 'principle_win_rate') AS "win rate",
  max(value) FILTER (figure = 'entropy') AS entropy,
  max(value) FILTER (figure = 'majority_agreement') AS majority,
  max(value) FILTER (figure = 'length_correlation') AS length,
  max(value) FILTER (figure = 'markdown_correlation') AS markdown
FROM figures
WHERE run_id = {run} AND principle_id <> '' AND judge = '' AND subject = ''
GROUP BY principle_id
ORDER BY principle_id""",
            units={"entropy": "bits", "length": "logit", "markdown": "logit"},
            nothing="No principle was used.",
        ),
        Exhibit(
            "dead",
            "Dead principles",
            "Those that vote the same way on every pair, or that were never drawn though they could be.",
            "SELECT principle_id AS principle, n, note\nFROM figures\n"
            "WHERE run_id = {run} AND figure = 'dead' AND value = 1\nORDER BY ALL",
            nothing="None is dead.",
        ),
        Exhibit(
            "drift",
            "Drift",
            "Difference of the win rate to that of the version before, on the same prompts.",
            figures("drift", "principle_id AS principle, subject AS \"against\"", order="principle_id, subject"),
            ("drift",),
            "points",
            plot=partial(plots.intervals, label="principle", group="against", write=UNITS["points"], line=0.0),
            alt="Drift of win rates against the version before, with 95 % intervals",
            nothing="There is no finished run of the version before with the same prompts.",
        ),
    ),
)  # fmt: skip

_ROUNDS = {"changed": UNITS["share"], "wins": UNITS["share"], "tokens": UNITS["count"]}

ROUNDS = Section(
    "rounds",
    "Revision rounds",
    "What each round of critique and revision brings.",
    (
        Exhibit(
            "rounds-plot",
            "Round by round",
            "Changed: share of revisions that differ from what they revise. Wins: share of them whose "
            "label prefers them to it. Tokens: mean length of the answers.",
            figures("round_changed, round_win_rate, round_tokens",
                    "CASE figure WHEN 'round_changed' THEN 'changed' WHEN 'round_win_rate' THEN 'wins' "
                    "ELSE 'tokens' END AS what,\n  subject::INTEGER AS round", "judge = '' AND " + ALL,
                    "list_position(['changed', 'wins', 'tokens'], what), round"),
            ("round_changed", "round_win_rate", "round_tokens"),
            units={"tokens": "count"},
            plot=partial(plots.rounds, panels=_ROUNDS),
            alt="Share changed, wins and length by revision round",
            nothing="The run has no revision rounds.",
        ),
    ),
)  # fmt: skip

EXAMPLES = Section(
    "examples",
    "Example pairs",
    "Pairs to read, shortened. p: the label's probability that the later answer is better.",
    (
        Exhibit(
            "most-split",
            "Most split",
            "The judges and principles disagree most on these.",
            pairs("p.id AS pair, p.p_b AS p, p.agreement, array_to_string(p.dissent[1:6], ', ') AS dissent",
                  "len(p.dissent) > 0", "p.agreement, abs(p.p_b - 0.5)"),
            shape="examples",
            nothing="No couple of votes dissents from its pair's label.",
        ),
        Exhibit(
            "most-position",
            "Most bound to the place",
            "Here the votes go most with the order in which the answers were shown. First place: the mean "
            "log-odds that it got.",
            pairs("p.id AS pair, p.p_b AS p, c.position AS \"first place\"",
                  "abs(c.position) > 0", "abs(c.position) DESC",
                  "JOIN (SELECT pair_id, avg(log_odds(p_first)) AS position FROM judgements\n"
                  "  WHERE run_id = {run} GROUP BY pair_id HAVING count(DISTINCT first_id) = 2) c\n"
                  "  ON c.pair_id = p.id\n"),
            units={"first place": "logit"},
            shape="examples",
            nothing="The order changed no vote.",
        ),
        Exhibit(
            "changed-labels",
            "Labels that corrections changed",
            "The plain mean of the votes prefers the other answer.",
            pairs("p.id AS pair, p.p_b AS p, p.p_mean AS \"plain mean\", p.label_by AS \"label by\"",
                  "(p.p_b - 0.5) * (p.p_mean - 0.5) < 0", "abs(p.p_b - p.p_mean) DESC"),
            shape="examples",
            nothing="The labels are on the same side as the plain mean of the votes, every one.",
        ),
        Exhibit(
            "against-gold",
            "Judged against gold",
            "The surest labels among those that gold contradicts. Gold: the share of raters who prefer the later "
            "answer.",
            pairs("p.id AS pair, p.p_b AS p, g.p_b AS gold, g.raters", "(p.p_b - 0.5) * (g.p_b - 0.5) < 0",
                  "p.p_chosen DESC",
                  "JOIN (SELECT pair_id, p_b, raters FROM gold WHERE run_id = {run} AND principle_id = '') g\n"
                  "  ON g.pair_id = p.id\n"),
            shape="examples",
            nothing="No label is contradicted by gold.",
        ),
    ),
)  # fmt: skip

MISSING = Section(
    "missing",
    "What is missing",
    "What this run could not be asked, and what it would take.",
    (
        Exhibit(
            "missing-figures",
            "Figures without a value",
            "docs/judging.md says what each of them is.",
            "SELECT figure, note, count(*) AS times\nFROM figures\n"
            "WHERE run_id = {run} AND value IS NULL\nGROUP BY figure, note ORDER BY figure, note",
            nothing="Nothing: every figure of the audit has a value.",
        ),
    ),
)  # fmt: skip

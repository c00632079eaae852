"""The report's section on the answers themselves: what the judges of a scorecard say of each alone."""

from __future__ import annotations

from functools import partial

from constitution.audit import plots
from constitution.audit.exhibits import Exhibit, Section, figures
from constitution.audit.words import UNITS, Unit

_share = UNITS["share"]

_MEASURES = (
    ("scorecard_refusal", "full", "refuses in full"),
    ("scorecard_refusal", "partial", "refuses in part"),
    ("scorecard_over_refusal", "full", "over-refusal, in full"),
    ("scorecard_harmful_compliance", "compliance", "complies with harmful"),
    ("scorecard_undesired", "any", "undesired content"),
    ("scorecard_helpful", "", "helpful"),
    ("scorecard_tax_helpful", "", "helpful, less initial"),
    ("scorecard_length", "", "tokens"),
    ("scorecard_tax_length", "", "tokens, less initial"),
    ("scorecard_boilerplate", "", "boilerplate"),
    ("scorecard_prefix_refusal", "", "begins like a refusal"),
)

TABLE_UNITS: dict[str, Unit] = {
    "helpful, less initial": "points",
    "tokens": "count",
    "tokens, less initial": "logit",
}
"""Columns of the table below; its other numbers are shares."""

ROUND = "list_last(string_split(subject, '/'))"
WHICH = "CASE WHEN contains(subject, '/') THEN split_part(subject, '/', 1) ELSE '' END"
_ROUNDED = f"concat_ws(' · ', {ROUND}, nullif(judge, ''))"
_BY_ROUND = f"coalesce(try_cast({ROUND} AS INTEGER), 99), {ROUND}, judge"

TABLE = (
    """WITH measure(place, figure, which, what) AS (VALUES
  MEASURES)
SELECT what, judge, ROUND AS round, value, low, high, n
FROM figures JOIN measure USING (figure)
WHERE run_id = {run} AND value IS NOT NULL AND which = WHICH
ORDER BY place, judge, coalesce(try_cast(round AS INTEGER), 99), round""".replace(
        "MEASURES",
        ",\n  ".join(
            f"({place}, '{name}', '{which}', '{what}')" for place, (name, which, what) in enumerate(_MEASURES)
        ),
    )
    .replace("ROUND", ROUND)
    .replace("WHICH", WHICH)
)

NOTHING = (
    "No scorecard was asked of this run: `constitution audit --scorecard` asks the judges, of each answer alone, "
    "whether it refuses, has undesired content, helps."
)

SCORECARD = Section(
    "scorecard",
    "Scorecard",
    "What the judges say of each answer alone, asked one question at a time. Round 0 is the initial answer, r the "
    "revision of round r. These are the judges' words: the last exhibits say how often they are right, where that is "
    "known.",
    (
        Exhibit(
            "scorecard-rounds",
            "By round",
            "Shares of a round's answers; helpful: mean share of the checklist that speaks for the answer. Less "
            "initial: on harmless prompts, against the same prompt's initial answer, which is what alignment costs. "
            "Boilerplate: mean share of an answer's runs of eight words that are in the answers to many prompts.",
            TABLE,
            ("scorecard_refusal", "scorecard_tax_helpful"),
            units=TABLE_UNITS,
            nothing="No answer has a score.",
        ),
        Exhibit(
            "scorecard-refusal",
            "Refusal",
            "Full: the whole request is declined. Partial: a part of it, or what matters in it. The rest complies.",
            figures("scorecard_refusal", f"{_ROUNDED} AS round, split_part(subject, '/', 1) AS class",
                    "split_part(subject, '/', 1) <> 'compliance'", f"{_BY_ROUND}, class"),
            ("scorecard_refusal",),
            plot=partial(plots.intervals, label="round", group="class", write=_share, line=0.0),
            alt="Share of answers that refuse in full and in part, by round, with 95 % intervals",
            nothing="The scorecard does not ask about refusals.",
        ),
        Exhibit(
            "scorecard-over-refusal",
            "Refused and complied with, where it matters",
            "Of prompts that only look harmful, the share refused; of harmful ones, the share complied with. Both "
            "should be 0 %, and are read together: a model that refuses everything complies with nothing harmful.",
            figures("scorecard_over_refusal, scorecard_harmful_compliance",
                    f"{_ROUNDED} AS round, CASE figure WHEN 'scorecard_over_refusal' THEN 'looks harmful: refused'\n"
                    "  ELSE 'harmful: complied' END || CASE split_part(subject, '/', 1) WHEN 'partial' THEN ' in part' "
                    "ELSE '' END AS what", order=f"{_BY_ROUND}, what"),
            ("scorecard_over_refusal", "scorecard_harmful_compliance"),
            plot=partial(plots.intervals, label="round", group="what", write=_share, line=0.0),
            alt="Share of seemingly harmful prompts refused and of harmful ones complied with, by round",
            nothing="No prompt has a tag that says what should be done.",
        ),
        Exhibit(
            "scorecard-undesired",
            "Undesired content",
            "Share of answers in which the judge finds content of the category.",
            figures("scorecard_undesired",
                    f"concat_ws(' · ', split_part(subject, '/', 1), nullif(judge, '')) AS category, {ROUND} AS round",
                    order=f"split_part(subject, '/', 1) = 'any', category, {_BY_ROUND}"),
            ("scorecard_undesired",),
            plot=partial(plots.intervals, label="category", group="round", write=_share, line=0.0),
            alt="Share of answers with undesired content by category and round, with 95 % intervals",
            nothing="The scorecard does not ask about undesired content.",
        ),
        Exhibit(
            "scorecard-fairness",
            "When a term is swapped",
            "The answers to prompts in which one term stands for another of its kind: refusal, helpfulness and length "
            "with the second term less those with the first. Refusal changes: share of the prompts that get another "
            "class of answer, much of which is the chance of sampling again.",
            figures("scorecard_fairness_refusal, scorecard_fairness_helpful, scorecard_fairness_length, "
                    "scorecard_fairness_changed",
                    "CASE figure WHEN 'scorecard_fairness_changed' THEN 'refusal changes'\n"
                    "  ELSE replace(figure, 'scorecard_fairness_', '') END AS what, subject AS terms, judge",
                    order="subject, what, judge"),
            ("scorecard_fairness_refusal",),
            "points",
            {"refusal changes": "share", "length": "logit"},
            nothing="No prompt was answered with a term swapped.",
        ),
        Exhibit(
            "scorecard-judges",
            "Are the judges right?",
            "Held against labels of the same answers. Sensitivity: of answers of which the principle's question holds, "
            "the share that the judge finds. Specificity: of the others, the share that it leaves alone. Principles as "
            "the scorecard names them.",
            figures("scorecard_sensitivity, scorecard_specificity",
                    "principle_id AS principle, replace(figure, 'scorecard_', '') AS measure, judge",
                    order="principle_id, measure, judge"),
            ("scorecard_sensitivity", "scorecard_specificity"),
            plot=partial(plots.intervals, label="principle", group="measure", write=_share, line=1.0),
            alt="Sensitivity and specificity of the judges by principle, with 95 % intervals",
            nothing="No label says what the answers are.",
        ),
        Exhibit(
            "scorecard-corrected",
            "Corrected by what is known of the judges",
            "The shares above as they would be without the judge's errors (Rogan and Gladen), with intervals that know "
            "how few labels its errors are known from.",
            figures("scorecard_refusal_corrected, scorecard_undesired_corrected",
                    f"split_part(subject, '/', 1) AS what, {ROUND} AS round, judge", order=f"what, {_BY_ROUND}"),
            ("scorecard_refusal_corrected", "scorecard_undesired_corrected"),
            nothing="No label says what the answers are.",
        ),
    ),
    NOTHING,
)  # fmt: skip

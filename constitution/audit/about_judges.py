"""The report's sections on the judges: texts and queries, in the order of the page."""

from __future__ import annotations

from functools import partial

from constitution.audit import plots
from constitution.audit.exhibits import ALL, STAGES, Exhibit, Section, figures
from constitution.audit.words import UNITS

_share, _logit = UNITS["share"], UNITS["logit"]

TRUST = Section(
    "trust",
    "Held against gold",
    "Gold is what people, or a truth that is known, say of the same pairs. Each pair is turned by chance of "
    "its id, so that a judge who always prefers the later answer gains nothing. Stages: the votes of one order only; "
    "both orders averaged; style taken out; calibrated on the other half of the prompts; and the label as the run "
    "stored it.",
    (
        Exhibit(
            "alignment",
            "Agreement with gold",
            "Share of pairs on which judge and gold prefer the same answer. At 50 %, the dashed line, a judge is no "
            "better than a coin.",
            figures("alignment", "judge, subject AS stage", ALL, f"judge = '', judge, {STAGES}, subject"),
            ("alignment",),
            plot=partial(plots.intervals, label="stage", group="judge", write=_share, line=0.5),
            alt="Agreement with gold by stage and judge, with 95 % intervals",
            nothing="No pair of this run has a gold label.",
        ),
        Exhibit(
            "reliability",
            "Reliability",
            "Of the pairs that a label gives, say, 80 %, eighty in a hundred should be right: then the point lies on "
            "the dashed line. Points under it at the right are votes that are too sure of themselves. The bins hold "
            "equally many pairs.",
            """SELECT CASE WHEN p.judge = '' AND count(DISTINCT p.judge) OVER () = 2 THEN max(p.judge) OVER ()
    ELSE p.judge END AS judge,  -- the run's label and a judge alone share a diagram
  split_part(p.subject, '/', 1) AS stage, split_part(p.subject, '/', 2)::INTEGER AS bin,
  p.value AS predicted, o.value AS observed, p.n
FROM figures p JOIN figures o ON o.run_id = p.run_id AND o.judge = p.judge AND o.subject = p.subject
  AND o.principle_id = '' AND o.figure = 'reliability_observed'
WHERE p.run_id = {run} AND p.figure = 'reliability_predicted' AND p.principle_id = ''
  AND p.value IS NOT NULL AND o.value IS NOT NULL AND stage IN ('both orders', 'calibrated', 'label')
ORDER BY p.judge = '', p.judge, list_position(['both orders', 'calibrated', 'label'], stage), bin""",
            ("reliability_observed",),
            plot=plots.reliability,
            alt="Reliability diagram: observed share against predicted probability, before and after calibration",
            nothing="No pair of this run has a gold label to hold the probabilities against.",
        ),
        Exhibit(
            "alignment-principles",
            "Agreement with gold, by principle",
            "The votes of each principle, both orders averaged, against the principle's own gold where there is some, "
            "and else against the whole's.",
            figures(
                "alignment", "principle_id AS principle, judge", "principle_id <> '' AND subject = 'both orders'",
                "judge, value DESC",
            ),
            ("alignment",),
            plot=partial(plots.intervals, label="principle", group="judge", write=_share, line=0.5),
            alt="Agreement with gold by principle, with 95 % intervals",
            nothing="No principle's votes can be held against gold.",
        ),
        Exhibit(
            "calibration",
            "Calibration error",
            "ECE is the mean distance between the two axes of the diagram above; 0 is perfect. The Brier score is the "
            "mean squared error of the probability; 25 % is what a label of 50 % gets on every pair.",
            figures(
                "ece, brier", "judge, CASE figure WHEN 'ece' THEN 'ECE' ELSE 'Brier' END AS measure, subject AS stage",
                ALL, f"judge = '', judge, figure DESC, {STAGES}, subject",
            ),
            ("ece", "brier"),
            nothing="No pair of this run has a gold label to hold the probabilities against.",
        ),
    ),
)  # fmt: skip

POSITION = Section(
    "position",
    "Position",
    "Every pair is shown in both orders. A judge that looks at the answers alone prefers the same answer in both; one "
    "that looks at the place prefers the same place. The label is the mean of both orders, which takes a constant "
    "effect out, though not the noise that it leaves.",
    (
        Exhibit(
            "position-judges",
            "Same place preferred",
            "Share of couples of votes (one pair, judge and principle, both orders) that prefer the same place.",
            figures("position_bias", "judge", ALL, "judge"),
            ("position_bias",),
            plot=partial(plots.intervals, label="judge", write=_share, line=0.0, bars=True),
            alt="Position bias by judge, with 95 % intervals",
            nothing="There are no complete couples of votes.",
        ),
        Exhibit(
            "first-place",
            "Which place",
            "Of the couples above, the share that prefers the first place: over 50 % is primacy, under it recency.",
            figures("first_place", "judge", ALL, "judge"),
            ("first_place",),
            plot=partial(plots.intervals, label="judge", write=_share, line=0.5),
            alt="Share of position-bound couples that prefer the first place, by judge",
            nothing="No couple prefers the same place in both orders.",
        ),
        Exhibit(
            "position-principles",
            "Effect of the first place, by principle",
            "Log-odds that being shown first adds; 0, the dashed line, is none, +1 makes 73 % of 50 %.",
            figures(
                "position_effect", "principle_id AS principle, judge",
                order="principle_id <> '', principle_id, judge",
            ),
            ("position_effect",),
            "logit",
            plot=partial(plots.intervals, label="principle", group="judge", write=_logit, line=0.0),
            alt="Effect of the first place in log-odds, by principle and judge, with 95 % intervals",
            nothing="There are no complete couples of votes.",
        ),
        Exhibit(
            "stability",
            "Stability when asked again",
            "Share of repeated votes, asked with another seed, that prefer the same answer.",
            figures("repetition_stability", "judge", ALL, "judge"),
            ("repetition_stability",),
            plot=partial(plots.intervals, label="judge", write=_share, line=1.0),
            alt="Repetition stability by judge, with 95 % intervals",
            nothing="No vote was asked for more than once.",
        ),
    ),
)  # fmt: skip

STYLE = Section(
    "style",
    "Length and style",
    "How much of the preference goes with looks: a regression of each judge's order-averaged log-odds on the two "
    "answers' differences in length, headers, lists and bold. A judge may be right to prefer a longer answer; this "
    "says how far length alone foretells what it prefers.",
    (
        Exhibit(
            "style-effects",
            "Effect of one standard deviation",
            "Log-odds that go with one standard deviation more of each. An interval that holds 0, the dashed line, is "
            "no effect that this run can show.",
            figures("style_effect_sd", "subject AS feature, judge", ALL,
                    "list_position(['length', 'headers', 'lists', 'bold'], subject), judge"),
            ("style_effect_sd", "style_effect"),
            "logit",
            plot=partial(plots.intervals, label="feature", group="judge", write=_logit, line=0.0),
            alt="Effects of length, headers, lists and bold in log-odds, by judge, with 95 % intervals",
            nothing="There are too few pairs to fit it.",
        ),
        Exhibit(
            "win-rates",
            "Wins of the later answer",
            "Mean probability that the later answer is better (of kind first-last: the last revision against the "
            "initial answer), as voted and with the effect of length, or of all four, taken out.",
            figures("win_rate, win_rate_length_controlled, win_rate_style_controlled",
                    "concat_ws(' · ', subject, nullif(judge, '')) AS pairs,\n"
                    "  CASE figure WHEN 'win_rate' THEN 'as voted' WHEN 'win_rate_length_controlled' "
                    "THEN 'length taken out'\n  ELSE 'style taken out' END AS control", ALL,
                    "subject, judge, figure"),
            ("win_rate", "win_rate_length_controlled", "win_rate_style_controlled"),
            plot=partial(plots.intervals, label="pairs", group="control", write=_share, line=0.5),
            alt="Win rates as voted and under control of length and style, with 95 % intervals",
            nothing="No pair has votes.",
        ),
        Exhibit(
            "style-table",
            "Effects per unit",
            "Per unit of the difference as docs/judging.md defines it: from the least to the most that two answers can "
            "differ in length is 2. By least squares on the log-odds, and by a logistic regression of the votes.",
            figures("style_effect, style_logistic",
                    "judge, CASE figure WHEN 'style_effect' THEN 'least squares' ELSE 'logistic' END AS fit,"
                    "\n  subject AS feature", ALL,
                    "judge, fit, list_position(['length', 'headers', 'lists', 'bold'], feature)"),
            ("style_effect", "style_logistic"),
            "logit",
            nothing="There are too few pairs to fit it.",
        ),
        Exhibit(
            "labels-changed",
            "Labels that a control or correction changes",
            "Share of the pairs whose preferred answer would be the other one, were length or style taken out; label: "
            "that is the other one, because the recipe's settings changed it from the plain mean of the votes.",
            figures("labels_changed", "subject AS control, judge", ALL, "subject, judge"),
            ("labels_changed",),
            nothing="No label could change.",
        ),
    ),
)  # fmt: skip

PERTURBATIONS = Section(
    "perturbations",
    "Perturbations",
    "Some answers were spoiled on purpose and shown beside what they were made of: wrong but polished, right but "
    "terse, sarcastic. A judge that is worth its name prefers the original every time.",
    (
        Exhibit(
            "perturbation-judges",
            "Original preferred over the spoiled answer",
            "Share of couples of votes, ties half, that prefer the original. At 50 % the perturbation costs nothing; "
            "under it, it pays.",
            figures("perturbation_penalty", "subject AS perturbation, judge", ALL, "subject, judge"),
            ("perturbation_penalty",),
            plot=partial(plots.intervals, label="perturbation", group="judge", write=_share, line=0.5),
            alt="Share that prefers the original, by perturbation and judge, with 95 % intervals",
            nothing="No answer was spoiled: the recipe has no [perturb].",
        ),
        Exhibit(
            "perturbation-principles",
            "By principle",
            "The same, principle by principle: which questions see the perturbation.",
            figures("perturbation_penalty", "principle_id AS principle, subject AS perturbation, judge",
                    "principle_id <> ''", "principle_id, subject, judge"),
            ("perturbation_penalty",),
            nothing="No answer was spoiled: the recipe has no [perturb].",
        ),
    ),
)  # fmt: skip

JUDGES = Section(
    "judges",
    "Judges",
    "Who voted, who did not, and whether they agree with each other and with people.",
    (
        Exhibit(
            "votes",
            "Votes",
            "Votes that each judge cast, votes that were asked for and are missing, and the mean probability that fell "
            "on the labels at all (what is not on them was neither answer). Censored: share of votes of which a label "
            "was outside the likeliest tokens that the server returns, and was bounded. Ties: share of couples that "
            "prefer neither.",
            """SELECT judge, max(value) FILTER (figure = 'votes_cast')::BIGINT AS votes,
  max(value) FILTER (figure = 'votes_missing')::BIGINT AS missing,
  max(value) FILTER (figure = 'label_mass') AS "label mass",
  max(value) FILTER (figure = 'censored') AS censored,
  max(value) FILTER (figure = 'ties') AS ties
FROM figures
WHERE run_id = {run} AND principle_id = '' AND subject = ''
  AND figure IN ('votes_cast', 'votes_missing', 'label_mass', 'censored', 'ties')
GROUP BY judge
HAVING votes IS NOT NULL OR missing IS NOT NULL
ORDER BY judge""",
            ("votes_cast",),
            nothing="There are no votes.",
        ),
        Exhibit(
            "pairs",
            "Pairs",
            "What was judged, what was kept, and why the rest was dropped. Perturbations are judged and never kept.",
            "SELECT figure AS pairs, subject AS which, value::BIGINT AS times\nFROM figures\n"
            "WHERE run_id = {run} AND judge = '' AND figure IN ('pairs', 'kept', 'dropped')\n"
            "ORDER BY list_position(['pairs', 'kept', 'dropped'], figure), subject",
            ("pairs",),
            nothing="There are no pairs.",
        ),
        Exhibit(
            "failures",
            "Failures",
            "What did not work, by step and error. A failure is a row and never a vote.",
            "SELECT subject AS failure, value::BIGINT AS times\nFROM figures\n"
            "WHERE run_id = {run} AND figure = 'failures' AND value > 0\nORDER BY times DESC, failure",
            nothing="Nothing failed.",
        ),
        Exhibit(
            "agreement",
            "Agreement",
            "Krippendorff's α for any number of judges or raters, Cohen's κ for one judge against gold: 1 is full "
            "agreement, 0 is chance, under 0 is worse than chance. With the label: the share of a pair's couples of "
            "votes that prefer what its label prefers.",
            figures("alpha, kappa, agreement",
                    "CASE figure WHEN 'alpha' THEN 'α' WHEN 'kappa' THEN 'κ against gold' ELSE 'with the label' END "
                    "AS measure,\n  coalesce(nullif(trim(subject || ' ' || judge), ''), 'labels') AS \"of\"", ALL,
                    "figure, subject, judge"),
            ("alpha", "kappa"),
            "number",
            nothing="There is one judge, and no gold label.",
        ),
        Exhibit(
            "self-preference",
            "Self-preference",
            "How much more often a judge picks its own family's answer where gold picks it, than it picks others' "
            "where gold picks those.",
            figures("self_preference", "judge", ALL, "judge"),
            ("self_preference",),
            "points",
            plot=partial(plots.intervals, label="judge", write=UNITS["points"], line=0.0),
            alt="Self-preference by judge, with 95 % intervals",
            nothing="It cannot be known here.",
        ),
    ),
)  # fmt: skip

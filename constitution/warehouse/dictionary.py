"""The view `dictionary`: every column of the tables, and of the views that have a name of theirs for something else.

In a view, a table's column (`of`) is the same thing under the same name: `pairs` has each column of `preferences`. Any
other has its own sentence here, so that who joins two of them sees that one `p_b` is a label and the other a vote.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from constitution.sandbox import quoted
from constitution.warehouse.columns import IDS, RUN_ID, Column, flag, integer, real, sql_type, text
from constitution.warehouse.schema import TABLES


def of(table: str, names: str) -> tuple[Column, ...]:
    """These columns of a table, as they are there."""
    columns = {column.name: column for column in TABLES[table].columns}
    return tuple(columns[name] for name in names.split())


def _as(table: str, name: str, called: str, says: str = "", *, null: bool | None = None) -> Column:
    """A table's column under another name, or with another sentence."""
    [column] = of(table, name)
    says = says or f"`{table}.{name}`: {column.doc}"
    return replace(column, name=called, doc=says, null=column.null if null is None else null)


def _number(name: str, doc: str) -> Column:
    return Column(name, pa.int64(), doc)


PAIR_ID = text("pair_id", "`preferences.id`.")
JUDGE = _as("judgements", "judge", "judge")
PRINCIPLE = _as("judgements", "principle_id", "principle_id")
METHOD = _as("judgements", "method", "method")
KEY = of("judgements", "run_id prompt_id")
KIND_OF_PAIR = _as("preferences", "kind", "kind")
KIND_OF_ANSWER = _as("responses", "kind", "kind")

_AVERAGED = (
    *KEY, PAIR_ID, KIND_OF_PAIR, JUDGE, PRINCIPLE, METHOD,
    _number("votes", "Votes that it is the average of, of both orders and all repeats."),
    real("p_ab", "Probability that b is better, of the votes that showed a first; null: none did.", null=True),
    real("p_ba", "The same of those that showed b first; null: none did, or the method has one order.", null=True),
    real("p_b", "Mean of `p_ab` and `p_ba`: this judge's vote by this principle, not the label (`preferences.p_b`)."),
    real("l_b", "Mean log-odds for b over both orders."),
    real("position", "What standing first gave an answer, in log-odds, half the difference of both orders; null: one "
         "order, or a censored vote. Not the place of a prompt or principle (`prompts.position`).", null=True),
    flag("same_place", "Both orders prefer the same place; null: one order, or a tie.", null=True),
    flag("first_place", "That place is the first; null: not the same place.", null=True),
    real("p_counted", "As `p_b`, of votes clamped where the method is: what the label counts."),
    flag("consistent", "Both orders prefer the same answer; null: one order.", null=True),
    real("l_ab", "Log-odds of `p_ab`; null with it.", null=True),
    real("l_ba", "Log-odds of `p_ba`; null with it.", null=True),
    real("trials", "Written verdicts that `p_b` is the share of, in effect; null: it was read.", null=True),
    real("p_low", "Lower end of the 95 % interval of this `p_b` (`preferences.p_low` is of the label's `p_mean`); "
         "null: it was read.", null=True),
    real("p_high", "Upper end of it.", null=True),
)  # fmt: skip
_COUNTED = (
    *KEY, PAIR_ID, KIND_OF_PAIR, JUDGE, PRINCIPLE, METHOD,
    integer("orders", "Orders in which the method shows a pair."),
    flag("sampled", "Whether the method's votes are drawn (written verdicts), not read."),
    flag("b_first", "Whether b was shown first."),
    real("low", "Least that the vote counts as: the recipe's clamp, or 0. No interval (`figures.low` is one)."),
    real("high", "Most that it counts as."),
    *of("judgements", "p_first"),
    real("p_counted", "`p_first` between `low` and `high`."),
    *of("judgements", "censored wave"),
)  # fmt: skip

_GAP = real(
    "reward_gap", "Reward of the chosen answer less that of the rejected one: negative where votes prefer what rewards "
    "do not; null: one of them has none.", null=True,
)  # fmt: skip

VIEWS: dict[str, tuple[Column, ...]] = {
    "training_pairs": (*TABLES["preferences"].columns, _GAP),
    "pairs": (
        *of("preferences", "run_id id prompt_id kind"),
        _as("prompts", "messages", "prompt", null=True),
        *of("prompts", "last_user"),
        _as("responses", "text", "chosen", "Text of `chosen_id`."),
        _as("responses", "text", "rejected", "Text of `rejected_id`."),
        *of("preferences", "p_chosen p_b kept drop_reason votes votes_missing votes_spared consistency agreement"),
        *of("preferences", "label_mass a_id b_id chosen_id rejected_id"),
        _as("responses", "round", "chosen_round", "Round of `chosen_id`."),
        _as("responses", "round", "rejected_round", "Round of `rejected_id`."),
        _as("responses", "model", "chosen_model", "Model of `chosen_id`."),
        _as("responses", "model", "rejected_model", "Model of `rejected_id`."),
        _as("responses", "family", "chosen_family", "Family of that model; null: not known."),
        _as("responses", "family", "rejected_family", "Family of the model of `rejected_id`; null: not known."),
        *of("preferences", "gold_id"),
        flag("agrees_with_gold", "Whether the chosen one is gold's; null: no gold, no votes, or a tie.", null=True),
        *of("preferences", "p_mean p_low p_high label_by ties dissent reward_a reward_b"),
        _GAP,
        _as("prompts", "source", "source"),
        _as("prompts", "tags", "tags"),
        *of("preferences", "created_at"),
    ),
    "perturbations": (
        *of("preferences", "run_id id prompt_id"),
        *of("responses", "perturbation"),
        _as("prompts", "messages", "prompt", null=True),
        *of("prompts", "last_user"),
        _as("responses", "text", "answer", "Text of the answer as it was."),
        _as("responses", "text", "perturbed", "Text of it, spoiled."),
        real("p_answer", "Probability that the answer as it was is better: 1 − `preferences.p_b`; null without votes.",
             null=True),
        *of("preferences", "votes votes_missing consistency agreement dissent label_mass"),
        _as("responses", "outcome", "outcome", "`responses.outcome` of the spoiled one."),
        text("answer_id", "`responses.id` of the answer as it was: `preferences.a_id`."),
        text("perturbed_id", "`responses.id` of the spoiled one: `preferences.b_id`."),
        _as("responses", "kind", "answer_kind", "`responses.kind` of the answer as it was."),
        _as("responses", "round", "round", "Its round."),
        _as("responses", "model", "model", "Model that spoiled it."),
        _as("responses", "family", "family", "Family of that model; null: not known."),
        _as("prompts", "source", "source"),
        _as("prompts", "tags", "tags"),
    ),
    "votes": (
        *KEY, PAIR_ID,
        _as("preferences", "kind", "pair_kind", null=True),
        text("judgement_id", "`judgements.id`."),
        JUDGE, PRINCIPLE, METHOD,
        flag("a_first", "Whether the pair's earlier answer was shown first; null: the pair has no label yet.",
             null=True),
        *of("judgements", "p_first"),
        real("p_b", "This one vote for the pair's later answer, not the label (`preferences.p_b`); null: the pair has "
             "no label yet.", null=True),
        *of("judgements", "label_mass"),
        _as("principles", "weight", "weight"),
        *of("principles", "comparison_question"),
        _as("responses", "text", "first_text", "Text of the answer shown first."),
        _as("responses", "text", "second_text", "Text of the answer shown second."),
        *of("judgements", "principle_digest template_digest rationale seed repeat wave calls read_first read_second"),
    ),
    "averaged_votes": _AVERAGED,
    "first_votes": _AVERAGED,
    "training_votes": _AVERAGED,
    "counted_votes": _COUNTED,
    "first_counted_votes": _COUNTED,
    "readings": (
        *KEY,
        text("response_id", "`responses.id` of the answer that was read by itself."),
        JUDGE, PRINCIPLE, METHOD,
        real("value", "In [0, 1]: the expected grade between the lowest and the highest, or the share of the checklist."
             " No annotation (`annotations.value`)."),
    ),
    "gold": (
        *KEY, PAIR_ID,
        text("principle_id", "The principle that it is about; empty: the whole."),
        real("p_b", "Mean over raters: 1 prefers b, 0 prefers a. What people say, not the label (`preferences.p_b`)."),
        _number("raters", "People, the prompts' own gold being one."),
    ),
    "group_gold": (
        *KEY, PAIR_ID,
        text("principle_id", "The principle that it is about; empty: the whole."),
        text("rater_group", "The group of raters; a rater counts in each that is theirs."),
        real("p_b", "Mean over the group's raters: 1 prefers b, 0 prefers a."),
        _number("raters", "People of the group."),
    ),
    "raters": (
        RUN_ID,
        text("rater", "A rater who has groups."),
        Column("rater_groups", IDS, "Those that any of the rater's annotations in the run names."),
    ),
    "rated": (
        *KEY, PAIR_ID,
        text("principle_id", "The principle that it is about; empty: the whole."),
        text("rater", "Who says it; `prompts`: gold that came with the prompt."),
        real("p_b", "1 prefers b, 0 prefers a, 0.5 neither, or between."),
        Column("rater_groups", IDS, "The rater's groups; null: none that are known.", null=True),
    ),
    "style": (
        *of("responses", "run_id"),
        text("response_id", "`responses.id`."),
        *of("responses", "prompt_id"), KIND_OF_ANSWER, *of("responses", "round model"),
        _number("tokens", "Words and single marks of the text."),
        _number("headers", "Headers of markdown outside fenced code."),
        _number("lists", "Items of lists, likewise."),
        _number("bold", "Bold passages, likewise."),
    ),
    "style_differences": (
        *of("preferences", "run_id"), PAIR_ID, *of("preferences", "prompt_id"), KIND_OF_PAIR,
        real("length", "(b − a) / (b + a), in tokens."),
        real("headers", "Of counts a token, d: (d_b − d_a) / (d_a + d_b + 1). No count (`style.headers`)."),
        real("lists", "The same of items of lists."),
        real("bold", "The same of bold passages."),
    ),
    "position": (
        *of("judgements", "run_id"), JUDGE, PRINCIPLE,
        _number("votes", "Order-averaged votes, of methods that show both orders."),
        _number("decided", "Of these, those that prefer an answer in each order."),
        real("same_place", "Share of the decided that prefer the same place in both orders; null: none is decided.",
             null=True),
        real("first_place", "Share of these that prefer the first; null: there are none.", null=True),
        real("log_odds", "Mean of `averaged_votes.position`.", null=True),
    ),
    "alignment": (
        *of("judgements", "run_id"), JUDGE, PRINCIPLE,
        text("gold_of", "principle · whole: what the gold is about that the votes are held against."),
        _number("n", "Order-averaged votes on pairs with gold that is no tie."),
        real("one_order", "Share of single votes that prefer what gold prefers, ties half."),
        real("both_orders", "The same of order-averaged votes."),
    ),
    "advantages": (
        *of("rewards", "run_id prompt_id source response_id"), KIND_OF_ANSWER,
        *of("responses", "sampler round"), *of("rewards", "value length_penalty"),
        real("total", "`value` with the length penalty: what answers are ranked by."),
        _number("rank", "Place in its group, from 1 for the best; equal totals share one."),
        real("advantage", "(total − mean) / (std + 0.0001) within the group; 0 where all totals are the same."),
        *of("responses", "text"),
    ),
    "groups": (
        *of("rewards", "run_id prompt_id source"),
        _number("n", "Answers in the group, with a value."),
        _number("distinct_texts", "Different texts among them."),
        real("mean", "Mean of their totals (`advantages.total`)."),
        real("std", "Standard deviation, of a sample; null: there is one answer.", null=True),
        real("range", "The highest total less the lowest."),
        flag("unanimous", "All totals are the same: the group teaches GRPO nothing."),
        text("best_id", "`responses.id` of the highest total; of equal ones the least id."),
        text("worst_id", "The same of the lowest; null: all totals are the same.", null=True),
    ),
    "checked_references": (
        *KEY,
        text("response_id", "`responses.id` of the reference."),
        *of("prompts", "last_user"),
        _as("responses", "text", "text", "Text of the reference."),
        _as("reference_checks", "source", "source", null=True),
        _as("responses", "parent_id", "parent_id", "`responses.id` of the answer that it is the text of; null: none."),
        *of("responses", "seen_ids model"), *of("reference_checks", "agrees majority"),
        _as("reference_checks", "readings", "readings", null=True),
        _as("reference_checks", "missing", "missing", null=True),
        *of("reference_checks", "least"),
        _as("reference_checks", "principle_id", "principle_id",
            "The principle of its worst criterion; null: none was read."),
        *of("reference_checks", "drop_reason"),
        flag("kept", "Something may be made from it: it was checked and not dropped."),
    ),
    "chains": (
        *KEY,
        integer("rounds", "Rounds of revision that there are; null: no answer yet.", null=True),
        integer("rounds_wanted", "Rounds that the recipe asks for.", null=True),
        _number("samples", "Samples that there are."),
        _number("responses", "Answers, without perturbations and references."),
        _number("rewards", "Rewards of its answers by the sources of [reward]: a count, not the table."),
        _number("pairs", "Labelled pairs, without perturbations: a count, not the view."),
        _number("kept", "How many of them were kept: a count (`preferences.kept` is of one pair)."),
        _number("failures", "Rows in `failures`, retried ones too."),
        Column("pairs_missing", pa.list_(pa.string()), "Kinds of pairs that are still to be labelled."),
        text("state", "complete · open · stopped · failed."),
        flag("complete", "`state` is complete."),
        text("stopped_at", "Step at which an engine stopped or failed it; null: none did.", null=True),
        text("stopped_by", "The error; null: none.", null=True),
    ),
}  # fmt: skip


def dictionary() -> str:
    """The query of the view: a row per column, with its type, whether it can be null, and what it says."""
    rows = []
    tables = {name: table.columns for name, table in TABLES.items()}
    for name, columns in (tables | VIEWS).items():
        for place, column in enumerate(columns):
            words = (quoted(word) for word in (name, column.name, sql_type(column.type), column.doc))
            rows.append(f"({', '.join(words)}, {place}, {column.null})")
    names = "table_name, column_name, type, says, position, nullable"
    return f"SELECT * FROM (VALUES {', '.join(rows)}) AS d({names})"

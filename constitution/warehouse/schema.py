"""Every table's columns: name, Arrow type, one line of what it says. Files, SQL and the view `dictionary` follow.

A column that may be null says so in its line. Dictionary encoding is only for columns with few distinct values.
"""

from __future__ import annotations

import pyarrow as pa

from constitution.warehouse.columns import (
    CREATED_AT,
    IDS,
    PROMPT_ID,
    READINGS,
    RUN_ID,
    Column,
    Table,
    few,
    flag,
    integer,
    real,
    text,
)
from constitution.warehouse.schema_clauses import CLAUSES
from constitution.warehouse.schema_input import PRINCIPLES, PROMPTS, SKIPPED
from constitution.warehouse.schema_notes import (
    ANNOTATIONS,
    COUNTERFACTUALS,
    EXPORTED,
    FIGURES,
    REFERENCE_CHECKS,
    REWARDS,
    RUBRICS,
    SCORES,
)

SAMPLING = pa.struct(
    [
        pa.field("temperature", pa.float64(), nullable=False),
        pa.field("top_p", pa.float64(), nullable=False),
        pa.field("max_tokens", pa.int32(), nullable=False),
        pa.field("stop", pa.list_(pa.string()), nullable=False),
    ]
)
PRINCIPLE_DIGEST = "`principles.digest`: the exact words of the principle, whatever its version is called."

RESPONSES = Table(
    "responses",
    "One row per answer to a prompt, with the principle and the critique that led to it.",
    (
        RUN_ID,
        text("id", "Digest of run, prompt, kind and round.", sought=True),
        PROMPT_ID,
        few("kind", "initial · revision · sample · reference · given (it came with the prompt) · perturbation (its "
             "parent, spoiled on purpose)."),
        integer("round", "0 for the initial answer, r for the revision of round r; of a perturbation, its parent's; of "
                "a sample, its number among its sampler's, from 0; of a reference 0."),
        text("text", "The answer."),
        few("outcome", "ok · cut (by max_tokens, or to call a tool) · empty · refused, filtered (by the server) · "
             "unchanged (equal to its parent) · skipped (no revision was asked for; the text is the parent's)."),
        Column("refuses", pa.bool_(), "True: the text begins like a refusal (English, a lower bound), a "
               "model's or a person's; null: not looked at.", null=True),
        few("model", "Short name of the model; `given`: it came with the prompt."),
        text("parent_id", "The response that it revises or spoils, or that a reference is taken from; null: none.",
             null=True),
        few("principle_id", "The principle drawn for this round; null: none.", null=True),
        few("principle_digest", PRINCIPLE_DIGEST + " Null: none.", null=True),
        text("critique", "The critique of the parent; null: none was asked for.", null=True),
        few("critique_outcome", "ok · cut · empty · refused (by the server, or by how it begins) · filtered; null: "
             "none was asked for.", null=True),
        Column("critique_seed", pa.int64(), "Seed of the critique; null: none.", null=True),
        integer("critique_prompt_tokens", "Tokens of input of the critique."),
        integer("critique_cached_tokens", "Of these, found in the engine's prefix cache."),
        integer("critique_completion_tokens", "Tokens of output of the critique."),
        text("critique_reasoning", "What the model thought before the critique; null: nothing that is known.",
             null=True),
        integer("critique_reasoning_tokens", "Of the critique's tokens of output, those of reasoning; 0: none that are "
                "known."),
        few("template_digest", "`templates.digest` of what rendered critique and answer; null: the prompt's own "
             "messages.", null=True),
        Column("sampling", SAMPLING, "temperature, top_p, max_tokens (output), stop strings; null: not generated.",
               null=True, few=("sampling.temperature", "sampling.top_p", "sampling.max_tokens",
                               "sampling.stop.list.element")),
        Column("seed", pa.int64(), "Seed of the answer; null: not generated.", null=True),
        few("finish_reason", "stop · length · refusal · content_filter · tool_calls; null: not generated.", null=True),
        integer("prompt_tokens", "Tokens of input of the answer."),
        integer("cached_tokens", "Of these, found in the engine's prefix cache."),
        integer("completion_tokens", "Tokens of output of the answer."),
        text("reasoning", "What the model thought before the text; null: nothing that is known.", null=True),
        integer("reasoning_tokens", "Of the answer's tokens of output, those of reasoning; 0: none that are known."),
        few("family", "Family of the model that wrote it, as the recipe names it; null: not known.", null=True),
        few("perturbation", "How it was spoiled: polished · terse · sarcastic; null: it was not.", null=True),
        few("copied_from", "What the text repeats instead of answering: exemplar · principle · template · critique · "
             "turn (of the conversation) · system-prompt; null: nothing that is found.", null=True),
        few("critique_copied_from", "The same of the critique.", null=True),
        few("sampler", "Of a sample, the recipe's name of what made it; null: it is no sample.", null=True),
        few("system_prompt", "Id of the system prompt that it was made with and that no export has; null: none.",
            null=True),
        few("system_prompt_digest", "SHA-256 of the system prompt as it was sent, and of the thought that was put "
            "before the answer; null: none.", null=True),
        Column("seen_ids", IDS, "`responses.id` of the answers that the model was shown when it wrote "
               "this one; null: none.", null=True),
        integer("calls", "Calls to the engine that the text took, without the critique's; 0: none, as of a given "
                "answer and a skipped revision."),
        CREATED_AT,
    ),
)  # fmt: skip

JUDGEMENTS = Table(
    "judgements",
    "One row per vote: one judge, one principle, one order of the pair, one repeat.",
    (
        RUN_ID,
        text("id", "Digest of run, pair, judge, principle, order and repeat."),
        PROMPT_ID,
        text("pair_id", "`preferences.id`.", sought=True),
        text("first_id", "`responses.id` of the answer shown first, as (A)."),
        text("second_id", "`responses.id` of the answer shown second, as (B)."),
        few("judge", "Name of the jury's member; of a judge alone, short name of its model."),
        few("principle_id", "The principle that was asked about."),
        few("principle_digest", PRINCIPLE_DIGEST),
        few("method", "label · rationale · score · rubric (these two look at one answer at a time, in one order) · "
             "verdict (written, a row each)."),
        real("p_first", "Probability that the first is better, as it was read: neither clamped nor corrected. Of a "
              "verdict 1, 0 or, of a tie, 0.5: the probability is the share over `repeat`."),
        real("label_mass", "Probability on the labels together before renormalising; 1 − it is missing. Of several "
              "readings, the smallest; of a verdict, which is not read, 1."),
        few("template_digest", "`templates.digest` of what rendered the question."),
        text("rationale", "What the judge wrote before its vote, of a verdict all that it wrote; null: nothing was "
             "asked for.", null=True),
        Column("seed", pa.int64(), "Seed of the request; null: none.", null=True),
        integer("prompt_tokens", "Tokens of input, of all its calls."),
        integer("cached_tokens", "Of these, found in the engine's prefix cache."),
        integer("completion_tokens", "Tokens of output, of all its calls."),
        text("rationale_reasoning", "What the judge thought before its rationale; null: nothing that is known.",
             null=True),
        integer("reasoning_tokens", "Of the tokens of output, those of reasoning; 0: none that are known."),
        integer("repeat", "0 for the first vote of its kind, 1 for the second with another seed, and so on."),
        integer("wave", "0: asked for whatever other votes said; 1, 2 …: because those of the waves before had not "
                "decided the pair (`judge.votes`)."),
        integer("calls", "Calls to the engine that it took."),
        Column("read_first", READINGS, "Of the first answer. score: raw probability of each grade, from the lowest; "
               "rubric: P(yes) of each criterion, renormalised; null: the other methods.", null=True),
        Column("read_second", READINGS, "The same of the second answer.", null=True),
        flag("censored", "True: a label was outside the likeliest tokens that the server returns: not read but "
             "bounded, and half of the bound taken."),
        CREATED_AT,
    ),
)  # fmt: skip

PREFERENCES = Table(
    "preferences",
    "One row per pair of answers: what the votes made of it, kept or dropped with the reason.",
    (
        RUN_ID,
        text("id", "The pair's id, which its judgements name.", sought=True),
        PROMPT_ID,
        few("kind", "first-last · parent (a round against its parent) · given (answers that came with the prompt) · "
             "contrast, best-worst, best-random, best-low, all, tournament (of samples) · "
             "perturbation (an answer against itself, spoiled)."),
        text("a_id", "`responses.id` of the earlier answer; of a contrast, that of the sampler named second."),
        text("b_id", "`responses.id` of the later one; of a contrast, the one that is meant to be better."),
        real("p_b", "Soft label: probability that b is better, as `label_by` says; null: there is none.", null=True),
        integer("votes", "Votes that count."),
        integer("votes_missing", "Votes that were asked for and do not count: failed, short of label mass, or without "
                "the other order."),
        real("consistency", "Share of (judge, principle) that prefer the same answer in both orders; null: no such "
              "votes.", null=True),
        real("agreement", "Share of (judge, principle) that prefer what the label prefers; null without votes.",
              null=True),
        real("label_mass", "Mean label mass of the votes; null without votes.", null=True),
        few("drop_reason", "tie · margin · identical · empty · cut · refused · filtered · votes-missing · "
             "reward-missing · perturbation; null: kept.", null=True),
        text("gold_id", "`responses.id` of the answer that people prefer; null: not known.", null=True),
        real("p_mean", "The label that the plain mean of the votes makes; null without votes.", null=True),
        few("label_by", "mean · majority · dawid-skene, then the methods of its votes but label, then what else was "
             "applied: style, length, temperature, isotonic. Without votes: reward · construction."),
        integer("ties", "Order-averaged votes (judge, principle) that prefer neither."),
        Column("dissent", pa.list_(pa.string()), "`judge/principle` of the votes that prefer the other answer.",
               few=("dissent.list.element",)),
        real("p_low", "Lower end of the 95 % interval of `p_mean` that so few written verdicts leave; null: no vote "
              "is one.", null=True),
        real("p_high", "Upper end of it.", null=True),
        integer("votes_spared", "Votes that were not asked for: the others had decided the pair (`judge.votes`)."),
        real("reward_a", "Reward of a by the first source of the recipe's [reward], with the length penalty; null: it "
             "has none.", null=True),
        real("reward_b", "The same of b.", null=True),
        Column("kept", pa.bool_(), "True if `drop_reason` is null."),
        text("chosen_id", "The preferred answer; of a tie or a pair without a label, b."),
        text("rejected_id", "The other one."),
        real("p_chosen", "max(p_b, 1 − p_b); null without a label.", null=True),
        CREATED_AT,
    ),
)  # fmt: skip

FAILURES = Table(
    "failures",
    "One row per thing that did not work. A resumed run tries the retryable ones again; the old row stays.",
    (
        RUN_ID,
        text("id", "Digest of what failed."),
        PROMPT_ID,
        few(
            "step",
            "Step of the chain: initial, critique-1, revision-1, rubric, reward-rubric, vote, …; turn-2, …: a later "
            "turn.",
        ),
        few(
            "error",
            "Class of the error, or EmptyOutput, CritiqueRefused, AnswerRefused, ContentFiltered, TurnNotAsked "
            "(a later turn, by the prompt of the one that has no whole answer), NoRubric (too few items are left).",
        ),
        text("message", "What it said."),
        Column("retryable", pa.bool_(), "True: trying again can help."),
        few("judge", "Of a vote or a reading: whose it was, as `judgements.judge`; null: neither.", null=True),
        CREATED_AT,
    ),
)

TABLES = {
    table.name: table
    for table in (
        *(PRINCIPLES, PROMPTS, SKIPPED, RESPONSES, JUDGEMENTS, PREFERENCES, FAILURES),
        *(ANNOTATIONS, FIGURES, SCORES, REWARDS, REFERENCE_CHECKS, RUBRICS, COUNTERFACTUALS, CLAUSES, EXPORTED),
    )
}

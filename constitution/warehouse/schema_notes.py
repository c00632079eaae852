"""The columns of what is said of answers by themselves, and of a run afterwards (schema.py has the others)."""

from __future__ import annotations

import pyarrow as pa

from constitution.warehouse.columns import (
    AUTHOR,
    CREATED_AT,
    IDS,
    MESSAGES,
    PROMPT_ID,
    READINGS,
    RUN_ID,
    STEPS,
    Column,
    Table,
    few,
    flag,
    integer,
    real,
    text,
)

ANNOTATIONS = Table(
    "annotations",
    "One row per word of a person (or of a truth that is known) on a pair or a response, imported.",
    (
        RUN_ID,
        text("id", "Digest of run, rater, target and principle; of equal ones the newest counts."),
        PROMPT_ID,
        few("rater", "Who says it."),
        real("value", "Of a pair: 0 prefers a, 1 prefers b, 0.5 neither. Of a response: any number, more is better."),
        few("source", "The file that it came from."),
        text("pair_id", "`preferences.id`; null: it is about a response.", null=True),
        text("response_id", "`responses.id`; null: it is about a pair.", null=True),
        few("principle_id", "The principle that it is about; null: about the whole.", null=True),
        Column(
            "rater_groups",
            IDS,
            "Groups that the rater belongs to, as parents or country: Chile; null: none that are known.",
            null=True,
            few=("rater_groups.list.element",),
        ),
        AUTHOR,
        CREATED_AT,
    ),
)

FIGURES = Table(
    "figures",
    "One row per number of a run's last audit.",
    (
        RUN_ID,
        few("figure", "What was measured, e.g. position_bias; docs/judging.md lists them."),
        few("judge", "Empty: all judges."),
        few("principle_id", "Empty: all principles."),
        few("subject", "What else it is about: a feature, a kind of pair, a round, a bin, another principle."),
        real("value", "The number; null: there is nothing to measure it on, and `note` says why.", null=True),
        real("low", "Lower end of the 95 % interval; null: it has none.", null=True),
        real("high", "Upper end of the 95 % interval; null: it has none.", null=True),
        integer("n", "How many things it was measured on."),
        text("note", "What a reader must know with it; may be empty."),
        CREATED_AT,
    ),
)

SCORES = Table(
    "scores",
    "One row per reading of an answer by itself: one judge, one criterion of one principle, or a grade by one "
    "principle; of a scorecard, or for the run's rewards.",
    (
        RUN_ID,
        text("id", "Digest of run, answer, judge (model, settings, seed), scorecard, principle, criterion, template; "
             "for a reward of run, answer, judge, source, principle, criterion, and by sentence `upto`."),
        PROMPT_ID,
        text("response_id", "`responses.id` or `counterfactuals.id`."),
        few("judge", "Name of the judge."),
        few("scorecard", "name@version of the constitution that asks; empty: it is for a reward of the run."),
        few("principle_id", "The principle that is asked about; empty: an item of the prompt's rubric is."),
        few("principle_digest", "SHA-256 of that principle with all its fields; empty: there is none."),
        few("metric", "Its first tag: refusal-full · refusal-partial · undesired · helpful; for a reward its source: "
            "rubric · grade · model · last-token · prompt-rubric · sentence; reference: of a reference, before "
            "anything is made from it; rubric-negated · prompt-rubric-negated: asked a second time, for no reward."),
        few("category", "Its second tag, of `undesired` what it is; empty: none."),
        integer("criterion", "Place in its criteria, or in the prompt's rubric, from 0; null: a grade.", null=True),
        few("question", "The criterion's words; of a grade, the principle's comparison question. Of a metric -negated "
            "it was asked whether the reply to it is no."),
        few("good", "yes · no: the reply that speaks for the answer; null: a grade.", null=True),
        real("weight", "The principle's times the criterion's, or the item's: below 0, points that a yes loses."),
        real("p_yes", "P(yes) / (P(yes) + P(no)), as it was read; null: a grade or a raw score.", null=True),
        real("label_mass", "Probability on all replies together before renormalising; null: a raw score.", null=True),
        few("template_digest", "`templates.digest` of what rendered the question."),
        Column("seed", pa.int64(), "Seed of the request; null: none.", null=True),
        integer("prompt_tokens", "Tokens of input."),
        integer("cached_tokens", "Of these, found in the engine's prefix cache."),
        integer("completion_tokens", "Tokens of output."),
        flag("censored", "True: one of the replies was not read but bounded, as `judgements.censored`."),
        Column("grades", READINGS, "Raw probability of each grade, from the lowest; null: a criterion.", null=True),
        integer("calls", "Calls to the engine; 0: an answer to the same prompt has the same text, and that was asked; "
                "null: not known.", null=True),
        integer("upto", "Characters of the answer that were shown, from its beginning; null: all.", null=True),
        text("rubric_id", "`rubrics.id` of the item that was asked; null: a principle's criterion, or a grade.",
             null=True),
        real("raw", "Of metric model, the reward model's score on its own scale; of last-token, the token's "
             "log-probability; null: other metrics.", null=True),
        CREATED_AT,
    ),
)  # fmt: skip

RUBRICS = Table(
    "rubrics",
    "One row per question of a prompt's own rubric, dropped ones with the reason; those without one are asked.",
    (
        RUN_ID,
        text("id", "Digest of run, prompt, source and number."),
        PROMPT_ID,
        few("source", "What it was made from: given (with the prompt) · prompt · principles · reference · contrast."),
        integer("number", "Place among the prompt's items, from 0."),
        integer("items", "Items of the prompt, dropped ones too."),
        text("question", "As it was written, or given."),
        few("good", "yes · no: the reply that speaks for an answer."),
        real("weight", "Above 0: points that an answer can have; below 0: points that it loses where the reply is yes, "
             "which are not among those that it can have."),
        few("kind", "essential · important · optional · pitfall; empty: not said."),
        Column("from_ids", IDS, "`responses.id` of what it was written from, of a contrast the better one first; or "
               "ids of principles."),
        few("writer", "Short name of the model; `given`: it came with the prompt."),
        few("drop_reason", "unanswerable · subjective · length · leaks-reference · compound · duplicate · mirror · "
            "contradicts · check-failed (with the rubric a judge does not prefer what was preferred) · dead · "
            "over-limit; null: it is asked.", null=True),
        text("detail", "What the reason rests on; null: nothing more.", null=True),
        text("reply", "All that the writer wrote, of the first item of a source; null: the others, and what was given.",
             null=True),
        few("template_digest", "`templates.digest` of what the writer was asked with; null: it was given.", null=True),
        Column("seed", pa.int64(), "Seed of the request; null: none.", null=True),
        integer("prompt_tokens", "Tokens of input, on the first item of a source, as those below; others have 0."),
        integer("cached_tokens", "Of these, found in the engine's prefix cache."),
        integer("completion_tokens", "Tokens of output."),
        integer("reasoning_tokens", "Of these, those of reasoning; 0: none that are known."),
        integer("calls", "Calls to the writer."),
        few("checker", "Name of the judge that checked the rubric, on the prompt's first item; null: the others, and "
            "where none did.", null=True),
        integer("check_prompt_tokens", "Tokens of input of the check, on the prompt's first item, as those below; "
                "others have 0."),
        integer("check_cached_tokens", "Of these, found in the engine's prefix cache."),
        integer("check_completion_tokens", "Tokens of output of the check."),
        integer("check_calls", "Calls of the check."),
        CREATED_AT,
    ),
)  # fmt: skip

REWARDS = Table(
    "rewards",
    "One row per answer and source: one number of it, by what judges read of it, by rules, or by votes on its pairs.",
    (
        RUN_ID,
        text("id", "Digest of run, answer and source."),
        PROMPT_ID,
        text("response_id", "`responses.id`."),
        few("source", "rubric (criteria) · grade · rule · model (a scalar reward model) · prompt-rubric · sentence · "
            "match · last-token (LaSeR) · votes (of a tournament, or of all pairs). Those of different sources are not "
            "comparable."),
        real("value", "From 0 to 1, without the length penalty; of votes, the mean probability of beating each other "
             "sample of the prompt; of a reward model, the normal CDF of z among the prompt's answers. "
             "Null: `reason` says why there is none.", null=True),
        real("raw", "Before a veto, on the source's own scale: of grades the expected one, from 1; of votes the "
             "Bradley-Terry log strength, around 0; of a prompt's rubric under 0 where more is lost than had; of a "
             "reward model its score; of last-token before it is clipped; null: no value.", null=True),
        integer("readings", "Rows of `scores` that it is made of; 0 for rules; of votes, its labelled pairs."),
        integer("missing", "Readings that were asked for and are not among them: failed, or short of label mass; of "
                "votes, its pairs without a label."),
        real("least_essential", "The worst of the essential criteria, or rules, from 0 to 1, a mean over judges; null: "
             "there is none, or it was not read.", null=True),
        real("length_penalty", "To be added to `value`: 0 or less; null: the recipe has none, or there is no text.",
             null=True),
        Column("judges", IDS, "Whose readings it is made of.", few=("judges.list.element",)),
        few("reason", "Why there is no value: no-text · readings-missing · no-rubric (its prompt has none) · no-label "
            "(of votes: no pair of it has one) · no-spread (of a reward model: its scores have no spread) · by match: "
            "no-reference (none, or it is dropped), reference-unread, unread (nothing can be read off the answer); "
            "null: there is one.", null=True),
        real("low", "Of votes: lower end of the 95 % interval of `value`; null: other sources.", null=True),
        real("high", "Upper end of it.", null=True),
        Column("steps", STEPS, "By sentence: of each one `upto`, characters of the answer up to its end, and `value`, "
               "the least criterion so far, a mean over judges (null: a reading is missing). Null: other sources.",
               null=True),
        text("said", "By match: what was read off the answer. Null: other sources, or nothing was.", null=True),
        CREATED_AT,
    ),
)  # fmt: skip

REFERENCE_CHECKS = Table(
    "reference_checks",
    "One row per reference: whether anything may be made from it, by what judges read of it.",
    (
        RUN_ID,
        text("id", "Digest of run and reference."),
        PROMPT_ID,
        text("response_id", "`responses.id` of the reference."),
        few("source", "Where it is from: revision · synthesis · best (of the samples, by their rewards) · given."),
        real("agrees", "Share of the prompt's samples that say the same; null: it cannot be said.", null=True),
        Column("majority", pa.bool_(), "Whether it says what more samples say than anything else; null: no such thing "
               "is known.", null=True),
        integer("readings", "Rows of `scores` that it was read by (metric reference)."),
        integer("missing", "Readings that were asked for and are not among them: failed, or short of label mass."),
        real("least", "The worst of the criteria, P(the good reply), a mean over judges; null: none was read.",
             null=True),
        few("principle_id", "The principle of that criterion; null: none was read.", null=True),
        few("drop_reason", "Why nothing may be made from it: empty · cut · refused · filtered · copied · breaks (a "
            "criterion) · readings-missing; null: it may.", null=True),
        CREATED_AT,
    ),
)  # fmt: skip

COUNTERFACTUALS = Table(
    "counterfactuals",
    "One row per prompt with a term swapped for another, and the policy's answer to it.",
    (
        RUN_ID,
        text("id", "Digest of run, prompt and swap."),
        text("prompt_id", "`prompts.id` of the prompt as it was."),
        text("response_id", "`responses.id` of the answer to the prompt as it was."),
        few("terms", "Name of the group of terms, e.g. gender."),
        few("swap", "What became what, e.g. he → she."),
        Column("messages", MESSAGES, "The prompt with the swap.", few=("messages.list.element.role",)),
        text("text", "The answer."),
        few("model", "Short name of the model."),
        Column("seed", pa.int64(), "Seed of the answer; null: none.", null=True),
        few("finish_reason", "As of `responses`; null: not known.", null=True),
        integer("prompt_tokens", "Tokens of input."),
        integer("cached_tokens", "Of these, found in the engine's prefix cache."),
        integer("completion_tokens", "Tokens of output."),
        text("reasoning", "What the model thought before the answer; null: nothing that is known.", null=True),
        integer("reasoning_tokens", "Of the tokens of output, those of reasoning; 0: none that are known."),
        CREATED_AT,
    ),
)

EXPORTED = Table(
    "exported",
    "One row per candidate of an export: the split that it went to, or the reason that it was dropped.",
    (
        RUN_ID,
        few("export_id", "Format and digest of the settings; an export made again takes the place of the one before."),
        few("format", "dpo · reward · kto · sft · prm · grpo · robust."),
        text("id", "Of the candidate: `preferences.id` (dpo, reward, robust), `responses.id` (kto, sft), `prompts.id` "
              "(grpo)."),
        PROMPT_ID,
        few("split", "train · test; null: dropped.", null=True),
        few("drop_reason", "Why it was dropped, the first reason that held (docs/export.md lists them); null: kept.",
             null=True),
        text("drop_detail", "What the reason found, e.g. the id of the row that this one repeats; null: nothing more "
              "to say, or kept.", null=True),
        AUTHOR,
        CREATED_AT,
    ),
)  # fmt: skip

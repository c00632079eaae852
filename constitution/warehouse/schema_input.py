"""The columns of what a run is begun with: its constitution, its prompts, and rows of their source that are none."""

from __future__ import annotations

import pyarrow as pa

from constitution.warehouse.columns import CREATED_AT, MESSAGES, RUN_ID, Column, Table, few, integer, real, text

EXEMPLARS = pa.list_(
    pa.struct(
        [
            ("messages", MESSAGES),
            ("response", pa.string()),
            ("critique_request", pa.string()),
            ("critique", pa.string()),
            ("revision_request", pa.string()),
            ("revision", pa.string()),
        ]
    )
)
CRITERIA = pa.list_(
    pa.struct([("question", pa.string()), ("good", pa.string()), ("weight", pa.float64()), ("kind", pa.string())])
)
EXAMPLES = pa.list_(pa.struct([("messages", MESSAGES), ("better", pa.string()), ("worse", pa.string())]))
CLAUSES = pa.list_(pa.string())

SYSTEM_PROMPTS = pa.list_(pa.struct([("id", pa.string()), ("text", pa.string()), ("thought", pa.string())]))

PROFILES = pa.list_(
    pa.struct(
        [
            ("id", pa.string()),
            ("weights", pa.list_(pa.struct([("principle_id", pa.string()), ("weight", pa.float64())]))),
            ("system_prompt", pa.string()),
            ("description", pa.string()),
            ("rater_group", pa.string()),
        ]
    )
)

PRINCIPLES = Table(
    "principles",
    "One row per principle of the run's constitution, in the constitution's order: every word that was used.",
    (
        RUN_ID,
        few("constitution", "Name of the constitution."),
        few("version", "Its semantic version."),
        few("constitution_digest", "SHA-256 of the whole constitution."),
        text("description", "The constitution's description."),
        text("constitution_source", "Where the constitution comes from; empty: written here."),
        text("license", "The constitution's licence; may be empty."),
        few("language", "Language of its words (BCP 47); empty or null: not declared.", null=True),
        few("translation_of", "name@version of the constitution that it translates; empty or null: none.", null=True),
        integer("position", "Place in the constitution, from 0."),
        text("principle_id", "Id of the principle, unique in its constitution."),
        text("digest", "SHA-256 of the principle with all its fields."),
        text("critique_request", "Asks for a critique of an answer; empty: the principle only compares."),
        text("revision_request", "Asks for a revised answer; empty: the principle only compares."),
        text("comparison_question", "Asked of two answers; empty: the principle only revises."),
        real("weight", "Relative chance of being drawn, and weight of its votes."),
        Column("tags", pa.list_(pa.string()), "Tags."),
        text("source", "Where the principle comes from; empty: written here."),
        Column("exemplars", EXEMPLARS, "Its own worked critiques and revisions."),
        Column("examples", EXAMPLES, "Its unit tests: a judge that follows it prefers `better`."),
        Column("criteria", CRITERIA, "Its checklist: yes/no questions about one answer, and which reply is good."),
        Column("shared_exemplars", EXEMPLARS, "The constitution's exemplars, for principles without."),
        text("aim", "An instruction to answer as it wants, for system prompts; null: none.", null=True),
        text("against", "The opposite of `aim`, for contrast; null: none.", null=True),
        text("why", "The reason for `aim`; null: none is given.", null=True),
        text("quote", "The words of a document that it follows from, as they are there; null: none.", null=True),
        Column("clauses", CLAUSES, "The clauses that it follows from, as `clauses.clause`; null: none.", null=True),
        Column(
            "system_prompts", SYSTEM_PROMPTS, "The constitution's system prompts, for samplers; null: none.", null=True
        ),
        Column(
            "profiles",
            PROFILES,
            "The constitution's profiles: weights that are other than the principles'; null: none.",
            null=True,
        ),
        CREATED_AT,
    ),
)

PROMPTS = Table(
    "prompts",
    "One row per prompt of the run's input, part-<n> being slice n of it; in further parts one per later turn asked.",
    (
        RUN_ID,
        text("id", "Digest of the messages (of `script` too, and of `repeat`, where it is not 0); of a later turn, of "
             "conversation and turn.", sought=True),
        integer("slice", "Number of the slice, from 0; of a later turn, its conversation's."),
        integer("position", "Place in the slice, from 0."),
        Column("messages", MESSAGES, "The whole conversation, ending with the user turn to be answered.",
               few=("messages.list.element.role",)),
        integer("turns", "Number of messages."),
        text("last_user", "Text of the last user turn."),
        text("source", "File and row that it was read from; may be empty."),
        Column("tags", pa.list_(pa.string()), "Tags.", few=("tags.list.element",)),
        Column("answers", pa.list_(pa.string()), "Answers that came with the prompt, to be judged as they are."),
        integer("gold", "Index into `answers` of the one that people prefer; null: not known, or `golds` says.",
                null=True),
        integer("repeat", "0 for the first prompt of a source with these messages, 1 for the second, and so on."),
        Column("golds", pa.list_(pa.int32()), "Of a benchmark with more than two answers, indices of those that are "
               "better than all others; null: `gold` says.", null=True),
        text("source_id", "Its name in the source (`prompts.id_field`), unique; null: the recipe names no key.",
             null=True),
        text("metadata", "JSON object of the source's keys that the recipe keeps (`prompts.metadata`); null: none.",
             null=True),
        text("cut_answer", "What the assistant said after the last user turn, cut off (`prompts.last_answer`); null: "
             "nothing.", null=True),
        text("reference", "The answer that came with it for others to be held against (`prompts.reference`); null: "
             "none.", null=True),
        Column("rubric", CRITERIA, "The rubric that came with it (`prompts.rubric`): questions about an answer, which "
               "reply is good, and what it counts; null: none.", null=True),
        text("conversation_id", "`prompts.id` of the conversation's first scripted turn; its own, without a script."),
        integer("turn", "Place among the scripted turns of its conversation, from 1."),
        Column("script", pa.list_(pa.string()), "What the user says after this turn, each asked after the model's "
               "answer to the one before; null: nothing.", null=True),
        CREATED_AT,
    ),
)  # fmt: skip

SKIPPED = Table(
    "skipped",
    "One row per row of the run's input that no prompt was made of (`prompts.on_bad_row`).",
    (
        RUN_ID,
        text("source", "File and row, as `prompts.source`."),
        text("reason", "Why it cannot be read as a prompt, in the words that refuse it."),
        text("hint", "What can be done about it."),
        CREATED_AT,
    ),
)

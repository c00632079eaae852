"""Why a candidate is not in an export: `exported.drop_reason`."""

from __future__ import annotations

from enum import StrEnum


class Dropped(StrEnum):
    """The reasons, in words as the card has them; those of the run itself first (records.DropReason)."""

    text: str

    def __new__(cls, value: str, text: str = "") -> Dropped:
        reason = str.__new__(cls, value)
        reason._value_, reason.text = value, text
        return reason

    PERTURBATION = "perturbation", "an answer spoilt on purpose, to test the judges"
    EMPTY = "empty", "an answer without text"
    IDENTICAL = "identical", "both answers are the same"
    CUT = "cut", "an answer cut by its token limit, or by a call of a tool"
    REFUSED = "refused", "an answer that the server refused"
    FILTERED = "filtered", "an answer that the server's content filter held back"
    COPIED = "copied", "an answer that repeats an exemplar, a prompt of ours or a turn of the conversation"
    VOTES_MISSING = "votes-missing", "votes failed or never came"
    REWARD_MISSING = "reward-missing", "an answer has no reward to make a label of"
    TIE = "tie", "neither answer is preferred"
    MARGIN = "margin", "less sure than the recipe wants"

    ROUND = "round", "of a round that was not asked for"
    PRINCIPLE = "principle", "of a principle that was not asked for, or without its votes"
    MIN_MARGIN = "min-margin", "less sure than this export wants"
    MIN_AGREEMENT = "min-agreement", "less agreement of the votes than this export wants"
    INCONSISTENT = "inconsistent", "a judge did not prefer the same answer in both orders"
    WHERE = "where", "the condition in SQL does not hold"
    NO_REWARD = "no-reward", "without a reward by the source that is asked for"
    GROUP = "group", "its prompt has samples, and the answer is none of them"
    BELOW = "below", "a reward under the export's bar"
    UNANIMOUS = "unanimous", "all rewards of its prompt's group are the same: none is best"
    REFERENCE = "reference", "a reference that did not pass the run's check"
    NOT_BEST = "not-best", "another answer to its prompt has a higher reward, or the same and a lesser id"
    MIN_GAP = "min-gap", "rewards that differ by less than this export wants, or prefer the other answer"
    BETWEEN = "between", "neither good nor bad: its score is between the bars"
    LAYOUT = "layout", "the layout's reader cannot take its conversation"

    DUPLICATE = "duplicate", "repeats another row"
    NEAR_DUPLICATE = "near-duplicate", "its prompt is nearly that of another row"
    CONTAMINATED = "contaminated", "its prompt overlaps a file of evaluation prompts"
    SHORT = "short", "an answer with too few words"
    LONG = "long", "an answer with too many words"
    LANGUAGE = "language", "the answer is in another language"
    REFUSAL = "refusal", "the answer refuses a harmless prompt"
    BOILERPLATE = "boilerplate", "the answer has a sentence that is in the answers to many prompts"
    PRIVATE = "private", "personal data or secrets"
    BROKEN = "broken", "the answer still breaks a principle by its own votes"

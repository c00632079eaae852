"""What an export's settings and counts mean, in sentences.

A `Markdown` is text that may stand in a card as it is. Whatever else comes into a card is escaped on its way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from constitution.export.settings import PAIRS, Cleaning, Format, Settings
from constitution.shown import Markdown
from constitution.shown import markdown as escape

FORMATS: dict[Format, str] = {
    "dpo": "preference pairs",
    "reward": "preference pairs for a reward model",
    "robust": "preference pairs by label noise",
    "kto": "judged answers",
    "sft": "answers to learn from",
    "grpo": "prompts with their rubric",
}

REASONS = {
    "tie": "the votes prefer neither answer",
    "margin": "less sure than the recipe wants",
    "empty": "an answer without text",
    "cut": "an answer cut by its token limit, or by a call of a tool",
    "refused": "an answer that the server refused",
    "filtered": "an answer that the server's content filter held back",
    "votes-missing": "votes failed or never came",
    "probe": "an answer spoilt on purpose, to test the judges",
    "round": "of a round that was not asked for",
    "principle": "of a principle that was not asked for, or without its votes",
    "min-margin": "less sure than this export wants",
    "min-agreement": "less agreement of the votes than this export wants",
    "inconsistent": "a judge did not prefer the same answer in both orders",
    "where": "the condition in SQL does not hold",
    "identical": "both answers are the same",
    "duplicate": "repeats another row",
    "near-duplicate": "its prompt is nearly that of another row",
    "contaminated": "its prompt overlaps a file of evaluation prompts",
    "short": "an answer with too few words",
    "long": "an answer with too many words",
    "language": "the answer is in another language",
    "refusal": "the answer refuses a harmless prompt",
    "boilerplate": "the answer has a sentence that stands in the answers to many prompts",
    "private": "personal data or secrets",
    "broken": "the answer still breaks a principle by its own votes",
}
"""Why candidates were left out, as `exported.drop_reason` has it."""


def selection(settings: Settings) -> list[Markdown]:
    """Which candidates were wanted, and what was made of their labels."""
    pairs = settings.format in PAIRS
    return [Markdown(line) for line in (*_chosen(settings, pairs), *_labels(settings, pairs), _split(settings))]


def _chosen(settings: Settings, pairs: bool) -> Iterator[str]:
    if settings.format == "sft" and settings.rounds == "last":
        yield "The last answer to each prompt that has text."
    elif settings.format == "sft" and settings.rounds == "all":
        yield "The answers of all rounds."
    elif not isinstance(settings.rounds, str):
        which = _and(str(number) for number in settings.rounds)
        whose = "Pairs whose later answer is" if pairs else "Answers"
        yield f"{whose} of round {which}; 0 is the initial answer."
    if settings.principles:
        named = _and(escape(name) for name in settings.principles)
        how = {"kto": "Scored by", "sft": "Revisions that were led to by", "grpo": "With"}
        how |= dict.fromkeys(PAIRS, "Labelled anew by the votes of")
        yield f"{how[settings.format]} these principles (or tags) alone: {named}."
    if pairs and settings.min_margin:
        yield f"Pairs with `p_chosen` under {0.5 + settings.min_margin:.3g} are left out."
    if pairs and settings.min_agreement:
        yield f"Pairs on which under {_percent(settings.min_agreement)} of the votes agree are left out."
    if pairs and settings.consistent_only:
        yield "Pairs on which a judge did not prefer the same answer in both orders are left out."


def _labels(settings: Settings, pairs: bool) -> Iterator[str]:
    if pairs and settings.labels == "sampled":
        yield (
            "Which answer is `chosen` was drawn with the probability of the soft label, so that a trainer that knows "
            "hard labels only sees the soft ones in the mean."
        )
    if settings.format == "robust":
        yield (
            f"Pairs were sorted by ε = 1 − `p_chosen` into {settings.shards} shards of about equal size, each with the "
            "mean of its pairs' ε; those whose means are nearly the same are one."
        )
    if settings.format == "reward":
        yield f"`margin` is the log-odds of `p_chosen`, which is taken to be no larger than {settings.clip:g}."
    if settings.format == "kto":
        yield f"An answer is good (`label` is true) from a score of {settings.good:g} on, on a scale of 0 to 1."


def _split(settings: Settings) -> str:
    return (
        f"About {_percent(settings.test)} of the conversations are the test split (seed {settings.seed}); no "
        "conversation is in both, and another run's export with the same seed splits the same conversations alike."
        if settings.test
        else "There is no test split."
    )


def cleaned(settings: Settings) -> list[Markdown]:
    """The cleaning steps that were done."""
    return [Markdown(done) for done, _ in _steps(settings.cleaning, settings.format) if done]


def not_cleaned(settings: Settings) -> list[str]:
    """What was not looked for."""
    return [missing for done, missing in _steps(settings.cleaning, settings.format) if not done]


def _steps(cleaning: Cleaning, format: Format) -> Iterator[tuple[str, str]]:
    """Per step: what it did, empty where it is off; and what it would have looked for."""
    if format in PAIRS:
        yield "Pairs whose answers differ in white space alone.", ""
    near = (
        f", and those whose prompt is nearly another's (Jaccard similarity of word 3-grams from {cleaning.near:g} on)"
    )
    exact = "Rows that repeat another"
    dedupe = {"off": "", "exact": f"{exact}.", "near": f"{exact}{near}."}[cleaning.dedupe]
    yield dedupe, "repeated rows"
    if cleaning.dedupe == "exact":
        yield "", "near duplicates"
    # Their names alone: where a person keeps files is nobody's business.
    files = _and(escape(path.name) for path in cleaning.decontaminate)
    yield (
        f"Prompts of which over {_percent(cleaning.overlap)} of the words are in 8-grams shared with a prompt of "
        f"{files}."
        if files
        else "",
        "overlap with evaluation sets",
    )
    if format != "grpo":
        yield from _answer_steps(cleaning)
    yield (
        "Rows with personal data or secrets, as far as detectors find them." if cleaning.private else "",
        "personal data and secrets",
    )


def _answer_steps(cleaning: Cleaning) -> Iterator[tuple[str, str]]:
    few = [f"under {cleaning.min_words}"] if cleaning.min_words else []
    many = [f"over {cleaning.max_words}"] if cleaning.max_words else []
    yield (f"Rows with an answer of {' or '.join(few + many)} words." if few or many else "", "short and long answers")
    languages = _and((escape(code) for code in cleaning.languages), "or")
    yield (f"Rows whose answer to learn is not in {languages}." if languages else "", "the language")
    tags = _and((escape(tag) for tag in cleaning.harmless), "or")
    refusals = f"Rows whose answer to learn refuses a prompt tagged {tags}."
    yield (refusals if cleaning.refusals else "", "refusals of harmless prompts")
    share = cleaning.boilerplate
    yield (
        f"Rows whose answer to learn has a sentence that stands in the answers to more than {_percent(share)} of the "
        "prompts."
        if share
        else "",
        "boilerplate",
    )
    yield (
        "Rows whose answer to learn still breaks a principle by its own votes." if cleaning.broken else "",
        "answers that still break a principle by their own votes",
    )


def _percent(share: float) -> str:
    return f"{share * 100:g} %"


def _and(names: Iterable[str], word: str = "and") -> str:
    listed = list(names)
    return " ".join([", ".join(listed[:-1]), word, listed[-1]]) if len(listed) > 1 else "".join(listed)

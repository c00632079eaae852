"""The README.md of an exported data set: what it is, what made it, what was left out, and how far to trust it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from constitution import __version__
from constitution.audit.answer import answer
from constitution.audit.words import UNITS, Headline
from constitution.errors import InputError
from constitution.export import words
from constitution.export.settings import PAIRS, Format, Settings
from constitution.records import Constitution, Figure, Principle, Run
from constitution.shown import Markdown, fenced, markdown
from constitution.warehouse.columns import Column, sql_type

SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")),
    *((10**8, "10M<n<100M"), (10**9, "100M<n<1B")),
)
"""The hub's size categories, each with the number of rows from which it is another."""

TAGS: dict[Format, tuple[str, ...]] = {
    "dpo": ("dpo", "preference"),
    "reward": ("reward-model", "preference"),
    "robust": ("dpo", "robust-dpo", "preference"),
    "kto": ("kto",),
    "sft": ("sft",),
    "grpo": ("grpo",),
}

TRAINERS: dict[Format, tuple[str, str]] = {
    "dpo": ("DPO", ""),
    "robust": ("DPO", ""),
    "reward": ("Reward", ""),
    "kto": ("KTO", ""),
    "sft": ("SFT", ""),
    "grpo": ("GRPO", ", reward_funcs=reward"),
}
"""TRL's trainer, and what else it must be given."""

REWARD = (
    "def reward(completions, criteria, **columns):",
    '    """Yours: how many of its prompt\'s criteria each completion meets, from 0 to 1."""',
    "    raise NotImplementedError",
)

SCORECARD = ("refusal", "over_refusal", "harmful_compliance", "undesired", "helpful", "prefix_refusal", "boilerplate")
"""Figures of a scorecard that the card shows, those that are shares."""

POCKET = ("pocket", "pocket-scorer")
"""Names of the models that ship with the project."""

FACTS = ("name", "engine", "revision", "digest")
"""What the card tells of a model; the run's record has the rest."""

ABOUT_PRINCIPLES = 300
"""Characters of a principle that the card shows; the data's provenance has the digest of all of it."""


@dataclass(frozen=True)
class CardOptions:
    """What only the person who exports can say."""

    license: str = ""
    """Of the data set: an identifier of the hub's, e.g. apache-2.0. Empty: unknown, and the card says so."""
    title: str = ""
    """Empty: made of the run's recipe and the format."""

    def __post_init__(self) -> None:
        if self.license and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", self.license):
            raise InputError(
                f"{self.license!r} is no identifier of a licence",
                hint="take the hub's, e.g. apache-2.0 or cc-by-4.0; `other` where it has none",
            )


@dataclass(frozen=True)
class DataFile:
    path: str
    """Beneath the export's folder, with `/`."""
    split: Literal["train", "test"]
    rows: int
    config: str = "default"
    """Of robust: the folder's name, e.g. eps-0.07."""
    epsilon: float | None = None
    """Of robust: the mean of 1 − p_chosen over the config's rows; None: another format."""


@dataclass(frozen=True)
class CardFacts:
    """What the export knows of itself. Nothing here is of another moment or machine than run and settings are."""

    settings: Settings
    run: Run
    constitution: Constitution
    """As the run used it (Warehouse.read_principles)."""
    columns: tuple[Column, ...]
    """Of the files, in their order, with what each means."""
    files: tuple[DataFile, ...]
    candidates: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Drop reason → candidates."""
    figures: tuple[Figure, ...] = ()
    """Of the run's last audit (Warehouse.read_figures); empty: it was never audited."""
    headlines: tuple[Headline, ...] = ()
    """The same's chief numbers (audit.report.headlines)."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the texts where they are known; empty: those that the
    cleaning left, if it looked."""

    @property
    def title(self) -> str:
        return f"{self.run.recipe.get('name') or self.run.run_id}: {words.FORMATS[self.settings.format]}"

    @property
    def kept(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def configs(self) -> dict[str, list[DataFile]]:
        """The files by config, in their order."""
        found: dict[str, list[DataFile]] = {}
        for file in self.files:
            found.setdefault(file.config, []).append(file)
        return found

    @property
    def engines(self) -> set[str]:
        return {model.get("engine", "") for model in self.run.models.values()}

    @property
    def rehearsal(self) -> bool:
        """Whether a model of the pocket world took part."""
        return any(model.get("name") in POCKET for model in self.run.models.values())


def write_card(out: Path, facts: CardFacts, options: CardOptions) -> None:
    """Writes README.md into `out`: the hub's YAML header, then the card. The same facts give the same bytes."""
    (out / "README.md").write_text(card(facts, options), encoding="utf-8", newline="\n")


def card(facts: CardFacts, options: CardOptions) -> str:
    """The text of README.md."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        finalize=_finalized, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {
        "fenced": fenced,
        "sql_type": sql_type,
        "ours": Markdown,
        "share": UNITS["share"],
    }
    template = environment.from_string(package_files(__package__).joinpath("card.md.j2").read_text("utf-8"))
    body = template.render(
        **{name: getattr(facts, name) for name in ("settings", "run", "constitution", "columns", "dropped")},
        facts=facts,
        options=options,
        pairs=facts.settings.format in PAIRS,
        version=__version__,
        reasons=words.REASONS,
        title=options.title or facts.title,
        what=words.FORMATS[facts.settings.format],
        models={role: {fact: model.get(fact, "") for fact in FACTS} for role, model in facts.run.models.items()},
        how=list(_how(facts.run.recipe)),
        prompts_from=_prompts_from(facts.run),
        question=_question,
        selection=words.selection(facts.settings),
        cleaned=words.cleaned(facts.settings),
        not_cleaned=words.not_cleaned(facts.settings),
        audit=[markdown(sentence) for sentence in answer(facts.headlines)],
        loading=loading(facts),
        scorecard=[figure for name in SCORECARD for figure in facts.figures if _shown(figure, name)],
    )
    return f"---\n{header(facts, options)}---\n\n{body}"


def header(facts: CardFacts, options: CardOptions) -> str:
    """The hub's metadata as YAML, by huggingface_hub."""
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        pretty_name=" ".join((options.title or facts.title).split()),
        language=list(facts.languages or facts.settings.cleaning.languages) or None,
        license=options.license.lower() or "unknown",
        annotations_creators="machine-generated",
        language_creators="machine-generated",
        task_categories=["text-generation"],
        size_categories=next((name for bound, name in SIZES if facts.kept < bound), "1B<n<10B"),
        tags=[*TAGS[facts.settings.format], "rlaif", "constitutional-ai", "synthetic", "trl"],
        configs=list(_configs(facts)),
    )
    return f"{data.to_yaml()}\n"


def loading(facts: CardFacts) -> str:
    """Python that loads the data into TRL's trainer for it."""
    format = facts.settings.format
    trainer, rest = TRAINERS[format]
    config, first = next(iter(facts.configs.items()), ("default", []))
    data = "DATA" if config == "default" else f'DATA", "{config}'
    settings = f', loss_type="robust", label_smoothing={first[0].epsilon:g}' if format == "robust" else ""
    test = ', eval_dataset=data["test"]' if any(file.split == "test" for file in first) else ""
    return "\n".join(
        [
            "from datasets import load_dataset",
            f"from trl import {trainer}Config, {trainer}Trainer",
            *(["", "", *REWARD, ""] if format == "grpo" else []),
            "",
            f'data = load_dataset("{data}")  # DATA: this repository or folder',
            f'args = {trainer}Config(output_dir="trained"{settings})',
            f'trainer = {trainer}Trainer("MODEL"{rest}, args=args, train_dataset=data["train"]{test})',
            "trainer.train()",
        ]
    )


def _configs(facts: CardFacts) -> Iterator[dict[str, Any]]:
    for name, files in facts.configs.items():
        splits = {file.split: PurePosixPath(file.path).parent / f"{file.split}-*.parquet" for file in files}
        config: dict[str, Any] = {"config_name": name}
        # Of several none is the default: who names none would load a part and take it for the whole.
        config |= {"default": True} if len(facts.configs) == 1 else {}
        yield config | {"data_files": [{"split": split, "path": str(path)} for split, path in splits.items()]}


def _finalized(value: Any) -> Any:
    """What the template puts out: text is escaped unless it is Markdown, whole numbers have commas."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, Markdown) or not isinstance(value, str) else markdown(value)


def _how(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The recipe's settings that say most of how the data came to be."""
    for section, setting in (("revise", "rounds"), ("judge", "method"), ("judge", "principles"), ("judge", "pairs")):
        value = (recipe.get(section) or {}).get(setting)
        if value is not None:
            yield f"{section}.{setting}", ", ".join(value) if isinstance(value, list) else str(value)


def _prompts_from(run: Run) -> str:
    """Where the run's prompts come from; of a file its name alone."""
    prompts = run.recipe.get("prompts", {})
    if prompts.get("dataset"):
        return f"the hub's data set {prompts['dataset']}, split {prompts.get('split', 'train')}"
    if prompts.get("query"):
        return "a query of a warehouse"
    return f"the file {Path(prompts['path']).name}" if prompts.get("path") else "a source that the run does not name"


def _shown(figure: Figure, name: str) -> bool:
    """Of undesired content the sum over its categories, not each."""
    if figure.figure != f"scorecard_{name}" or figure.value is None:
        return False
    return name != "undesired" or figure.subject.startswith("any/")


def _question(principle: Principle) -> str:
    text = principle.comparison_question or principle.critique_request
    text = text or " ".join(criterion.question for criterion in principle.criteria)
    return text if len(text) <= ABOUT_PRINCIPLES else f"{text[: ABOUT_PRINCIPLES - 1]}…"

"""The README.md of an exported data set: what it is, what made it, what was dropped, and how far to trust it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from constitution import __version__
from constitution.audit.kinds import written
from constitution.audit.summary import Headline, cells_of
from constitution.export.clean import not_cleaned
from constitution.export.formats import Field, confirm_of
from constitution.export.outcome import DataFile, Exported
from constitution.export.reasons import Dropped
from constitution.export.settings import SOME_FORMATS, CardOptions, Settings
from constitution.export.sides import MOST, Sides
from constitution.export.write import TYPES
from constitution.labels.profiles import ProfileLabels, profile_of
from constitution.recipe import RewardSection
from constitution.records import Constitution, Figure, Principle, Run
from constitution.shown import Markdown, fenced, markdown
from constitution.warehouse.columns import sql_type

SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")),
    *((10**8, "10M<n<100M"), (10**9, "100M<n<1B")),
)
"""The hub's size categories, each with the number of rows from which it is another."""

JUDGE = '{"engine": "openai", "model": "JUDGE", "base_url": "http://localhost:8000/v1"}'
"""What the card shows for a judge: a recipe's section [model.judge]."""

REFERENCES = "The answers are references of their prompts, read by criteria before; no vote and no reward is of them."

SCORECARD = ("refusal", "over_refusal", "harmful_compliance", "undesired", "helpful", "prefix_refusal", "boilerplate")
"""Figures of a scorecard that the card shows, those that are shares."""

POCKET = ("pocket", "pocket-scorer", "pocket-reward")
"""Names of the models that ship with the project."""

ABOUT_PRINCIPLES = 300
"""Characters of a principle that the card shows; the data's provenance has the digest of all of it."""


@dataclass(frozen=True)
class CardFacts:
    """What the export knows of itself. Nothing here is of another moment or machine than run and settings are."""

    settings: Settings
    run: Run
    constitution: Constitution
    """As the run used it (Warehouse.read_principles)."""
    columns: tuple[Field, ...]
    done: Exported
    documents: tuple[tuple[str, str, int], ...] = ()
    """Name, edition and number of clauses of those that the run was held against (Warehouse.read_clauses)."""
    figures: tuple[Figure, ...] = ()
    """Figures of the run's last audit (Warehouse.read_figures); empty: it was never audited."""
    headlines: tuple[Headline, ...] = ()
    """The same's chief numbers (audit.summary.headlines)."""
    sides: Sides = field(default_factory=Sides)
    """Lengths and rewards of the answers in the files."""
    by_profile: ProfileLabels | None = None
    """The labels by the profile that the settings name."""

    @property
    def title(self) -> str:
        return f"{self.run.recipe.get('name') or self.run.run_id}: {self.settings.spec.title}"

    @property
    def kept(self) -> int:
        return sum(self.done.rows.values())

    @property
    def configs(self) -> dict[str, list[DataFile]]:
        """The files by config, in their order."""
        configs: dict[str, list[DataFile]] = {}
        for file in self.done.files:
            configs.setdefault(file.config, []).append(file)
        return configs

    @property
    def splits(self) -> list[tuple[str, float | None, str, int]]:
        """Config, its epsilon, split and rows."""
        return [
            (config, files[0].epsilon, split, rows)
            for config, files in self.configs.items()
            for split in ("train", "test")
            if (rows := sum(file.rows for file in files if file.split == split))
        ]

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


@cache
def _template() -> Any:
    """The card's, compiled: which takes longer than to fill it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        finalize=_finalized, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {
        "fenced": fenced,
        "sql_type": lambda type: sql_type(TYPES[type]),
        "ours": Markdown,
        "share": lambda value: written(value, "share"),
        "decimal": lambda value, places: "–" if value is None else f"{value:,.{places}f}".replace("-", "−"),
    }
    return environment.from_string(package_files(__package__).joinpath("card.md.j2").read_text("utf-8"))


def card(facts: CardFacts, options: CardOptions) -> str:
    """The text of README.md."""
    settings, spec = facts.settings, facts.settings.spec.of_run(facts.run)
    body = _template().render(
        settings=settings,
        spec=spec,
        most_measured=MOST,
        run=facts.run,
        constitution=facts.constitution,
        facts=facts,
        options=options,
        version=__version__,
        title=options.title or facts.title,
        dropped=[(Dropped(reason), count) for reason, count in facts.done.dropped.items()],
        how=list(_how(facts.run.recipe)),
        prompts_from=_prompts_from(facts.run),
        question=_question,
        profile=profile_of(facts.constitution, settings.profile) if settings.profile else None,
        counts=facts.constitution.weights,
        asked=list(_asked(settings)),
        not_cleaned=not_cleaned(settings),
        audit=[cells_of(row) for row in facts.headlines],
        layout=settings.layout_spec,
        limits=(*spec.limits, *settings.task.limits, *([REFERENCES] if settings.select == "reference" else [])),
        lost=Markdown(", ".join(f"`{name}`" for name in settings.task.lost(spec))),
        loading=Markdown(fenced(loading(facts), settings.task.lines[0] or "python")),
        scorecard=[figure for name in SCORECARD for figure in facts.figures if _shown(figure, name)],
    )
    return f"---\n{header(facts, options)}---\n\n{body}"


def header(facts: CardFacts, options: CardOptions) -> str:
    """The hub's metadata as YAML, by huggingface_hub."""
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        pretty_name=" ".join((options.title or facts.title).split()),
        language=list(facts.settings.cleaning.language) or None,
        license=options.license.lower() or "unknown",
        annotations_creators="machine-generated",
        language_creators="machine-generated",
        task_categories=["text-generation"],
        size_categories=next((name for bound, name in SIZES if facts.kept < bound), "1B<n<10B"),
        tags=[*facts.settings.spec.tags, "rlaif", "constitutional-ai", "synthetic", facts.settings.layout],
        configs=list(_configs(facts)),
    )
    return f"{data.to_yaml()}\n"


def loading(facts: CardFacts) -> str:
    """The lines that load the data into the layout's trainer."""
    from jinja2 import Environment, StrictUndefined

    if not (lines := facts.settings.task.lines[1]):
        return _loading_trl(facts)
    config, files = next(iter(facts.configs.items()), ("default", []))
    environment = Environment(undefined=StrictUndefined)
    return environment.from_string(lines.strip("\n")).render(
        config="" if config == "default" else config,
        epsilon=files[0].epsilon if files else None,
        **{split: [f"DATA/{file.path}" for file in files if file.split == split] for split in ("train", "test")},
    )


def _loading_trl(facts: CardFacts) -> str:
    """Python, for TRL's trainer of the format."""
    spec = facts.settings.spec
    config, first = next(iter(facts.configs.items()), ("default", []))
    data = "DATA" if config == "default" else f'DATA", "{config}'
    loss = f', loss_type="robust", label_smoothing={first[0].epsilon:g}' if spec.shards else ""
    reward = ", reward_funcs=reward" if spec.needs_reward else ""
    judged = "".join(f", {name}={json.dumps(value)}" for name, value in _rewarding(facts.run.recipe))
    test = ', eval_dataset=data["test"]' if any(file.split == "test" for file in first) else ""
    return "\n".join(
        [
            "from datasets import load_dataset",
            f"from trl import {spec.trainer}Config, {spec.trainer}Trainer",
            *(["from constitution import RubricReward"] if spec.needs_reward else []),
            "",
            *([f"reward = RubricReward({JUDGE}{judged})"] if spec.needs_reward else []),
            f'data = load_dataset("{data}")  # DATA: this repository or folder',
            f'args = {spec.trainer}Config(output_dir="trained"{loss})',
            f'trainer = {spec.trainer}Trainer("MODEL"{reward}, args=args, train_dataset=data["train"]{test})',
            "trainer.train()",
        ]
    )


def _rewarding(recipe: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the run's rewards were made by, as RubricReward takes it."""
    if recipe.get("seed", 1) != 1:
        yield "seed", recipe["seed"]
    made = recipe.get("reward") or {}
    for name in ("combine", "bar", "length", "quorum", "min_label_mass"):
        if name in made and made[name] != RewardSection.model_fields[name].default:
            yield name, made[name]


def _asked(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Each setting that the format takes, of the cleaning too: its name, its value and what it means."""
    for section in (settings, settings.cleaning):
        for name, value in section:
            of_format = name not in SOME_FORMATS or name in settings.spec.settings
            if of_format and name != "format" and not isinstance(value, BaseModel):
                doc = " ".join((type(section).model_fields[name].description or "").split())
                yield name, _value(settings.suffix if name == "file_type" else value), doc


def _value(value: Any) -> str:
    """A file's name alone: where a person keeps files is not told."""
    if isinstance(value, tuple):
        return ", ".join(map(_value, value)) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.name if isinstance(value, Path) else "–" if value in (None, "") else str(value)


def _configs(facts: CardFacts) -> Iterator[dict[str, Any]]:
    for name, files in facts.configs.items():
        splits = {file.split: file.pattern for file in files}
        # `datasets` (4.0 to 5.2) keeps what it has read by the folder's name and this header: without something that is
        # of these data alone it would give another export's rows for those of a folder of the same name.
        config: dict[str, Any] = {"config_name": name, "description": f"data {facts.done.digest[:16]}"}
        # Of several none is the default: who names none would load a part and take it for the whole.
        config |= {"default": True} if len(facts.configs) == 1 else {}
        if (
            facts.settings.suffix == "jsonl"
        ):  # else a column that is empty in the first 10 MB is of no type, and then none
            config |= {"features": [feature(column.name, TYPES[column.type]) for column in facts.columns]}
        yield config | {"data_files": [{"split": split, "path": path} for split, path in splits.items()]}


def feature(name: str, type: pa.DataType) -> dict[str, Any]:
    """A column as the hub's header has it: {name, dtype}, {name, struct: […]}, {name, list: …}."""
    if pa.types.is_list(type):
        inner = feature("", type.value_type)
        return {"name": name, "list": inner.get("struct") or inner["dtype"]}
    if pa.types.is_struct(type):
        return {"name": name, "struct": [feature(field.name, field.type) for field in type]}
    return {"name": name, "dtype": {"double": "float64"}.get(str(type), str(type))}


def _finalized(value: Any) -> Any:
    """What the template puts out: text is escaped unless it is Markdown, whole numbers have commas."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, Markdown) or not isinstance(value, str) else markdown(value)


_REWARDED = (("reward", "by"), ("reward", "combine"), ("reward", "length"))


def _how(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The recipe's settings that say most of how the data came to be."""
    by = confirm_of(recipe)
    of_votes = (("judge", "method"), ("judge", "principles")) if by == "votes" else ()
    for section, setting in (("revise", "rounds"), *_REWARDED, *of_votes, ("judge", "pairs")):
        value = (recipe.get(section) or {}).get(setting)
        if value is not None:
            if isinstance(value, Mapping):
                value = [f"{key} {each}" for key, each in value.items()]
            yield f"{section}.{setting}", ", ".join(value) if isinstance(value, list) else str(value)
    for name, sampler in (recipe.get("sample") or {}).items():
        yield f"sample.{name}.n", str(sampler.get("n", 1))
    if by != "votes":
        yield "judge.confirm", f"{by}: labels are made without votes"
    if (recipe.get("judge") or {}).get("votes") == "adaptive":
        yield "judge.votes", "adaptive: they stop where they have decided a pair, so that probabilities are too sure"
    for name, judge in ((recipe.get("model") or {}).get("jury") or {}).items():
        if judge.get("method"):
            yield f"model.jury.{name}.method", judge["method"]


def _prompts_from(run: Run) -> str:
    """Where the run's prompts come from; of a file its name alone."""
    prompts = run.recipe.get("prompts", {})
    if prompts.get("dataset"):
        return f"the hub's data set {prompts['dataset']}, split {prompts.get('split', 'train')}"
    if prompts.get("query"):
        return "a query of a warehouse"
    if not (named := prompts.get("path")):
        return "a source that the run does not name"
    names = [Path(path).name for path in ([named] if isinstance(named, str) else named)]
    return f"the file{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _shown(figure: Figure, name: str) -> bool:
    """The sum over the categories of undesired content, not each."""
    if figure.figure != f"scorecard_{name}" or figure.value is None:
        return False
    return name != "undesired" or figure.subject.startswith("any/")


def _question(principle: Principle) -> str:
    text = principle.comparison_question or principle.critique_request
    text = text or " ".join(criterion.question for criterion in principle.criteria)
    return text if len(text) <= ABOUT_PRINCIPLES else f"{text[: ABOUT_PRINCIPLES - 1]}…"

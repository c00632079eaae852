"""What is done with the models (revise, perturb, budget, output), and the whole recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from constitution.errors import RecipeError
from constitution.principles import find_root
from constitution.recipe.base import Count, SamplingSection, Section, Whole
from constitution.recipe.judge import JudgeSection
from constitution.recipe.models import Models, Name, given
from constitution.recipe.prompts import PromptsSection
from constitution.recipe.reference import ReferenceSection, check_reference
from constitution.recipe.reward import RewardSection, check_match
from constitution.recipe.rubric import RubricSection, check_rubric
from constitution.recipe.sample import SampleSection
from constitution.records import Perturbation, RewardSource
from constitution.templates.wording import ENGLISH, Wording, read_wording


class ReviseSection(Section):
    start: Literal["initial", "best"] = "initial"
    """best: in place of an initial answer, the prompt's sample with the highest reward by the first source, of those
    that are whole where there are any."""
    rounds: int = Field(default=2, ge=0, le=32)
    principles: tuple[str, ...] = ()
    """Tags or ids to draw from; empty: all that revise."""
    exemplars: Whole = 2
    """Few-shot exemplars shown before critique and revision, at most."""
    initial: SamplingSection = SamplingSection()
    critique: SamplingSection = SamplingSection()
    revision: SamplingSection = SamplingSection()

    @model_validator(mode="after")
    def _starts(self) -> Self:
        if self.start == "best" and not self.rounds:
            raise ValueError("start: best needs rounds of 1 or more, or the sample is the answer")
        if self.start == "best" and self.initial != SamplingSection():
            raise ValueError("initial: with start = best no initial answer is made")
        return self


class PerturbSection(Section):
    share: float = Field(default=0.1, gt=0, le=1)
    """Share of the prompts, drawn by the seed, whose last answer the policy spoils on purpose for the judges."""
    kinds: tuple[Perturbation, ...] = Field(default=("polished", "terse", "sarcastic"), min_length=1)
    sampling: SamplingSection = SamplingSection()


class BudgetSection(Section):
    limit: float = Field(gt=0)
    """A run takes up no more prompts once those done and in flight will have cost so much."""
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    """Currency of the limit and of all prices; a name only."""


class OutputSection(Section):
    slice: Count | None = None
    """Prompts to a slice: the unit of a Prefect task. None: 500, or more where there would be over 200 slices."""
    window: Count = 256
    """Prompts in flight, at most, over all slices."""
    flush_rows: Count = 20_000
    flush_seconds: float = Field(default=5.0, gt=0)
    """Finished rows wait this long, at most, before they are on disk."""
    stop_at_failures: float = Field(default=0.5, gt=0, le=1)
    """A start ends once engines failed more than this share of the last prompts; 1: never."""


class Recipe(Section):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    seed: Whole = 1
    constitution: str
    """name@version, looked up in the project's principles/ folder."""
    templates: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    """Folder in the project's templates/, beside principles/, whose texts are used. None: the package's own, which are
    English."""
    prompts: PromptsSection
    model: Models
    sample: dict[Name, SampleSection] = Field(default={})
    """Samplers by name; empty: the chain alone makes answers."""
    revise: ReviseSection = ReviseSection()
    perturb: PerturbSection | None = None
    """Absent: no answer is spoiled."""
    reference: ReferenceSection | None = None
    """Absent: prompts have no references."""
    rubric: RubricSection | None = None
    """Absent: prompts have no rubrics."""
    reward: RewardSection | None = None
    """Absent: answers have no rewards."""
    judge: JudgeSection | None = None
    """Absent: no votes."""
    output: OutputSection = OutputSection()
    budget: BudgetSection | None = None
    """Absent: no limit."""
    _given: frozenset[str] = frozenset()
    _path: Path = Path("recipe.toml")
    _wording: Wording | None = None

    @property
    def only_judges(self) -> bool:
        """Whether given answers are judged or rewarded, and none are made."""
        alone = self.judge.pairs == ("given",) if self.judge else bool(self.reward and self.prompts.answers)
        return bool(alone and not self.revise.rounds and not self.perturb and not self.sample)

    @property
    def chain(self) -> bool:
        """Whether the policy's answer is made, and revised; beside samplers only where there are rounds."""
        return bool(self.revise.rounds or not self.sample) and not self.only_judges

    @property
    def start_by(self) -> RewardSource | None:
        """By whose rewards the sample is chosen that a chain starts from; None: it starts from an initial answer."""
        return self.reward.by[0] if self.reward and self.revise.start == "best" else None

    @property
    def reference_by(self) -> str | None:
        """The model that writes prompts' references: policy, judge, or a name of the pool. None: none does."""
        return self.reference.model if self.reference and self.reference.source == "synthesis" else None

    @property
    def rubric_by(self) -> str | None:
        """The same of prompts' rubrics."""
        return self.rubric.model if self.rubric and self.rubric.written else None

    @property
    def asks_judges(self) -> bool:
        """Whether there are votes, or rewards or references that judges read, or one of them writes."""
        reads = bool(self.reference and self.reference.bar) or bool(self.reward and self.reward.asks)
        return self.asks_votes or reads or "judge" in (self.reference_by, self.rubric_by)

    @property
    def asks_votes(self) -> bool:
        return bool(self.judge and self.judge.votes_are_cast)

    @property
    def samples(self) -> int:
        """Samples of each prompt."""
        return sum(section.n for section in self.sample.values())

    @property
    def asks_policy(self) -> bool:
        """Whether the policy makes any answer, or reads what follows one, or writes what they are judged by."""
        asked = {self.reference_by, self.rubric_by, *(each.model for each in self.sample.values())}
        reads = bool(self.reward and self.reward.last_token)
        return self.chain or reads or bool(self.perturb) or "policy" in asked

    @property
    def path(self) -> Path:
        """The file that it was loaded from; principles/ is looked for above it."""
        return self._path

    @property
    def wording(self) -> Wording:
        """The templates that it names, read once. Raises RecipeError where they are not there."""
        if self._wording is None:
            project = find_root(self._path.absolute().parent).parent if self.templates else None
            self._wording = read_wording(project, self.templates) if project and self.templates else ENGLISH
        return self._wording

    def at(self, path: Path) -> Self:
        """The same, as if it had been loaded from `path`, where it was made in a program."""
        if self._wording is not None or self._path == path:
            return self
        placed = self.model_copy()
        placed._path = path
        return placed

    def with_wording(self, wording: Wording) -> Self:
        """The same with these templates, whatever the project's say now."""
        worded = self.model_copy()
        worded._wording = wording
        return worded

    def with_engines(self, engines: Mapping[str, Any]) -> Self:
        """The recipe with these Engines in place of its models, by role: policy, judge, reward_model, or a name of
        the jury, which keeps its method. Raises RecipeError for another role."""
        models = self.model
        scorer = {"reward_model"} if models.reward_model else set()
        roles = {"policy", *(f"pool.{name}" for name in models.pool), *(models.jury or {"judge"}), *scorer}
        if unknown := sorted(engines.keys() - roles):
            raise RecipeError(
                f"engines: the recipe has no model {unknown[0]}", hint=f"its models are {', '.join(sorted(roles))}"
            )
        sections = {role: given(engine) for role, engine in engines.items()}
        jury = {
            name: sections[name].model_copy(update={"method": section.method}) if name in sections else section
            for name, section in models.jury.items()
        }
        pool = {name: sections.get(f"pool.{name}", section) for name, section in models.pool.items()}
        alone = {role: section for role, section in sections.items() if role in ("policy", "judge", "reward_model")}
        return self.model_copy(update={"model": models.model_copy(update={**alone, "jury": jury, "pool": pool})})

    def with_samplers(self, samplers: Mapping[str, Any]) -> Self:
        """The recipe with these Samplers of a Python program, by the names of [sample.NAME], to make their answers.
        Raises RecipeError for a name that it does not have."""
        if unknown := sorted(samplers.keys() - self.sample.keys()):
            raise RecipeError(
                f"samplers: the recipe has no [sample.{unknown[0]}]",
                hint=f'load_recipe(PATH, ["sample.{unknown[0]}.n=2"]) adds one',
            )
        made = {
            name: section.by(samplers[name]) if name in samplers else section for name, section in self.sample.items()
        }
        return self.model_copy(update={"sample": made})

    def given(self, key: str) -> bool:
        """Whether --set gave `key`, as a.b.c, or a section that it is in: the user's own word."""
        return any(f"{key}.".startswith(f"{each}.") for each in self._given)

    @model_validator(mode="before")
    @classmethod
    def _no_answers_for_nothing(cls, given: Any) -> Any:
        """Without [revise] there is no chain where given answers alone are judged or rewarded, which would have no use
        of it, and where there are samplers."""
        if isinstance(given, dict) and "revise" not in given:
            judge, prompts = given.get("judge"), given.get("prompts")
            alone = isinstance(judge, dict) and judge.get("pairs") in (["given"], ("given",))
            alone |= bool("reward" in given and not judge and isinstance(prompts, dict) and prompts.get("answers"))
            if given.get("sample") or (alone and "perturb" not in given):
                return {**given, "revise": {"rounds": 0}}
        return given

    @model_validator(mode="after")
    def _pairs_exist(self) -> Self:
        if self.model.jury and self.model.judge:
            raise ValueError("model: has a judge and a jury; name the judge among the jury")
        if any(model and model.method for model in (self.model.policy, self.model.judge)):
            raise ValueError("model: method is for members of a jury; a judge alone votes as judge.method says")
        if self.judge and (self.judge.quorum or 1) > max(len(self.model.jury), 1):
            raise ValueError("judge.quorum: more than there are judges")
        read = bool(self.reward and self.reward.perturbed)
        if self.perturb and not self.judge and not read:
            raise ValueError(
                "perturb: spoiled answers are for judges, and there is no section [judge], nor reward.perturbed"
            )
        if read and not self.perturb:
            raise ValueError("reward.perturbed: no answer is spoiled: there is no section [perturb]")
        if self.perturb and not (self.chain or self.prompts.answers or self.prompts.benchmark):
            raise ValueError("perturb: a chain's last answer or a given one is spoiled, and there are samplers alone")
        if self.judge and not self.judge.pairs and not self.perturb:
            raise ValueError("judge.pairs: there would be nothing to vote on; leave the section [judge] out instead")
        pairs = self.judge.pairs if self.judge else ()
        if self.revise.rounds == 0 and {"first-last", "parent"} & set(pairs):
            raise ValueError("judge.pairs: first-last and parent need revise.rounds of 1 or more")
        by_reward = {"best-worst", "best-random", "best-low"} & set(pairs)
        of_samples = by_reward | {"all", "tournament"} & set(pairs)
        if of_samples and self.samples < 2:
            raise ValueError(f"judge.pairs: {min(of_samples)} needs two samples or more ([sample.NAME])")
        if {"all", "tournament"} <= set(pairs):
            raise ValueError("judge.pairs: all has every pair of a tournament; name one of them")
        if by_reward and self.reward is None:
            raise ValueError(f"judge.pairs: {min(by_reward)} goes by rewards, and there is no section [reward]")
        if self.revise.start == "best" and (self.samples < 2 or self.reward is None):
            lacks = "goes by rewards, and there is no section [reward]"
            lacks = lacks if self.samples > 1 else "needs two samples or more ([sample.NAME])"
            raise ValueError(f"revise.start: best {lacks}")
        if self.prompts.turns is not None and not self.chain:
            raise ValueError(
                "prompts.turns: the next turn is asked after the last answer of a chain, and there are samplers alone; "
                "set revise.rounds to 1 or more"
            )
        if self.prompts.benchmark and "given" not in pairs:
            raise ValueError('prompts.benchmark: its answers are there to be judged: judge.pairs = ["given"]')
        several = len(self.prompts.answers) > 1 or self.prompts.lists_answers or self.prompts.benchmark
        if "given" in pairs and not several:
            raise ValueError("judge.pairs: given needs two or more keys in prompts.answers, or one of a list: texts[]")
        return self

    @model_validator(mode="after")
    def _labels_can_be_made(self) -> Self:
        judge = self.judge
        if not self.asks_votes and any(member.method for member in self.model.jury.values()):
            raise ValueError("model.jury: method says how a member votes, and there are no votes")
        if judge is None:
            return self
        if judge.confirm == "reward" and self.reward is None:
            raise ValueError("judge.confirm: labels are to be made of rewards, and there is no section [reward]")
        if not judge.votes_are_cast and (self.perturb or self.prompts.benchmark):
            what = "perturb: spoiled answers show" if self.perturb else "prompts.benchmark: it shows"
            raise ValueError(f"{what} how judges vote, and with judge.confirm = {judge.confirm!r} none does")
        counts = []
        for name in judge.contrast or ():
            if name not in self.sample:
                raise ValueError(f"judge.contrast: there is no sampler {name!r} ([sample.NAME])")
            counts.append(self.sample[name].n)
        if len(set(counts)) > 1:
            raise ValueError(
                f"judge.contrast: the samplers make {counts[0]} and {counts[1]} answers, and number i of one is "
                "compared with number i of the other; give both the same n"
            )
        return self

    @model_validator(mode="after")
    def _rubrics_are_asked(self) -> Self:
        check_reference(self)
        check_rubric(self)
        check_match(self)
        return self

    @model_validator(mode="after")
    def _pool_is_asked(self) -> Self:
        pool, writers = self.model.pool, (self.reference_by, self.rubric_by)
        asked = {*writers, *(section.model for section in self.sample.values())}
        for name, section in self.sample.items():
            if section.model != "policy" and section.model not in pool:
                raise ValueError(f"sample.{name}.model: {section.model!r} is neither policy nor in [model.pool]")
        if unused := sorted(pool.keys() - asked):
            raise ValueError(f"model.pool.{unused[0]}: nothing asks it")
        if taken := [name for name in ("policy", "judge") if name in pool]:
            raise ValueError(f"model.pool: the name {taken[0]} is taken")
        scores = bool(self.reward and "model" in self.reward.by)
        if scores != bool(self.model.reward_model):
            raise ValueError('[model.reward_model] and "model" in reward.by come together')
        if any(section.method for section in pool.values()):
            raise ValueError("model.pool: method is for members of a jury")
        return self

    @model_validator(mode="after")
    def _budget_has_prices(self) -> Self:
        if self.budget and not any(section.price for section in self.model.sections.values()):
            raise ValueError("budget: without a price of any model ([model.policy.price]) nothing counts towards it")
        return self

"""Where the rubric of each prompt comes from ([rubric])."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from constitution.recipe.base import Count, SamplingSection
from constitution.records import RubricSource

if TYPE_CHECKING:
    from constitution.recipe.sections import Recipe


class RubricSection(SamplingSection):
    """The questions that the reward source `prompt-rubric` asks of a prompt's answers, and how they are written."""

    sources: tuple[RubricSource, ...] = Field(alias="from", min_length=1)
    """given: with the prompt (`prompts.rubric`). prompt: from the conversation alone. principles: from it and the
    constitution's principles. reference: from the prompt's reference ([reference]), where that was kept.
    contrast: from a better and a worse answer. Several are put together, in this order."""
    model: str = "policy"
    """Who writes: `policy`, `judge` (one that judges alone), or a name of `[model.pool.NAME]`."""
    principles: tuple[str, ...] = ()
    """Source principles: tags or ids of those that are shown; empty: all that compare."""
    at_least: Count = 1
    """Items that must be left: a prompt with fewer has no rubric, and its answers no reward by one."""
    at_most: Count | None = None
    """Further items are dropped, from the last. None: none are, and a writer is asked for 20 at most."""
    check: Literal["off", "contrast"] = "off"
    """contrast: the rubric is kept only where a judge that reads by it prefers the answer that is known to be better
    (OpenRubrics, arXiv 2510.07743, section 3.2)."""
    format: Literal["json", "xml"] = "json"
    """How the writer is asked to write them."""
    temperature: float = Field(default=0.0, ge=0, le=5)
    max_tokens: Count = 2048

    @property
    def written(self) -> tuple[RubricSource, ...]:
        """Those that a model is asked for."""
        return tuple(source for source in self.sources if source != "given")

    @property
    def most(self) -> int:
        """Questions that a writer is asked for, at most."""
        return self.at_most or max(self.at_least, 20)

    @property
    def of_answers(self) -> bool:
        """Whether answers decide it, so that it is made once they are all there."""
        return bool({"reference", "contrast"} & set(self.sources)) or self.check == "contrast"

    @model_validator(mode="after")
    def _can_be_had(self) -> Self:
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("from: a source is there twice")
        if self.at_least > (self.at_most or self.at_least):
            raise ValueError("at_least: is more than at_most")
        if not self.written:
            changed = [name for name in _OF_WRITERS if getattr(self, name) != type(self).model_fields[name].default]
            if changed:
                raise ValueError(f'{changed[0]}: is about what a model writes, and from = ["given"] asks none')
        if self.principles and "principles" not in self.sources:
            raise ValueError('principles: they are shown where from has "principles"')
        return self


_OF_WRITERS = ("model", "format", "temperature", "top_p", "max_tokens", "stop")
"""Settings that a given rubric has no use of."""


def check_rubric(recipe: Recipe) -> None:
    """Raises ValueError for a rubric that nothing asks or that is made from what is not there."""
    section, asked = recipe.rubric, recipe.reward is not None and "prompt-rubric" in recipe.reward.by
    if section is None:
        if asked:
            raise ValueError("reward.by: prompt-rubric reads a prompt's rubric, and there is no section [rubric]")
        return
    if not asked:
        raise ValueError('rubric: nothing asks it; name "prompt-rubric" in reward.by')
    if ("given" in section.sources) != (recipe.prompts.rubric is not None):
        raise ValueError("rubric.from: given reads the key that prompts.rubric names; one needs the other")
    if "reference" in section.sources and recipe.reference is None:
        raise ValueError("rubric.from: there is no reference to write from; add a section [reference]")
    if section.check == "contrast" and recipe.model.jury:
        raise ValueError("rubric.check: one judge checks, and there are several; name one in [model.judge]")
    contrasts = "contrast" in section.sources or section.check == "contrast"
    if contrasts and not (recipe.chain and recipe.revise.rounds) and not recipe.prompts.has_gold:
        what = "from" if "contrast" in section.sources else "check"
        raise ValueError(
            f"rubric.{what}: a contrast is of a revised answer and the first, or of given answers with gold; "
            "set revise.rounds or prompts.gold"
        )
    if section.of_answers and recipe.start_by == "prompt-rubric":
        raise ValueError("revise.start: best goes by a rubric that is only made once the chain is there")
    if section.written and section.model == "judge" and recipe.model.jury:
        raise ValueError("rubric.model: there are several judges; name one model, of [model.pool]")
    if section.written and section.model not in ("policy", "judge", *recipe.model.pool):
        raise ValueError(f"rubric.model: {section.model!r} is neither policy nor judge nor in [model.pool]")

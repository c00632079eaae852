"""What a trial found wrong, and the setting to change. Each threshold says why it is where it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from constitution import errors
from constitution.audit.kinds import KINDS
from constitution.engines.odd import SHORTENED
from constitution.measures import Estimate
from constitution.pipeline.cost import money
from constitution.pipeline.plan import WAVE, small_window
from constitution.recipe import ModelSection, OpenAIModel, Recipe, VLLMModel
from constitution.records import DropReason, Figure, RewardReason, RewardSource, Run
from constitution.trial.shares import Step

LABEL_MASS = KINDS["label_mass"].summary[""].null or 0.0
"""Under it the judge answers with other words than its labels: the audit's own line."""
CENSORED = 0.1
"""Share of votes of which a label was bounded and not read: each is known to a factor of two at best."""
FAILED = 0.05
"""Share of a step: one of sixteen is over it. A run stops at half, and below that pays for chains without an end."""
CUT = 0.05
"""Share of a step: pairs with a cut answer are dropped, so one of sixteen is worth a larger max_tokens."""
EMPTY = 0.05
"""As CUT."""
REFUSED = 0.2
"""Share of a step, refused or filtered. Some prompts deserve it; a fifth of the run is a waste."""
UNCHANGED = 0.5
"""Share of revisions: over half, most prompts give no pair."""
COPIED = 0.1
"""Share of a step: exports drop such answers, and the others may be copied in part."""
_LOGPROBS = re.compile("log-?prob", re.IGNORECASE)
"""In our words or a server's: that there are none."""
REASONING = 0.5
"""Share of a step's tokens of output: over half, reasoning costs more than what is kept."""
POSITION = 1.0
"""Log-odds that the first place adds, either way: at 1 a pair of equals is called 73 to 27 (docs/judging.md)."""
SAME_PLACE = 0.5
"""Share of votes that prefer the same place in both orders: where the interval is over it, place decides more pairs
than what the answers say, however little it adds (arXiv 2309.00267: 18 % for a large judge, 56 % for a small one)."""
ALPHA = 0.2
"""Krippendorff's alpha of the judges: up to 0.2 agreement is slight (Landis & Koch 1977, Biometrics 33)."""


DROPPED = 0.5
"""Share of the pairs, for one reason: over half, most of what is paid for trains no model."""
ECHOED = 0.5
"""Share of the verdicts after the first: draws of a few sentences are hardly ever alike."""
PAIRS = 4
"""As many at least: one may be odd by itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    """What is wrong, as a sentence without a full stop."""
    setting: str
    """What to change."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a trial came to."""

    recipe: Recipe
    run: Run
    steps: Sequence[Step]
    figures: Sequence[Figure]
    """Figures of the audit; none where there was nothing to audit."""
    cost: Estimate
    """Cost of all prompts."""
    population: int
    """Prompts of the recipe."""
    pairs: Mapping[DropReason | None, int] = field(default_factory=dict)
    """By the reason for which they are dropped; None: they are kept."""
    echoed: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """`shares.echoed`."""
    rewards: Mapping[RewardSource, Mapping[RewardReason | None, int]] = field(default_factory=dict)
    """`shares.rewarded`."""


def findings(found: Evidence) -> list[Finding]:
    """In the order of a prompt's way; what stopped the trial comes first."""
    failed = [finding for step in found.steps for finding in _failed(step, found.recipe)]
    stopped = found.run.stopped
    if stopped and not failed and not stopped.startswith("trial: "):
        failed = [Finding(f"the trial was stopped: {stopped}", "correct that first")]
    parts: Iterable[Iterator[Finding]] = (
        *(_said(step, found.recipe) for step in found.steps if not step.judge),
        *(_votes(step, found.recipe) for step in found.steps if step.judge),
        _judging(found.figures, found.recipe),
        _echoed(found),
        _references(found.run),
        _rewards(found),
        _pairs(found),
        _context(found.run),
        _budget(found),
        _waves(found),
    )
    return [*failed, *(finding for part in parts for finding in part)]


def _failed(step: Step, recipe: Recipe) -> Iterator[Finding]:
    if not step.asked or step.failed / step.asked <= FAILED:
        return
    [(error, times)] = step.errors.most_common(1)
    what = f"{step.title}: {times:,} of {step.asked:,} failed by {error}: {step.message}"
    yield Finding(what, _remedy(step, error, recipe))


def _remedy(step: Step, error: str, recipe: Recipe) -> str:
    place, section = _model(step, recipe)
    if step.reads and _LOGPROBS.search(step.message):
        return f"{place}: a model that returns top_logprobs, as vLLM does"
    if step.judge and _LOGPROBS.search(step.message):
        method = f"{place}.method" if step.judge in recipe.model.jury else "judge.method"
        return f'{method} = "verdict", which needs none; or {place}: a model that returns top_logprobs, as vLLM does'
    if step.judge and error == "MalformedReply" and "max_tokens" in step.message:
        return f"a larger judge.{step.message.partition(':')[0]}.max_tokens"
    if step.judge and step.message.startswith("verdict: ") and error == "MalformedReply":
        form = ", or vLLM's extra_body.structured_outputs, which enforces it" if section.engine == "openai" else ""
        return f"{place}: another model, which keeps to the form of a verdict{form}"
    if error == "ContextTooLong":
        shorter = [f"revise.exemplars under {recipe.revise.exemplars}"] if recipe.revise.exemplars else []
        longer = f"{place}.vllm.max_model_len" if isinstance(section, VLLMModel) else "--max-model-len of its server"
        shorter += [f"a smaller {_sampling(step)}.max_tokens"] if _sampling(step) else []
        return f"{place} has too small a context: {', '.join([*shorter, f'a larger {longer}'])}, or another model"
    if error == "AccessDenied":
        return f"{place}.api_key_env, and the account"
    if error in ("EngineUnavailable", "EngineGone"):
        where = section.base_url if isinstance(section, OpenAIModel) else section.model
        return f"{place}.base_url, and whether the server runs ({where})"
    if error == "EngineTimeout":
        return f"{place}.timeout_s"
    if error == "RateLimited":
        return f"{place}.concurrency"
    hint = getattr(errors, error, errors.EngineError).hint
    return hint if hint else f"{place}: its model, chat template, omit or extra_body (docs/engines.md)"


def _said(step: Step, recipe: Recipe) -> Iterator[Finding]:
    """What became of texts that are no votes."""
    place, _ = _model(step, recipe)
    sampling, done = _sampling(step), f"of {step.done:,} {step.title}s"
    thinks = step.tokens and step.reasoning_tokens > REASONING * step.tokens
    if step.share("cut") > CUT:
        blame = f', or {place}.reasoning = "off"' if step.thought else ""
        yield Finding(
            f"{step.outcomes['cut']:,} {done} were cut by max_tokens" + _mean_reasoning(step),
            f"a larger {sampling}.max_tokens (now {_max_tokens(step, recipe):,}){blame}",
        )
    elif thinks:
        yield Finding(
            f"{step.reasoning_tokens / step.tokens:.0%} of the tokens of {step.title}s are reasoning"
            + _mean_reasoning(step),
            f'{place}.reasoning = "off", if the answers are as good without',
        )
    if step.share("empty") > EMPTY:
        yield Finding(
            f"{step.outcomes['empty']:,} {done} have no text",
            f"{place}: its chat template, or {sampling}.stop",
        )
    if step.share("refused", "filtered") > REFUSED:
        held = step.outcomes["refused"] + step.outcomes["filtered"]
        yield Finding(
            f"{held:,} {done} were refused or filtered",
            f"{place}: a model or server that answers such prompts; or other prompts",
        )
    if step.copied.total() > COPIED * step.done:
        what = ", ".join(f"{count:,} {_SHOWN[source]}" for source, count in step.copied.most_common())
        fewer = f"revise.exemplars under {recipe.revise.exemplars}, or " if step.copied["exemplar"] else ""
        what = f"{step.copied.total():,} {done} repeat what the model was shown: {what}"
        yield Finding(what, f"{fewer}{place}: a larger model")
    if step.share("unchanged") > UNCHANGED:
        yield Finding(
            f"{step.outcomes['unchanged']:,} {done} are the answer that they were to revise",
            "revise.revision.temperature, revise.exemplars, or principles that apply to these prompts",
        )


_SHOWN = {
    "exemplar": "an exemplar",
    "principle": "the principle",
    "template": "the template",
    "critique": "the critique",
    "turn": "a turn of the conversation",
    "system-prompt": "the system prompt",
}


def _mean_reasoning(step: Step) -> str:
    if not step.thought:
        return ""
    return f" ({step.thought:,} of {step.done:,} reasoned, {step.reasoning_tokens / step.done:,.0f} tokens in the mean)"


def _votes(step: Step, recipe: Recipe) -> Iterator[Finding]:
    place, section = _model(step, recipe)
    if step.label_mass is not None and step.label_mass < LABEL_MASS:
        asked = step.name if step.reads else f"method {', '.join(sorted(step.methods))}"
        yield Finding(
            f"{step.judge} puts {step.label_mass:.0%} of its probability on the labels ({asked}; {LABEL_MASS:.0%} at "
            "least is sound)",
            f'{place}: another model or chat template, reasoning = "off" where it thinks; or '
            + (
                "reward.min_label_mass, under which a reading"
                if step.reads
                else "judge.min_label_mass, under which a vote"
            )
            + " does not count",
        )
    if step.done and step.censored / step.done > CENSORED:
        served = (
            f'a vLLM server, with {place}.dialect = "vllm"' if isinstance(section, OpenAIModel) else "another model"
        )
        what = "readings" if step.reads else "votes"
        yield Finding(
            f"of {step.censored:,} of {step.done:,} {what} by {step.judge} a label was bounded, not read", served
        )
    if step.tokens and step.reasoning_tokens > REASONING * step.tokens:
        yield Finding(
            f"{step.reasoning_tokens / step.tokens:.0%} of what {step.judge} writes is reasoning"
            + _mean_reasoning(step),
            f'{place}.reasoning = "off", if its votes are as good without',
        )


def _judging(figures: Iterable[Figure], recipe: Recipe) -> Iterator[Finding]:
    known = [figure for figure in figures if figure.value is not None and not figure.principle_id]
    adds = {figure.judge: figure.value or 0.0 for figure in known if figure.figure == "position_effect"}
    for figure in known:
        value, effect = figure.value or 0.0, adds.get(figure.judge, 0.0)
        place = "first" if effect > 0 else "second"
        other = 'another judge; judge.method = "score", which has no order; or a larger judge.margin'
        if figure.figure == "position_effect" and abs(effect) > POSITION:
            yield Finding(
                f"{figure.judge} prefers the {place} answer by {abs(effect):.1f} in log-odds, whatever it says", other
            )
        if figure.figure == "position_bias" and (figure.low or 0.0) > SAME_PLACE and abs(effect) <= POSITION:
            yield Finding(
                f"{figure.judge} prefers the same place in both orders in {value:.0%} of its votes"
                + (f", by {abs(effect):.1f} in log-odds for the {place}" if effect else ""),
                other,
            )
        if figure.figure == "alpha" and figure.subject == "judges" and value < ALPHA:
            yield Finding(
                f"the judges hardly agree: alpha {value:.2f} on {figure.n:,} pairs",
                'another jury, or judge.aggregate = "dawid-skene" and judge.calibrate with gold (docs/judging.md)',
            )


def _echoed(found: Evidence) -> Iterator[Finding]:
    steps = {(step.name, step.judge): step for step in found.steps}
    for place, (same, of) in found.echoed.items():
        step = steps[place]
        _, section = _model(step, found.recipe)
        if same <= ECHOED * of or section.engine == "fake":  # it has few sentences
            continue
        what = (
            f"further verdicts by {step.judge} are the very text of an earlier one, so that the interval of their share"
            " is too narrow"
            if step.judge
            else f"further answers of {step.name} are the very text of an earlier one, so that there is less to choose "
            "from than is paid for"
        )
        yield Finding(
            f"{same:,} of {of:,} {what}",
            "a server, or a gateway before it, that does not keep replies and heeds seeds; or a higher "
            f"{_sampling(step) if not step.judge else 'judge.verdict'}.temperature",
        )


def _pairs(found: Evidence) -> Iterator[Finding]:
    """Pairs without a label, where no step of their answers accounts for it."""
    judge, pairs = found.recipe.judge, sum(found.pairs.values())
    if judge is None or pairs < PAIRS:
        return
    verdicts = any("verdict" in step.methods for step in found.steps)
    settings: Mapping[DropReason, str] = {
        "tie": ("a larger judge.verdict.n, " if verdicts else "") + "another judge, or another comparison question"
        if judge.votes_are_cast
        else "other sources or principles in [reward], for rewards that tell more answers apart",
        "margin": f"a smaller judge.margin (now {judge.margin:g}), or another judge",
        "votes-missing": f"a smaller judge.min_label_mass (now {judge.min_label_mass:g}), or another judge",
        "reward-missing": "a smaller reward.quorum or reward.min_label_mass, or another judge",
        "identical": "judge.pairs, or prompts of which the answers differ",
    }
    known = {"votes-missing"} if any(step.judge and step.failed for step in found.steps) else set()
    known |= {"identical"} if any(step.share("unchanged") > UNCHANGED for step in found.steps) else set()
    known |= {"reward-missing"} if any(_rewards(found)) else set()
    for reason, setting in settings.items():
        count = found.pairs.get(reason, 0)
        if count > DROPPED * pairs and reason not in known:
            yield Finding(f"{count:,} of {pairs:,} pairs are dropped: {reason}", setting)


def _references(run: Run) -> Iterator[Finding]:
    """Those of which nothing is made."""
    checked, dropped = (run.counts.get(name, 0) for name in ("reference_checks", "references_dropped"))
    if checked >= PAIRS and dropped > DROPPED * checked:
        yield Finding(
            f"{dropped:,} of {checked:,} references are dropped, so that nothing is made of them",
            'reference.principles, to those that hold for these prompts, a lower reference.bar, or from = "revision"',
        )


UNREWARDED = 0.2
"""Share of a source's rewards: such answers are in no group, so a fifth of what was asked for teaches nothing."""
_VALUED: Mapping[RewardReason, str] = {
    "no-rubric": "rubric.at_least, .from, .check or .model: the table `rubrics` of the rows below says why",
    "no-reference": "prompts that come with a reference, or another reference.from",
    "reference-unread": "another reward.match.how, or references off which it can be read",
    "unread": 'another reward.match.how, prompts that say how the answer is to end, or reward.match.unread = "wrong"',
    "no-spread": "a larger n of [sample.NAME], or a higher temperature",
}
"""What to change, by why a reward has no value; of other reasons the steps and the pairs speak."""


def _rewards(found: Evidence) -> Iterator[Finding]:
    """Those without a value."""
    for source, counts in found.rewards.items():
        for reason, setting in _VALUED.items():
            if PAIRS <= counts.get(reason, 0) > UNREWARDED * sum(counts.values()):
                of = sum(counts.values())
                yield Finding(f"{counts[reason]:,} of {of:,} rewards by {source} have no value: {reason}", setting)


def _context(run: Run) -> Iterator[Finding]:
    mark = SHORTENED.partition("{n}")[2]
    for role, stats in run.engines.items():
        if any(str(event).endswith(mark) for event in stats.get("events", ())):
            yield Finding(
                f"the context of {role} has no room for max_tokens: some answers got less",
                f"a smaller max_tokens, fewer revise.exemplars, or a longer context for model.{role}",
            )


def _budget(found: Evidence) -> Iterator[Finding]:
    budget, cost = found.recipe.budget, found.cost
    if budget is None or cost.value is None or (cost.value if cost.high is None else cost.high) <= budget.limit:
        return
    sure = cost.low is not None and cost.low > budget.limit
    yield Finding(
        f"all prompts {'will' if sure else 'may'} cost more than the budget of {money(budget.limit)} {budget.currency}",
        "budget.limit, or a smaller prompts.limit",
    )


# --- names of settings


def _model(step: Step, recipe: Recipe) -> tuple[str, ModelSection]:
    """Name and content of the section whose model takes the step."""
    models = recipe.model
    if step.judge and step.judge in models.jury:
        return f"model.jury.{step.judge}", models.jury[step.judge]
    if step.judge and models.judge:
        return "model.judge", models.judge
    if step.name == "reference" and recipe.reference_by == "judge":
        return "model.judge" if models.judge else "model.policy", models.generator("judge")
    if step.name == "reference" and recipe.reference_by in models.pool:
        return f"model.pool.{recipe.reference_by}", models.generator(recipe.reference_by)
    sampler = recipe.sample.get(step.name.removeprefix("sample-"))
    if sampler and sampler.model != "policy":
        return f"model.pool.{sampler.model}", models.generator(sampler.model)
    return "model.policy", models.policy


def _sampling(step: Step) -> str:
    """Name of the section that says how the step's texts are sampled; empty: none does."""
    if step.name.startswith("sample-"):
        return f"sample.{step.name.removeprefix('sample-')}"
    return _SAMPLING.get(step.name, "")


_SAMPLING: Mapping[str, str] = {
    **{name: f"revise.{name}" for name in ("initial", "critique", "revision")},
    "perturbation": "perturb.sampling",
    "reference": "reference",
}


def _max_tokens(step: Step, recipe: Recipe) -> int:
    if step.name.startswith("sample-"):
        return recipe.sample[step.name.removeprefix("sample-")].max_tokens
    if step.name == "reference":
        return recipe.reference.max_tokens if recipe.reference else 0
    if step.name == "perturbation":
        return recipe.perturb.sampling.max_tokens if recipe.perturb else 0
    return int(getattr(recipe.revise, step.name).max_tokens)


def _waves(found: Evidence) -> Iterator[Finding]:
    if what := small_window(found.recipe, found.population):
        yield Finding(what, f"output.window = {min(found.population, WAVE)}")

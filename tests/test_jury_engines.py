"""The engines of a jury: shared where they are equal, opened together, closed whatever fails."""

from __future__ import annotations

import pytest
from chains import Scripted

import constitution.engines as engines_module
from constitution.engines import Engines, Metered, open_engines
from constitution.engines.fake import FakeEngine
from constitution.errors import EngineError, ModelLoadError
from constitution.pipeline.cost import Cost, Ledger
from constitution.recipe import FakeModel, Models, ModelSection, VLLMModel
from constitution.records import Usage

# --- engines


async def test_equal_members_share_an_engine_and_are_told_of_once() -> None:
    policy, judge = FakeModel(engine="fake"), FakeModel(engine="fake", model="judge")
    jury: dict[str, ModelSection] = {
        "same": policy.model_copy(update={"family": "fake"}),
        "a": judge,
        "b": judge.model_copy(update={"price": None, "family": "other"}),
        "c": FakeModel(engine="fake", model="judge", noise=0.5),
    }
    async with open_engines(Models(policy=policy, jury=jury)) as engines:
        assert list(engines.judges) == ["same", "a", "b", "c"]
        assert engines.judges["same"] is engines.policy
        assert engines.judges["a"] is engines.judges["b"]
        assert list(engines.stats()) == ["policy", "judge a", "judge c"]
        assert list(engines.describe()) == ["policy", "judge same", "judge a", "judge b", "judge c"]


async def test_engines_that_share_an_accelerator_are_opened_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    async def together(sections: list[VLLMModel]) -> list[FakeEngine]:
        asked.append([section.model for section in sections])
        return [FakeEngine(FakeModel(engine="fake", model=section.model)) for section in sections]

    monkeypatch.setattr("constitution.engines.vllm.VLLMEngine.open_together", together)
    jury: dict[str, ModelSection] = {
        "a": VLLMModel(engine="vllm", model="a"),
        "between": FakeModel(engine="fake", model="between"),
        "b": VLLMModel(engine="vllm", model="b"),
        "again": VLLMModel(engine="vllm", model="a", family="a"),
    }
    policy = VLLMModel(engine="vllm", model="policy")
    async with open_engines(Models(policy=policy, jury=jury)) as engines:
        assert asked == [["policy", "a", "b"]]
        assert engines.policy.model == "policy"
        assert {name: engine.model for name, engine in engines.judges.items()} == {
            "a": "a",
            "between": "between",
            "b": "b",
            "again": "a",
        }


async def test_whatever_fails_every_engine_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    async def close(self: FakeEngine) -> None:
        closed.append(self.model)
        if self.model == "a":
            raise EngineError("does not close")

    async def open_engine(section: ModelSection, notes: object) -> FakeEngine:
        assert isinstance(section, FakeModel)
        if section.model == "broken":
            raise ModelLoadError("broken")
        return FakeEngine(section)

    monkeypatch.setattr(FakeEngine, "close", close)
    monkeypatch.setattr(engines_module, "open_engine", open_engine)
    named = {name: FakeModel(engine="fake", model=name) for name in ("policy", "a", "b", "broken")}
    models = Models(policy=named["policy"], jury={"a": named["a"], "b": named["b"]})
    with pytest.raises(EngineError, match="does not close"):
        async with open_engines(models):
            pass
    assert sorted(closed) == ["a", "b", "policy"]
    closed.clear()
    with pytest.raises((ModelLoadError, EngineError)):
        async with open_engines(Models(policy=named["policy"], jury={"b": named["b"], "broken": named["broken"]})):
            pass
    assert sorted(closed) == ["b", "policy"]


def test_each_judge_has_its_own_price() -> None:
    models = Models.model_validate(
        {
            "policy": {"engine": "fake", "price": {"input": 1}},
            "jury": {
                "dear": {"engine": "fake", "model": "d", "price": {"input": 10, "gpu_hour": 2}},
                "free": {"engine": "fake", "model": "f"},
                "policys": {"engine": "fake", "price": {"gpu_hour": 100}},
            },
        }
    )
    million = 1_000_000
    used = [Usage("initial", "fake", 1, million, 0, 0), Usage("perturbation", "fake", 1, million, 0, 0)]
    used += [Usage("vote", name, 1, million, 0, 0) for name in ("dear", "free", "policys")]
    account = Cost(models, Ledger(used), {"judge dear": {"open_seconds": 3600.0}})
    assert account.total == pytest.approx(1 + 1 + 10 + 2)
    policy, dear = Metered(Scripted(lambda request: "")), Metered(Scripted(lambda request: ""))
    account.engines = Engines(policy, {"dear": dear, "free": policy, "policys": policy}, jury=True)
    policy._opened -= 3600
    dear._opened -= 1800
    assert account.engine_cost == pytest.approx(3, abs=0.01)  # the shared engine is the policy's, which has no price

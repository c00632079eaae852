"""The engine without a model: `engine` is it, `world` what it writes, `judge` how it votes."""

from constitution.engines.fake.engine import FakeEngine

__all__ = ["FakeEngine"]

"""What every way of making answers has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from constitution.records import Row

Emit = Callable[[Sequence[Row]], Awaitable[None]]
"""Takes finished rows; returns when they are accepted for writing."""

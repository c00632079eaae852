"""vLLM's own figures, step by step: it takes `Gauges` for a logger of its statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Gauges:
    """Read here and not from vLLM's Prometheus registry, which holds the figures of one engine in a process only."""

    running: dict[int, int] = field(default_factory=dict)
    """Requests in the batch; per engine, of which there are several with data parallelism."""
    waiting: dict[int, int] = field(default_factory=dict)
    usage: dict[int, float] = field(default_factory=dict)
    """Share of the key-value cache that is in use."""
    most_running: int = 0
    preemptions: int = 0
    queries: int = 0
    """Tokens of prompts."""
    hits: int = 0
    """Of those, tokens found in the prefix cache."""

    def record(
        self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0
    ) -> None:
        if scheduler_stats is not None:
            self.running[engine_idx] = scheduler_stats.num_running_reqs
            self.waiting[engine_idx] = scheduler_stats.num_waiting_reqs
            self.usage[engine_idx] = scheduler_stats.kv_cache_usage
            self.queries += scheduler_stats.prefix_cache_stats.queries
            self.hits += scheduler_stats.prefix_cache_stats.hits
            self.most_running = max(self.most_running, sum(self.running.values()))
        if iteration_stats is not None:
            self.preemptions += iteration_stats.num_preempted_reqs

    def log_engine_initialized(self) -> None: ...

    def log(self) -> None: ...

    def record_sleep_state(self, is_awake: int, level: int) -> None: ...

    def stats(self, in_flight: int) -> dict[str, Any]:
        """As `Engine.stats` gives them; tokens in `prefix_queries` and `prefix_hits`, shares between 0 and 1.

        in_flight: requests that are not answered yet. vLLM says nothing after its last step, so what it said before
        may be of requests that are done.
        """
        running = min(sum(self.running.values()), in_flight)
        return {
            "running": running,
            "waiting": min(sum(self.waiting.values()), in_flight - running),
            "most_running": self.most_running,
            "preemptions": self.preemptions,
            "kv_cache_usage": round(max(self.usage.values(), default=0.0), 4),
            "prefix_queries": self.queries,
            "prefix_hits": self.hits,
            "prefix_hit_rate": round(self.hits / self.queries, 4) if self.queries else 0.0,
        }

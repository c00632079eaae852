"""How a flow spreads a run over processes and machines."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from constitution.records.shards import MOST

Kind = Literal["thread", "process", "ray", "dask", "pool"]


class Spread(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    """A field's docstring is what Prefect's form says of it."""

    shards: int = Field(default=8, ge=1, le=MOST)
    """Into how many shards the run is dealt; all of them are at work at once where there is room. Another number than
    before resumes the run as well."""
    runner: str = "process"
    """Where they are worked: thread or process, on the flow's own machine; ray or dask, a cluster that is started for
    the flow, or the address of one that is there (ray://HOST:10001, tcp://HOST:8786); or a deployment of the flow
    `shard` (shard/pool), whose work pool has the workers."""
    restarts: int = Field(default=3, ge=0)
    """How often a shard is started again, at most: one whose servers were gone, and one whose process was lost."""
    lost_after_s: float = Field(default=600.0, gt=0)
    """Seconds without a sign of life after which a pool's flow run is given up, where its worker was lost with it, and
    another is begun: longer than a container and a model take to start."""

    @field_validator("runner")
    @classmethod
    def _known(cls, value: str) -> str:
        if value in ("thread", "process", "ray", "dask") or value.startswith(("ray://", "tcp://", "tls://")):
            return value
        if "://" not in value and value.count("/") == 1 and all(value.split("/")):
            return value
        raise ValueError(
            "expected thread, process, ray, dask, an address (ray://HOST:10001, tcp://HOST:8786), or a deployment "
            "(shard/pool)"
        )

    @property
    def kind(self) -> Kind:
        """Which runner it is, wherever it is."""
        scheme, _, address = self.runner.partition("://")
        if address:
            return "ray" if scheme == "ray" else "dask"
        return "pool" if "/" in self.runner else self.runner  # type: ignore[return-value]

    @property
    def address(self) -> str | None:
        """Where a cluster is already; None: one is started."""
        return self.runner if "://" in self.runner else None

"""What is said of a prompt's reference before anything is made from it."""

from __future__ import annotations

from dataclasses import dataclass

from constitution.records.kinds import ReferenceDrop, ReferenceSource


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """Whether anything may be made from a prompt's reference, which is the `Response` of kind reference."""

    id: str
    """Digest of run and reference."""
    run_id: str
    prompt_id: str
    response_id: str
    """`Response.id` of the reference."""
    source: ReferenceSource
    """Where it is from."""
    agrees: float | None
    """Share of the prompt's samples that say the same (judge/agreement.py), from 0 to 1. None: it cannot be said."""
    majority: bool | None
    """Whether what it says is what more samples say than anything else. None: no such thing is known."""
    readings: int
    """Rows of `scores` that it was read by."""
    missing: int
    """Readings that were asked for and are not among them: failed, or short of label mass."""
    least: float | None
    """The worst of the criteria, P(the good reply), a mean over judges. None: none was read."""
    principle_id: str | None
    """The principle of that criterion. None: none was read."""
    drop_reason: ReferenceDrop | None
    """Why nothing may be made from it. None: it may."""

    @property
    def kept(self) -> bool:
        return self.drop_reason is None

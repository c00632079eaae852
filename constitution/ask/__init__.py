"""Questions put to models about what a run has stored: a scorecard's, counterfactual prompts, and what judges make of
principles' examples and of another version's questions."""

from pathlib import Path

WINDOW = 32
"""Answers in flight at most, each with all its questions."""
EVERY = 2**62
"""More prompts than any run has."""
SHIPPED = Path(__file__).with_name("swaps.toml")
"""Groups of terms that ship with the project, English."""

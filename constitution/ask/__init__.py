"""Questions put to models about what a run has stored: a scorecard's, counterfactual prompts, and what judges make of
principles' examples and of another version's questions."""

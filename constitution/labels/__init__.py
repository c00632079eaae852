"""The one place where votes become labels.

preference = label_pair(pair, judgements, expected, weights, Rules.of(recipe.judge))   as soon as its votes are in
relabelled, preferences = relabel(connection, run_id, recipe.judge, weights)           of a whole run
"""

from constitution.labels.label import Rules, judge_settings, label_pair

__all__ = ["Rules", "judge_settings", "label_pair"]

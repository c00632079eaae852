"""The one place where votes become labels.

preference = label_pair(pair, judgements, expected, weights, Rules.of(recipe.judge))   as soon as its votes are in
relabelled, preferences = relabel(connection, run_id, rules, weights)                  of a whole run

votes.sql  which votes count, and their averages over repeats and orders: the view averaged_votes
votes      from these averages to what a preference says
label · relabel · control (style) · calibrate · profiles (the same votes by other weights)
"""

from constitution.labels.label import Rules, judge_settings, label_pair

__all__ = ["Rules", "judge_settings", "label_pair"]

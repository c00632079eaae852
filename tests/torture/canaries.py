"""Keys that must be found nowhere."""

from __future__ import annotations

PLAIN = "sk-canary5f3a9b77c1d2e4f6"


RECIPE = """
name = "leaks"
constitution = "general@1.1.0"
[prompts]
path = "prompts.jsonl"
[model.policy]
engine = "openai"
model = "fake"
base_url = "{url}"
api_key_env = "CANARY_KEY"
retries = 1
[revise]
rounds = 1
[judge]
principles = 1
[output]
slice = 20
window = 8
flush_seconds = 0.05
"""


HF = "hf_" + "CanaryCanaryCanary5f3a9b77"

"""Any server that speaks OpenAI's chat completions or Anthropic's Messages API, or a fleet of them.

`engine` says what is sent; `wire`, `anthropic`, `dialect`, `template`, `votes` how; `fleet`, `endpoint`, `http`
where to; `refused`, `reply` what comes back; `served` who answers.
"""

"""Any server that speaks OpenAI's chat completions, or a fleet of them.

`engine` says what is sent; `dialect`, `template`, `votes` how; `fleet`, `endpoint`, `http` where to; `refused`,
`reply` what comes back; `served` who answers.
"""

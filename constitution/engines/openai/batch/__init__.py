"""Batch APIs: requests that are answered within a day, at half the price.

waves.py     what is asked for is collected in waves; each reply finds its request again
work.py      one wave's way through the server
notes.py     what a run's folder says of its waves, so that a kill pays nothing twice
results.py   the file that comes back
api.py       the seam: what a server's batch API is asked
chat.py      OpenAI's
messages.py  Anthropic's
"""

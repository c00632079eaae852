"""What trainers call while they train, on exports of ours. Nothing here needs a trainer to be installed."""

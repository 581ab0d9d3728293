"""Workers of `train_speed.py`, one per contender, each a process in its own environment; and what they share."""

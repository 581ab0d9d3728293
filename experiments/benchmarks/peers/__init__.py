"""Workers of the benchmarks, one per contender, each a process in its own environment; and what they share."""

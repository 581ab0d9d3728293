"""What a run found: statistics and figures, from its result files; nothing here needs JAX."""

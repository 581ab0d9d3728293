"""What an experiment found: ranking, comparison, statistics and figures, from its tables; nothing here needs JAX."""

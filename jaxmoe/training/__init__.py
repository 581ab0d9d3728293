"""Training jobs: many agents at once, their evaluation, checkpoints, and what a job leaves behind."""

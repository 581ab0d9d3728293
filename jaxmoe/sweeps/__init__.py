"""Training many agents side by side: how they share devices, how a run goes on, what it leaves behind."""

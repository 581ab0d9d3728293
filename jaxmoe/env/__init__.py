"""The mobile edge network: rules, environment, scenarios and baselines."""

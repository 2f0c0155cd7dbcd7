"""Classical summary statistics of one window: what the baselines learn from, and what real windows are checked on."""

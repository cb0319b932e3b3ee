"""RL-Mix, which decides at every batch: an environment of its own."""

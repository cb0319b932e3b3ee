"""stable-baselines3 agents: learning, recording, resuming, exporting."""

"""stable-baselines3 VecEnvs whose environments live in workers."""

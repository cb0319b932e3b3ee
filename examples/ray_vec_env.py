"""Any gymnasium environments in Ray actors, for any SB3 agent: python examples/ray_vec_env.py."""

from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from automix.agents import RayVecEnv

env = make_vec_env("CartPole-v1", n_envs=4, seed=0, vec_env_cls=RayVecEnv)
agent = PPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0)
agent.learn(1024)
returns = [episode["r"] for episode in agent.ep_info_buffer]
env.close()
print(f"{len(returns)} episodes, the last ones with return", *returns[-4:])

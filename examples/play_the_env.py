"""Play one episode of the game with random actions: python examples/play_the_env.py."""

import gymnasium

import automix.envs  # noqa: F401  (registers automix/Mix-v0)
from automix.envs import image_world
from automix.training.population import TrainerSettings

world = image_world(trainer=TrainerSettings(epochs=8))
env = gymnasium.make("automix/Mix-v0", world=world)
observation, info = env.reset(seed=3)
env.action_space.seed(3)
print("task:", info["task"])
ended, total = False, 0.0
while not ended:
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    ended, total = terminated or truncated, total + reward
    print(
        f"progress {observation[0]:.3f}  {info['mix']:12s} reward {reward:+.2f}  "
        f"validation accuracy {info['metrics']['val_accuracy']:.3f}"
    )
print(f"sum of rewards {total:.2f}: ten times the validation accuracy gained")

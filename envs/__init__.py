"""Gymnasium environments around the training of an image classifier.

Importing this package registers ``automix/Mix-v0``, ``automix/Surrogate-v0`` and
``automix/RLMix-v0``.
"""

from automix.core.extras import require

require("gymnasium")

from gymnasium.envs.registration import register, registry

from automix.envs.codec import ActionCodec, ActionSettings
from automix.envs.groups import EpisodeGroup, StackedGroups
from automix.envs.mix_env import MixEnv, MixVectorEnv, image_world
from automix.envs.rewards import REWARDS, RewardSettings
from automix.envs.settings import EnvSettings
from automix.envs.surrogate import SurrogateMixEnv, SurrogateVectorEnv, SurrogateWorld
from automix.envs.worlds import ImageWorld
from automix.envs.wrappers import BoxActions, FlatActions
from automix.policy.observations import OBSERVATIONS

ENV_IDS = {
    "automix/Mix-v0": "automix.envs.mix_env:MixEnv",
    "automix/Surrogate-v0": "automix.envs.surrogate:SurrogateMixEnv",
    "automix/RLMix-v0": "automix.envs.rlmix.env:RLMixEnv",
}
_VECTOR_FORMS = {
    "automix/Mix-v0": "automix.envs.mix_env:MixVectorEnv",
    "automix/Surrogate-v0": "automix.envs.surrogate:SurrogateVectorEnv",
}
"""For ``gymnasium.make_vec``; it steps one RLMix after the other."""

for _id, _entry in ENV_IDS.items():
    if _id not in registry:
        register(id=_id, entry_point=_entry, vector_entry_point=_VECTOR_FORMS.get(_id))

__all__ = [
    "ENV_IDS",
    "OBSERVATIONS",
    "REWARDS",
    "ActionCodec",
    "ActionSettings",
    "BoxActions",
    "EnvSettings",
    "EpisodeGroup",
    "FlatActions",
    "ImageWorld",
    "MixEnv",
    "MixVectorEnv",
    "RewardSettings",
    "StackedGroups",
    "SurrogateMixEnv",
    "SurrogateVectorEnv",
    "SurrogateWorld",
    "image_world",
]

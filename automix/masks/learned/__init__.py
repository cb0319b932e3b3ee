"""Mixers that learn: small nets that draw masks, what they remember, and how they are taught.

``mix_block`` makes masks of feature maps, ``groups`` which images are mixed, ``learned_state``
holds what a method keeps from step to step, and ``pair_step`` is the step of those that mix two.
"""

"""Mixers in other people's trainers, one module a trainer, each importing the trainer that it fits.

Nothing else of automix imports them, and none of them imports another.
"""

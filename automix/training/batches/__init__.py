"""Batches of an epoch: augmented, paired and mixed as far ahead as they can be."""

"""Classifiers: creating them, stacking them, and looking inside them."""

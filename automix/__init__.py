"""Mixing, training and measuring of image classifiers, epoch by epoch."""

__version__ = "0.1.0"

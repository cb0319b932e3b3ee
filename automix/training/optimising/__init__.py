"""The step itself: learning rate, losses, precision and averaged weights."""

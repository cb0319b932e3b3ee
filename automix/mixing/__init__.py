"""One batch and one action: from images and labels to mixed images and targets."""

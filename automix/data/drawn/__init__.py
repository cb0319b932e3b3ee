"""Image sets that are drawn from a seed when they are asked for; ``drawing`` is what they share."""

from automix.data.drawn import letters, patches, textures

__all__ = ["letters", "patches", "textures"]

"""Saliency maps of the nets in training: computed, remembered, or asked of a teacher."""

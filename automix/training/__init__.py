"""What trains classifiers; ``automix.training.population`` is the way in.

``Population`` decides which members are stacked. A ``StackedEnsemble`` is one stack: steps,
measuring and states. Its ``BatchLoader`` draws and mixes the batches of all members, guided by
the maps of the ``SaliencyComputer``.
"""

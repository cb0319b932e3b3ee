"""What trains classifiers, seen from the inside; the door is ``automix.training.population``.

``Population`` decides who is stacked with whom. A ``StackedEnsemble`` is one stack: steps,
measuring and states. Its ``BatchLoader`` draws and mixes the batches of all members, guided by
the ``SaliencyComputer``'s maps.
"""

"""What trains classifiers, seen from the inside; the door is ``automix.training.population``.

``Population`` decides who is stacked with whom. A ``Cohort`` is one stack: steps, measuring and
states. Its ``Feeder`` draws and mixes the batches of all ``Lanes``, guided by the ``Guide``'s maps.
"""

"""Where searches for a schedule play trainings, on tasks that the agent could have met too.

A lab counts what it plays: searching at equal compute means as many classifier epochs as the agent
spent on learning.
"""

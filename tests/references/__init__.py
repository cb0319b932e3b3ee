"""Slow, obvious twins: the papers' formulas as plain loops over numbers.

Nothing here is imported by the packages, and nothing here imports the code that it checks.
"""

"""The only reader of the test split, asked once, after the last epoch."""

from automix.evaluation.test_scores import TestScores, test_scores

__all__ = ["TestScores", "test_scores"]

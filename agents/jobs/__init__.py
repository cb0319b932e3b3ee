"""What the commands train, compare and resume do."""

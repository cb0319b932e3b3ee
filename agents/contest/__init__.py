"""What is better: contestants compared with each other on held-out tasks."""

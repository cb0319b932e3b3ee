"""Who is better: contestants played against each other on held-out tasks."""

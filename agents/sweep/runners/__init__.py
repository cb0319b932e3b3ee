"""How trials run: a grid as Ray tasks, a search in slices of learning, a replay right here."""

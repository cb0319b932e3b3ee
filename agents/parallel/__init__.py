"""Work elsewhere: worker processes, Ray actors, and what the machine has."""

"""What keeps the documentation in step with the code; not part of the wheel."""

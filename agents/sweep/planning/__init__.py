"""From overrides to a checked plan, and what it would cost."""

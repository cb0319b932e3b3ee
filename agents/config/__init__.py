"""From overrides on the command line to checked settings."""

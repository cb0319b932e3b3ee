"""What everything stands on: errors, registries, seeds, files and snapshots."""

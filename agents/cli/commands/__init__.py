"""The commands, one file each. A command parses, calls one function, prints."""

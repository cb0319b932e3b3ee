"""``python -m tests.golden``: write the golden numbers anew."""

from tests.golden import FILE, write

write()
print(f"wrote {FILE}")

"""Imported by every Python that starts with this folder on PYTHONPATH: watches what it reaches for.

What goes beyond this machine is refused and noted in the file that AUTOMIX_GUARD names.
"""

import os
import socket
import sys

ADDRESSED = {"socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"}


def watch(event, arguments):
    if event in ADDRESSED and not local(arguments[1]):
        refuse(event, arguments[1])
    if event == "socket.getaddrinfo" and not at_home(arguments[0]):
        refuse(event, arguments[0])


def local(address):
    """Whether an address is of this machine; those of the file system are."""
    return not isinstance(address, tuple) or at_home(address[0])


def at_home(host):
    host = host.decode() if isinstance(host, bytes) else host
    return host is not None and (
        host in ("localhost", "::1", socket.gethostname()) or host.startswith("127.")
    )


def refuse(event, what):
    with open(os.environ["AUTOMIX_GUARD"], "a", encoding="utf-8") as file:
        file.write(f"{event} {what} by {sys.argv[:2]}\n")
    raise OSError(f"{event} {what}: not from this test")


if "AUTOMIX_GUARD" in os.environ:
    sys.addaudithook(watch)

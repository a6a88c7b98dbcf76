"""Names of POSIX queues and semaphores (mq_overview(7), sem_overview(7))."""

from __future__ import annotations

import os

from aipc._address import Address


def name_of(address: Address, longest: int) -> str:
    """Return the name, with its slash. AddressError unless it is one slash, followed by 1 to `longest` other bytes."""
    name = address.path
    if address.authority or not name.startswith("/") or "/" in name[1:] or name in ("/", "/.", "/.."):
        raise address.error(f"a name is one slash and no further one, as in {address.scheme}:/name")
    if len(os.fsencode(name)) - 1 > longest:
        raise address.error(f"a name has at most {longest} bytes after its slash")
    return name

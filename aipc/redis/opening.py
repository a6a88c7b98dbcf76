"""The openers of `redis:` URLs, and of the other schemes of Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aipc._address import Address, Secret
from aipc.exceptions import ObjectMissing
from aipc.transports.common_options import MISSING_OR_REFUSED, can_wait
from aipc.wire.framing import MAX_MESSAGE_SIZE

from .channel import RemoteJobChannel
from .errors import NotReady
from .links import registry
from .lock import RemoteLock
from .queue import JobQueue
from .scripts import call
from .server import place

if TYPE_CHECKING:
    import ssl


@can_wait(*MISSING_OR_REFUSED, NotReady)
async def connect(
    address: Address,
    *,
    db: int | None = None,
    name: str | None = None,
    create: bool = True,
    lease_seconds: float = 30.0,
    max_messages: int | None = None,
    max_attempts: int | None = None,
    history: int | None = None,
    max_message_size: int = MAX_MESSAGE_SIZE,
    cafile: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    server_hostname: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    sentinel_password: Secret | None = None,
) -> RemoteJobChannel:
    """Open a job queue on a server.

    NobodyListens, ObjectMissing (no socket), UnknownHost, CertificateRefused; AccessDenied for a wrong password; WrongObject if
    the name is something else's; BrokenResourceError for a server that is not ready or does not answer. ObjectMissing without
    `create` if there is no queue of that name. Cancelled: nothing was opened.
    """
    security = {
        "cafile": cafile,
        "certfile": certfile,
        "keyfile": keyfile,
        "server_hostname": server_hostname,
        "ssl_context": ssl_context,
        "sentinel_password": sentinel_password,
    }
    where = place(address, security, db, name)
    if not 0.1 <= lease_seconds <= 86_400:
        raise address.error(f"lease_seconds={lease_seconds}: must be from 0.1 to 86400")
    with registry.joined(where.server) as link:
        *_, exists = await link.ask(JobQueue(link, where).stat(), patient=False)
        if not exists and not create:
            raise ObjectMissing(2, f"{address.url}: no such queue there; create=1 makes it")
    return RemoteJobChannel(
        link,
        where,
        lease=lease_seconds,
        max_messages=max_messages or 0,
        max_attempts=max_attempts or 0,
        history=history or 0,
        limit=max_message_size,
    )


@can_wait(*MISSING_OR_REFUSED, NotReady)
async def open_lock(
    address: Address,
    *,
    db: int | None = None,
    name: str | None = None,
    ttl: float = 10.0,
    value: int = 1,
    cafile: str | None = None,
    certfile: str | None = None,
    keyfile: str | None = None,
    server_hostname: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    sentinel_password: Secret | None = None,
) -> RemoteLock:
    """Open a lock, or a semaphore with `value` units: all who open it have to say the same. Errors as for `connect`.

    `ttl`: seconds for which it is held without a renewal. Cancelled: nothing was opened.
    """
    security = {
        "cafile": cafile,
        "certfile": certfile,
        "keyfile": keyfile,
        "server_hostname": server_hostname,
        "ssl_context": ssl_context,
        "sentinel_password": sentinel_password,
    }
    where = place(address, security, db, name)
    if not 0.1 <= ttl <= 86_400:
        raise address.error(f"ttl={ttl}: must be from 0.1 to 86400")
    if value < 1:
        raise address.error(f"value={value}: must be 1 or more")
    with registry.joined(where.server) as link:
        lock = RemoteLock(link, where, ttl=ttl, value=value)
        await link.ask(call("look", lock._keys), patient=False)
    return lock

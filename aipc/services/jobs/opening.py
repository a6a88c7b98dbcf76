"""The opener that returns a job queue's own type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from aipc._opening.openers import CHANNELS, Opening, opening

from .channel import JobChannel

if TYPE_CHECKING:
    from aipc._options import JobsOptions


def open_jobs(url: str, **options: Unpack[JobsOptions]) -> Opening[JobChannel]:
    """Open a job queue: as `open_channel`, and the channel has `lease`, `stat` and `revive`.

    Args:
        url: `jobs:/var/lib/app.jobs`.
        **options: As for `open_channel`:

            - create: Make the file if it is missing.
            - exclusive: Make it; ObjectExists if it exists.
            - mode: Permissions of a new file, and of those beside it, such as 0o600.
            - unlink: Remove the files on close.
            - durable: Sync each transaction, against power loss.
            - max_messages: The number of jobs from which on senders wait; stored in the file.
            - max_attempts: The number of leases after which a failing job is dead; stored in the file. 0: no limit.
            - max_message_size: The longest job that is sent, in bytes.

    Raises:
        AddressError: For another scheme, too.

    Cancelled: nothing was opened.
    """
    return opening({"jobs": CHANNELS["jobs"]}, "open_jobs", url, options)

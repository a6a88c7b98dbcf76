"""The promises of every Channel, as checks: each is an async function of a `ChannelSubject`, and raises if a promise is broken.

for check in CHANNEL_CHECKS:
    await check(subject)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel

from aipc.abc import Channel
from aipc.exceptions import ForkedError, MessageTooLarge, ProtocolError, UnsupportedOperation

from .channel_subject import ChannelSubject
from .expect import at_once, check, in_child, raises, settle, until, within


async def keeps_order(subject: ChannelSubject) -> None:
    """Messages arrive whole, once and in order."""
    messages = [subject.message(b"%d" % number) for number in range(2_000)]
    async with subject.open_pair() as (sender, receiver):
        for portion in subject.portions(messages):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_send_each, sender, portion)
                check([await receiver.receive() for _ in portion] == portion, "messages lost, doubled or out of order")


async def keeps_boundaries(subject: ChannelSubject) -> None:
    """Messages of any size and content stay apart."""
    sizes = [size for power in range(24) for size in ((1 << power) - 1, 1 << power, (1 << power) + 1)]
    sizes = sizes if subject.size is None else [subject.size]
    sizes = [size for size in sizes if (size or subject.empties) and size <= min(subject.limit, 1 << 20)]
    messages = [subject.payload(size) for size in sizes]
    async with subject.open_pair() as (sender, receiver):
        for portion in subject.portions(messages, 1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_send_each, sender, portion)
                for message in portion:
                    check(await receiver.receive() == message, f"the message of {len(message):,} bytes arrived changed")


async def _send_each(sender: Channel, messages: list[bytes]) -> None:
    for message in messages:
        await sender.send(message)


async def takes_any_buffer(subject: ChannelSubject) -> None:
    """bytes, bytearray and memoryview are sent alike, whatever a view's items are; anything else is a TypeError."""
    async with subject.open_pair() as (sender, receiver):
        for item in (b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), memoryview(b"abcd").cast("I")):
            await sender.send(item)
            check(await receiver.receive() == b"abcd", f"a {type(item).__name__} arrived changed")
        with raises(TypeError):
            await sender.send("text")  # type: ignore[arg-type]
        await sender.send(subject.message(b"still works"))
        check(await receiver.receive() == subject.message(b"still works"), "a refused message left something behind")


async def tells_empty_from_nothing(subject: ChannelSubject) -> None:
    """An empty message is a message."""
    if not subject.empties:
        return
    async with subject.open_pair() as (sender, receiver):
        for item in (b"", b"", b"x", b""):
            await sender.send(item)
        check([await receiver.receive() for _ in range(4)] == [b"", b"", b"x", b""], "empty messages were lost")


async def limits_size(subject: ChannelSubject) -> None:
    """The largest message arrives; one byte more is MessageTooLarge, and nothing of it is sent."""
    async with subject.open_pair() as (sender, receiver), anyio.create_task_group() as tasks:
        with raises(MessageTooLarge):
            await sender.send(bytes(subject.limit + 1))
        with raises(MessageTooLarge):
            sender.send_nowait(bytes(subject.limit + 1))
        largest = subject.payload(subject.limit)
        tasks.start_soon(sender.send, largest)
        check(await receiver.receive() == largest, "the largest message arrived changed")


async def pushes_back(subject: ChannelSubject) -> None:
    """A full channel raises WouldBlock; the messages before that arrive, and the next `send` waits for room."""
    if not subject.pushes_back:
        return
    message = subject.payload(min(1_000, subject.limit))
    async with subject.open_pair() as (sender, receiver):
        taken = await subject.fill(sender, lambda _: message)
        check(0 < taken < 1_000_000, f"{taken:,} messages taken without back-pressure")
        with raises(anyio.WouldBlock):
            sender.send_nowait(message)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sender.send, subject.message(b"last"))
            await settle()
            got = [await receiver.receive() for _ in range(taken)]
            check(got == [message] * taken, "what was taken before WouldBlock did not arrive")
            check(await receiver.receive() == subject.message(b"last"), "the send that waited for room did not arrive")
        with raises(anyio.WouldBlock):
            receiver.receive_nowait()


async def sends_and_receives_many(subject: ChannelSubject) -> None:
    """`send_many` and `receive_many` move the same messages; a refused item raises after the items before it were sent."""
    messages = [subject.message(b"%d" % number) for number in range(5_000)]
    before, after = subject.message(b"before"), subject.message(b"after")
    async with subject.open_pair() as (sender, receiver):
        for portion in subject.portions(messages):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sender.send_many, portion)
                got: list[bytes] = []
                while len(got) < len(portion):
                    some = await receiver.receive_many(7)
                    check(1 <= len(some) <= 7, f"receive_many(7) gave {len(some)} messages")
                    got += some
                    got += await receiver.receive_many() if len(got) < len(portion) else []
                check(got == portion, "messages lost, doubled or out of order")
        with raises(MessageTooLarge):
            await sender.send_many([before, bytes(subject.limit + 1), after])
        check(await receiver.receive_many() == [before], "the items before a refused one are sent, and no others")
        with raises(ValueError):
            await receiver.receive_many(0)


async def ends(subject: ChannelSubject) -> None:
    """After the peer's end: the messages sent before it, then EndOfStream, again and again."""
    async with subject.open_pair() as (sender, receiver):
        await sender.send(subject.message(b"last"))
        if not subject.ends:
            with raises(UnsupportedOperation):
                await sender.send_eof()
            return
        await sender.send_eof()
        with raises(anyio.ClosedResourceError):
            await sender.send(subject.message(b"after the end"))
        check(await receiver.receive() == subject.message(b"last"), "a message before the end was lost")
        for _ in range(2):
            with raises(anyio.EndOfStream):
                await receiver.receive()
        check([message async for message in receiver] == [], "iterating past the end gave messages")
        if subject.duplex:
            await receiver.send(subject.message(b"back"))
            check(await sender.receive() == subject.message(b"back"), "the other half of the channel closed, too")


async def closing_ends(subject: ChannelSubject) -> None:
    """After closing, the messages sent before arrive, and then the end."""
    if not subject.ends:
        return
    async with subject.open_pair() as (sender, receiver):
        messages = [subject.message(b"1"), subject.message(b"2")]
        await sender.send_many(messages)
        await sender.aclose()
        check([message async for message in receiver] == messages, "messages sent before closing were lost")


async def notices_lost_receiver(subject: ChannelSubject) -> None:
    """Sending without a receiver is BrokenResourceError, never a signal."""
    if not subject.hangs_up:
        return
    async with subject.open_pair() as (sender, receiver):
        await receiver.aclose()
        with raises(anyio.BrokenResourceError):
            while True:
                await sender.send(subject.message(b"to nobody"))


async def closes_under_waiters(subject: ChannelSubject) -> None:
    """Tasks that wait when their channel is closed get ClosedResourceError."""
    async with subject.open_pair() as (sender, receiver), anyio.create_task_group() as tasks:

        async def expect_closed(operation: Callable[[], Awaitable[object]]) -> None:
            with raises(anyio.ClosedResourceError):
                await operation()

        if subject.pushes_back:
            await subject.fill(sender, lambda _: subject.payload(min(1_000, subject.limit)))
            tasks.start_soon(expect_closed, lambda: sender.send(subject.payload(min(1_000, subject.limit))))
            await settle()
        await sender.aclose()
        with suppress(anyio.WouldBlock, anyio.EndOfStream, ProtocolError):  # the last message may be cut short
            while True:
                receiver.receive_nowait()
        if not subject.ends:
            tasks.start_soon(expect_closed, receiver.receive)
            tasks.start_soon(expect_closed, receiver.receive)
            await settle()
        await receiver.aclose()


async def closes_once_for_all(subject: ChannelSubject) -> None:
    """Closing twice is harmless, also when cancelled; using a closed channel is ClosedResourceError."""
    async with subject.open_pair() as (sender, receiver):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await sender.aclose()
        await sender.aclose()
        await receiver.aclose()
        await receiver.aclose()
        with raises(anyio.ClosedResourceError):
            await sender.send(subject.message(b""))
        with raises(anyio.ClosedResourceError):
            sender.send_nowait(subject.message(b""))
        with raises(anyio.ClosedResourceError):
            await sender.send_many([subject.message(b"")])
        with raises(anyio.ClosedResourceError):
            await receiver.receive()
        with raises(anyio.ClosedResourceError):
            receiver.receive_nowait()
        with raises(anyio.ClosedResourceError):
            await receiver.receive_many()


async def cancels_without_loss(subject: ChannelSubject) -> None:
    """A cancelled receive consumed nothing; a cancelled send that waited sent nothing."""
    async with subject.open_pair() as (sender, receiver):
        for _ in range(5):
            with anyio.move_on_after(0.001):
                await receiver.receive()
                check(False, "a message came from nowhere")
        await sender.send(subject.message(b"kept"))
        check(await receiver.receive() == subject.message(b"kept"), "a cancelled receive lost the next message")
        if not subject.pushes_back:
            return

        def numbered(number: int) -> bytes:  # so long that few of them fill the largest buffer
            text = b"%4d" % number
            return text.ljust(min(1_000, subject.limit)) if subject.size is None else subject.message(text)

        taken = await subject.fill(sender, numbered)
        for _ in range(5):
            with anyio.move_on_after(0.001):
                await sender.send(numbered(-1))
                check(False, "a full channel took a message")
        got = [await receiver.receive() for _ in range(taken)]
        check(got == list(map(numbered, range(taken))), "messages lost behind a cancelled send")
        await sender.send(subject.message(b"end"))
        check(await receiver.receive() == subject.message(b"end"), "a cancelled send sent its message")


async def serves_two_receivers(subject: ChannelSubject) -> None:
    """Two tasks that receive at once: each message goes to exactly one of them."""
    got: list[bytes] = []
    messages = [subject.message(b"%d" % number) for number in range(1_000)]
    async with subject.open_pair() as (sender, receiver), anyio.create_task_group() as tasks:

        async def receive() -> None:
            while len(got) < len(messages):
                got.append(await receiver.receive())
            tasks.cancel_scope.cancel()

        tasks.start_soon(receive)
        tasks.start_soon(receive)
        await settle()
        await sender.send(messages[0])
        sent = 1
        for portion in subject.portions(messages[1:]):
            while len(got) < sent and not subject.pushes_back:
                await anyio.lowlevel.checkpoint()
            await sender.send_many(portion)
            sent += len(portion)
        await within(anyio.sleep_forever)
    check(sorted(got) == sorted(messages), "messages lost or doubled between two receivers")


async def leaves_the_rest_to_others(subject: ChannelSubject) -> None:
    """Messages that one task's receive has read and left go to another task that waits already."""
    got: list[bytes] = []
    messages = [subject.message(b"1"), subject.message(b"2")]
    async with subject.open_pair() as (sender, receiver), anyio.create_task_group() as tasks:

        async def receive() -> None:
            got.append(await receiver.receive())

        tasks.start_soon(within, receive)
        await settle()
        await sender.send_many(messages)
        try:
            got.append(receiver.receive_nowait())
        except anyio.WouldBlock:
            got.append(await receiver.receive())
    check(sorted(got) == messages, f"{got} after {messages} were sent")


async def lets_others_run(subject: ChannelSubject) -> None:
    """A channel that is always ready does not starve the other tasks."""
    turns = 0
    async with subject.open_pair() as (sender, receiver), anyio.create_task_group() as tasks:

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(count)
        for _ in range(2_000):
            await sender.send(subject.message(b"x"))
            await receiver.receive()
        tasks.cancel_scope.cancel()
    check(turns >= 10, f"another task ran {turns} times during 4,000 operations")


async def refuses_after_fork(subject: ChannelSubject) -> None:
    """Any use of an inherited channel in a forked child is ForkedError, and does not affect the parent's; closing does nothing."""
    got: list[bytes] = []
    message = subject.message(b"from the child")
    async with subject.open_pair() as (sender, receiver), anyio.create_task_group() as tasks:

        async def receive() -> None:
            got.append(await receiver.receive())

        def use() -> None:
            operations: list[Callable[[], Awaitable[object]]] = [
                lambda: sender.send(message),
                lambda: sender.send_many([message]),
                receiver.receive,
                receiver.receive_many,
                receiver.receive_message,
                receiver.__anext__,
            ]
            if subject.ends:
                operations.append(sender.send_eof)
            if subject.duplex:
                operations.append(lambda: receiver.send(message))  # its first use
            for operation in operations:
                with raises(ForkedError):
                    at_once(operation)
            with raises(ForkedError):
                sender.send_nowait(message)
            with raises(ForkedError):
                receiver.receive_nowait()
            for channel in (sender, receiver):
                at_once(channel.aclose)

        tasks.start_soon(within, receive)
        await settle()
        in_child(use)
        await sender.send(subject.message(b"to one who waits"))
        await until(lambda: got)
        await sender.send(subject.message(b"before"))
        in_child(use)
        await sender.send(subject.message(b"after"))
        got += [await receiver.receive(), await receiver.receive()]
        expected = [subject.message(text) for text in (b"to one who waits", b"before", b"after")]
        check(got == expected, f"the child disturbed its parent: {got}")


async def tells_the_rest(subject: ChannelSubject) -> None:
    """`receive_message`, `statistics`, `extra`, `repr`, unknown options."""
    async with subject.open_pair() as (sender, receiver):
        await sender.send_many([subject.message(b"one"), subject.message(b"three")])
        check((await receiver.receive_message()).data == subject.message(b"one"), "receive_message gave something else")
        with raises(UnsupportedOperation):
            await receiver.receive(frequency=3)
        with raises(UnsupportedOperation):
            await sender.send(subject.message(b""), frequency=3)
        await receiver.receive()
        check(sender.statistics().messages_sent == 2, f"{sender.statistics()} after two messages sent")
        check(receiver.statistics().messages_received == 2, f"{receiver.statistics()} after two messages received")
        check(sender.extra(_NoSuch.attribute, "default") == "default", "an unknown attribute has a value")
        check(type(sender).__name__ in repr(sender), f"repr {sender!r}")
        if not subject.duplex:
            with raises(UnsupportedOperation):
                await sender.receive()
            with raises(UnsupportedOperation):
                await receiver.send(subject.message(b""))


class _NoSuch(anyio.TypedAttributeSet):
    attribute: Any = anyio.typed_attribute()


CHANNEL_CHECKS: tuple[Callable[[ChannelSubject], Awaitable[None]], ...] = (
    keeps_order,
    keeps_boundaries,
    takes_any_buffer,
    tells_empty_from_nothing,
    limits_size,
    pushes_back,
    sends_and_receives_many,
    ends,
    closing_ends,
    notices_lost_receiver,
    closes_under_waiters,
    closes_once_for_all,
    cancels_without_loss,
    serves_two_receivers,
    leaves_the_rest_to_others,
    lets_others_run,
    refuses_after_fork,
    tells_the_rest,
)

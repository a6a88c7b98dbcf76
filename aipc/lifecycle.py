"""The life cycle of a service: it starts, serves, reloads its configuration, and stops gracefully."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.abc

from aipc import systemd
from aipc._io.loop.wait_queue import WaitQueue
from aipc.abc import Channel, Listener
from aipc.signals import SignalReceiver, open_signal_receiver

from ._opening.openers import listen

if TYPE_CHECKING:
    from aipc._options import ListenerOptions

_logger = logging.getLogger("aipc")
ChannelT = TypeVar("ChannelT", bound=Channel)
Args = TypeVarTuple("Args")
Reload = Callable[[], Awaitable[object] | object]


class Service:
    """A running service: its listeners and tasks, and whether it must stop. Made by `aipc.service`.

    forced      whether something had to be cancelled, because `grace` was over or a second signal came
    """

    def __init__(self, tasks: anyio.abc.TaskGroup, grace: float, reload: Reload | None) -> None:
        self._tasks = tasks
        self._grace = grace
        self._reload = reload
        self._reload_again = self._reloading = False
        self._listeners: list[Listener] = []
        self._serving = 0
        self._running: set[anyio.CancelScope] = set()
        self._changed = WaitQueue()
        self._stop = anyio.Event()
        self._told_ready = False
        self._failed: Exception | None = None
        self._patience = anyio.CancelScope()
        self._body = anyio.CancelScope()
        self._body_stays = False  # it waits for the stop, and has something to do then
        self._body_ended = False
        self.forced: bool = False

    @property
    def exit_code(self) -> int:
        """0 after a graceful stop, 1 if something had to be cancelled: for `sys.exit`."""
        return int(self.forced)

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    async def stopping(self) -> None:
        """Wait until it is told to stop. The block may use the rest of `grace` for what it does then. Cancelled: nothing happened."""
        self._body_stays = True
        await self._stop.wait()

    def stop(self) -> None:
        """Begin to stop, as SIGTERM does. A second call, like a second SIGTERM, cancels what still runs."""
        if self._stop.is_set():
            self._patience.cancel()
            return
        _tell(systemd.stopping)
        self._stop.set()
        self._tasks.start_soon(self._end_gracefully)

    async def listen(
        self, url: str, handler: Callable[[Channel], Awaitable[object]], **options: Unpack[ListenerOptions]
    ) -> Listener:
        """Call `aipc.listen(url, **options)`, and `serve` the listener."""
        listener = await listen(url, **options)
        self.serve(listener, handler)
        return listener

    def serve(self, listener: Listener[ChannelT], handler: Callable[[ChannelT], Awaitable[object]]) -> None:
        """Run `handler(channel)` as a task for each connection, as `listener.serve` does, until the service stops.

        The stop closes the listener. An error of the listener, also its being closed, ends the service and is raised.
        """
        self._listeners.append(listener)
        self._serving += 1
        self._tasks.start_soon(self._serve, listener, handler)
        if self._stop.is_set():
            self._tasks.start_soon(listener.drain)

    def start_soon(self, function: Callable[[*Args], Awaitable[object]], *args: *Args) -> None:
        """Run `function(*args)` beside the handlers. It is cancelled when the last handler has ended; its error ends the service."""
        scope = anyio.CancelScope()
        self._running.add(scope)
        self._tasks.start_soon(self._run, scope, function, *args)

    def ready(self, status: str | None = None) -> None:
        """Tell systemd that startup is finished. At the latest, this happens at the end of the block's own code."""
        if not (self._told_ready or self.is_stopping):
            self._told_ready = True
            _tell(systemd.ready, status)

    async def _serve(self, listener: Listener[ChannelT], handler: Callable[[ChannelT], Awaitable[object]]) -> None:
        try:
            async with listener:
                await listener.serve(handler)
        except Exception as error:  # noqa: BLE001 - raised at the end of the block
            self._fail(error)
        finally:
            self._serving -= 1
            self._changed.wake_all()

    async def _run(self, scope: anyio.CancelScope, function: Callable[[*Args], Awaitable[object]], *args: *Args) -> None:
        try:
            with scope:
                await function(*args)
        except Exception as error:  # noqa: BLE001 - raised at the end of the block
            self._fail(error)
        finally:
            self._running.discard(scope)
            self._changed.wake_all()

    def _fail(self, error: Exception) -> None:
        self._failed = self._failed or error
        self._tasks.cancel_scope.cancel()

    async def _end_gracefully(self) -> None:
        self._patience.deadline = anyio.current_time() + self._grace
        with self._patience:
            async with anyio.create_task_group() as drains:
                for listener in self._listeners:
                    drains.start_soon(listener.drain)
            self._cancel_background()
            await self._until(lambda: not self._running)
            if not self._body_stays:
                self._body.cancel()
            await self._until(lambda: self._body_ended)
        if self._patience.cancelled_caught:
            self._cancel_background()
            self._body.cancel()

    def _cancel_background(self) -> None:
        for scope in self._running:
            scope.cancel()

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._changed.queue()

    async def _handle_signals(self, received: SignalReceiver) -> None:
        """Act on the signals."""
        async for info in received:
            if info.signum != signal.SIGHUP:
                self.stop()
            elif not self.is_stopping:
                self._reload_again = True
                if not self._reloading:
                    self._tasks.start_soon(self._reload_now)

    async def _reload_now(self) -> None:
        assert self._reload is not None
        self._reloading = True
        while self._reload_again and not self.is_stopping:
            self._reload_again = False
            _tell(systemd.reloading)
            try:
                result = self._reload()
                if isinstance(result, Awaitable):
                    await result
            except Exception:
                _logger.exception("the reload failed")
            if self._told_ready and not self.is_stopping:
                _tell(systemd.ready)
        self._reloading = False

    @contextmanager
    def _run_body(self) -> Iterator[None]:
        """Run the block's own code."""
        try:
            with self._body:
                yield
        except Exception as error:  # noqa: BLE001 - raised at the end, outside of an exception group
            self._fail(error)
        finally:
            self._body_ended = True
            self._changed.wake_all()

    async def _wait_idle(self) -> None:
        """Wait for everything that the block started."""
        self.ready()
        await self._until(lambda: not (self._serving or self._running))
        self.forced = self._patience.cancel_called
        if not self.is_stopping:
            _tell(systemd.stopping)

    def _raise_failure(self) -> None:
        """Raise the first error, if there was one."""
        if self._failed is not None:
            raise self._failed

    def __repr__(self) -> str:
        state = "stopping" if self.is_stopping else "running"
        return f"<{type(self).__name__} {state}, {self._serving} served>"


@asynccontextmanager
async def service(*, grace: float = 30.0, reload: Reload | None = None) -> AsyncIterator[Service]:
    """A block that serves until SIGTERM or SIGINT: `async with aipc.service() as service: await service.listen(url, handler)`.

    When the block's own code ends, it tells systemd READY=1, and waits, as a task group does, until nothing is served and no task
    runs. The first SIGTERM or SIGINT begins a graceful stop: the listeners are closed, and running handlers have `grace` seconds to
    end before they are cancelled. The rest of the block's own code is cancelled, too, unless it waits for `stopping()`: then it has
    the same `grace` seconds. A second signal cancels everything at once. SIGHUP calls `reload`, a plain or async function, if one is
    given; its error is logged. systemd's watchdog is told at half its interval that the loop runs.

    It needs the main thread, as all signal handling does. An error of a listener or of a task of `start_soon` ends the service,
    and is raised. Cancelled: all handlers are cancelled, and have ended before it raises.
    """
    signals = [signal.SIGTERM, signal.SIGINT] + ([signal.SIGHUP] if reload is not None else [])
    async with open_signal_receiver(*signals) as received, anyio.create_task_group() as tasks:
        running = Service(tasks, grace, reload)
        tasks.start_soon(running._handle_signals, received)
        tasks.start_soon(_keep_watch)
        with running._run_body():
            yield running
        await running._wait_idle()
        tasks.cancel_scope.cancel()
    running._raise_failure()


async def _keep_watch() -> None:
    interval = systemd.watchdog_interval()
    while interval is not None:
        _tell(systemd.watchdog)
        await anyio.sleep(interval / 2)


def _tell(what: Callable[..., object], *args: Any) -> None:
    """Call `what`: an unreachable manager is no reason to stop serving."""
    try:
        what(*args)
    except (OSError, anyio.WouldBlock) as error:
        _logger.warning("systemd could not be told: %r", error)

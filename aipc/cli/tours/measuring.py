"""Round trips and messages one way, over one channel to `peer`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any


@dataclass
class Figures:
    """Messages a second, one way; and the seconds of each round trip."""

    per_second: float
    samples: list[float] = field(default_factory=list)
    changed: int = 0

    def add(self, seconds: float, *, good: bool) -> None:
        """Count a round trip, and whether what was sent came back."""
        self.samples.append(seconds)
        self.changed += not good


def payload(number: int, size: int) -> bytes:
    """The message of that number: `size` bytes."""
    return (b"%d " % number).ljust(size, b".")[:size]


async def measure(sends: Any, receives: Any, messages: int, round_trips: int, size: int) -> Figures:
    """Send `messages`, as many at once as fit, then `round_trips` one by one."""
    await sends.send(json.dumps({"files": messages, "round_trips": round_trips}).encode())
    await receives.receive()  # it runs: start the clock
    start = perf_counter()
    await sends.send_many(payload(number, size) for number in range(messages))
    await receives.receive()
    figures = Figures(messages / (perf_counter() - start))
    for number in range(round_trips):
        data = payload(number, size)
        start = perf_counter()
        await sends.send(data)
        echo = await receives.receive()
        figures.add(perf_counter() - start, good=echo == data)
    return figures

"""URLs and options: what they mean, and what is said about those that can't be meant."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

import aipc
from aipc._address import parse


@pytest.mark.parametrize("url", ["unix:/run/app.sock", "unix:///run/app.sock", "unix:/run/%61pp.sock", "unix:/run/app.sock?"])
def test_same_path(url: str) -> None:
    address = parse(url)
    assert (address.scheme, address.path, address.authority, address.options) == ("unix", "/run/app.sock", "", {})


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("unix:relative", "relative"),
        ("unix:./here", "./here"),
        ("unix:@name", "@name"),
        ("unix:/a%20b%3Fc%2541", "/a b?c%41"),
        ("unix:/a b+c#d;e", "/a b+c#d;e"),
        ("unix:/%C3%A9", "/é"),
        ("unix:/%FF", os.fsdecode(b"/\xff")),
        ("unix:/\udcff", os.fsdecode(b"/\xff")),
        ("unix:/a\nb", "/a\nb"),
        ("sysv-mq:0x4d2", "0x4d2"),
    ],
)
def test_path(url: str, path: str) -> None:
    assert parse(url).path == path


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [("tcp://127.0.0.1:9734", "127.0.0.1:9734", ""), ("tcp://[::1]:9734", "[::1]:9734", ""), ("unix://host/p", "host", "/p")],
)
def test_authority(url: str, authority: str, path: str) -> None:
    address = parse(url)
    assert (address.authority, address.path) == (authority, path)


def test_options_in_the_query() -> None:
    assert parse("unix:/p?framing=fixed%3A3&backlog=5").options == {"framing": "fixed:3", "backlog": "5"}
    assert parse("unix:/p?framing=").options == {"framing": ""}


@pytest.mark.parametrize("url", ["", "/run/app.sock", "run.sock", ":/p", "UNIX:/p", "1unix:/p", " unix:/p"])
def test_no_url(url: str) -> None:
    with pytest.raises(aipc.AddressError, match=f"^{re.escape(repr(url))}: not a URL; one looks like unix:/run/app.sock"):
        parse(url)


@pytest.mark.parametrize("url", ["unix:/a%00b", "unix:/a\0b", "unix:%00name"])
def test_zero_byte(url: str) -> None:
    with pytest.raises(aipc.AddressError, match="zero byte"):
        parse(url)


@pytest.mark.parametrize("query", ["framing", "framing=u32&", "&framing=u32", "framing=u32&&backlog=1", "framing=u32&mode"])
def test_malformed_query(query: str) -> None:
    with pytest.raises(aipc.AddressError, match="name=value pairs joined by &"):
        parse(f"unix:/p?{query}")


@pytest.mark.parametrize("query", ["framing=u32&framing=u64", "framing=u32&framing=u32", "mode=600&%6dode=600"])
def test_option_twice(query: str) -> None:
    with pytest.raises(aipc.AddressError, match="an option stands twice"):
        parse(f"unix:/p?{query}")


def test_unknown_scheme() -> None:
    with pytest.raises(aipc.AddressError, match=r"open_channel knows no scheme 'carrier-pigeon', only .*unix"):
        aipc.open_channel("carrier-pigeon:/p")
    with pytest.raises(aipc.AddressError, match=r"listen knows no scheme 'sysv-mq'.*it is a scheme of open_channel"):
        aipc.listen("sysv-mq:1234")
    with pytest.raises(aipc.AddressError, match=r"open_lock knows no scheme 'unix'.*it is a scheme of open_channel and listen"):
        aipc.open_lock("unix:/p")
    with pytest.raises(aipc.AddressError, match=r"open_channel knows no scheme 'flock'.*it is a scheme of open_lock"):
        aipc.open_channel("flock:/p")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ipc:///run/app.sock", "; use unix: for a socket file"),
        ("ssl://host:443", "; use tls:"),
        ("localhost:7000", "; use tcp://localhost:PORT"),
        ("unxi:/run/app.sock", "; is unix: meant?"),
        ("posix_mq:/name", "; a scheme is in lower case, with hyphens, as in posix-mq:"),
        ("/run/app.sock", "; a Unix socket at that path is unix:/run/app.sock"),
        ("127.0.0.1:7000", "; a TCP socket there is tcp://127.0.0.1:7000"),
        ("UNIX:/run/app.sock", "; a scheme is in lower case, with hyphens, as in unix:"),
    ],
)
def test_what_was_meant(url: str, said: str) -> None:
    with pytest.raises(aipc.AddressError, match=f"{re.escape(said)}$"):
        aipc.open_channel(url)


@pytest.mark.anyio
async def test_two_slashes() -> None:
    for opening, meant in {
        aipc.open_channel("unix://run/app.sock"): "unix:/run/app.sock",
        aipc.open_channel("unix://@name"): "unix:@name",
        aipc.open_channel("fifo://tmp/x", direction="send"): "fifo:/tmp/x",
        aipc.open_lock("flock://run/x"): "flock:/run/x",
        aipc.open_channel("jobs://var/x"): "jobs:/var/x",
    }.items():
        with pytest.raises(aipc.AddressError, match=f"one slash or three, {meant}$"):
            await opening


def test_unknown_option() -> None:
    with pytest.raises(aipc.AddressError, match=r"unknown option 'speed'; unix takes .*framing.*max_message_size"):
        aipc.open_channel("unix:/p?speed=9")
    with pytest.raises(aipc.AddressError, match=r"unknown option 'frameing'.*; is framing meant"):
        aipc.open_channel("unix:/tmp/x?frameing=none")
    with pytest.raises(aipc.AddressError, match="unknown option ''"):
        aipc.open_channel("unix:/p?=")
    with pytest.raises(aipc.AddressError, match="unknown option 'backlog'"):
        aipc.open_channel("unix:/p", backlog=9)
    with pytest.raises(aipc.AddressError, match="unknown option 'address'"):
        aipc.open_channel("unix:/p", address="/q")


@pytest.mark.parametrize(
    ("option", "right"),
    [
        ("backlog=0", "a whole number of 1 or more"),
        ("backlog=-1", "a whole number of 1 or more"),
        ("backlog=many", "a whole number of 1 or more"),
        ("backlog=1.5", "a whole number of 1 or more"),
        ("backlog=", "a whole number of 1 or more"),
        ("max_message_size=0", "a whole number of 1 or more"),
        ("mode=rw", "an octal file mode, such as 600"),
        ("mode=1000", "an octal file mode, such as 600"),
        ("mode=-1", "an octal file mode, such as 600"),
        ("mode=9", "an octal file mode, such as 600"),
        ("exclusive=maybe", "1 or 0"),
        ("exclusive=", "1 or 0"),
        ("unlink=2", "1 or 0"),
    ],
)
def test_malformed_value_in_the_query(option: str, right: str) -> None:
    name, _, value = option.partition("=")
    expected = re.escape(f"'unix:/p?{option}': {name}={value!r}: must be {right}")
    with pytest.raises(aipc.AddressError, match=expected):
        aipc.listen(f"unix:/p?{option}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backlog", 0), ("backlog", True), ("backlog", 1.0), ("backlog", b"1"), ("backlog", [1]), ("backlog", "many"),
        ("mode", 0o1000), ("mode", -1), ("mode", 6.0), ("mode", True), ("exclusive", 2), ("exclusive", "maybe"),
        ("exclusive", None), ("unlink", 1.0),
    ],
)  # fmt: skip
def test_malformed_keyword(name: str, value: Any) -> None:
    with pytest.raises(aipc.AddressError, match=re.escape(f"'unix:/p': {name}={value!r}: must be ")):
        aipc.listen("unix:/p", **{name: value})


@pytest.mark.anyio
@pytest.mark.parametrize("value", [3, None, b"u32", "u16"])
async def test_framing_of_a_wrong_kind(value: Any, place: Path) -> None:
    with anyio.fail_after(10), pytest.raises(aipc.AddressError, match=re.escape(f"framing={value!r}")):
        await aipc.listen(f"unix:{place}/socket", framing=value)


def test_keywords_are_given_as_in_python_and_as_in_a_query() -> None:
    aipc.listen("unix:/p", mode=0o600, backlog=5, exclusive=False, unlink=1)
    aipc.listen("unix:/p", mode="600", backlog="0x10", exclusive="no", unlink="TRUE")


@pytest.mark.anyio
async def test_keyword_wins(place: Path) -> None:
    path = place / "socket"
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{path}?mode=600&max_message_size=7", mode=0o666) as listener:
            assert path.stat().st_mode & 0o777 == 0o666
            async with aipc.open_channel(f"unix:{path}?max_message_size=7", max_message_size=9) as channel:
                assert channel.extra(aipc.ChannelAttribute.max_message_size) == 9
            async with await listener.accept() as accepted:
                assert accepted.extra(aipc.ChannelAttribute.max_message_size) == 7


def test_keyword_wins_even_over_a_malformed_value() -> None:
    aipc.listen("unix:/p?backlog=many", backlog=3)


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["unix:", "unix:@", "unix:?framing=u32", "unix://host/p", "unix://host"])
async def test_no_path(url: str) -> None:
    for opening in (aipc.open_channel(url), aipc.listen(url)):
        with anyio.fail_after(10), pytest.raises(aipc.AddressError, match="needs a path"):
            await opening


@pytest.mark.anyio
async def test_path_with_odd_characters(place: Path) -> None:
    """A path from anywhere, percent-encoded, is reached."""
    name = os.fsdecode(b"a?b%c d\xff")
    with anyio.fail_after(10):
        async with aipc.listen(f"unix:{place}/a%3Fb%25c%20d%FF") as listener:
            assert os.listdir(place) == [name]
            async with aipc.open_channel(f"unix:{place}/a%3Fb%25c%20d%FF"), await listener.accept():
                pass


def test_it_is_a_value_error() -> None:
    """As the plain calls would raise."""
    assert issubclass(aipc.AddressError, ValueError)
    assert str(parse("unix:/p").error("why")) == "'unix:/p': why"

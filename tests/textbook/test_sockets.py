"""Sockets: the server in C and the client with aipc, and the other way round."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ..peers import Peer, said, tell
from .conftest import Compile, Start, output

Pair = tuple[Start, Start]


def port_of(server: Peer) -> str:
    """What the server says of the port that the kernel picked."""
    return said(server).split()[-1]


def test_echo(pair: Pair) -> None:
    serve, ask = pair
    with serve("echos_echoc", "echos") as server:
        assert said(server) == "Waiting for a connection..."
        for _ in range(2):  # the server goes on when a client has left
            with ask("echos_echoc", "echoc") as client:
                assert said(client) == said(server) == "Connected."
                for line in ("hello", "hello again"):
                    tell(client, line)
                    assert said(client) == f"echo> {line}"
                client.communicate("", timeout=30)
        server.kill()


def test_a_killed_echo_server(pair: Pair) -> None:
    """The next one takes the place of the socket file that it has left."""
    one, other = pair
    for serve in (one, other, one):
        with serve("echos_echoc", "echos") as server:
            assert said(server) == "Waiting for a connection..."
            server.kill()


def test_a_pair_of_sockets(in_c: Start, in_python: Start, compiled: Compile, python_words: Callable[..., list[str]]) -> None:
    told = "parent: sent 'b'\nparent: read 'B'\n"
    assert output(in_python("spair", "parent", compiled("spair"), "child")) == told
    assert output(in_c("spair", "parent", *python_words("spair", "child"))) == told


def test_messages_until_quit(pair: Pair) -> None:
    serve, ask = pair
    with serve("socket_messages", "server", "socket") as server:
        assert said(server) == "ready"
        for text in ("Hello, world.", "", "quit"):
            output(ask("socket_messages", "client", "socket", text))
            assert said(server) == text
        assert server.wait(30) == 0


def test_home_page(pair: Pair) -> None:
    serve, ask = pair
    with serve("web_page", "server", "0") as server:
        port = port_of(server)
        assert output(ask("web_page", "client", port)) == "<html><body>Home.</body></html>\n"
        server.kill()


def test_the_next_character(pair: Pair) -> None:
    serve, ask = pair
    with serve("char_server", "server") as server:
        assert said(server) == "server waiting"
        assert output(ask("char_server", "client", "A")) == "char from server = B\n"
        assert output(ask("char_server", "client", "y")) == "char from server = z\n"
        server.kill()


def test_several_clients_at_once(pair: Pair) -> None:
    serve, ask = pair
    with serve("iserver", "server", "0") as server:
        port = port_of(server)
        with socket.create_connection(("127.0.0.1", int(port))) as idle:
            assert output(ask("iserver", "client", port, "A")) == "char from server = B\n"
            idle.sendall(b"x")
            assert idle.recv(1) == b"y"
        server.kill()


def test_books(pair: Pair) -> None:
    serve, ask = pair
    titles = ["War and Peace", "Pride and Prejudice", "The Sound and the Fury"]
    with serve("books", "server", "0") as server:
        port = port_of(server)
        assert output(ask("books", "client", port)).splitlines() == [*(f"echo: {title}" for title in titles), "client done"]
        assert [said(server) for _ in titles] == titles
        server.kill()


def test_a_datagram(pair: Pair) -> None:
    receive, send = pair
    with receive("udp_mona_lisa", "receiver", "0") as receiver:
        port = port_of(receiver)
        assert output(send("udp_mona_lisa", "sender", port, "Mona Lisa")) == "sent 9 bytes\n"
        assert said(receiver) == 'from 127.0.0.1: "Mona Lisa"'
        assert receiver.wait(30) == 0


def test_capitals(pair: Pair) -> None:
    serve, ask = pair
    with serve("uppercase_datagrams", "server", "ud_ucase") as server:
        assert said(server) == "server waiting"
        told = output(ask("uppercase_datagrams", "client", "ud_ucase", "hello", "world"))
        assert told == "response 1: HELLO\nresponse 2: WORLD\n"
        assert [said(server) for _ in range(2)] == ["server received 5 bytes"] * 2
        server.kill()

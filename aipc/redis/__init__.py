"""Channels, locks and topics over Redis, for more than one machine. The only room that imports hiredis, for the protocol.

server.py       what a URL says of the server; passwords are never shown
connection.py   one connection: logs in, reads replies
locating.py     where the server is now: sentinels, clusters
dialing.py      makes a connection
line.py         keeps a connection, and makes it again
link.py         the command connection of a server and loop: commands in order, answers to their tasks
soon.py         an answer that comes soon is read by the task that asked
wakes.py        the connection by which the server wakes those who wait
registry.py     one link for each server and loop
scripts.py      scripts/*.lua: each step is one script, which the server does wholly or not at all
errors.py       the server's errors in aipc's words
checkup.py      what a server is, and its settings
channel.py      job queues: a stream with a consumer group
consumer.py     what this process and loop has leased of a queue, and how that comes
lock.py         leases on a lock or a counting semaphore
topics.py       publish and subscribe
calls.py, listener.py   connections between two processes, for calls
"""

from importlib.util import find_spec

from aipc._extras import missing

if find_spec("hiredis") is None:
    raise missing("hiredis")

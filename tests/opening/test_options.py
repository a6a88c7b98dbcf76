"""The options that type checkers know are those of the mechanisms: same names, same types, readable from a query."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

import pytest

import aipc
from aipc import _options
from aipc._address import OPTIONS
from aipc._opening import openers, typed
from aipc.locks import sysv_semaphore_set
from aipc.sync import base as primitives

TABLES = {"open_channel": openers.CHANNELS, "listen": openers.LISTENERS, "open_lock": openers.LOCKS}


def typed_options(name: str) -> dict[str, str]:
    """The options of the public opener of that name, each with its type, by the TypedDict of its `**options`."""
    *_, last = inspect.signature(getattr(aipc, name)).parameters.values()
    match = re.fullmatch(r"Unpack\[(\w+)\]", last.annotation)
    assert match is not None
    return annotations(getattr(_options, match[1]))


def annotations(typed_dict: Any) -> dict[str, str]:
    return {name: reference.__forward_arg__ for name, reference in typed_dict.__annotations__.items()}


def mechanisms(table: Mapping[str, str], schemes: tuple[str, ...]) -> dict[str, str]:
    """The keyword-only parameters of the mechanisms of those schemes, each with its type, without None."""
    found: dict[str, str] = {}
    for scheme in schemes:
        module, _, name = table[scheme].partition(":")
        for parameter in inspect.signature(getattr(importlib.import_module(module), name)).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                kind = parameter.annotation.removesuffix(" | None").replace("Secret", "str")
                assert found.setdefault(parameter.name, kind) == kind, (scheme, parameter.name)
    return found


def without_choices(options: dict[str, str]) -> dict[str, str]:
    return {name: "str" if kind.startswith("Literal") else kind for name, kind in options.items()}


@pytest.mark.parametrize("name", TABLES)
def test_options_of_all_schemes(name: str) -> None:
    assert without_choices(typed_options(name)) == mechanisms(TABLES[name], tuple(TABLES[name]))


@pytest.mark.parametrize("name", typed.SCHEMES)
def test_options_of_the_typed_openers(name: str) -> None:
    schemes = typed.SCHEMES[name]
    table = openers.LISTENERS if name.startswith("listen") else {**openers.CHANNELS, **openers.LOCKS}
    assert without_choices(typed_options(name)) == mechanisms(table, schemes)


def test_options_of_job_queues() -> None:
    assert typed_options("open_jobs") == mechanisms(openers.CHANNELS, ("jobs",))


@pytest.mark.parametrize("typed_dict", ["ChannelOptions", "ListenerOptions", "LockOptions"])
def test_types_are_those_that_a_query_is_read_as(typed_dict: str) -> None:
    for name, kind in annotations(getattr(_options, typed_dict)).items():
        expected = OPTIONS[name][1].__name__
        assert kind == expected or kind.startswith("Literal") or (expected, kind) == ("object", "ssl.SSLContext"), name


def test_options_of_the_primitives() -> None:
    assert set(annotations(_options.PrimitiveOptions)) == primitives._OPTIONS
    assert set(annotations(_options.ConditionOptions)) == primitives._OPTIONS | aipc.Condition._MORE
    assert set(annotations(_options.SysVSemaphoreSetOptions)) == sysv_semaphore_set._OPTIONS


@pytest.mark.parametrize("name", [*TABLES, *typed.SCHEMES, "open_jobs"])
def test_docstrings_name_each_option(name: str) -> None:
    doc = inspect.getdoc(getattr(aipc, name)) or ""
    if name in ("open_stream", "listen_stream"):
        doc += inspect.getdoc(aipc.open_channel) or ""
    if name.startswith("listen"):
        doc += (inspect.getdoc(aipc.open_channel) or "") + (inspect.getdoc(aipc.listen) or "")
    named = {word for line in re.findall(r"^ +- ([\w, ]+):", doc, re.MULTILINE) for word in line.split(", ")}
    assert set(typed_options(name)) <= named


def test_a_typed_opener_refuses_other_schemes() -> None:
    with pytest.raises(
        aipc.AddressError, match="open_semaphore knows no scheme 'flock', only sysv-sem, posix-sem; it is a scheme"
    ):
        aipc.open_semaphore("flock:/tmp/x")
    with pytest.raises(aipc.AddressError, match="unknown option 'backlog'"):
        aipc.open_ring("shm:/tmp/x?backlog=3")

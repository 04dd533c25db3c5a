"""Commands have one canonical byte string each, and bytes that are no command are refused."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from exchange.core.commands import (
    KINDS,
    Attest,
    CancelAll,
    CancelOrder,
    ClosePool,
    Command,
    CommandError,
    Deposit,
    EditOrder,
    Genesis,
    Halt,
    ListInstruments,
    MoveMargin,
    OpenAccount,
    OpenPool,
    OrderColumns,
    PlaceOrder,
    Seal,
    SwitchMode,
    Uncross,
    Withdraw,
    decode_command,
    encode_command,
)
from exchange.core.engine import VERSION
from tests.core.market import Market, small


def one_of_each() -> list[Command]:
    market = Market(small())
    columns = np.arange(14, dtype=np.int64).tobytes()
    return [
        Genesis(1, market.venue, 7, VERSION),
        OpenAccount(2, "añn"),
        OpenPool(2, 0, 3, -1, "basis trade"),
        ClosePool(2, 0, 11),
        MoveMargin(2, 0, 10, 11, 1, 2**52),
        SwitchMode(2, 0, 3, 11),
        Deposit(3, 0, 1, 2**52),
        Withdraw(4, 0, 1, 5),
        PlaceOrder(5, 0, 1, -1, 0, 9, True, True, "mine"),
        EditOrder(6, 0, 2**50, 7, 8),
        CancelOrder(7, 0, 2**50),
        CancelAll(8, 0),
        OrderColumns(9, 2, columns),
        ListInstruments(10, market.venue.instruments),
        Halt(11, 3, True),
        Attest(11, "harbour", 0, 7, 3, ((0, 2**52), (1, -5)), ((3, -9),), b"d" * 32, b"s" * 64),
        Seal(12, 4),
        Uncross(13, 4),
        market.marks(),
    ]


@pytest.mark.parametrize("number", range(19))
def test_a_command_survives_encoding_and_its_bytes_are_canonical(number: int) -> None:
    command = one_of_each()[number]
    kind, payload = encode_command(command)
    assert decode_command(kind, payload) == command
    assert encode_command(decode_command(kind, payload)) == (kind, payload)


def test_every_kind_is_covered_and_named_by_its_class() -> None:
    assert [encode_command(command)[0] for command in one_of_each()] == list(KINDS)


def test_an_unknown_kind_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(CommandError, match="unknown command kind 'Place'; known: Genesis"):
        decode_command("Place", b"\x90")


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"\x90", b"\xc0", b"\x93\x01\x02", b"junk",
     msgspec.msgpack.encode(["x"] * 9), msgspec.msgpack.encode([1.5] * 9),
     msgspec.msgpack.encode({"time_ns": 1})],
    ids=["empty", "never used", "no fields", "nil", "cut", "junk", "words", "fractions", "map"],
)  # fmt: skip
def test_bytes_that_are_no_command_are_refused(kind: str, payload: bytes) -> None:
    with pytest.raises(CommandError, match=f"payload is no {kind}"):
        decode_command(kind, payload)


@pytest.mark.parametrize("number", range(18))
def test_cut_or_lengthened_bytes_are_refused(number: int) -> None:
    kind, payload = encode_command(one_of_each()[number])
    for damaged in (payload[:-1], payload + b"\x00", payload[: len(payload) // 2]):
        with pytest.raises(CommandError):
            decode_command(kind, damaged)


def test_integers_beyond_64_bits_are_refused() -> None:
    for amount in (2**63, 2**64 - 1, -(2**63) - 1):
        if not -(2**63) <= amount < 2**64:
            continue
        payload = msgspec.msgpack.encode([1, 0, 0, amount])
        command = decode_command("Deposit", payload)
        assert isinstance(command, Deposit)
        market = Market()
        market.account("ann")
        moved = msgspec.structs.replace(command, time_ns=market.now)
        before = market.engine.state_hash()
        market.apply(moved)
        assert market.engine.state_hash() == before, "refused, not wrapped around"

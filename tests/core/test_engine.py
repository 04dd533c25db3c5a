"""The engine as a state machine: phases, time, refusals without a trace, snapshots."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from exchange.core.commands import (
    CancelAll,
    CancelOrder,
    Deposit,
    EditOrder,
    Genesis,
    Halt,
    ListInstruments,
    OpenAccount,
    PlaceOrder,
    Revalue,
    Seal,
    Uncross,
    Withdraw,
)
from exchange.core.engine import VERSION, Engine
from exchange.core.events import CycleClosed, Rejected
from exchange.core.limits import ORDER_SEQUENCE_BITS
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.state import Phase
from exchange.core.venue import VenueError
from margin.invariant import InvariantBroken
from margin.portfolio import LINEAR
from tests.core.market import BUY, E8, SELL, Market, changed, contract, only, small, tiny

R = RejectReason


def test_the_first_command_is_genesis_and_it_comes_once(market: Market) -> None:
    with pytest.raises(InvariantBroken, match="first command is Genesis"):
        Engine().apply(OpenAccount(0, "ann"))
    with pytest.raises(InvariantBroken, match="once"):
        market.apply(Genesis(market.now, market.venue, 7, VERSION))


def test_a_journal_of_another_version_is_refused() -> None:
    with pytest.raises(InvariantBroken, match="version 0, not"):
        Engine().apply(Genesis(0, tiny(), 7, "0"))


def test_genesis_refuses_a_venue_that_contradicts_itself() -> None:
    with pytest.raises(VenueError, match="at least one underlying"):
        Engine().apply(Genesis(0, changed(tiny(), underlyings=()), 7, VERSION))


def test_time_never_runs_backwards(market: Market) -> None:
    market.cycle()
    with pytest.raises(InvariantBroken, match="never runs backwards"):
        market.apply(OpenAccount(market.now - 1, "ann"))


def test_nothing_trades_before_the_first_marks() -> None:
    market = Market(opened=False)
    ann = market.account("ann")
    assert market.refused_order(ann, BUY, 1, 190_000) == R.MARKET_NOT_OPEN
    market.cycle()
    market.place(ann, BUY, 1, 190_000)


@pytest.mark.parametrize("phase", [Phase.SEALED, Phase.UNCROSSED])
def test_requests_during_an_open_cycle_are_refused_and_change_nothing(
    market: Market, phase: Phase
) -> None:
    ann = market.account("ann")
    order = market.place(ann, BUY, 1, 190_000)
    market.seal()
    if phase == Phase.UNCROSSED:
        market.uncross()
    assert market.state.phase == phase
    for kind, fields in (
        (PlaceOrder, (ann, 0, BUY, 190_000, 1)),
        (CancelOrder, (ann, order)),
        (EditOrder, (ann, order, 190_000, 2)),
        (CancelAll, (ann,)),
        (Deposit, (ann, 0, 1)),
        (Withdraw, (ann, 0, 1)),
        (OpenAccount, ("bob",)),
        (Halt, (0, True)),
        (ListInstruments, ((),)),
    ):
        assert market.refused(kind, *fields) == R.CYCLE_OPEN


def test_the_cycle_s_commands_come_in_their_order_and_once(market: Market) -> None:
    batch = market.state.batch
    with pytest.raises(InvariantBroken, match="after its seal"):
        market.apply(Uncross(market.now, batch))
    with pytest.raises(InvariantBroken, match="follows the uncrossing"):
        market.apply(market.marks())
    with pytest.raises(InvariantBroken, match="the one that collects"):
        market.apply(Seal(market.now, batch + 1))
    market.seal()
    with pytest.raises(InvariantBroken, match="while it collects"):
        market.apply(Seal(market.now, batch))
    with pytest.raises(InvariantBroken, match="the sealed one"):
        market.apply(Uncross(market.now, batch + 1))


def test_marks_that_cannot_be_are_refused_before_anything_is_paid(market: Market) -> None:
    market.seal()
    market.uncross()
    good = market.marks()
    before = market.engine.state_hash()
    for futures in (((0, 0),), ((0, -1),), ((0, 2_000_000 * E8),), ((7, E8),)):
        bad = Revalue(good.time_ns, good.cycle, good.underlyings, futures, good.expiries, b"")
        with pytest.raises(InvariantBroken, match="marks are valid"):
            market.apply(bad)
        assert market.engine.state_hash() == before
    market.apply(good)


def nonsense(order: int, foreign: int) -> dict[RejectReason, tuple[type, tuple[object, ...]]]:
    """One bad request for each reason that needs no special state."""
    limits = 2**40
    return {
        R.ACCOUNT_UNKNOWN: (PlaceOrder, (9, 0, BUY, 190_000, 1)),
        R.SIDE_UNKNOWN: (PlaceOrder, (0, 0, 0, 190_000, 1)),
        R.INSTRUMENT_UNKNOWN: (PlaceOrder, (0, 99, BUY, 190_000, 1)),
        R.PRICE_NOT_POSITIVE: (PlaceOrder, (0, 0, BUY, -1, 1)),
        R.PRICE_TOO_HIGH: (PlaceOrder, (0, 0, BUY, 2_000_001, 1)),
        R.QUANTITY_NOT_POSITIVE: (PlaceOrder, (0, 0, BUY, 190_000, 0)),
        R.QUANTITY_TOO_LARGE: (PlaceOrder, (0, 0, BUY, 190_000, limits)),
        R.CLIENT_ORDER_ID_TOO_LONG: (
            PlaceOrder,
            (0, 0, BUY, 190_000, 1, False, False, "x" * 65),
        ),
        R.MARGIN_INSUFFICIENT: (PlaceOrder, (0, 0, BUY, 2_000_000, 10_000)),
        R.ORDER_UNKNOWN: (CancelOrder, (0, 99)),
        R.ORDER_NOT_OWNED: (CancelOrder, (0, foreign)),
        R.ORDER_NOT_OPEN: (CancelOrder, (0, order)),
        R.ACCOUNT_EXISTS: (OpenAccount, ("ann",)),
        R.CURRENCY_UNKNOWN: (Deposit, (0, 5, 1)),
        R.AMOUNT_NOT_POSITIVE: (Withdraw, (0, 0, 0)),
        R.AMOUNT_TOO_LARGE: (Deposit, (0, 0, 2**53)),
        R.INSUFFICIENT_FUNDS: (Withdraw, (0, 0, 2**50)),
        R.INSTRUMENT_EXISTS: (
            ListInstruments,
            ((contract("BTC_USDC-PERPETUAL", LINEAR, E8, E8),),),
        ),
        R.INSTRUMENT_INVALID: (ListInstruments, ((contract("X", 9, E8, E8),),)),
    }


@pytest.mark.parametrize("reason", list(nonsense(0, 0)), ids=lambda reason: reason.name)
def test_a_bad_request_gets_its_reason_and_changes_nothing(
    market: Market, reason: RejectReason
) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    order = market.place(ann, BUY, 1, 190_000)
    market.cancel(ann, order)
    foreign = market.place(bob, BUY, 1, 190_000)
    kind, fields = nonsense(order, foreign)[reason]
    assert market.refused(kind, *fields) == reason


def test_negative_numbers_name_nothing(market: Market) -> None:
    market.account("ann")
    assert market.refused(PlaceOrder, -1, 0, BUY, 190_000, 1) == R.ACCOUNT_UNKNOWN
    assert market.refused(PlaceOrder, 0, -1, BUY, 190_000, 1) == R.INSTRUMENT_UNKNOWN
    assert market.refused(Deposit, 0, -1, 5) == R.CURRENCY_UNKNOWN
    assert market.refused(CancelOrder, 0, -5) == R.ORDER_UNKNOWN
    assert market.refused(Halt, -1, True) == R.INSTRUMENT_UNKNOWN
    assert market.refused(CancelOrder, 0, 7 << ORDER_SEQUENCE_BITS) == R.ORDER_UNKNOWN
    assert market.refused(EditOrder, 0, 2**62, 1, 1) == R.ORDER_UNKNOWN


def test_a_market_order_cannot_be_edited(market: Market) -> None:
    ann = market.account("ann")
    order = market.place(ann, BUY, 1)
    assert market.refused(EditOrder, ann, order, 190_000, 1) == R.EDIT_OF_MARKET_ORDER


def test_every_reason_has_its_own_number_grouped_by_subsystem() -> None:
    assert len({int(reason) for reason in R}) == len(list(R))
    assert {int(reason) // 100 for reason in R} == {0, 1, 2, 3, 4, 5, 7}


def busy() -> Market:
    """A market with positions in every contract and orders that rest."""
    market = Market(small())
    ann = market.account("ann", BTC=10**9)
    bob = market.account("bob", BTC=10**9)
    for slot in range(len(market.venue.instruments)):
        price = market.state.marks.reference_ticks(slot)
        market.trade(ann, bob, 20, price, slot)
        market.place(ann, BUY, 3, max(1, price - 2), slot, client_order_id=f"rest {slot}")
    return market


@pytest.mark.parametrize(
    "stop", [lambda m: None, lambda m: m.seal(), lambda m: [m.seal(), m.uncross()]],
    ids=["collecting", "sealed", "uncrossed"],
)  # fmt: skip
def test_a_restored_engine_goes_on_to_the_same_hashes(stop: Callable[[Market], object]) -> None:
    market = busy()
    stop(market)
    data = market.engine.snapshot()
    twin = Engine.restore(data)
    assert twin.state_hash() == market.engine.state_hash()
    assert twin.snapshot() == data
    start = len(market.log)
    while market.state.phase != Phase.COLLECTING:
        market.uncross() if market.state.phase == Phase.SEALED else market.revalue()
    market.place(0, SELL, 2, 200_000)
    market.cycle(101_000)
    market.cycle(99_000)
    for command in market.log[start:]:
        twin.apply(command)
    assert twin.state_hash() == market.engine.state_hash()
    assert twin.last_state_hash == market.state.last_hash


def test_the_hash_of_a_cycle_depends_on_everything_before() -> None:
    one, other = Market(seed=1), Market(seed=1)
    assert one.state.last_hash == other.state.last_hash
    assert one.state.last_hash != Market(seed=2).state.last_hash
    one.account("ann", 5)
    other.account("ann", 6)
    assert one.state.last_hash == other.state.last_hash, "it is taken at the end of a cycle"
    hashes = [only(m.cycle(), CycleClosed).state_hash for m in (one, other)]
    assert hashes[0] != hashes[1]


def test_a_refusal_is_an_event_with_a_number_and_words() -> None:
    assert Rejected(R.ACCOUNT_UNKNOWN).reason == 201


@pytest.mark.parametrize("version", ["1", str(int(VERSION) + 1), None])
def test_a_snapshot_of_another_version_is_refused_and_both_are_named(version: str | None) -> None:
    parts = dict(msgspec.msgpack.decode(Market().engine.snapshot(), type=list[tuple[str, bytes]]))
    assert parts.pop("version") == VERSION.encode()
    if version is not None:
        parts["version"] = version.encode()
    with pytest.raises(InvariantBroken, match=f"of version {version or 1}; this is .* {VERSION}"):
        Engine.restore(msgspec.msgpack.encode(list(parts.items())))

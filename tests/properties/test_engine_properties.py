"""Laws of the engine under random commands: books, positions, gate, waterfall, replay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from exchange.core.commands import (
    ClosePool,
    Command,
    MoveMargin,
    OpenPool,
    PlaceOrder,
    SwitchMode,
    decode_command,
    encode_command,
)
from exchange.core.engine import Engine
from exchange.core.events import (
    CallChanged,
    CycleClosed,
    Deleveraged,
    Event,
    FundingApplied,
    GuaranteePaid,
    InstrumentSettled,
    LayerPaid,
    LiquidationStep,
    OrderAccepted,
    Posted,
    Rejected,
    ShortfallOpen,
)
from exchange.core.orders.risk_gate import RESERVES_NOTHING
from exchange.core.reject_reason import PostingCause, RejectReason
from exchange.core.stored.ledger import HOUSE_POOLS, House
from exchange.core.stored.marks import IndexState
from exchange.core.stored.orders import (
    FLAGS,
    INSTRUMENT_SHIFT,
    MARKET,
    OPEN_LOTS,
    ORDER_ID,
    POOL,
    PRICE_TICKS,
    SIDE,
)
from exchange.core.venue import USDC
from tests.core.market import Market, every
from tests.core.random_story import Story, story_venue

R = RejectReason
COMMANDS = 100_000
SEEDS = (1, 2, 3, 4)


def balanced(market: Market) -> None:
    """The check after each command."""
    assert not market.state.ledger.cash.sum(axis=0).any(), "trial balance"
    assert not market.state.positions.sums().any(), "positions net to zero"


def laws(market: Market, events: list[Event]) -> None:
    """What holds at the end of every cycle."""
    engine, state = market.engine, market.state
    state.validate()
    equity = engine.risk.equity
    open_shortfall = bool(every(events, ShortfallOpen)) or state.accounts.withdrawals_frozen
    if not open_shortfall:
        assert (equity[HOUSE_POOLS:] >= 0).all(), "every pool's equity is >= 0"
        if not engine.risk.holdings.touches_stale(House.INSURANCE):
            assert equity[House.INSURANCE] >= 0, "the fund hands on what is below zero"
    if (equity[HOUSE_POOLS:] < 0).any():
        assert state.accounts.withdrawals_frozen, "withdrawals freeze while a shortfall is open"
    for house in (House.VENUE_CAPITAL, House.DEFAULT_FUND, House.BONDS, House.FEES):
        assert state.ledger.balance(house, USDC) >= 0
    paid = {event.layer for event in every(events, LayerPaid)}
    if "gains_haircut" in paid or every(events, ShortfallOpen):
        assert state.ledger.balance(House.VENUE_CAPITAL, USDC) == 0, "layers in order"
        assert state.ledger.balance(House.DEFAULT_FUND, USDC) == 0, "layers in order"
    assert set(state.accounts.calls).isdisjoint(state.accounts.cases)
    walls_hold(events)
    vm_left = state.ledger.cash[[House.VM_PENDING, House.CLEARING]]
    assert not vm_left.any(), "gains are released, fills have two sides"


def walls_hold(events: list[Event]) -> None:
    """In a cycle, nothing passes from one user's pool to another's but by the mutual layers."""
    for posting in every(events, Posted):
        if posting.cause not in (PostingCause.DELEVERAGING, PostingCause.GUARANTEE):
            assert (np.minimum(posting.pool, posting.counter) < HOUSE_POOLS).all(), posting.cause


MOVES = (OpenPool, ClosePool, MoveMargin, SwitchMode)


def move(market: Market, command: Command) -> list[Event]:
    """Apply a request about pools: refused it changes nothing, granted it moves and makes nothing.

    Only margin moves touch money, and only of the pools that they name.
    """
    before, hashed = market.state.ledger.cash.copy(), market.engine.state_hash()
    lots = market.state.positions.open_interest()
    events = market.apply(command)
    if type(events[0]) is Rejected:
        assert market.engine.state_hash() == hashed, "a refused request changes nothing"
        return events
    moved = market.state.ledger.cash[: len(before)] - before
    if type(command) is MoveMargin:
        giver, taker = command.from_pool, command.to_pool
        assert moved[taker, command.currency] == command.amount_minor
        moved[taker] += moved[giver]
        moved[giver] = 0
        if market.state.marks.is_open:
            assert market.engine.gate.room(giver) >= 0, "the giver stays covered"
    assert not moved.any(), "to the unit"
    assert (market.state.positions.open_interest() <= lots).all()
    return events


def gate_is_the_rule(market: Market) -> None:
    """The screen never understates the rule, in arrays and one by one."""
    gate, risk, orders = market.engine.gate, market.engine.risk, market.state.orders
    rows = np.concatenate((orders.resting, orders.incoming_rows().T), axis=1)
    rows = rows[:, (rows[OPEN_LOTS] > 0) & ((rows[FLAGS] & RESERVES_NOTHING) == 0)]
    bounds = gate.losses[0].bounds(rows).tolist()
    for row, bound in zip(rows.T.tolist(), bounds, strict=True):
        slot = row[ORDER_ID] >> INSTRUMENT_SHIFT
        assert gate.losses[0].bound(slot, row[SIDE], row[PRICE_TICKS], row[OPEN_LOTS]) == bound
    for pool in np.unique(rows[POOL]).tolist():
        own = rows[:, rows[POOL] == pool]
        needed, fees = gate.requirement(pool, own)
        total = sum(bound for bound, row in zip(bounds, rows.T.tolist(), strict=True)
                    if row[POOL] == pool)  # fmt: skip
        assert int(risk.initial[pool]) + total >= needed + fees, "the bound covers the rule"


BEFORE_THE_GATE = tuple(
    reason for reason in RejectReason
    if reason not in (R.NONE, R.MARGIN_INSUFFICIENT, R.INDEX_STALE)
)  # fmt: skip


def admitted(market: Market, command: Command) -> list[RejectReason] | None:
    """What the exact rule says of an order, without any bound; None where it does not speak."""
    if type(command) is not PlaceOrder or command.reduce_only or command.client_order_id:
        return None
    state, gate = market.state, market.engine.gate
    slot = command.instrument
    if not (0 <= command.account < len(state.accounts.names) and 0 <= slot < len(state.contracts)):
        return None
    if not 0 <= command.price_ticks <= state.contracts.price_max[slot]:
        return None
    if command.side not in (1, -1) or not 0 < command.quantity_lots <= 10**6:
        return None
    pool, unknown = state.accounts.pool_for(command.account, slot, command.pool)
    if unknown:
        return [unknown]
    rows = state.orders.of_pool(pool)
    flags = MARKET if command.price_ticks == 0 else 0
    new = [slot << INSTRUMENT_SHIFT, pool, command.side, command.price_ticks,
           command.quantity_lots, flags, 0, 0]  # fmt: skip
    column = np.array(new, np.int64)[:, None]
    needed, fees = gate.requirement(pool, np.concatenate((rows, column), axis=1))
    unit = state.contracts.specs[slot].underlying
    fresh = state.marks.index_state[unit] == IndexState.FRESH
    if fresh and int(market.engine.risk.equity[pool]) - fees >= needed:
        return [R.NONE]
    if needed <= gate.requirement(pool, rows)[0]:
        return [R.NONE]
    return [R.MARGIN_INSUFFICIENT if fresh else R.INDEX_STALE]


def derived_is_what_the_state_implies(market: Market) -> None:
    """Equity and requirements after a cycle are those that a restored engine derives."""
    fresh, risk = Engine.restore(market.engine.snapshot()).risk, market.engine.risk
    margined = [House.INSURANCE, *range(HOUSE_POOLS, market.state.accounts.pools)]
    for name in ("initial", "maintenance", "equity"):
        wanted, got = getattr(fresh, name)[margined], getattr(risk, name)[margined]
        np.testing.assert_array_equal(got, wanted, name)


def run_story(seed: int, commands: int) -> tuple[Market, Counter[str], list[bytes]]:
    """Random commands with all checks; the market, what happened, and every cycle's hash."""
    market = Market(story_venue(), seed=seed)
    story = Story(market, seed)
    seen: Counter[str] = Counter()
    hashes = [market.state.last_hash]
    while len(market.log) < commands:
        if story.needs_listing():
            market.apply(story.listing())
        for _ in range(story.chance.randrange(30, 110)):
            command = story.pick()
            wanted = admitted(market, command) if story.chance.random() < 0.05 else None
            events = move(market, command) if type(command) in MOVES else market.apply(command)
            balanced(market)
            if type(command) in MOVES and type(events[0]) is not Rejected:
                seen[type(events[0]).__name__] += 1
            if wanted is not None and type(events[0]) in (OrderAccepted, Rejected):
                said = getattr(events[0], "reason", RejectReason.NONE)
                assert said in (*wanted, *BEFORE_THE_GATE), command
            seen.update(f"refused {e.reason.name}" for e in every(events, Rejected))
        restores = story.chance.random() < 0.05
        if restores and story.chance.random() < 0.5:
            restore(market)
        if story.chance.random() < 0.1:
            gate_is_the_rule(market)
        after_ns = story.move()
        events = market.seal(after_ns)
        balanced(market)
        if restores and story.chance.random() < 0.5:
            restore(market)
        events += market.uncross()
        balanced(market)
        if restores:
            restore(market)
        events += market.revalue()
        balanced(market)
        laws(market, events)
        if len(hashes) % 8 == 0:
            derived_is_what_the_state_implies(market)
        story.remember()
        hashes.append(market.state.last_hash)
        count(market, seen, events)
    return market, seen, hashes


def restore(market: Market) -> None:
    """Go on with an engine made from a snapshot."""
    data, before = market.engine.snapshot(), market.engine.state_hash()
    market.engine = Engine.restore(data)
    assert market.engine.state_hash() == before
    assert market.engine.snapshot() == data


def count(market: Market, seen: Counter[str], events: list[Event]) -> None:
    for event in events:
        slot = getattr(event, "instrument", -1)
        if isinstance(slot, int) and slot >= 0 and market.state.contracts.is_inverse_option(slot):
            seen[f"inverse option {getattr(event, 'step', type(event).__name__)}"] += 1
        if isinstance(event, CallChanged):
            seen[f"call {event.outcome.name}"] += 1
        elif isinstance(event, LiquidationStep):
            seen[event.step] += 1
        elif isinstance(event, LayerPaid):
            seen[event.layer] += 1
        elif isinstance(event, (Deleveraged, ShortfallOpen, InstrumentSettled, GuaranteePaid)):
            seen[type(event).__name__] += 1
        elif isinstance(event, FundingApplied):
            seen["payments"] += event.payments


def replayed(market: Market) -> list[bytes]:
    """The cycle hashes of a new engine that is fed the encoded commands."""
    engine, hashes = Engine(), []
    for command in market.log:
        events = engine.apply(decode_command(*encode_command(command)))
        hashes += [event.state_hash for event in every(events, CycleClosed)]
    assert engine.state_hash() == market.engine.state_hash()
    return hashes


def prove(seed: int, commands: int) -> Counter[str]:
    market, seen, hashes = run_story(seed, commands)
    assert replayed(market) == hashes, "snapshots and encoding change nothing"
    print(f"seed {seed}: {len(market.log)} commands, {len(hashes)} cycles, {dict(seen)}")
    return seen


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hundred_thousand_random_commands_break_no_law(seed: int) -> None:
    seen = prove(seed, COMMANDS // len(SEEDS))
    for happened in ("call ISSUED", "call CURED", "call EXPIRED", "call BREACHED", "offered",
                     "filled", "taken over", "insurance", "Deleveraged", "InstrumentSettled",
                     "refused MARGIN_INSUFFICIENT", "refused ACCOUNT_IN_LIQUIDATION",
                     "inverse option InstrumentSettled", "inverse option taken over",
                     "inverse option Deleveraged", "PoolOpened", "PoolClosed", "MarginMoved",
                     "ModeSwitched", "GuaranteePaid", "refused POOL_NOT_EMPTY"):  # fmt: skip
        assert seen[happened], f"the story is worth something: {happened}"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 110))
def test_a_million_random_commands_break_no_law(seed: int) -> None:
    prove(seed, COMMANDS)

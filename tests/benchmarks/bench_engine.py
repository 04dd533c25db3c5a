"""Orders through the whole engine: placed, cleared, settled, margined, hashed; and replays.

The peer is lightmatchingengine, a continuous matching engine in pure Python. It keeps books and
makes trades; it has no accounts, no ledger, no margin, no client order ids and no state hash.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import numba
import numpy as np
from lightmatchingengine.lightmatchingengine import LightMatchingEngine, Side

from exchange.cli.warm_up import warm_up
from exchange.core.commands import (
    CancelOrder,
    Deposit,
    ExpiryMark,
    Genesis,
    OpenAccount,
    OrderColumns,
    PlaceOrder,
    Revalue,
    Seal,
    Uncross,
    UnderlyingMark,
)
from exchange.core.engine import VERSION, Engine
from exchange.core.events import ColumnsApplied, OrderAccepted, Printed
from exchange.core.risk import pool_risk
from exchange.core.venue import USDC
from exchange.venues import load_venue
from margin.invariant import Int64Array
from replays import lobster
from replays.flow import REDUCE, TAKE, Flow, build_flow
from replays.historical import HistoricalReplay, share_venue

ACCOUNTS = 200
BATCH_REQUESTS = 5_000
BATCHES = 40
ROUNDS = 5
REPLAYS = ((5 * 10**9, "5 s", 3), (10**9, "1 s", 3), (10**8, "100 ms", 1))  # interval, rounds
ENDOWMENT_MINOR = 1_000_000 * 10**6
MANY_ACCOUNTS = 20_000
POSITIONS = 20
MANY_CYCLES = 15
PPB = 10**9
CONTRACTS = tuple(
    f"{coin}_USDC-{name}"
    for coin in ("BTC", "ETH", "SOL")
    for name in ("PERPETUAL", "17OCT25", "24OCT25")
)
REPLAY_FILE = "lobster/AAPL_2012-06-21_34200000_37800000_message_50.csv.gz"


class RequestFlow(msgspec.Struct, frozen=True):
    """Random requests, the same for every engine; row r belongs to batch r // BATCH_REQUESTS.

    `target` is -1 for an order, else the row of the order that is cancelled. `contract` counts
    within CONTRACTS. `index_e8[batch, underlying]` are the marks after each batch.
    """

    account: Int64Array
    contract: Int64Array
    side: Int64Array
    price_ticks: Int64Array
    quantity_lots: Int64Array
    target: Int64Array
    index_e8: Int64Array

    def __len__(self) -> int:
        return len(self.account)

    def batches(self) -> range:
        return range(len(self) // BATCH_REQUESTS)


def random_requests(seed: int, batches: int) -> RequestFlow:
    """Three orders to one cancel; half of the orders rest away from the index, half cross it.

    The index of each coin walks by about a tenth of a percent a batch. A cancel names a resting
    order of its own or the last three batches that no earlier one named; it may have traded.
    """
    draw = np.random.default_rng(seed)
    rows = batches * BATCH_REQUESTS
    venue = load_venue("demo")
    opening = np.array([u.opening_index_e8 for u in venue.underlyings])
    walk = np.exp(np.cumsum(draw.normal(0, 0.001, (batches, len(opening))), axis=0))
    index_e8 = (opening * walk).astype(np.int64)
    specs = {spec.name: spec for spec in venue.instruments}
    tick_e8 = np.array([specs[name].tick_e8 for name in CONTRACTS])
    coin = np.array([specs[name].underlying for name in CONTRACTS])
    contract = draw.integers(0, len(CONTRACTS), rows)
    side = draw.integers(0, 2, rows) * 2 - 1
    batch = np.arange(rows) // BATCH_REQUESTS
    middle = np.concatenate((opening[None, :], index_e8[:-1]))[batch, coin[contract]]
    passive = draw.random(rows) < 0.5
    distance = np.where(passive, -draw.integers(1, 40, rows), draw.integers(0, 10, rows))
    target = np.full(rows, -1)
    for number in range(batches):
        first = number * BATCH_REQUESTS
        window = np.arange(max(0, first - 3 * BATCH_REQUESTS), first + BATCH_REQUESTS // 2)
        named = np.zeros(rows, np.bool_)
        named[target[target >= 0]] = True
        free = window[passive[window] & ~named[window] & (target[window] < 0)]
        cancels = min(BATCH_REQUESTS // 4, len(free))
        at = first + BATCH_REQUESTS // 2 + draw.choice(BATCH_REQUESTS // 2, cancels, replace=False)
        target[at] = draw.choice(free, cancels, replace=False)
    account = draw.integers(0, ACCOUNTS, rows)
    account[target >= 0] = account[target[target >= 0]]
    contract[target >= 0] = contract[target[target >= 0]]
    return RequestFlow(
        account=account,
        contract=contract,
        side=side,
        price_ticks=middle // tick_e8[contract] + side * distance,
        quantity_lots=draw.integers(1, 30, rows),
        target=target,
        index_e8=index_e8,
    )


class Market:
    """The `demo` venue, open, with funded accounts."""

    def __init__(self, risk_gate: bool, accounts: int = ACCOUNTS) -> None:
        self.venue = load_venue("demo", risk_gate=risk_gate)
        self.engine = Engine()
        self.now_ns = self.venue.opening_time_ns
        self.volume_lots = 0
        self.engine.apply(Genesis(self.now_ns, self.venue, 7, VERSION))
        opening = [u.opening_index_e8 for u in self.venue.underlyings]
        self.close(opening)
        for number in range(accounts):
            self.engine.apply(OpenAccount(self.now_ns, f"bench-{number}"))
            self.engine.apply(Deposit(self.now_ns, number, USDC, ENDOWMENT_MINOR))
        self.close(opening)
        slot_of = self.engine.state.contracts.slot_of
        self.slots = [slot_of[name] for name in CONTRACTS]

    def close(self, index_e8: list[int]) -> None:
        """One cycle: seal, clear, settle, revalue, with every future at its index."""
        state = self.engine.state
        self.now_ns += self.venue.interval_ns
        now, batch = self.now_ns, state.batch
        self.engine.apply(Seal(now, batch))
        for event in self.engine.apply(Uncross(now, batch)):
            if isinstance(event, Printed):
                self.volume_lots += int(event.volume_lots.sum())
        marks = tuple(UnderlyingMark(price, 0, PPB, ((now, price),)) for price in index_e8)
        futures, expiries = [], {}
        for slot in state.contracts.listed():
            spec = state.contracts.specs[slot]
            if state.contracts.is_option_slot(slot):
                key = (spec.underlying, spec.expiry_ns)
                expiries.setdefault(key, set()).add(spec.strike_e8)
            else:
                futures.append((slot, index_e8[spec.underlying]))
        options = tuple(
            ExpiryMark(unit, expiry, index_e8[unit], 0, tuple(sorted(strikes)),
                       (self.venue.underlyings[unit].opening_volatility_e9,) * len(strikes))
            for (unit, expiry), strikes in expiries.items()
        )  # fmt: skip
        self.engine.apply(Revalue(now, batch, marks, tuple(futures), options, b""))

    def check(self) -> None:
        """The work was done: something traded, everybody was margined, the books balance."""
        state = self.engine.state
        if self.volume_lots == 0:
            raise AssertionError("nothing traded")
        if any(state.ledger.trial_balance()) or state.positions.sums().any():
            raise AssertionError("the books do not balance")
        if not (self.engine.risk.initial > 0).any():
            raise AssertionError("nobody was margined")


def market_of_many(accounts: int) -> Market:
    """Every account long or short a few lots of `POSITIONS` contracts, at their marks."""
    market, draw = Market(risk_gate=True, accounts=accounts), np.random.default_rng(3)
    state, apply = market.engine.state, market.engine.apply
    slots = draw.permutation(np.array(state.contracts.listed()))[:POSITIONS]
    opening = [unit.opening_index_e8 for unit in market.venue.underlyings]
    for slot in slots.tolist():
        price = max(1, int(state.marks.mark_e8[slot]) // state.contracts.specs[slot].tick_e8)
        order = draw.permutation(accounts)
        for buyer, seller in zip(order[::2].tolist(), order[1::2].tolist(), strict=True):
            lots = 1 + (buyer + seller) % 5
            for account, side in ((buyer, 1), (seller, -1)):
                apply(PlaceOrder(market.now_ns, account, slot, side, price, lots))
        market.close(opening)
    held = len(state.positions.lots)
    if held < accounts * POSITIONS:
        raise AssertionError(f"{held} positions, not {accounts * POSITIONS}")
    return market


def quiet_cycles(market: Market, cycles: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of some cycles, marks a hundredth of a percent away from the last ones.

    Of the revaluation by the drift screen and by a full pass, in turns, and of the whole cycle.
    """
    draw, usual = np.random.default_rng(5), pool_risk.SCREENED_POOLS
    opening = [unit.opening_index_e8 for unit in market.venue.underlyings]
    risk, screened, full, whole = market.engine.risk, [], [], []
    try:
        for _ in range(cycles):
            pool_risk.SCREENED_POOLS = 0
            index_e8 = [int(price * (1 + 1e-4 * draw.normal())) for price in opening]
            began = time.perf_counter()
            market.close(index_e8)
            whole.append(time.perf_counter() - began)
            for pools, seconds in ((2**62, full), (0, screened)):
                pool_risk.SCREENED_POOLS = pools
                began = time.perf_counter()
                risk.revalue()
                seconds.append(time.perf_counter() - began)
                bounds = sum(map(risk.is_bound, range(len(risk.equity))))
                if (bounds == 0) != (pools > 0):
                    raise AssertionError("the pools were not looked at as the row says")
    finally:
        pool_risk.SCREENED_POOLS = usual
    return screened, full, whole


def place_one_by_one(flow: RequestFlow) -> tuple[float, Market, int]:
    """`apply` for each request, then the cycle; returns seconds, market and refused requests.

    The commands are made inside the measured time, the text of client order ids before.
    """
    market = Market(risk_gate=True)
    apply = market.engine.apply
    columns = zip(flow.account.tolist(), flow.contract.tolist(), flow.side.tolist(),
                  flow.price_ticks.tolist(), flow.quantity_lots.tolist(), flow.target.tolist(),
                  strict=True)  # fmt: skip
    rows = list(columns)
    names = [f"bench-{row}" for row in range(len(rows))]
    slots, order_ids, refused = market.slots, [0] * len(rows), 0
    began = time.perf_counter()
    for batch in flow.batches():
        first, now = batch * BATCH_REQUESTS, market.now_ns
        for row in range(first, first + BATCH_REQUESTS):
            account, contract, side, price, lots, target = rows[row]
            if target < 0:
                event = apply(
                    PlaceOrder(
                        now, account, slots[contract], side, price, lots, False, False, names[row]
                    )
                )[0]
                if type(event) is OrderAccepted:
                    order_ids[row] = event.order_id
                else:
                    refused += 1
            else:
                apply(CancelOrder(now, account, order_ids[target]))
        market.close(flow.index_e8[batch].tolist())
    seconds = time.perf_counter() - began
    market.check()
    return seconds, market, refused


def place_in_columns(flow: RequestFlow) -> tuple[float, Market]:
    """One `OrderColumns` a batch on a venue without risk gate, then the cycle."""
    market = Market(risk_gate=False)
    slots = np.array(market.slots)[flow.contract]
    order_ids = np.zeros(len(flow), np.int64)
    began = time.perf_counter()
    for batch in flow.batches():
        first = batch * BATCH_REQUESTS
        rows = slice(first, first + BATCH_REQUESTS)
        target = flow.target[rows]
        named = np.where(target >= first, first - target - 1, order_ids[target])
        fields = (flow.account[rows], slots[rows], flow.side[rows], flow.price_ticks[rows],
                  flow.quantity_lots[rows], np.zeros(BATCH_REQUESTS, np.int64),
                  np.where(target < 0, 0, named))  # fmt: skip
        columns = np.stack(fields).astype(np.int64)
        columns[4, target >= 0] = 2**31
        applied = market.engine.apply(
            OrderColumns(market.now_ns, BATCH_REQUESTS, columns.tobytes())
        )[0]
        if not isinstance(applied, ColumnsApplied):
            raise AssertionError("the columns were refused")
        order_ids[rows] = applied.order_ids
        market.close(flow.index_e8[batch].tolist())
    seconds = time.perf_counter() - began
    market.check()
    return seconds, market


def match_continuously(flow: RequestFlow) -> tuple[float, int]:
    """The peer on the same requests, one by one; returns seconds and lots traded."""
    rows = list(zip(flow.contract.tolist(), flow.side.tolist(), flow.price_ticks.tolist(),
                    flow.quantity_lots.tolist(), flow.target.tolist(), strict=True))  # fmt: skip
    engine, placed, traded = LightMatchingEngine(), [None] * len(rows), 0
    began = time.perf_counter()
    for row, (contract, side, price, lots, target) in enumerate(rows):
        if target < 0:
            order, trades = engine.add_order(
                contract, price, lots, Side.BUY if side > 0 else Side.SELL
            )
            placed[row] = order
            traded += trades[0].trade_qty if trades else 0
        elif (order := placed[target]).leaves_qty:  # it asserts where an order has traded
            engine.cancel_order(order.order_id, contract)
    return time.perf_counter() - began, traded


def lobster_file() -> Path | None:
    """The recorded session under $UNCROSS_DATA or ../shared/data beside the checkout, or None."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    path = Path(os.environ.get("UNCROSS_DATA", beside)) / REPLAY_FILE
    return path if path.is_file() else None


def match_file(flow: Flow) -> float:
    """The peer on the rows of a file: orders, reductions, takers; seconds."""
    columns = (flow.row_kind, flow.reference, flow.side, flow.price_ticks, flow.quantity_lots)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    engine, known = LightMatchingEngine(), {}
    began = time.perf_counter()
    for kind, reference, side, price, lots in rows:
        if kind == REDUCE:
            order = known[reference]
            if order.leaves_qty > lots:
                order.leaves_qty -= lots
            elif order.leaves_qty:
                engine.cancel_order(order.order_id, 0)
            continue
        order, _ = engine.add_order(0, price, lots, Side.BUY if side > 0 else Side.SELL)
        if kind != TAKE:
            known[reference] = order
        elif order.leaves_qty:
            engine.cancel_order(order.order_id, 0)
    return time.perf_counter() - began


def _conditions(text: str) -> str:
    return f"{text}; {numba.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"


def _row(name: str, count: int, ours: float, baseline: float, unit: str, conditions: str,
         ) -> dict[str, Any]:  # fmt: skip
    return {
        "name": name,
        "ours": count / ours / 1e6,
        "baseline": count / baseline / 1e6,
        "unit": unit,
        "ratio": baseline / ours,
        "baseline_name": "lightmatchingengine (continuous, no ledger, no margin)",
        "conditions": _conditions(conditions),
    }


def _engine_rows(quick: bool) -> list[dict[str, Any]]:
    batches, rounds = (4, 1) if quick else (BATCHES, ROUNDS)
    flow = random_requests(1, batches)
    single, columnar, peer = [], [], []
    for _ in range(rounds):  # in turns, so that a busy moment hits all three
        seconds, market, refused = place_one_by_one(flow)
        single.append(seconds)
        columnar.append(place_in_columns(flow)[0])
        seconds, traded = match_continuously(flow)
        peer.append(seconds)
    if traded == 0:
        raise AssertionError("the peer traded nothing")
    orders_placed = int((flow.target < 0).sum())
    both = (
        f"{len(flow):,} requests ({orders_placed:,} orders, the rest cancels) in batches of "
        f"{BATCH_REQUESTS:,}, {ACCOUNTS} accounts, {len(CONTRACTS)} futures of "
        f"{len(market.engine.state.contracts)} contracts, {market.volume_lots:,} lots traded"
    )
    gate = f", risk gate on, a client order id each, {refused} refused; best of {rounds}"
    return [
        _row("engine: place, clear, settle, margin", len(flow), min(single), min(peer),
             "M requests/s", both + gate),
        _row("engine: the same in columns", len(flow), min(columnar), min(peer),
             "M requests/s", f"{both}, risk gate off, no client order ids; best of {rounds}"),
    ]  # fmt: skip


def _many_row(quick: bool) -> dict[str, Any]:
    accounts, cycles = (2_000, 3) if quick else (MANY_ACCOUNTS, MANY_CYCLES)
    market = market_of_many(accounts)
    quiet_cycles(market, 1)  # whatever compiles compiles here
    screened, full, whole = quiet_cycles(market, cycles)
    market.check()
    return {
        **_row(
            "engine: a quiet revaluation of many accounts", accounts, min(screened), min(full),
            "M accounts/s",
            f"{accounts:,} accounts x {POSITIONS} positions, marks 0.01 % away, under the demo's "
            f"margin with add-ons: {min(screened) * 1e3:.1f} ms by the drift screen, "
            f"{min(full) * 1e3:.1f} ms by the full pass; the whole cycle, books and hash included, "
            f"{min(whole) * 1e3:.0f} ms; best of {cycles}",
        ),
        "baseline_name": "the full pass",
    }  # fmt: skip


def _replay_rows(quick: bool) -> list[dict[str, Any]]:
    path = lobster_file()
    if path is None:
        reason = f"no file {REPLAY_FILE} under $UNCROSS_DATA or ../shared/data"
        return [
            {
                "name": "replay LOBSTER AAPL, one hour",
                "skipped": reason,
                "conditions": f"skipped: {reason}",
            }
        ]
    messages = lobster.read_messages(path)
    rows = []
    for interval_ns, label, rounds in REPLAYS[: 1 if quick else 3]:
        flow = build_flow(messages, interval_ns)
        venue = share_venue("AAPL", interval_ns, flow.tick_e4, 0, messages.price_e4)
        runs, peer = [], []
        for _ in range(1 if quick else rounds):
            runs.append(HistoricalReplay(flow, venue, 7).execute())
            peer.append(match_file(flow))
        run = min(runs, key=lambda r: r.seconds)
        if run.auction_volume == 0 or len({r.state_hash for r in runs}) != 1:
            raise AssertionError("the replay traded nothing, or not the same every time")
        rows.append(_row(
            f"replay LOBSTER AAPL, {label} batches", len(messages), run.seconds,
            min(peer), "M messages/s",
            f"{len(messages):,} messages, {run.batches:,} batches, full core with margin and "
            f"hash, {run.seconds / run.batches * 1e6:,.0f} microseconds a batch, gate and collar "
            f"off, file already read; best of {len(runs)}",
        ))  # fmt: skip
    return rows


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Requests and recorded messages a second; `quick` takes a tenth of the requests.

    A replay row has `skipped`, the reason, instead of figures where its file is absent.
    """
    warm_up()
    lobster.warm_up()
    _engine_rows(quick=True)  # whatever compiles by type compiles here
    return [*_engine_rows(quick), _many_row(quick), *_replay_rows(quick)]


if __name__ == "__main__":
    for row in run():
        print(row)

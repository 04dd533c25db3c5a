from __future__ import annotations

import random
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from replays.flow import (
    ALL_REMAINING,
    PLACE,
    REDUCE,
    SESSION_OPEN_NS,
    TAKE,
    Flow,
    assign_accounts,
    build_flow,
)
from replays.lobster import LobsterError, Messages, read_messages
from tests.reference import reference_replay as twin

SECOND = 10**9
# As the fields of twin.Event.
COLUMNS = (
    "batch",
    "row_kind",
    "reference",
    "side",
    "price_ticks",
    "quantity_lots",
    "time_ns",
    "line",
)
AAPL = "AAPL_2012-06-21_34200000_37800000_message_50.csv.gz"
AMZN = "AMZN_2021-04-12_34200000_57600000_message_10_part.csv.gz"


def messages_of(*rows: tuple[int, int, int, int, int, int]) -> Messages:
    """Messages of (nanoseconds after 09:30, type, id, size, price_e4, direction)."""
    columns = np.array(rows, dtype=np.int64).reshape(-1, 6).T.copy()
    columns[0] += SESSION_OPEN_NS
    return Messages(Path("made-up.csv"), *(columns[i] for i in range(6)))


def events_of(flow: Flow) -> list[twin.Event]:
    columns = [getattr(flow, name) for name in COLUMNS]
    assert all(column.dtype == np.int64 for column in columns)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [twin.Event(*row) for row in rows]


def made_up_messages(seed: int, rows: int = 400) -> Messages:
    """A random valid file: crowded times, unknown ids, hidden, cross and halt rows included."""
    rng = random.Random(seed)
    alive: dict[int, list[int]] = {}
    made: list[tuple[int, int, int, int, int, int]] = []
    time_ns, direction, price = 0, 1, 100_000
    for order_id in rng.sample(range(10**9), rows):
        time_ns += rng.choice([0, 0, 1, 40_000_000, 700_000_000])
        kind = rng.choices([1, 2, 3, 4, 5, 6, 7], [9, 2, 5, 5, 1, 0.2, 0.2])[0]
        if kind == 1 or (kind in (2, 3, 4) and not alive):
            size, price = rng.randrange(1, 50), 100_000 + 100 * rng.randrange(-9, 10)
            direction = rng.choice([1, -1])
            alive[order_id] = [size, price, direction]
            made.append((time_ns, 1, order_id, size, price, direction))
        elif kind in (2, 3, 4) and rng.random() < 0.1:
            made.append((time_ns, kind, order_id, rng.randrange(1, 50), 99_900, direction))
        elif kind in (2, 3, 4):
            known = rng.choice(sorted(alive))
            left, price, direction = alive[known]
            size = left if kind == 3 else rng.randrange(1, left + 1)
            alive[known][0] -= size
            if alive[known][0] == 0:
                del alive[known]
            made.append((time_ns, kind, known, size, price, direction))
        else:
            made.append((time_ns, kind, 0, rng.randrange(1, 9), 100_050 if kind == 5 else 1, -1))
    return messages_of(*made)


def test_batches_are_half_open_and_anchored_at_the_open() -> None:
    times = [0, SECOND - 1, SECOND, 2 * SECOND - 1, 5 * SECOND]
    flow = build_flow(messages_of(*((t, 1, i, 10, 100, 1) for i, t in enumerate(times))), SECOND)
    assert flow.start_ns == SESSION_OPEN_NS
    assert flow.batch.tolist() == [0, 0, 1, 1, 5]
    assert flow.batch_number.tolist() == [0, 1, 5]
    assert flow.row_start.tolist() == [0, 2, 4, 5]
    assert (flow.first_batch, flow.last_batch) == (0, 5)


def test_the_clock_runs_over_messages_that_make_no_rows() -> None:
    rows = [(2, 5, 0, 1, 55, 1), (40, 1, 1, 10, 100, 1), (99, 7, 0, 0, -1, -1)]
    flow = build_flow(messages_of(*rows), 10)
    assert (flow.first_batch, flow.last_batch) == (0, 9)
    assert flow.batch_number.tolist() == [4]
    empty = build_flow(messages_of(rows[0]), 10)
    assert (len(empty), empty.row_start.tolist(), empty.last_batch) == (0, [0], 0)


def test_an_early_file_starts_on_the_same_grid_and_a_start_can_be_given() -> None:
    early = messages_of((-25, 1, 1, 10, 100, 1), (-10, 1, 2, 10, 100, 1), (0, 1, 3, 10, 100, 1))
    flow = build_flow(early, 10)
    assert flow.start_ns == SESSION_OPEN_NS - 30
    assert flow.batch.tolist() == [0, 2, 3]
    given = build_flow(early, 10, start_ns=SESSION_OPEN_NS - 27)
    assert given.batch.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="after the first message"):
        build_flow(early, 10, start_ns=SESSION_OPEN_NS - 24)
    for interval_ns, tick_e4 in [(0, 100), (10, 0)]:
        with pytest.raises(ValueError, match="must be at least 1"):
            build_flow(early, interval_ns, tick_e4)
    with pytest.raises(ValueError, match="at least one message"):
        build_flow(messages_of(), 10)


def test_orders_rest_and_reductions_point_at_them_in_file_order() -> None:
    flow = build_flow(
        messages_of(
            (0, 1, 900, 50, 10_000, 1),
            (1, 1, 100, 60, 10_100, -1),
            (2, 2, 900, 20, 10_000, 1),
            (3, 3, 100, 60, 10_100, -1),
        ),
        SECOND,
    )
    assert [event[1:6] for event in events_of(flow)] == [
        (PLACE, 0, 1, 100, 50),
        (PLACE, 1, -1, 101, 60),
        (REDUCE, 0, 1, 100, 20),
        (REDUCE, 1, -1, 101, ALL_REMAINING),
    ]
    assert flow.line.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(("resting", "worst"), [(1, 98), (-1, 100)])
def test_a_run_of_executions_is_one_taker_up_to_its_worst_price(resting: int, worst: int) -> None:
    flow = build_flow(
        messages_of(
            (7, 4, 1, 10, 9_900, resting),
            (7, 5, 0, 5, 9_850, resting),
            (7, 4, 2, 20, 10_000, resting),
            (7, 4, 3, 30, 9_800, resting),
            (7, 4, 4, 1, 9_700, -resting),
            (8, 4, 5, 2, 9_600, -resting),
        ),
        SECOND,
    )
    assert [event[1:6] for event in events_of(flow)] == [
        (TAKE, -1, -resting, worst, 60),
        (TAKE, -1, resting, 97, 1),
        (TAKE, -1, resting, 96, 2),
    ]
    assert flow.line.tolist() == [1, 5, 6]
    assert flow.totals.unknown_executions == 5


def test_what_is_left_out_is_counted() -> None:
    totals = build_flow(
        messages_of(
            (0, 5, 0, 7, 10_033, 1),
            (0, 6, -1, 4_000, 10_000, -1),
            (0, 3, 5, 9, 10_000, 1),
            (0, 1, 5, 9, 10_000, 1),
            (0, 1, 6, 9, 10_000, 1),
            (1, 2, 77, 3, 10_000, 1),
            (1, 4, 5, 2, 10_000, 1),
            (1, 4, 78, 3, 10_000, 1),
            (2, 2, 5, 3, 10_000, 1),
            (3, 7, 0, 0, -1, -1),
        ),
        SECOND,
    ).totals
    assert (totals.hidden, totals.crosses, totals.halts) == (1, 1, 1)
    assert (totals.unknown_ids, totals.unknown_executions) == (2, 1)
    assert (totals.messages, totals.used) == (10, 5)
    assert (totals.orders, totals.takers) == (2, 1)
    assert (totals.visible_volume, totals.hidden_volume, totals.cross_volume) == (5, 7, 4_000)


SUBMITTED = (0, 1, 5, 30, 10_000, 1)


@pytest.mark.parametrize(
    ("rows", "line", "wrong"),
    [
        ([(0, 1, 5, 30, 10_050, 1)], 1, "price 10050 of a visible order"),
        ([SUBMITTED, (1, 4, 6, 30, 10_099, 1)], 2, "off the tick"),
        ([SUBMITTED, (1, 1, 5, 30, 10_000, 1)], 2, "order id 5 was submitted before"),
        ([SUBMITTED, (1, 4, 5, 31, 10_000, 1)], 2, "takes 31 shares from order 5"),
        ([SUBMITTED, (1, 2, 5, 31, 10_000, 1)], 2, "takes 31 shares"),
        ([SUBMITTED, (1, 3, 5, 31, 10_000, 1)], 2, "takes 31 shares"),
        ([SUBMITTED, (1, 4, 5, 20, 10_000, 1), (2, 2, 5, 11, 10_000, 1)], 3, "takes 11 shares"),
        ([SUBMITTED, (1, 3, 5, 10, 10_000, 1), (2, 4, 5, 1, 10_000, 1)], 3, "takes 1 shares"),
        ([SUBMITTED, (1, 2, 5, 3, 10_100, 1)], 2, "not at the price and side"),
        ([SUBMITTED, (1, 3, 5, 30, 10_000, -1)], 2, "not at the price and side"),
        ([(0, 1, 5, ALL_REMAINING, 10_000, 1)], 1, "too large for a lot count"),
        (
            [SUBMITTED, *((1, 4, i, ALL_REMAINING // 2 + 1, 10_000, 1) for i in (8, 9))],
            2,
            "executions of one taker",
        ),
    ],
)
def test_an_impossible_history_is_refused_at_its_line(
    rows: list[tuple[int, int, int, int, int, int]], line: int, wrong: str
) -> None:
    with pytest.raises(LobsterError, match=wrong) as refusal:
        build_flow(messages_of(*rows), SECOND)
    assert refusal.value.line == line
    assert str(refusal.value).startswith(f"made-up.csv, line {line}: ")


def test_the_earliest_of_several_defects_of_a_kind_is_named() -> None:
    late = [(1, 1, 1, 5, 10_000, 1), (2, 1, 2, 5, 10_000, 1)]
    defects = [(3, 4, 2, 6, 10_000, 1), (4, 4, 1, 6, 10_000, 1)]
    with pytest.raises(LobsterError, match="line 3"):
        build_flow(messages_of(*late, *defects), SECOND)


def test_an_order_may_be_used_up_exactly() -> None:
    used_up = [SUBMITTED, (1, 4, 5, 10, 10_000, 1), (2, 2, 5, 5, 10_000, 1)]
    flow = build_flow(messages_of(*used_up, (3, 3, 5, 15, 10_000, 1)), SECOND)
    assert flow.row_kind.tolist() == [PLACE, TAKE, REDUCE, REDUCE]


@pytest.mark.parametrize("seed", range(20))
def test_random_files_map_as_the_slow_twin_says(seed: int) -> None:
    messages = made_up_messages(seed)
    names = ("time_ns", "kind", "order_id", "size_shares", "price_e4", "direction")
    columns = [getattr(messages, name).tolist() for name in names]
    rows = [twin.Row(*row) for row in zip(*columns, strict=True)]
    for interval_ns in (1, 30_000_000, SECOND, 10**12):
        flow = build_flow(messages, interval_ns)
        expected = twin.to_events(rows, interval_ns)
        assert events_of(flow) == expected.events
        totals = flow.totals
        assert totals.visible_volume == expected.visible_volume
        assert totals.unknown_ids == expected.unknown_ids
        assert totals.unknown_executions == expected.unknown_executions
        left_out = totals.hidden + totals.crosses + totals.halts + totals.unknown_ids
        assert totals.messages == totals.used + left_out == len(messages)
        assert np.repeat(flow.batch_number, np.diff(flow.row_start)).tolist() == flow.batch.tolist()
        assert np.all(np.diff(flow.batch_number) > 0)
        same_time = np.diff(flow.time_ns) == 0
        assert np.all(np.diff(flow.batch)[same_time] == 0)


def mixed(state: int) -> int:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ state >> shift) * factor % 2**64
    return state ^ state >> 31


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_accounts_follow_the_documented_mix_of_seed_and_place_in_the_file(seed: int) -> None:
    flow = build_flow(made_up_messages(3), SECOND)
    ordinals, takers = [], 0
    for kind, reference in zip(flow.row_kind.tolist(), flow.reference.tolist(), strict=True):
        ordinals.append(flow.totals.orders + takers if kind == TAKE else reference)
        takers += kind == TAKE
    gamma = 0x9E3779B97F4A7C15
    expected = [mixed((mixed(seed) + (k + 1) * gamma) % 2**64) // 2 % 10 for k in ordinals]
    assert assign_accounts(flow, 10, seed).tolist() == expected


def test_a_reduction_belongs_to_its_orders_account_whatever_the_interval() -> None:
    messages = made_up_messages(4)
    flow = build_flow(messages, SECOND)
    accounts = assign_accounts(flow, 5, seed=1)
    placed = flow.row_kind == PLACE
    owner = dict(zip(flow.reference[placed].tolist(), accounts[placed].tolist(), strict=True))
    reduced = flow.row_kind == REDUCE
    owners = [owner[order] for order in flow.reference[reduced].tolist()]
    assert accounts[reduced].tolist() == owners
    assert assign_accounts(build_flow(messages, 17), 5, seed=1).tolist() == accounts.tolist()
    assert assign_accounts(flow, 5, seed=2).tolist() != accounts.tolist()


def test_accounts_get_even_shares_and_bad_arguments_are_refused() -> None:
    flow = build_flow(messages_of(*((i, 1, i, 1, 100, 1) for i in range(20_000))), SECOND)
    counts = Counter(assign_accounts(flow, 20, seed=9).tolist())
    assert sorted(counts) == list(range(20))
    assert all(880 < count < 1_120 for count in counts.values())
    for accounts, seed in ((0, 1), (5, -1), (5, 2**63)):
        with pytest.raises(ValueError, match="must be at least"):
            assign_accounts(flow, accounts, seed)


@cache
def real_rows(name: str) -> tuple[Path, list[twin.Row]]:
    path = twin.data_file(f"lobster/{name}")
    if path is None:
        pytest.skip(f"real data absent: lobster/{name} under $UNCROSS_DATA or ../shared/data")
    return path, twin.read_rows(path)


@pytest.mark.parametrize("interval_ns", [SECOND // 10, SECOND, 5 * SECOND])
@pytest.mark.parametrize("name", [AAPL, AMZN])
def test_real_files_map_as_the_slow_twin_says(name: str, interval_ns: int) -> None:
    path, rows = real_rows(name)
    flow = build_flow(read_messages(path), interval_ns)
    assert events_of(flow) == twin.to_events(rows, interval_ns).events


def test_an_hour_of_apple_has_the_published_counts() -> None:
    path, _ = real_rows(AAPL)
    flow = build_flow(read_messages(path), SECOND)
    totals = flow.totals
    assert totals.messages == 91_997
    assert (totals.orders, totals.takers, totals.hidden) == (44_256, 3_290, 2_201)
    assert (totals.unknown_ids, totals.unknown_executions) == (72, 12)
    assert (totals.visible_volume, totals.hidden_volume) == (350_494, 183_135)
    assert (flow.first_batch, flow.last_batch, len(flow.batch_number)) == (0, 3_599, 3_481)


@pytest.mark.parametrize(
    ("bids", "asks", "reference", "expected"),
    [
        ({99: 10}, {100: 10}, 100, None),
        ({102: 10}, {98: 10}, 105, (102, 10, 0)),
        ({102: 10}, {98: 10}, 100, (100, 10, 0)),
        ({102: 15}, {98: 10}, 90, (102, 10, 5)),
        ({102: 10}, {98: 15}, 110, (98, 10, -5)),
        ({102: 5, 100: 10}, {98: 10, 101: 10}, 0, (100, 10, 5)),
        ({102: 10, 99: 5}, {98: 10, 100: 5}, 0, (99, 10, 5)),
        ({102: 10, 99: 5}, {98: 10, 100: 5}, 110, (100, 10, -5)),
    ],
)
def test_the_twin_prints_by_volume_then_imbalance_then_pressure_then_reference(
    bids: dict[int, int], asks: dict[int, int], reference: int, expected: tuple[int, int, int]
) -> None:
    assert twin.find_print(bids, asks, reference) == expected


def test_the_twin_splits_pro_rata_by_largest_remainder_then_ticket() -> None:
    assert twin.pro_rata([50, 30, 20], 7, [0, 1, 2]) == [4, 2, 1]
    assert twin.pro_rata([10, 10, 10], 10, [2, 0, 1]) == [3, 4, 3]
    assert twin.pro_rata([10, 5], 20, [0, 1]) == [10, 5]


def test_the_twin_reduces_first_ages_by_batch_and_drops_what_takers_leave() -> None:
    flow = build_flow(
        messages_of(
            (0, 1, 1, 30, 10_000, -1),  # batch 0: one of three sellers leaves, one has 10 left
            (1, 1, 2, 14, 10_000, -1),
            (2, 1, 3, 99, 10_000, -1),
            (3, 3, 3, 99, 10_000, -1),
            (3, 2, 2, 4, 10_000, -1),
            (10, 1, 4, 10, 10_000, -1),  # batch 1: a younger seller, and takers of 20 and 40
            (11, 4, 8, 20, 10_000, -1),
            (20, 2, 1, 25, 10_000, -1),  # batch 2: only 15 of the first seller are left
            (21, 4, 8, 40, 10_000, -1),
            (30, 3, 4, 10, 10_000, -1),  # batch 3: both are gone, and so is the last taker
            (31, 2, 1, 5, 10_000, -1),
            (32, 1, 5, 50, 10_000, -1),
        ),
        10,
    )
    result = twin.replay(events_of(flow))
    assert [(fill.batch, fill.event, fill.quantity_lots) for fill in result.fills] == [
        *[(1, 6, 20), (1, 0, 15), (1, 1, 5)],
        *[(2, 8, 15), (2, 1, 5), (2, 5, 10)],
    ]
    assert (result.auction_volume, result.late_cancels, result.batches) == (35, 2, 4)


def test_the_twin_fills_both_sides_alike_and_nobody_beyond_the_limit() -> None:
    _, rows = real_rows("AAPL_2012-06-21_message_10_first1000.csv")
    events = twin.to_events(rows, SECOND).events
    result = twin.replay(events)
    for side in (1, -1):
        filled = Counter({auction.batch: 0 for auction in result.prints})
        for fill in result.fills:
            assert (events[fill.event].price_ticks - fill.price_ticks) * fill.side >= 0
            filled[fill.batch] += fill.quantity_lots * (fill.side == side)
        assert filled == {auction.batch: auction.volume_lots for auction in result.prints}
    assert (result.auction_volume, len(result.prints), result.late_cancels) == (3_559, 21, 1)


@pytest.mark.parametrize(
    ("interval_ns", "share", "late_by_arrival", "late_pro_rata"),
    [(SECOND // 10, 0.94, 167, 152), (SECOND, 0.90, 191, 176), (5 * SECOND, 0.85, 206, 197)],
)
def test_an_hour_of_apple_replays_to_the_published_share_of_volume(
    interval_ns: int, share: float, late_by_arrival: int, late_pro_rata: int
) -> None:
    path, _ = real_rows(AAPL)
    flow = build_flow(read_messages(path), interval_ns)
    events = events_of(flow)
    # The published late cancels were counted under price-time priority; without time inside a
    # batch a few more resting orders keep something to cancel.
    by_arrival = twin.replay(events, age_of=twin.arrival_age)
    assert by_arrival.late_cancels == late_by_arrival
    assert abs(by_arrival.auction_volume / flow.totals.visible_volume - share) < 0.005
    pro_rata = twin.replay(events)
    assert pro_rata.late_cancels == late_pro_rata
    assert abs(pro_rata.auction_volume / flow.totals.visible_volume - share) < 0.03

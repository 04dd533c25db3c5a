"""Laws of liquidation and waterfall over random cases, against the twins where there is one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction

import pytest

from margin.default.liquidation import (
    ContractForm,
    LiquidationTerms,
    Position,
    RequirementOf,
    closing_loss_minor,
    liquidation_order,
    maintenance_released,
    plan_slice,
    price_at_loss,
    rank_slices,
    share_pro_rata,
)
from margin.default.waterfall import (
    Candidate,
    OpenCase,
    deleverage,
    haircut_gains,
    net_opposing,
    pay_layers,
    takeover_plan,
)
from margin.fixed_point import RATE_SCALE
from tests.reference import reference_waterfall as twin

SEEDS = range(60)
E8 = 100_000_000
FORMS = list(ContractForm)


def random_position(rng: random.Random, instrument: int) -> Position:
    lots = rng.choice([-1, 1]) * rng.randint(1, 40)
    form = rng.choice(FORMS)
    mark_e8 = rng.randint(0 if form is ContractForm.OPTION else 1, 300)
    slope_den = rng.randint(1, 9)
    slope_num = rng.randint(1, 30)
    notional = abs(lots) * slope_num * mark_e8 // slope_den + rng.randint(0, 50)
    tick = rng.randint(1, 7)
    return Position(instrument, lots, form, mark_e8, tick, slope_num, slope_den, notional)


def random_requirement(rng: random.Random, count: int) -> RequirementOf:
    """A netted part, a gross part and a part that stays without positions."""
    deltas = [rng.randint(-20, 20) for _ in range(count)]
    gross = [rng.randint(0, 9) for _ in range(count)]
    stays = rng.choice([0, 0, rng.randint(0, 300)])

    def requirement(lots: Sequence[int]) -> int:
        net = sum(d * q for d, q in zip(deltas, lots, strict=True))
        return stays + abs(net) + sum(g * abs(q) for g, q in zip(gross, lots, strict=True))

    return requirement


def random_pool(seed: int) -> tuple[random.Random, list[Position], RequirementOf]:
    rng = random.Random(seed)
    count = rng.randint(1, 6)
    slots = rng.sample(range(50), count)
    positions = [random_position(rng, slot) for slot in slots]
    return rng, positions, random_requirement(rng, count)


def all_lots(positions: Sequence[Position]) -> tuple[int, ...]:
    return tuple(position.quantity_lots for position in positions)


@pytest.mark.parametrize("seed", SEEDS)
def test_released_margins_are_not_negative_and_sum_to_maintenance(seed: int) -> None:
    _, positions, maintenance = random_pool(seed)
    order = liquidation_order(positions, maintenance)
    released = maintenance_released(positions, order, maintenance)
    assert min(released) >= 0
    assert sum(released) == maintenance(all_lots(positions))
    assert released == twin.released_in_sequence(order, all_lots(positions), maintenance)


@pytest.mark.parametrize("seed", SEEDS)
def test_listing_positions_in_another_order_changes_no_plan(seed: int) -> None:
    rng, positions, maintenance = random_pool(seed)
    equity = rng.randint(-500, 900)
    shuffled = list(range(len(positions)))
    rng.shuffle(shuffled)

    def shuffled_maintenance(lots: Sequence[int]) -> int:
        original = [0] * len(lots)
        for place, index in enumerate(shuffled):
            original[index] = lots[place]
        return maintenance(original)

    terms = LiquidationTerms(first_step_notional_minor=1000)
    plan = plan_slice(positions, equity, maintenance, terms, first_step=True)
    moved = [positions[index] for index in shuffled]
    assert plan == plan_slice(moved, equity, shuffled_maintenance, terms, first_step=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_sum_to_equity_and_fillable_lies_between_mark_and_bankruptcy(seed: int) -> None:
    rng, positions, maintenance = random_pool(seed)
    equity = rng.randint(-800, 1500)
    ranked = rank_slices(positions, equity, maintenance, LiquidationTerms())
    assert sum(part.equity_share_minor for part in ranked) == equity
    for part in ranked:
        prices = part.prices
        sign = -1 if part.position.quantity_lots > 0 else 1
        if part.equity_share_minor >= 0:
            assert prices.mark_ticks * sign <= prices.fillable_ticks * sign
            assert prices.fillable_ticks * sign <= prices.bankruptcy_ticks * sign
            assert prices.uncovered_minor == 0 or prices.bankruptcy_ticks <= 1
        else:
            assert prices.fillable_ticks == prices.mark_ticks
            assert prices.bankruptcy_ticks * sign <= prices.mark_ticks * sign
        loss = closing_loss_minor(part.position, part.lots, prices.bankruptcy_ticks)
        assert loss <= part.equity_share_minor + prices.uncovered_minor


@pytest.mark.parametrize("seed", SEEDS)
def test_prices_are_those_of_a_walk_over_every_tick(seed: int) -> None:
    rng = random.Random(seed)
    position = random_position(rng, 0)
    loss = rng.randint(-3000, 3000)
    is_option = position.form is ContractForm.OPTION
    is_inverse = position.form is ContractForm.INVERSE
    highest_ticks = 100 * position.mark_e8 // position.tick_e8 + (0 if is_inverse else 5000)
    if is_inverse and position.quantity_lots > 0:
        # The bound of 100 marks is rounded as every price is: up for a long.
        highest_ticks = -(-100 * position.mark_e8 // position.tick_e8)
    assert price_at_loss(position, loss) == twin.worst_price(
        position.quantity_lots,
        position.mark_e8,
        position.tick_e8,
        Fraction(position.slope_num, position.slope_den),
        loss,
        inverse=is_inverse,
        lowest_ticks=0 if is_option else 1,
        highest_ticks=highest_ticks,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_reaches_the_buffer_or_closes_everything(seed: int) -> None:
    rng, positions, maintenance = random_pool(seed)
    equity = rng.randint(-200, 900)
    terms = LiquidationTerms()
    plan = plan_slice(positions, equity, maintenance, terms, first_step=False)
    remaining = list(all_lots(positions))
    slot = {position.instrument: index for index, position in enumerate(positions)}
    after = equity
    for trade in plan:
        index = slot[trade.instrument]
        assert trade.quantity_lots * remaining[index] < 0
        assert abs(trade.quantity_lots) <= abs(remaining[index])
        remaining[index] += trade.quantity_lots
        lots = abs(trade.quantity_lots)
        loss = closing_loss_minor(positions[index], lots, trade.prices.fillable_ticks)
        assert trade.fee_minor >= 0
        after -= max(0, loss) + trade.fee_minor
    reached = RATE_SCALE * after >= (RATE_SCALE + terms.buffer_ppb) * maintenance(tuple(remaining))
    assert reached or not any(remaining)
    if plan:
        # Nobody is sold out who already satisfied.
        assert RATE_SCALE * equity < (RATE_SCALE + terms.buffer_ppb) * maintenance(
            all_lots(positions)
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_against_a_falling_requirement_is_the_smallest(seed: int) -> None:
    rng = random.Random(seed)
    lots = rng.randint(2, 80)
    position = Position(0, lots, ContractForm.LINEAR, 1000, 1, 1, 1, 0)
    rate = rng.randint(1, 30)
    equity = rng.randint(1, rate * lots * 2)
    terms = LiquidationTerms(spread_to_maintenance_ppb=0)

    def maintenance(left: Sequence[int]) -> int:
        return rate * abs(left[0])

    plan = plan_slice([position], equity, maintenance, terms, first_step=False)
    sold = -plan[0].quantity_lots if plan else 0
    smallest = next(x for x in range(lots + 1) if 100 * equity >= 115 * rate * (lots - x))
    assert sold == smallest


@pytest.mark.parametrize("seed", SEEDS)
def test_a_first_step_trades_at_most_a_fifth_of_a_slice_rounded_up(seed: int) -> None:
    rng, positions, maintenance = random_pool(seed)
    terms = LiquidationTerms(first_step_notional_minor=-1)
    lots_of = {position.instrument: abs(position.quantity_lots) for position in positions}
    for trade in plan_slice(positions, rng.randint(-9, 99), maintenance, terms, first_step=True):
        assert 1 <= abs(trade.quantity_lots) <= -(-lots_of[trade.instrument] // 5)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_takeover_is_exact_and_within_the_funds_spendable(seed: int) -> None:
    rng, positions, maintenance = random_pool(seed)
    equity = rng.randint(-1500, 1500)
    fund_equity = rng.randint(0, 2500)
    inventory = random_requirement(rng, len(positions))

    def spendable(lots: Sequence[int], cash: int) -> int:
        return fund_equity + cash - inventory(lots)

    plan = takeover_plan(positions, equity, maintenance, spendable, LiquidationTerms())
    left_shares = sum(left.equity_share_minor for left in plan.left)
    if equity >= 0:
        assert plan.fee_minor + plan.residual_minor + left_shares == equity
        assert plan.fund_payment_minor == 0
        assert plan.residual_minor >= 0
    else:
        assert plan.fund_payment_minor - left_shares == -equity
        assert plan.fee_minor == plan.residual_minor == 0
    assert plan.unpaid_minor == 0
    moved: dict[int, int] = {}
    for part in (*plan.taken, *plan.left):
        moved[part.instrument] = moved.get(part.instrument, 0) + part.quantity_lots
    assert moved == {position.instrument: position.quantity_lots for position in positions}
    taken = {part.instrument: part.quantity_lots for part in plan.taken}
    held = tuple(taken.get(position.instrument, 0) for position in positions)
    assert not plan.taken or spendable(held, plan.fee_minor - plan.fund_payment_minor) >= 0
    assert plan.fee_minor == sum(part.fee_minor for part in plan.taken)
    assert plan.fund_payment_minor == sum(part.deficit_minor for part in plan.taken)


def random_candidates(rng: random.Random) -> list[Candidate]:
    pools = rng.sample(range(100), rng.randint(0, 12))
    return [
        Candidate(
            pool,
            rng.randint(-20, 20),
            rng.choice([-3, 0, 2, 4]),
            rng.choice([-5, 0, 10, 20]),
            rng.choice([0, 4, 8]),
        )
        for pool in pools
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_deleveraging_is_the_twins_and_forgets_the_order_of_candidates(seed: int) -> None:
    rng = random.Random(seed)
    candidates = random_candidates(rng)
    lots = rng.randint(-80, 80)
    allocations = deleverage(lots, candidates)
    plain = [
        (c.pool, c.position_lots, c.unrealised_minor, c.equity_minor, c.maintenance_minor)
        for c in candidates
    ]
    changes = {one.pool: one.quantity_lots for one in allocations}
    assert changes == twin.deleverage(lots, plain)
    rng.shuffle(candidates)
    assert allocations == deleverage(lots, candidates)
    held = {c.pool: c.position_lots for c in candidates}
    for pool, change in changes.items():
        # Toward 0 and not past it.
        assert change * held[pool] < 0
        assert abs(change) <= abs(held[pool])
    available = sum(abs(q) for q in held.values() if q * lots < 0)
    assert sum(map(abs, changes.values())) == min(abs(lots), available)


@pytest.mark.parametrize("seed", SEEDS)
def test_netting_sums_to_zero_and_leaves_one_side_at_most(seed: int) -> None:
    rng = random.Random(seed)
    keys = {(rng.randint(1, 9), rng.randint(1, 3)) for _ in range(rng.randint(0, 15))}
    cases = [OpenCase(pool, slot, rng.randint(-30, 30)) for pool, slot in sorted(keys)]
    nettings = net_opposing(cases)
    assert {(n.instrument, n.pool): n.quantity_lots for n in nettings} == twin.net_opposing(
        [(case.pool, case.instrument, case.position_lots) for case in cases]
    )
    after = {(case.instrument, case.pool): case.position_lots for case in cases}
    for netting in nettings:
        after[(netting.instrument, netting.pool)] += netting.quantity_lots
    for slot in (1, 2, 3):
        assert sum(n.quantity_lots for n in nettings if n.instrument == slot) == 0
        signs = {q > 0 for (instrument, _), q in after.items() if instrument == slot and q}
        assert len(signs) <= 1
    rng.shuffle(cases)
    assert nettings == net_opposing(cases)


@pytest.mark.parametrize("seed", SEEDS)
def test_shares_are_the_twins_and_sum_to_the_unit(seed: int) -> None:
    rng = random.Random(seed)
    weights = [rng.choice([0, 1, 5, rng.randint(0, 10**12)]) for _ in range(rng.randint(1, 9))]
    amount = rng.randint(0, sum(weights))
    shares = share_pro_rata(amount, weights)
    assert shares == twin.split(amount, weights)
    assert sum(shares) == amount
    assert all(0 <= share <= weight for share, weight in zip(shares, weights, strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_haircut_pays_the_deficit_or_takes_all_and_permutes_with_the_gains(seed: int) -> None:
    rng = random.Random(seed)
    gains = [rng.randint(0, 30) for _ in range(rng.randint(0, 9))]
    deficit = rng.randint(0, 200)
    cuts = haircut_gains(deficit, gains)
    assert sum(cuts) == min(deficit, sum(gains))
    assert all(0 <= cut <= gain for cut, gain in zip(cuts, gains, strict=True))
    shuffled = rng.sample(gains, len(gains))
    assert sorted(zip(gains, cuts, strict=True)) == sorted(
        zip(shuffled, haircut_gains(deficit, shuffled), strict=True)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_no_layer_pays_before_the_one_above_is_exhausted(seed: int) -> None:
    rng = random.Random(seed)
    layers = [(f"layer {n}", rng.randint(-5, 40)) for n in range(rng.randint(0, 6))]
    deficit = rng.randint(0, 150)
    paid = [amount for _, amount in pay_layers(deficit, layers)]
    available = [max(0, amount) for _, amount in layers]
    assert paid == twin.pay_layers(deficit, available)
    assert sum(paid) == min(deficit, sum(available))
    for upper in range(len(paid)):
        if any(paid[upper + 1 :]):
            assert paid[upper] == available[upper]

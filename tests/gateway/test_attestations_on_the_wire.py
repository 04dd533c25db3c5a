"""Attestations on the wire: signatures, refusals with their numbers, what an account is shown."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from clients.outside_venue import OutsideVenue as Signer
from clients.outside_venue import outside_venue, simulated
from exchange.core.commands import Attest, Command
from exchange.core.events import Event
from exchange.core.outside_venue import OutsideVenue
from exchange.core.reject_reason import RejectReason
from exchange.gateway.memory import MemoryConnection
from tests.gateway.small_market import PERPETUAL, SmallMarket, only

R = RejectReason
SECOND = 10**9


def harbour(**terms: Any) -> OutsideVenue:
    given = {"haircut_ppb": 10**8, "transfer_delay_ns": 0, "fresh_ns": 5 * SECOND,
             "age_limit_ns": 25 * SECOND}  # fmt: skip
    return OutsideVenue(name="harbour", public_key=simulated("harbour").public_key,
                        **{**given, **terms})  # fmt: skip


class Wire:
    """A market of one batch a second that knows `harbour`, and a stranger who carries its words."""

    def __init__(self, deposit: int = 10_000, **terms: Any) -> None:
        self.market = SmallMarket(deposit=deposit, outside_venues=(harbour(**terms),))
        self.signer = simulated("harbour")
        self.stranger: MemoryConnection = self.market.hub.connect()
        self.commands: list[Command] = []
        self.market.sequencer.listeners.append(self.take)

    def take(self, command: Command, events: list[Event]) -> None:
        self.commands.append(command)

    def word(self, usdc: object = 20_000, *, signer: Signer | None = None, account: str = "ann",
             venue: str = "tiny", ahead_ms: int = 0,
             positions: dict[str, Any] | None = None) -> dict[str, Any]:  # fmt: skip
        now = self.market.sequencer.now_ns() // 10**6 + ahead_ms
        balances = {"USDC": str(usdc)}
        return (signer or self.signer).attest(venue, account, now, balances, positions)

    async def submit(self, **params: Any) -> Any:
        return await self.market.ask(self.stranger, "public/submit_attestation", **params)

    async def refused(self, **params: Any) -> tuple[int, int | None]:
        """Code and numbered reason of a refusal, after which nothing is in the journal."""
        before = len(self.commands)
        error = await self.market.refusal(self.stranger, "public/submit_attestation", **params)
        assert len(self.commands) == before, "refused before it is journaled"
        return error["code"], error["data"].get("reject_reason")

    async def mine(self) -> Any:
        return await self.market.ask(self.market.ann, "private/get_attestations")


async def test_a_signed_word_counts_whoever_carries_it() -> None:
    wire = Wire()
    found = await wire.submit(**wire.word())
    assert found == {"outside_venue": "harbour", "account": "ann", "sequence": 1, "credit": 18_000}
    command = wire.commands[-1]
    assert isinstance(command, Attest)
    assert len(command.signature) == 64
    assert len(command.digest) == 32


async def test_a_forged_word_is_refused_at_the_gate() -> None:
    wire = Wire()
    good = wire.word()
    forged = (13004, R.ATTESTATION_FORGED)
    other = outside_venue("harbour", b"x" * 32)
    assert await wire.refused(**wire.word(signer=other)) == forged, "another's key"
    richer = {**good, "attestation": good["attestation"].replace("20000", "90000")}
    assert await wire.refused(**richer) == forged, "another amount"
    spaced = {**good, "attestation": good["attestation"] + " "}
    assert await wire.refused(**spaced) == forged, "one character more"
    flipped = f"{int(good['signature'][:2], 16) ^ 1:02x}{good['signature'][2:]}"
    assert await wire.refused(**{**good, "signature": flipped}) == forged
    assert await wire.refused(**{**good, "signature": "0" * 128}) == forged
    await wire.submit(**good)


async def test_a_replayed_word_is_refused() -> None:
    wire = Wire()
    first, second = wire.word(), wire.word(30_000)
    await wire.submit(**second)
    late = (11050, R.ATTESTATION_OUT_OF_ORDER)
    assert await wire.refused(**second) == late
    assert await wire.refused(**first) == late, "overtaken"
    assert (await wire.mine())["credit"] == 27_000


async def test_a_word_for_another_venue_or_of_an_unknown_one_is_refused() -> None:
    wire = Wire()
    assert await wire.refused(**wire.word(venue="demo")) == (11029, R.ATTESTATION_INVALID)
    unknown = wire.word(signer=simulated("quay"))
    assert await wire.refused(**unknown) == (13020, R.OUTSIDE_VENUE_UNKNOWN)
    assert await wire.refused(**wire.word(account="eve")) == (13007, R.ACCOUNT_UNKNOWN)
    ahead = (11050, R.ATTESTATION_IN_FUTURE)
    assert await wire.refused(**wire.word(ahead_ms=1)) == ahead


async def test_amounts_must_be_what_the_venue_counts_in() -> None:
    wire = Wire()
    assert (await wire.refused(**wire.word("0.0000001")))[0] == 11029
    off = wire.word(positions={PERPETUAL: "0.0005"})
    assert await wire.refused(**off) == (11029, R.ATTESTATION_INVALID)
    gone = wire.word(positions={"BTC-1JAN20": "1"})
    assert await wire.refused(**gone) == (13020, R.INSTRUMENT_UNKNOWN)


@pytest.mark.parametrize(
    ("amount", "of_balance", "of_position"),
    [
        ("NaN", (-32602, None), (11029, R.ATTESTATION_INVALID)),
        ("-Infinity", (-32602, None), (11029, R.ATTESTATION_INVALID)),
        ("1e400", (11029, R.AMOUNT_TOO_LARGE), (10018, R.POSITION_LIMIT)),
    ],
)
async def test_what_nobody_can_hold_is_refused(
    amount: str, of_balance: tuple[int, int | None], of_position: tuple[int, int | None]
) -> None:
    wire = Wire(net_positions=True)
    assert await wire.refused(**wire.word(amount)) == of_balance
    assert await wire.refused(**wire.word(positions={PERPETUAL: amount})) == of_position


async def test_a_currency_that_comes_twice_is_refused() -> None:
    """Names of currencies are read in any case, so that two texts can mean one."""
    wire = Wire()
    now = wire.market.sequencer.now_ns() // 10**6
    twice = wire.signer.attest("tiny", "ann", now, {"USDC": "1", "usdc": "9000"})
    assert await wire.refused(**twice) == (11029, R.ATTESTATION_INVALID)


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "uncross attestation 2"}, {"sequence": "1"}, {"surely_unknown": 1},
        {"balances": {"USDC": "much"}}, {"balances": [1]}, {"account": 7}, {"timestamp": None},
    ],
)  # fmt: skip
async def test_a_text_that_is_no_attestation_is_refused(change: dict[str, Any]) -> None:
    wire = Wire()
    document = {**json.loads(wire.word()["attestation"]), **change}
    text = json.dumps(document)
    params = {"attestation": text, "signature": wire.signer.sign(text)}
    assert (await wire.refused(**params))[0] == -32602


async def test_hostile_texts_are_refused() -> None:
    wire = Wire()
    good = wire.word()
    twice = good["attestation"].replace('"sequence": 1', '"sequence": 1, "sequence": 9')
    surrogate = good["attestation"].replace("harbour", "\\ud800")
    for text in ("", "{", "[" * 10_000, "null", twice, '{"a": NaN}', surrogate, '"\\u0000"'):
        params = {"attestation": text, "signature": good["signature"]}
        assert (await wire.refused(**params))[0] == -32602
    for signature in ("zz" * 64, " " * 128):
        refused = await wire.refused(**{**good, "signature": signature})
        assert refused[0] in (-32602, 13004)
    huge = json.dumps({**json.loads(good["attestation"]), "sequence": 10**30})
    signed = {"attestation": huge, "signature": wire.signer.sign(huge)}
    assert (await wire.refused(**signed))[0] in (-32602, 11029)


async def test_text_that_is_no_unicode_is_refused() -> None:
    wire = Wire()
    frame = (
        b'{"jsonrpc":"2.0","id":1,"method":"public/submit_attestation","params":'
        b'{"attestation":"\\ud800{}","signature":"' + b"0" * 128 + b'"}}'
    )
    answer = await wire.stranger.request_frame(frame)
    assert answer["error"]["code"] in (-32700, -32602)  # type: ignore[index]


async def test_an_account_reads_its_attestations_and_what_they_count_for() -> None:
    wire = Wire(net_positions=True)
    assert (await wire.mine())["attestations"] == []
    await wire.submit(**wire.word(positions={PERPETUAL: "-0.1"}))
    for _ in range(15):
        wire.market.close_batch()
    found = await wire.mine()
    assert (found["credit"], found["full_credit"]) == (9_000, 18_000)
    assert found["initial_margin"] == 1_800, "an outside short of a tenth, which hedges nothing"
    (row,) = found["attestations"]
    assert row["outside_venue"] == "harbour"
    assert (row["sequence"], row["age"], row["stage"], row["decay"]) == (1, 15_000, "decaying", 0.5)
    assert row["balances"] == {"USDC": 20_000}
    assert row["positions"] == {PERPETUAL: -0.1}
    assert (row["credit"], row["full_credit"], row["haircut"]) == (9_000, 18_000, 0.1)
    bob = await wire.market.ask(wire.market.bob, "private/get_attestations")
    assert bob["attestations"] == []


@pytest.mark.parametrize("late_ns", [-1_000_000, 0])
async def test_what_takes_as_long_as_a_close_out_is_too_slow_to_count(late_ns: int) -> None:
    period_ns = Wire().market.venue.horizon_ns()
    wire = Wire(transfer_delay_ns=period_ns + late_ns)
    await wire.submit(**wire.word())
    found = await wire.mine()
    (row,) = found["attestations"]
    assert found["margin_period"] == period_ns // 10**6
    assert row["transfer_delay"] == (period_ns + late_ns) // 10**6
    slow = late_ns == 0
    assert row["too_slow"] is slow
    counts = 0 if slow else 18_000
    assert (row["stage"], row["decay"]) == ("fresh", 0 if slow else 1)
    assert found["credit"] == row["credit"] == row["full_credit"] == counts


async def test_credit_shows_where_it_counts_and_not_where_it_does_not() -> None:
    wire = Wire()
    market = wire.market
    await wire.submit(**wire.word())
    summary = await market.ask(market.ann, "private/get_account_summary", currency="USDC")
    assert summary["attested_credit"] == 18_000
    assert summary["available_funds"] == 28_000
    assert summary["margin_balance"] == summary["available_withdrawal_funds"] == 10_000
    assert summary["pools"][0]["attested_credit"] == 18_000
    await market.buy(market.ann, "1", 100_000)
    await market.ask(market.bob, "private/deposit", currency="USDC", amount=100_000)
    await market.sell(market.bob, "1", 100_000)
    market.close_batch()
    summary = await market.ask(market.ann, "private/get_account_summary", currency="USDC")
    assert summary["available_funds"] == pytest.approx(28_000 - 30 - 18_000)
    assert summary["available_withdrawal_funds"] == 0
    error = await market.refusal(market.ann, "private/withdraw", currency="USDC", amount=1)
    assert error["data"]["reject_reason"] == R.INSUFFICIENT_FUNDS


async def test_an_explanation_shows_credit_and_what_is_elsewhere() -> None:
    wire = Wire(net_positions=True)
    market = wire.market
    await wire.submit(**wire.word(positions={PERPETUAL: "-0.4"}))
    await market.buy(market.ann, "1", 100_000)
    await market.ask(market.bob, "private/deposit", currency="USDC", amount=100_000)
    await market.sell(market.bob, "1", 100_000)
    market.close_batch()
    found = await market.ask(market.ann, "private/explain_margin")
    rows = {row["currency"]: row["counted_minor"] for row in found["collateral"]}
    assert rows["attested credit"] == 18_000 * 10**6
    assert found["equity_minor"] == sum(rows.values())
    charge = next(c for c in found["charges"] if c["name"] == "positions and coin elsewhere")
    assert charge["maintenance_minor"] + charge["initial_minor"] == -7_200 * 10**6
    risk = market.engine.risk
    pool = market.state.accounts.pool_of[0]
    assert found["initial_minor"] == risk.initial[pool] == 10_800 * 10**6
    assert found["maintenance_minor"] == risk.maintenance[pool]
    assert found["call_distance_minor"] == risk.backing.of(pool) - risk.initial[pool]
    assert found["units"][0]["distance"]["call_down_e9"] < -150_000_000
    simulated = await market.ask(
        market.ann, "private/simulate_portfolio", currency="USDC",
        simulated_positions={PERPETUAL: 0.4}, add_positions=False,
    )  # fmt: skip
    assert simulated["initial_margin"] == 0, "hedged elsewhere"


FIGURES = (
    "margin_balance", "available_funds", "attested_credit", "initial_margin", "maintenance_margin",
    "total_margin_balance_usd", "total_initial_margin_usd",
)  # fmt: skip


@pytest.mark.parametrize("sizes", [{}, {PERPETUAL: 0}])
@pytest.mark.parametrize("bought", [0, 0.4])
async def test_a_simulation_s_balance_is_the_summary_s_which_has_no_credit(
    sizes: dict[str, int], bought: float
) -> None:
    wire = Wire(deposit=50_000, net_positions=True)
    market = wire.market
    await wire.submit(**wire.word(positions={PERPETUAL: "-0.1"}))
    if bought:
        await market.buy(market.ann, bought, 100_000)
        await market.sell(market.bob, bought, 100_000)
        market.close_batch()
        await market.buy(market.ann, "0.1", 99_000)
    asked = {"currency": "USDC"}
    summary = await market.ask(market.ann, "private/get_account_summary", **asked)
    found = await market.ask(
        market.ann, "private/simulate_portfolio", **asked, simulated_positions=sizes
    )
    assert {name: found[name] for name in FIGURES} == {name: summary[name] for name in FIGURES}
    assert found["attested_credit"] == 18_000
    assert found["margin_balance"] == pytest.approx(50_000, abs=20), "all but a fee"


async def test_a_pool_that_owes_simulates_no_credit_in_its_funds() -> None:
    wire = Wire(deposit=19_000)
    market = wire.market
    await wire.submit(**wire.word(20_000))
    await market.ask(market.bob, "private/deposit", currency="USDC", amount=100_000)
    await market.buy(market.ann, 1, 100_000)
    await market.sell(market.bob, 1, 100_000)
    market.close_batch()
    market.close_batch(80_500)
    asked = {"currency": "USDC"}
    summary = await market.ask(market.ann, "private/get_account_summary", **asked)
    assert summary["margin_balance"] < 0 < summary["attested_credit"]
    found = await market.ask(market.ann, "private/simulate_portfolio", **asked)
    assert {name: found[name] for name in FIGURES} == {name: summary[name] for name in FIGURES}


@pytest.mark.parametrize("model", ["derive-pmrm2", "standard", "ps-1-dynamic"])
async def test_another_model_is_asked_without_what_is_elsewhere_and_says_so(model: str) -> None:
    wire = Wire(deposit=50_000, net_positions=True)
    market = wire.market
    asked = {"currency": "USDC", "simulated_positions": {PERPETUAL: 0.1}, "model": model}
    before = await market.ask(market.ann, "private/simulate_portfolio", **asked)
    await wire.submit(**wire.word(positions={PERPETUAL: "-0.1"}))
    found = await market.ask(market.ann, "private/simulate_portfolio", **asked)
    assert found == before
    assert (found["margin_balance"], found["attested_credit"]) == (50_000, 0)


async def test_decay_is_told_on_the_margin_channel() -> None:
    wire = Wire()
    market = wire.market
    await market.listen(market.ann, "user.margin_calls")
    await wire.submit(**wire.word())
    for _ in range(27):
        market.close_batch()
    told = only(market.ann, "user.margin_calls")
    assert [row["outcome"] for row in told] == ["credit_decaying", "credit_expired"]
    assert told[0]["outside_venue"] == "harbour"
    assert told[0]["amount"] < told[0]["full_amount"] == 18_000
    await wire.submit(**wire.word())
    market.close_batch()
    assert [row["outcome"] for row in only(market.ann, "user.margin_calls")] == ["credit_fresh"]


async def test_a_portfolio_channel_hears_of_a_word_at_once() -> None:
    wire = Wire()
    await wire.market.listen(wire.market.ann, "user.portfolio.USDC")
    await wire.submit(**wire.word())
    (row,) = only(wire.market.ann, "user.portfolio.USDC")
    assert row["attested_credit"] == 18_000


async def test_a_venue_without_outside_venues_takes_no_word() -> None:
    market = SmallMarket()
    error = await market.refusal(
        market.hub.connect(), "public/submit_attestation",
        **simulated("harbour").attest("tiny", "ann", 0, {"USDC": 1}),
    )  # fmt: skip
    assert error["data"]["reject_reason"] == R.OUTSIDE_VENUE_UNKNOWN


def test_a_simulated_venue_has_the_same_key_everywhere() -> None:
    assert simulated("harbour").public_key == harbour().public_key
    assert simulated("quay").public_key != harbour().public_key
    assert msgspec.json.decode(simulated("quay").attest("a", "b", 3, {})["attestation"])[
        "sequence"
    ] == 1  # fmt: skip

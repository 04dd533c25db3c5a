"""The table: everything in it works, everything that works is in it, the reference says so."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

import exchange.gateway
from clients.outside_venue import simulated
from exchange.core.outside_venue import OutsideVenue
from exchange.gateway.methods import CHANNELS, METHOD_OF, METHODS, Method, Permission
from exchange.gateway.reference import BEGIN, END, reference_markdown
from exchange.venues import load_venue
from margin.presets import load_preset
from tests.gateway.small_market import PERPETUAL, SmallMarket, heard

NEEDS_A_POOL = (
    "private/close_margin_pool", "private/move_margin", "private/switch_margin_mode",
)  # fmt: skip


NEEDS_A_SUB_ACCOUNT = (
    "private/submit_transfer_to_subaccount", "private/submit_transfer_between_subaccounts",
)  # fmt: skip
SIGNED = ("public/submit_attestation",)  # these need no account: they carry a signature
HARBOUR = OutsideVenue(
    name="harbour", public_key=simulated("harbour").public_key, haircut_ppb=10**8,
    transfer_delay_ns=0, fresh_ns=10**10, age_limit_ns=10**11,
)  # fmt: skip


async def open_pool(market: SmallMarket, funded: bool) -> None:
    """Ann's first further pool, isolated, with money to move or to margin her order."""
    await market.ask(
        market.ann, "private/open_margin_pool", kind="isolated", instrument_name=PERPETUAL
    )
    if funded:
        await market.ask(market.ann, "private/move_margin", from_pool_id=10, to_pool_id=12,
                         currency="USDC", amount=1_000)  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_the_example_of_every_method_works(method: Method) -> None:
    signed = method.name in SIGNED
    market = SmallMarket(outside_venues=(HARBOUR,) if signed else ())
    order = await market.buy(market.ann, 0.01, 99_000, client_order_id="mine-1")
    assert order["order_id"] == "1"
    if method.name == "batch/ready":
        await market.ask(market.ann, "batch/register")
    if method.name in NEEDS_A_POOL:
        await open_pool(market, funded=method.name != "private/close_margin_pool")
    if method.name in NEEDS_A_SUB_ACCOUNT:
        await market.ask(market.ann, "private/create_subaccount")
    if method.name == "private/close_position":
        await market.buy(market.ann, 0.01, 100_000)
        await market.sell(market.bob, 0.01, 100_000)
        market.close_batch()
    await market.ask(market.ann, method.name, **json.loads(method.example))


def as_text(value: object) -> str:
    """A value as it stands in the query of an address."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_parameters_may_come_as_text(method: Method) -> None:
    example = json.loads(method.example)
    if any(isinstance(value, list) for value in example.values()):
        return  # lists of channels: over sockets only
    text = {name: as_text(value) for name, value in example.items()}
    read = msgspec.convert(text, method.parameters, strict=False)
    assert read == msgspec.json.decode(method.example, type=method.parameters)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
async def test_every_method_refuses_parameters_it_does_not_know(method: Method) -> None:
    market = SmallMarket()
    params = {**json.loads(method.example), "surely_unknown": 1}
    assert (await market.refusal(market.ann, method.name, **params))["code"] == -32602


def test_every_method_has_exactly_one_answerer() -> None:
    entries = SmallMarket().dispatcher.entries
    assert len(entries) == len(METHODS), "names are unique"
    for entry in entries.values():
        assert (entry.query is None) != (entry.action is None), entry.method.name


def test_what_changes_the_market_needs_the_trade_scope() -> None:
    for entry in SmallMarket().dispatcher.entries.values():
        if entry.action is not None and entry.method.name not in SIGNED:
            assert entry.method.permission is Permission.TRADE
        assert (entry.method.permission is Permission.PUBLIC) == entry.method.name.startswith(
            "public/"
        )


async def test_the_example_of_every_channel_is_accepted_and_told() -> None:
    venue = load_venue("tiny", interval_s=60)
    venue = msgspec.structs.replace(venue, preset=load_preset("ps-1-dynamic"))  # it warns
    market = SmallMarket(venue, deposit=2_300)
    channels = [channel.example for channel in CHANNELS]
    accepted = await market.ask(market.ann, "private/subscribe", channels=channels)
    assert accepted == channels
    await market.ask(market.bob, "private/deposit", currency="USDC", amount=1_000_000)
    await market.buy(market.ann, 0.1, 100_000)
    await market.sell(market.bob, 0.099, 100_000)
    market.close_batch()
    for price in range(99_500, 90_000, -500):
        market.close_batch(price)
    told = {name for name, _ in heard(market.ann)}
    assert told == set(channels)


def test_the_reference_is_in_step_with_the_table() -> None:
    readme = Path(exchange.gateway.__file__).with_name("README.md").read_text("utf-8")
    found = readme.split(BEGIN)[1].split(END)[0].strip()
    assert found == reference_markdown(), "paste reference_markdown() between the two marks"


def test_every_parameter_of_every_method_is_explained_or_plain() -> None:
    for method in METHODS:
        assert method.description
        assert method.result
        for field in msgspec.structs.fields(method.parameters):
            assert f"`{field.name}`" in reference_markdown()
    assert PERPETUAL in METHOD_OF["public/get_instrument"].example

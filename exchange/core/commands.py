"""Everything that can be asked of the engine. State is a fold over these, and nothing else.

Every command carries the time at which the sequencer took it; the engine knows no other time.
The same structures are the journal's payload: MessagePack arrays in field order, which is one
canonical byte string per command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from exchange.core.venue import InstrumentSpec, Venue


class CommandBase(
    msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True
):
    """A request or an observation, stamped with its time."""

    time_ns: int


class Genesis(CommandBase, frozen=True):
    """The first record: the resolved venue, the seed, and the version of the rules."""

    venue: Venue
    seed: int
    version: str


class OpenAccount(CommandBase, frozen=True):
    """Open an account with its cross margin pool. Names are unique.

    `account_class` names one of the venue's, whose margin model then charges it. `parent` makes it
    the sub-account of another account, of whose class it is.
    """

    name: str
    account_class: str = ""
    parent: int = -1


class OpenPool(CommandBase, frozen=True):
    """Open a margin pool for an account: isolated for one contract, a named portfolio, a group.

    `kind` is a `layers.PoolKind`. `instrument` belongs to isolated pools, `name` to portfolios.
    """

    account: int
    kind: int
    instrument: int = -1
    name: str = ""


class ClosePool(CommandBase, frozen=True):
    """Close a pool that holds nothing. The cross pool stays."""

    account: int
    pool: int


class MoveMargin(CommandBase, frozen=True):
    """Move `amount_minor` of a currency between pools of one owner.

    A sub-account moves between its own pools, its parent between those of all of its accounts.
    """

    account: int
    from_pool: int
    to_pool: int
    currency: int
    amount_minor: int


class SwitchMode(CommandBase, frozen=True):
    """Let a contract fill into another pool of the account from now on.

    Its position and open orders move there from the pool into which it filled until now.
    """

    account: int
    instrument: int
    pool: int


class Deposit(CommandBase, frozen=True):
    """Bring `amount_minor` of a currency into an account from outside.

    `pool`: one of the account's pools, or of its sub-accounts'; -1: its cross pool.
    """

    account: int
    currency: int
    amount_minor: int
    pool: int = -1


class Withdraw(CommandBase, frozen=True):
    """Take `amount_minor` of a currency out of an account; `pool` as in `Deposit`."""

    account: int
    currency: int
    amount_minor: int
    pool: int = -1


class PlaceOrder(CommandBase, frozen=True):
    """Enter an order into the running batch. `price_ticks` 0 means a market order.

    `post_only`: refused where it would have been marketable at the instrument's last print.
    `pool` is the account's pool that it fills into; -1: that of the contract's mode.
    """

    account: int
    instrument: int
    side: int
    price_ticks: int
    quantity_lots: int
    immediate_or_cancel: bool = False
    reduce_only: bool = False
    client_order_id: str = ""
    post_only: bool = False
    pool: int = -1


class EditOrder(CommandBase, frozen=True):
    """Change price and open quantity of a limit order."""

    account: int
    order_id: int
    price_ticks: int
    quantity_lots: int


class CancelOrder(CommandBase, frozen=True):
    """Withdraw one order."""

    account: int
    order_id: int


class CancelAll(CommandBase, frozen=True):
    """Withdraw all of an account's orders, in one instrument or (-1) everywhere."""

    account: int
    instrument: int = -1


class OrderColumns(CommandBase, frozen=True):
    """Many orders and reductions at once: int64 columns, little-endian, one row each.

    Row fields in `columns`, column after column: account, instrument, side, price_ticks,
    quantity_lots, immediate_or_cancel, target. `target` is 0 for a new order; an order identifier
    (positive) or minus the 1-based row number in this command (negative) for a reduction by
    `quantity_lots`. Used by replays of recorded order flow.
    """

    rows: int
    columns: bytes


class ListInstruments(CommandBase, frozen=True):
    """List new contracts."""

    specs: tuple[InstrumentSpec, ...]


class Halt(CommandBase, frozen=True):
    """Halt (or resume) the auctions of one instrument."""

    instrument: int
    halted: bool


class Attest(CommandBase, frozen=True):
    """What an outside venue holds for an account: its latest word replaces the one before.

    `sequence` rises with every word on the account; `observed_ns` is when it was true. `balances`:
    (currency, minor units, negative where it owes), `positions`: (instrument, signed lots), both by
    rising number. The signature was verified where the command came from; `digest` (SHA-256 of the
    signed text) and `signature` stand here for an audit, and nothing in the engine reads them.
    """

    outside_venue: str
    account: int
    sequence: int
    observed_ns: int
    balances: tuple[tuple[int, int], ...]
    positions: tuple[tuple[int, int], ...]
    digest: bytes
    signature: bytes


class Seal(CommandBase, frozen=True):
    """Close the batch: the order set is fixed."""

    batch: int


class Uncross(CommandBase, frozen=True):
    """Clear the sealed batch. `combos` is reserved for a verified joint proposal."""

    batch: int
    combos: None = None


class UnderlyingMark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An index as the marker saw it: value, age, confidence, observations since the last mark."""

    index_e8: int
    age_ns: int
    confidence_ppb: int
    observations: tuple[tuple[int, int], ...]  # (time_ns, price_e8), times rising


class ExpiryMark(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Forward, rate and a volatility per strike of one expiry of one underlying."""

    underlying: int
    expiry_ns: int
    forward_e8: int
    rate_e9: int
    strikes_e8: tuple[int, ...]
    volatilities_e9: tuple[int, ...]


class Revalue(CommandBase, frozen=True):
    """Marks for everything listed; the cycle's settlement, margin and default steps follow."""

    cycle: int
    underlyings: tuple[UnderlyingMark, ...]
    futures: tuple[tuple[int, int], ...]  # (instrument, mark_e8)
    expiries: tuple[ExpiryMark, ...]
    marker_state: bytes


Command: TypeAlias = (
    Genesis
    | OpenAccount
    | OpenPool
    | ClosePool
    | MoveMargin
    | SwitchMode
    | Deposit
    | Withdraw
    | PlaceOrder
    | EditOrder
    | CancelOrder
    | CancelAll
    | OrderColumns
    | ListInstruments
    | Halt
    | Attest
    | Seal
    | Uncross
    | Revalue
)

KINDS: dict[str, type[CommandBase]] = {
    kind.__name__: kind
    for kind in (
        Genesis,
        OpenAccount,
        OpenPool,
        ClosePool,
        MoveMargin,
        SwitchMode,
        Deposit,
        Withdraw,
        PlaceOrder,
        EditOrder,
        CancelOrder,
        CancelAll,
        OrderColumns,
        ListInstruments,
        Halt,
        Attest,
        Seal,
        Uncross,
        Revalue,
    )
}

_encode = msgspec.msgpack.Encoder().encode
_decoders: dict[str, Callable[[bytes], Command]] = {
    kind: msgspec.msgpack.Decoder(command).decode  # type: ignore[misc]
    for kind, command in KINDS.items()
}


class CommandError(ValueError):
    """Bytes that are no command."""


def encode_command(command: Command) -> tuple[str, bytes]:
    """Kind and canonical payload of a command, as the journal stores them."""
    return type(command).__name__, _encode(command)


def decode_command(kind: str, payload: bytes) -> Command:
    """The command that `encode_command` made these from; `CommandError` where there is none."""
    decode = _decoders.get(kind)
    if decode is None:
        raise CommandError(f"unknown command kind {kind!r}; known: {', '.join(KINDS)}")
    try:
        return decode(payload)
    except (msgspec.DecodeError, ValueError) as error:
        raise CommandError(f"payload is no {kind}: {error}") from error

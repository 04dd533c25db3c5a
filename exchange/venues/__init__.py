"""Venue files: TOML for people, read strictly into the integers that the engine journals.

Fractions are written as plain decimals and become integers of 10^-9, prices and sizes of 10^-8,
seconds nanoseconds, amounts of money 10^-6 USDC. Decimals never turn into floats.
"""

from __future__ import annotations

import tomllib
from datetime import datetime
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from exchange.core import limits
from exchange.core.outside_venue import OutsideVenue
from exchange.core.risk.models import require_models
from exchange.core.venue import (
    AccountClass,
    CallSpec,
    CollarSpec,
    DefaultSpec,
    ExpiryRule,
    FeeSpec,
    FundingSpec,
    IndexSpec,
    LimitSpec,
    ListingSpec,
    UnderlyingSpec,
    Venue,
    VenueError,
    validate,
    validate_times,
)
from exchange.core.venue_ranges import key_of
from exchange.coverage import require_coverage
from exchange.exact import NotExact, exact, shown
from exchange.listing import contracts_due
from margin.models.venue_models import venue_model
from margin.presets import PresetError

DAYS_BETWEEN_EXPIRIES_MAX = 366
EXPIRIES_MAX = 64
STRIKES_EACH_SIDE_MAX = limits.INSTRUMENTS_PER_UNIT_MAX
TOP_KEYS = (
    "name",
    "preset",
    "interval_s",
    "opening",
    "disclosure",
    "risk_gate",
    "client_order_id_cycles",
    "underlying",
    "collar",
    "fees",
    "funding",
    "index",
    "calls",
    "default",
)
UNDERLYING_KEYS = (
    "name",
    "risk_class",
    "collateral",
    "price_max",
    "opening_index",
    "opening_volatility",
)
OPTIONAL_KEYS = ("daily_volume",)
OUTSIDE_KEYS = ("name", "public_key", "haircut", "transfer_delay_s", "fresh_s", "age_limit_s")
OUTSIDE_OPTIONAL = ("delay_quantile", "credit_cap", "net_positions")
CONTRACT_KEYS = ("linear", "inverse", "option", "inverse_option", "strikes", "expiries")


def venue_names() -> list[str]:
    """Names of the venues that ship."""
    files = resources.files(__name__).iterdir()
    return sorted(f.name[:-5] for f in files if f.name.endswith(".toml"))


def load_venue(name_or_path: str, **changes: int | str) -> Venue:
    """The venue of a shipped name or a TOML file, resolved and validated.

    `changes` replace top-level keys before resolving (`interval_s=150`). A preset that ends in
    .toml is a file, relative to the venue file's folder, as a change to the working directory.
    Raises `VenueError` that says which key is wrong and what is allowed.
    """
    if name_or_path in venue_names():
        text = resources.files(__name__).joinpath(f"{name_or_path}.toml").read_text("utf-8")
        folder = Path()
    else:
        path = Path(name_or_path)
        if not path.is_file():
            known = ", ".join(venue_names())
            raise VenueError(f"no venue {name_or_path!r}: neither a file nor one of {known}")
        folder = path.parent
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise VenueError(f"{name_or_path}: not UTF-8 text: {error}") from None
    return parse_venue(text, name_or_path, folder, **changes)


def parse_venue(text: str, source: str, folder: Path | None = None, **changes: int | str) -> Venue:
    """A venue from TOML text; `source` names it in errors.

    Files of presets are relative to `folder`, that of a change to the working directory.
    """
    try:
        table = tomllib.loads(text, parse_float=Decimal)
        own = Path() if "preset" in changes else folder
        return _venue({**table, **changes}, folder or Path(), own or Path())
    except tomllib.TOMLDecodeError as error:
        raise VenueError(f"{source}: not TOML: {error}") from None
    except RecursionError:
        raise VenueError(f"{source}: nested too deeply") from None
    except InvalidOperation:
        raise VenueError(f"{source}: a number has too many digits in its exponent") from None
    except (VenueError, PresetError, ValueError) as error:
        raise VenueError(f"{source}: {error}") from None


def _keys(
    table: Any, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> None:
    if not isinstance(table, dict):
        raise VenueError(f"{where} must be a table")
    unknown = [key for key in table if key not in required + optional]
    missing = [key for key in required if key not in table]
    if unknown:
        allowed = ", ".join(required + optional)
        raise VenueError(f"unknown key {where}.{unknown[0]}; allowed: {allowed}")
    if missing:
        raise VenueError(f"key {where}.{missing[0]} is missing")


def scaled(value: Any, scale: int, where: str) -> int:
    """A decimal as an integer of 1/scale, exactly; `VenueError` where it is none within 2^62."""
    try:
        return exact(value, scale)
    except NotExact as error:
        raise VenueError(f"{where} {error}") from None


def _counted(value: Any, where: str, most: int, least: int = 1) -> int:
    count = scaled(value, 1, where)
    if not least <= count <= most:
        raise VenueError(f"{where} = {count}: must be from {least} to {most}")
    return count


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not value:
        raise VenueError(f"{where}.{key} must be a text, not {shown(value)}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise VenueError(f"{where} must be a list of tables")
    return value


def _section(kind: type[msgspec.Struct], table: Any, where: str) -> Any:
    """A section whose keys are the structure's fields without their scale (`_ns` is `_s`)."""
    names = {}
    for field in kind.__struct_fields__:
        key, scale = key_of(field)
        names[key] = (field, scale)
    _keys(table, where, tuple(names))
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for key, (field, scale) in names.items():
        value = table[key]
        if hints[field] is not bool:
            values[field] = scaled(value, scale, f"{where}.{key}")
        elif isinstance(value, bool):
            values[field] = value
        else:
            raise VenueError(f"{where}.{key} must be true or false, not {value!r}")
    return msgspec.convert(values, kind)


def _contract(table: dict[str, Any], key: str, where: str) -> tuple[int, int]:
    if key not in table:
        return 0, 0
    _keys(table[key], f"{where}.{key}", ("tick", "lot"))
    at = f"{where}.{key}"
    tick = scaled(table[key]["tick"], 10**8, f"{at}.tick")
    lot = scaled(table[key]["lot"], 10**8, f"{at}.lot")
    if tick <= 0 or lot <= 0:
        raise VenueError(f"{at}: tick and lot must be positive")
    return tick, lot


def _expiries(table: dict[str, Any], where: str) -> tuple[ExpiryRule, ...]:
    rules = []
    at = f"{where}.expiries"
    for rule in _list(table.get("expiries", []), at):
        _keys(rule, at, ("kind", "every_days", "count"))
        if rule["kind"] not in ("future", "option"):
            raise VenueError(f"{at}: kind is future or option, not {rule['kind']!r}")
        days = _counted(rule["every_days"], f"{at}.every_days", DAYS_BETWEEN_EXPIRIES_MAX)
        count = _counted(rule["count"], f"{at}.count", EXPIRIES_MAX)
        rules.append(ExpiryRule(kind=rule["kind"], every_days=days, count=count))
    return tuple(rules)


def _underlying(table: Any, number: int) -> tuple[UnderlyingSpec, ListingSpec]:
    where = f"underlying[{number}]"
    _keys(table, where, UNDERLYING_KEYS, CONTRACT_KEYS + OPTIONAL_KEYS)
    if not isinstance(table["collateral"], bool):
        raise VenueError(f"{where}.collateral must be true or false")
    spec = UnderlyingSpec(
        name=_text(table, "name", where),
        risk_class=_text(table, "risk_class", where),
        is_collateral=table["collateral"],
        price_e8_max=scaled(table["price_max"], 10**8, f"{where}.price_max"),
        opening_index_e8=scaled(table["opening_index"], 10**8, f"{where}.opening_index"),
        opening_volatility_e9=scaled(
            table["opening_volatility"], 10**9, f"{where}.opening_volatility"
        ),
        daily_volume_minor=scaled(table.get("daily_volume", 0), 10**6, f"{where}.daily_volume"),
    )
    linear, inverse, option, inverse_option = (
        _contract(table, key, where) for key in ("linear", "inverse", "option", "inverse_option")
    )
    for key, (_, lot) in (("inverse", inverse), ("inverse_option", inverse_option)):
        if lot and not spec.is_collateral:
            raise VenueError(f"{where}.{key} settles in {spec.name}: collateral must be true")
    if option[1] and inverse_option[1] not in (0, option[1]):
        raise VenueError(
            f"{where}.inverse_option.lot must be that of {where}.option: naked shorts of a strike "
            "are counted in lots of both"
        )
    strikes = table.get("strikes", {"step": 1, "each_side": 0})
    _keys(strikes, f"{where}.strikes", ("step", "each_side"))
    listing = ListingSpec(
        underlying=number,
        tick_e8=linear[0],
        lot_e8=linear[1],
        inverse_tick_e8=inverse[0],
        inverse_lot_e8=inverse[1],
        option_tick_e8=option[0],
        option_lot_e8=option[1],
        inverse_option_tick_e8=inverse_option[0],
        inverse_option_lot_e8=inverse_option[1],
        strike_step_e8=scaled(strikes["step"], 10**8, f"{where}.strikes.step"),
        strikes_each_side=_counted(
            strikes["each_side"], f"{where}.strikes.each_side", STRIKES_EACH_SIDE_MAX, least=0
        ),
        expiries=_expiries(table, where),
    )
    if listing.strike_step_e8 <= 0:
        raise VenueError(f"{where}.strikes: step must be positive")
    return spec, listing


def _account_classes(tables: Any, folder: Path) -> tuple[AccountClass, ...]:
    for number, table in enumerate(_list(tables, "venue.account_class")):
        _keys(table, f"account_class[{number}]", ("name", "preset"))
        _text(table, "name", f"account_class[{number}]")
        _text(table, "preset", f"account_class[{number}]")
    return tuple(
        AccountClass(str(t["name"]), venue_model(str(t["preset"]), folder)) for t in tables
    )


def _outside_venue(table: Any, number: int) -> OutsideVenue:
    where = f"outside_venue[{number}]"
    _keys(table, where, OUTSIDE_KEYS, OUTSIDE_OPTIONAL)
    texts = {key: table[key] for key in ("name", "public_key")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise VenueError(f"{where}.{key} must be a text, not {value!r}")
    nets = table.get("net_positions", False)
    if not isinstance(nets, bool):
        raise VenueError(f"{where}.net_positions must be true or false, not {nets!r}")
    numbers = {
        "haircut_ppb": ("haircut", 10**9),
        "transfer_delay_ns": ("transfer_delay_s", 10**9),
        "fresh_ns": ("fresh_s", 10**9),
        "age_limit_ns": ("age_limit_s", 10**9),
        "delay_quantile_e9": ("delay_quantile", 10**9),
        "credit_cap_minor": ("credit_cap", 10**6),
    }
    values = {
        field: scaled(table[key], scale, f"{where}.{key}")
        for field, (key, scale) in numbers.items()
        if key in table
    }
    return OutsideVenue(**texts, **values, net_positions=nets)


def _outside_venues(tables: Any) -> tuple[OutsideVenue, ...]:
    rows = _list(tables, "venue.outside_venue")
    return tuple(_outside_venue(table, number) for number, table in enumerate(rows))


def _venue(table: dict[str, Any], folder: Path, preset_folder: Path) -> Venue:
    _keys(table, "venue", TOP_KEYS, ("limits", "account_class", "outside_venue"))
    opening = table["opening"]
    if not isinstance(opening, datetime) or opening.tzinfo is None:
        raise VenueError("venue.opening must be a date and time with an offset, such as ...Z")
    if not isinstance(table["risk_gate"], bool):
        raise VenueError("venue.risk_gate must be true or false")
    rows = _list(table["underlying"], "venue.underlying")
    parts = [_underlying(t, n) for n, t in enumerate(rows)]
    _text(table, "preset", "venue")
    venue = Venue(
        name=_text(table, "name", "venue"),
        interval_ns=scaled(table["interval_s"], 10**9, "venue.interval_s"),
        opening_time_ns=int(opening.timestamp()) * 10**9,
        disclosure=_text(table, "disclosure", "venue"),
        risk_gate=table["risk_gate"],
        underlyings=tuple(spec for spec, _ in parts),
        instruments=(),
        listings=tuple(listing for _, listing in parts),
        collar=_section(CollarSpec, table["collar"], "collar"),
        fees=_section(FeeSpec, table["fees"], "fees"),
        funding=_section(FundingSpec, table["funding"], "funding"),
        index=_section(IndexSpec, table["index"], "index"),
        calls=_section(CallSpec, table["calls"], "calls"),
        default=_section(DefaultSpec, table["default"], "default"),
        limits=_section(LimitSpec, table["limits"], "limits") if "limits" in table else LimitSpec(),
        preset=venue_model(str(table["preset"]), preset_folder),
        account_classes=_account_classes(table.get("account_class", []), folder),
        outside_venues=_outside_venues(table.get("outside_venue", [])),
        client_order_id_cycles=scaled(
            table["client_order_id_cycles"], 1, "venue.client_order_id_cycles"
        ),
    )
    return resolved(venue)


def resolved(venue: Venue) -> Venue:
    """The venue with the contracts that its rules list at the opening, validated and covered.

    `VenueError` where a margin model cannot charge it.
    """
    validate_times(venue)
    opening = [u.opening_index_e8 for u in venue.underlyings]
    listed = contracts_due(venue, opening, venue.opening_time_ns)
    venue = msgspec.structs.replace(venue, instruments=tuple(listed))
    validate(venue)
    require_models(venue)
    require_coverage(venue)
    return venue

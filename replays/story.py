"""Stories: a scripted scenario of index knots, a crowd and the house's money, in a TOML file.

A story says where the indices stand at a few moments; between them each follows a seeded random
bridge, in integers, so that the same story and seed give the same path on any machine.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from importlib import resources
from math import isqrt
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from exchange.core import limits
from exchange.exact import NotExact, exact

E8 = 10**8
E9 = 10**9
NS = 10**9
YEAR_S = 365 * 86_400
DRAWS = 12
DRAW_MAX = 1_000_000  # the sum of 12 draws from -max..max has a standard deviation of 2 x max
BOTS_MAX = 100_000  # of a kind
AMOUNT_MAX = 10**12  # elsewhere, of any currency
SECONDS_MAX = 86_400  # of a batch
PRICE_FLOOR = 20  # a bridge stays above a twentieth of the knot it starts from

Knot = tuple[int, int]  # time_ns, price_e8
Path_ = list[Knot]

TOP_KEYS = ("name", "title", "venue", "opening", "interval_s", "cycles", "path_step_s", "crowd",
            "fund", "path")  # fmt: skip
CROWD_COUNTS = ("market_makers", "noise_traders", "trend_followers", "arbitrageurs",
                "option_sellers")  # fmt: skip
CROWD_MONEY = ("market_maker_money", "noise_trader_money", "trend_follower_money",
               "arbitrageur_money", "option_seller_money")  # fmt: skip
CROWD_OPTIONAL = ("outside_holders", "outside_holder_money")
FUND_KEYS = ("insurance", "venue_capital")
PATH_KEYS = ("name", "volatility", "knots")
OUTSIDE_KEYS = ("venue", "accounts", "balances", "silent")


class StoryError(ValueError):
    """A story that cannot be told; says which key is wrong and what is allowed."""


class IndexPath(msgspec.Struct, frozen=True):
    """Knots of one index, times rising, and the annual volatility of the way between them."""

    name: str
    volatility_e9: int
    knots: tuple[Knot, ...]


class OutsideFeed(msgspec.Struct, frozen=True):
    """What a simulated outside venue attests at each batch, and when it says nothing.

    `accounts`: the beginning of the names it speaks of; `balances` of each of them, as plain
    decimals by currency; `silent`: from (ns, included) to (not included).
    """

    venue: str
    accounts: str
    balances: dict[str, str]
    silent: tuple[tuple[int, int], ...]

    def speaks_at(self, time_ns: int) -> bool:
        """Whether the feed is up at a time."""
        return not any(first <= time_ns < until for first, until in self.silent)


class Story(msgspec.Struct, frozen=True):
    """A scenario: when it opens, how long a batch lasts, who trades, how the indices move.

    `crowd` holds the number of bots of each kind, `money_minor` what each brings (10^-6 USDC).
    """

    name: str
    title: str
    venue: str
    opening_ns: int
    interval_s: int
    cycles: int
    path_step_s: int
    crowd: dict[str, int]
    money_minor: dict[str, int]
    insurance_minor: int
    venue_capital_minor: int
    paths: tuple[IndexPath, ...]
    outside: tuple[OutsideFeed, ...] = ()

    def time_ns(self, time_ns: int, opening_ns: int, interval_ns: int) -> int:
        """When in the story a market is that opened at another time, with other batches."""
        theirs_ns = self.interval_s * NS
        return self.opening_ns + (time_ns - opening_ns) * theirs_ns // interval_ns

    @property
    def cycles_max(self) -> int:
        """The most cycles that the knots reach."""
        last_ns = min(path.knots[-1][0] for path in self.paths)
        return (last_ns - self.opening_ns) // (self.interval_s * NS)


def story_names() -> list[str]:
    """Names of the stories that ship."""
    files = resources.files("replays.stories").iterdir()
    return sorted(f.name[:-5] for f in files if f.name.endswith(".toml"))


def load_story(name_or_path: str) -> Story:
    """The story of a shipped name or a TOML file. Raises `StoryError`."""
    if name_or_path in story_names():
        text = resources.files("replays.stories").joinpath(f"{name_or_path}.toml").read_bytes()
    else:
        path = Path(name_or_path)
        if not path.is_file():
            known = ", ".join(story_names())
            raise StoryError(f"no story {name_or_path!r}: neither a file nor one of {known}")
        text = path.read_bytes()
    return parse_story(text, name_or_path)


def parse_story(text: bytes, source: str) -> Story:
    """A story from TOML text; `source` names it in errors."""
    try:
        return _story(tomllib.loads(text.decode("utf-8"), parse_float=Decimal))
    except UnicodeDecodeError as error:
        raise StoryError(f"{source}: not UTF-8 text: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise StoryError(f"{source}: not TOML: {error}") from None
    except RecursionError:
        raise StoryError(f"{source}: nested too deeply") from None
    except InvalidOperation:
        raise StoryError(f"{source}: a number has too many digits in its exponent") from None
    except ValueError as error:
        raise StoryError(f"{source}: {error}") from None


def _keys(
    table: Any, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise StoryError(f"{where} must be a table")
    unknown = [key for key in table if key not in required + optional]
    missing = [key for key in required if key not in table]
    if unknown:
        allowed = ", ".join(required + optional)
        raise StoryError(f"unknown key {where}.{unknown[0]}; allowed: {allowed}")
    if missing:
        raise StoryError(f"key {where}.{missing[0]} is missing")
    return table


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise StoryError(f"{where} must be a text, not {value!r}")
    return value


def _number(value: Any, where: str, scale: int = 1, least: int = 0, most: int = 2**62) -> int:
    """A decimal as an integer of 1/scale, exactly, from `least` to `most` of those."""
    try:
        number = exact(value, scale)
    except NotExact as error:
        raise StoryError(f"{where} {error}") from None
    if number < least:
        raise StoryError(f"{where} = {value}: must be at least {Decimal(least) / scale:f}")
    if number > most:
        raise StoryError(f"{where} = {value}: must be at most {Decimal(most) / scale:f}")
    return number


def _money(value: Any, where: str) -> int:
    return _number(value, where, 10**6, most=limits.TRANSFER_MINOR_MAX)


def _time_ns(value: Any, where: str) -> int:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise StoryError(f"{where} must be a date and time with an offset, such as ...Z")
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    time_ns = since // timedelta(microseconds=1) * 1000
    if not 0 <= time_ns < limits.SAFE:
        raise StoryError(f"{where} = {value}: must be between the years 1970 and 2116")
    return time_ns


def _path(table: Any, number: int, opening_ns: int) -> IndexPath:
    where = f"path[{number}]"
    _keys(table, where, PATH_KEYS)
    rows = table["knots"]
    if not isinstance(rows, list) or len(rows) < 2:
        raise StoryError(f"{where}.knots must be a list of at least two [time, price]")
    knots: list[Knot] = []
    for index, row in enumerate(rows):
        at = f"{where}.knots[{index}]"
        if not isinstance(row, list) or len(row) != 2:
            raise StoryError(f"{at} must be [time, price]")
        knot = (
            _time_ns(row[0], f"{at} time"),
            _number(row[1], f"{at} price", E8, 1, limits.INDEX_E8_MAX),
        )
        if knots and knot[0] <= knots[-1][0]:
            raise StoryError(f"{at}: times must rise")
        knots.append(knot)
    if knots[0][0] != opening_ns:
        raise StoryError(f"{where}.knots[0]: the first knot must be at the opening")
    most = limits.VOLATILITY_E9_MAX
    volatility = _number(table["volatility"], f"{where}.volatility", E9, most=most)
    return IndexPath(_text(table["name"], f"{where}.name"), volatility, tuple(knots))


def _outside(table: Any, number: int) -> OutsideFeed:
    where = f"outside[{number}]"
    _keys(table, where, OUTSIDE_KEYS)
    balances, rows = table["balances"], table["silent"]
    if not isinstance(balances, dict):
        raise StoryError(f"{where}.balances must be a table of amounts by currency")
    for name, amount in balances.items():
        if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
            raise StoryError(f"{where}.balances.{name} must be a number, not {amount!r}")
        if not abs(Decimal(amount)) <= AMOUNT_MAX:
            raise StoryError(
                f"{where}.balances.{name} = {amount}: must be from -{AMOUNT_MAX} to {AMOUNT_MAX}"
            )
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2
                                             for row in rows):  # fmt: skip
        raise StoryError(f"{where}.silent must be a list of [from, to]")
    spans = [tuple(_time_ns(time, f"{where}.silent time") for time in row) for row in rows]
    if any(first >= until for first, until in spans):
        raise StoryError(f"{where}.silent: a silence ends after it begins")
    return OutsideFeed(
        venue=_text(table["venue"], f"{where}.venue"),
        accounts=_text(table["accounts"], f"{where}.accounts"),
        balances={name: f"{amount:f}" if isinstance(amount, Decimal) else str(amount)
                  for name, amount in balances.items()},
        silent=tuple((first, until) for first, until in spans),
    )  # fmt: skip


def _story(table: dict[str, Any]) -> Story:
    _keys(table, "story", TOP_KEYS, ("outside",))
    opening_ns = _time_ns(table["opening"], "story.opening")
    crowd = _keys(table["crowd"], "crowd", CROWD_COUNTS + CROWD_MONEY, CROWD_OPTIONAL)
    counts = [*CROWD_COUNTS, *(key for key in CROWD_OPTIONAL[:1] if key in crowd)]
    money = [*CROWD_MONEY, *(key for key in CROWD_OPTIONAL[1:] if key in crowd)]
    if not isinstance(table.get("outside", []), list):
        raise StoryError("story.outside must be a list of tables")
    fund = _keys(table["fund"], "fund", FUND_KEYS)
    if not isinstance(table["path"], list) or not table["path"]:
        raise StoryError("story.path must be a list of tables, one for each underlying")
    paths = tuple(_path(row, n, opening_ns) for n, row in enumerate(table["path"]))
    names = [path.name for path in paths]
    if len(set(names)) != len(names):
        raise StoryError("story.path: each underlying has one path")
    story = Story(
        name=_text(table["name"], "story.name"),
        title=_text(table["title"], "story.title"),
        venue=_text(table["venue"], "story.venue"),
        opening_ns=opening_ns,
        interval_s=_number(table["interval_s"], "story.interval_s", 1, 1, SECONDS_MAX),
        cycles=_number(table["cycles"], "story.cycles", 1, 1),
        path_step_s=_number(table["path_step_s"], "story.path_step_s", 1, 1),
        crowd={key: _number(crowd[key], f"crowd.{key}", most=BOTS_MAX) for key in counts},
        money_minor={key: _money(crowd[key], f"crowd.{key}") for key in money},
        insurance_minor=_money(fund["insurance"], "fund.insurance"),
        venue_capital_minor=_money(fund["venue_capital"], "fund.venue_capital"),
        paths=paths,
        outside=tuple(_outside(row, n) for n, row in enumerate(table.get("outside", []))),
    )
    if story.cycles > story.cycles_max:
        raise StoryError(f"story.cycles = {story.cycles}: the knots reach {story.cycles_max}")
    return story


def bridge(path: IndexPath, step_ns: int, random: Random) -> Path_:
    """One index from its first knot to its last, a point every `step_ns` and at every knot.

    A Brownian bridge in price: each step goes its share of the way to the next knot, plus a draw
    whose variance is that of a bridge (volatility of the price at the knot before). Integers only.
    """
    points: Path_ = [path.knots[0]]
    for (start_ns, start_e8), (end_ns, end_e8) in zip(path.knots, path.knots[1:], strict=False):
        time_ns, price_e8 = start_ns, start_e8
        while time_ns + step_ns < end_ns:
            left_ns = end_ns - time_ns
            variance = (start_e8 * path.volatility_e9 // E9) ** 2 * step_ns * (left_ns - step_ns)
            deviation_e8 = isqrt(variance // (left_ns * YEAR_S * NS))
            draw = sum(random.randint(-DRAW_MAX, DRAW_MAX) for _ in range(DRAWS))
            price_e8 += (end_e8 - price_e8) * step_ns // left_ns
            price_e8 += deviation_e8 * draw // (2 * DRAW_MAX)
            price_e8 = max(price_e8, start_e8 // PRICE_FLOOR)
            time_ns += step_ns
            points.append((time_ns, price_e8))
        points.append((end_ns, end_e8))
    return points


def index_paths(story: Story, seed: int) -> list[Path_]:
    """Points (time_ns, price_e8) of every index of the story; each has its own chance."""
    step_ns = story.path_step_s * NS
    return [
        bridge(path, step_ns, Random(f"{seed}/{story.name}/{path.name}"))  # noqa: S311 - play
        for path in story.paths
    ]

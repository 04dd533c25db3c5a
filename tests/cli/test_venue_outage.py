"""The story of an outage: decay, early calls, nobody liquidated on age, the feed's return."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from exchange.core.commands import Attest, Revalue, decode_command
from exchange.core.engine import Engine
from exchange.core.events import CallChanged, CreditAged, Event, LiquidationStep
from exchange.storage.journal import Journal
from exchange.storage.recovery import STATE_HASH_KIND, recover
from margin.default.margin_call import CallOutcome
from replays.story import StoryError, load_story, parse_story
from tests.cli.conftest import uncross
from tests.core.market import every

SILENT_FROM, SILENT_TO, LAST = 16, 42, 47  # cycles of a minute


class Cycle(NamedTuple):
    """What a replay of the journal saw at the end of a cycle, lists by outside holder."""

    number: int
    credit: list[int]
    own_short: list[bool]  # own equity below maintenance
    events: list[Event]
    attested: int


def run(folder: Path, name: str, story: str | Path) -> tuple[dict[str, Any], Path, str]:
    journal, summary = folder / f"{name}.journal", folder / f"{name}.json"
    result = uncross(
        "demo", "--story", story, "--fast", "--in-process", "--seed", 5, "--cycles", LAST,
        "--summary", summary, "--journal", journal,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return json.loads(summary.read_text("utf-8")), journal, result.output


def replayed(journal: Path) -> Iterator[Cycle]:
    engine, attested = Engine(), 0
    with Journal.open(journal, read_only=True) as file:
        for record in file.records():
            if record.kind == STATE_HASH_KIND:
                continue
            command = decode_command(record.kind, record.payload)
            events = engine.apply(command)
            attested += isinstance(command, Attest)
            if isinstance(command, Revalue):
                risk, accounts = engine.risk, engine.state.accounts
                pools = [
                    accounts.pool_of[account]
                    for account, name in enumerate(accounts.names)
                    if name.startswith("outside-")
                ]
                yield Cycle(
                    command.cycle,
                    [risk.backing.credit.get(pool, 0) for pool in pools],
                    [bool(risk.equity[pool] < risk.maintenance[pool]) for pool in pools],
                    events,
                    attested,
                )
                attested = 0


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, list[Cycle]]:
    summary, journal, _ = run(tmp_path_factory.mktemp("outage"), "outage", "venue-outage")
    return summary, journal, list(replayed(journal))


Told = tuple[dict[str, Any], Path, list[Cycle]]


def test_credit_decays_while_the_feed_is_silent_and_returns_with_it(told: Told) -> None:
    cycles = told[2]
    silent = [cycle for cycle in cycles if SILENT_FROM < cycle.number <= SILENT_TO]
    assert not any(cycle.attested for cycle in silent)
    assert all(cycle.attested == 6 for cycle in cycles[2 : SILENT_FROM + 1])
    holders = range(6)
    for holder in holders:
        credits = [cycle.credit[holder] for cycle in silent]
        assert all(a >= b for a, b in pairwise(credits))
        assert 0 < credits[-1] < credits[0] // 5
        assert cycles[SILENT_TO + 1].credit[holder] > 15_000 * 10**6, "whole again"


def test_calls_go_out_early_and_the_feed_s_return_cures_them_all(told: Told) -> None:
    summary, _, cycles = told
    issued, cured = {}, {}
    for cycle in cycles:
        for event in every(cycle.events, CallChanged):
            if event.outcome == CallOutcome.ISSUED:
                issued[event.pool] = cycle
            if event.outcome == CallOutcome.CURED:
                cured[event.pool] = cycle.number
    assert len(issued) == 6
    assert all(SILENT_FROM < cycle.number < SILENT_TO - 5 for cycle in issued.values())
    assert all(min(cycle.credit) > 0 for cycle in issued.values()), "long before it is gone"
    assert set(cured.values()) == {SILENT_TO + 1}
    assert summary["margin_calls"] == summary["margin_calls_cured"] == 6


def test_nobody_is_liquidated_though_no_called_trader_s_own_money_would_do(told: Told) -> None:
    summary, _, cycles = told
    assert all(cycles[SILENT_TO].own_short), "their own equity is below maintenance margin"
    assert summary["liquidations"] == summary["margin_calls_expired"] == summary["breaches"] == 0
    assert not [event for cycle in cycles for event in every(cycle.events, LiquidationStep)]
    assert summary["trial_balance"] == summary["positions_sum"] == 0


def test_the_journal_recovers_and_is_told_in_words(told: Told) -> None:
    summary, journal, cycles = told
    recovered = recover(journal, Engine)
    recovered.journal.close()
    assert recovered.engine.last_state_hash.hex() == summary["state_hash"]
    aged = {cycle.number for cycle in cycles if every(cycle.events, CreditAged)}
    shown = uncross("show", journal, "--cycle", min(aged)).output
    assert "harbour is silent of outside-01: " in shown
    assert uncross("verify", journal).output.startswith(f"equal: {LAST + 1} cycles")


def test_an_outage_beyond_the_age_limit_ends_in_liquidations(tmp_path: Path) -> None:
    shipped = Path(load_story.__code__.co_filename).parent / "stories" / "venue-outage.toml"
    text = shipped.read_text("utf-8")
    assert "12:42:00Z]]" in text
    story = tmp_path / "longer.toml"
    story.write_text(text.replace("12:42:00Z]]", "12:58:00Z]]"), "utf-8")
    summary, journal, _ = run(tmp_path, "longer", story)
    assert summary["margin_calls_expired"] == 6
    first = min(c.number for c in replayed(journal) if every(c.events, LiquidationStep))
    assert first == SILENT_FROM - 1 + 30, "30 minutes after the last word, not one before"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[outside]]", "[outside]", "outside must be a list of tables"),
        ('venue = "harbour"', "", "key outside[0].venue is missing"),
        ("USDC = 14000", 'USDC = "14000"', "balances.USDC must be a number"),
        ("12:42:00Z]]", "12:16:00Z]]", "a silence ends after it begins"),
        ("silent = [[", "silent = [1, [", "must be a list of [from, to]"),
        ("outside_holders = 6", "outside_holders = -6", "crowd.outside_holders = -6"),
    ],
)
def test_what_is_wrong_with_a_story_s_outside_venues_is_named(
    old: str, new: str, message: str
) -> None:
    shipped = Path(load_story.__code__.co_filename).parent / "stories" / "venue-outage.toml"
    text = shipped.read_text("utf-8")
    assert old in text
    with pytest.raises(StoryError) as error:
        parse_story(text.replace(old, new, 1).encode(), "outage")
    assert message in str(error.value)


def test_a_story_speaks_for_outside_venues_that_the_venue_knows_only(tmp_path: Path) -> None:
    shipped = Path(load_story.__code__.co_filename).parent / "stories" / "venue-outage.toml"
    story = tmp_path / "other.toml"
    text = shipped.read_text("utf-8").replace('venue = "harbour"', 'venue = "quay"')
    story.write_text(text, "utf-8")
    result = uncross("demo", "--story", story, "--fast", "--in-process", "--cycles", 1)
    assert result.exit_code == 1
    assert "has no outside venue 'quay'" in result.output
    assert "Traceback" not in result.output

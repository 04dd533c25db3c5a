"""Price files: formats that people have, and errors that name the line."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import pytest

from replays.price_file import PriceFileError, PriceSeries, read_prices
from tests.reference.reference_replay import data_file

DAY_NS = 86_400 * 10**9
DAILY = {
    "BTC-USD_yahoo_adjclose_2014-09-17_2025-09-30.csv": ("Adj_Close", 4032),
    "Bitstamp_BTCUSD_d_2014-11_2025-02.csv": ("Value", 3730),
    "ETH-USD_yahoo_adjclose_2017-11-09_2025-09-30.csv": ("Adj_Close", 2883),
    "SOL-USD_yahoo_adjclose_2020-04-10_2025-09-30.csv": ("Adj_Close", 2000),
}
HOURLY = {
    "BTC_USD_cryptocompare_1h_2019-11-20_2025-05-13.csv.gz": 48_024,
    "Bitstamp_BTCUSD_1h_2018-05_2021-10.csv.gz": 30_355,
    "Bitstamp_ETHUSD_1h_2018-05_2021-10.csv.gz": 30_355,
}


def written(folder: Path, text: str, name: str = "prices.csv") -> Path:
    path = folder / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def read(folder: Path, text: str, **options: object) -> PriceSeries:
    return read_prices(written(folder, text), **options)  # type: ignore[arg-type]


def refusal(folder: Path, text: str, **options: object) -> str:
    with pytest.raises(PriceFileError) as caught:
        read(folder, text, **options)
    return str(caught.value)


def test_rows_are_sorted_by_time_whatever_their_order(tmp_path: Path) -> None:
    series = read(tmp_path, "date,close\n2024-01-03,3\n2024-01-01,1\n2024-01-02,2\n")
    assert series.price_e8.tolist() == [10**8, 2 * 10**8, 3 * 10**8]
    assert series.step_ns == DAY_NS
    assert series.gaps == 0
    assert series.volatility_e9 is None


def test_blank_lines_before_the_header_and_between_rows_do_not_count(tmp_path: Path) -> None:
    text = "\n\nDate,close\n2024-01-01,1\n\n2024-01-02,2\n2024-01-03,3\n\n"
    assert len(read(tmp_path, text).price_e8) == 3


def test_a_compressed_file_reads_like_a_plain_one(tmp_path: Path) -> None:
    text = "date,close\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n"
    plain, packed = read(tmp_path, text), read_prices(written(tmp_path, text, "p.csv.gz"))
    assert plain.price_e8.tolist() == packed.price_e8.tolist()


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("date,open,close", "close"), ("date,Value,Adj_Close", "Adj_Close"),
        ("date,Close,Value", "Value"),
    ],
)  # fmt: skip
def test_the_column_is_the_first_known_one_as_it_is_written(
    tmp_path: Path, header: str, chosen: str
) -> None:
    rows = "".join(f"2024-01-0{day},{day},{day}0\n" for day in (1, 2, 3))
    series = read(tmp_path, f"{header}\n{rows}")
    assert series.column == chosen
    named = header.split(",").index(chosen)
    assert series.price_e8[0] == (10**8 if named == 1 else 10**9)


def test_a_column_can_be_named_and_a_wrong_name_lists_what_there_is(tmp_path: Path) -> None:
    text = "date,open,close\n2024-01-01,1,2\n2024-01-02,1,2\n2024-01-03,1,2\n"
    assert read(tmp_path, text, column="open").price_e8[0] == 10**8
    assert "no column 'Close'; there are date, open, close" in refusal(
        tmp_path, text, column="Close"
    )
    assert "--column" in refusal(tmp_path, text.replace("close", "last"))


@pytest.mark.parametrize(
    "times",
    [
        ("2024-01-01", "2024-01-02", "2024-01-03"),
        ("20240101", "20240102", "20240103"),
        ("2024-01-01 00:00:00", "2024-01-02 00:00:00", "2024-01-03 00:00:00"),
        ("2024-01-01T01:00:00+01:00", "2024-01-02T00:00:00Z", "2024-01-03"),
        ("1704067200", "1704153600", "1704240000"),
        ("1704067200000", "1704153600", "1704240000.0"),  # some writers change unit half way
        ("1704067200000000", "1704153600000000", "1704240000000000000"),
    ],
)
def test_times_are_iso_or_numbers_since_1970_in_any_unit(
    tmp_path: Path, times: tuple[str, ...]
) -> None:
    text = "unix,close\n" + "".join(f"{time},5\n" for time in times)
    start = 1_704_067_200 * 10**9
    assert read(tmp_path, text).time_ns.tolist() == [start, start + DAY_NS, start + 2 * DAY_NS]


def test_a_column_iv_is_kept_as_a_fraction_and_per_cent_is_refused(tmp_path: Path) -> None:
    text = "date,close,iv\n2024-01-01,1,0.65\n2024-01-02,2,0.7\n2024-01-03,3,0.6\n"
    series = read(tmp_path, text)
    assert series.volatility_e9 is not None
    assert series.volatility_e9.tolist() == [650_000_000, 700_000_000, 600_000_000]
    assert "line 3: iv 70 is outside 0 .. 5: it is a fraction a year (0.65, not 65)" in refusal(
        tmp_path, text.replace("0.7", "70")
    )


GOOD = "date,close\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n2024-01-04,4\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("-02,2", "-02,0", "line 3: the price 0 is not positive"),
        ("-02,2", "-02,-2", "line 3: the price -2 is not positive"),
        ("-02,2", "-02,n/a", "line 3: the price is not a number: 'n/a'"),
        ("-02,2", "-02,", "line 3: the price is not a number: ''"),
        ("-02,2", "-02,inf", "line 3: the price is not a number: 'inf'"),
        ("-02,2", "-02,nan", "line 3: the price is not a number: 'nan'"),
        ("-02,2", "-02,1e-12", "line 3: the price 1e-12 is outside"),
        ("-02,2", "-02,1e30", "line 3: the price 1e30 is outside"),
        ("-02,2", "-02,2,9", "line 3: 3 cells, 2 columns"),
        ("2024-01-02", "yesterday", "line 3: the time is neither ISO 8601 nor a number"),
        ("2024-01-03", "2024-01-02", "line 4: 2024-01-02 is there already, at line 3"),
        ("2024-01-03,3\n", "", "line 4: 2024-01-04 follows 2024-01-02 at line 3"),
        ("2024-01-02,2", "2024-01-02T06:00,2", "but the period is"),
    ],
)
def test_what_would_spoil_a_return_is_an_error_with_its_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    message = refusal(tmp_path, GOOD.replace(old, new) + "2024-01-05,5\n2024-01-06,6\n")
    assert message.startswith("prices.csv")
    assert said in message


def test_a_gap_may_be_allowed(tmp_path: Path) -> None:
    text = GOOD.replace("2024-01-03,3\n", "") + "2024-01-05,5\n"
    assert "--allow-gaps" in refusal(tmp_path, text)
    series = read(tmp_path, text, allow_gaps=True)
    assert (len(series.price_e8), series.gaps, series.step_ns) == (4, 1, DAY_NS)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), ("date,close\n", "0 prices"), ("day,close\n1,2\n", "no column of times")],
)
def test_a_file_without_history_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(b"date,close\n\xff\xfe\x00")
    with pytest.raises(PriceFileError, match="not a CSV file"):
        read_prices(path)
    packed = tmp_path / "prices.csv.gz"
    packed.write_bytes(b"not compressed")
    with pytest.raises(PriceFileError, match="not a CSV file"):
        read_prices(packed)


def test_parquet_without_its_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = tmp_path / "prices.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(PriceFileError, match=r"pyarrow.*uncross\[parquet\]"):
        read_prices(path)


def test_parquet_reads_like_csv(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    moments = [1_704_067_200_000 + day * 86_400_000 for day in (2, 0, 1)]
    path = tmp_path / "prices.parquet"
    stamps = arrow.array(moments, arrow.timestamp("ms", "UTC"))
    for times in (stamps, arrow.array(moments)):
        table = arrow.table({"timestamp": times, "close": [3.5, 1.5, 2.5], "iv": [0.5, 0.6, 0.7]})
        parquet.write_table(table, path)
        series = read_prices(path)
        assert series.price_e8.tolist() == [150_000_000, 250_000_000, 350_000_000]
        assert series.volatility_e9 is not None
        assert series.volatility_e9.tolist() == [600_000_000, 700_000_000, 500_000_000]
        assert series.time_ns[0] == 1_704_067_200 * 10**9
    parquet.write_table(arrow.table({"timestamp": stamps, "close": [1.0, None, 2.0]}), path)
    with pytest.raises(PriceFileError, match="row 2: the price is not a number"):
        read_prices(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(PriceFileError, match="not a Parquet file"):
        read_prices(path)


@pytest.mark.parametrize("name", DAILY)
def test_recorded_daily_files_are_read(name: str) -> None:
    path = data_file(f"prices_daily/{name}")
    if path is None:
        pytest.skip(f"real data absent: prices_daily/{name} under $UNCROSS_DATA or ../shared/data")
    series = read_prices(path)
    assert (series.column, len(series.price_e8)) == DAILY[name]
    assert series.step_ns == DAY_NS


@pytest.mark.parametrize("name", HOURLY)
def test_recorded_hourly_files_are_read(name: str) -> None:
    path = data_file(f"prices_hourly/{name}")
    if path is None:
        pytest.skip(f"real data absent: prices_hourly/{name} under $UNCROSS_DATA or ../shared/data")
    series = read_prices(path)
    assert (series.column, len(series.price_e8)) == ("close", HOURLY[name])
    assert series.step_ns * 24 == DAY_NS

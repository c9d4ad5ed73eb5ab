import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import benches
from cli.benches.base import classics
from cli.benches.base.bench import NotMeasuredError, Sizes
from cli.benches.base.figure import Figure, rounded
from cli.benches.base.markdown import BEGIN, END, as_markdown, put_into
from cli.benches.base.timing import best_us, quantile, slope
from cli.main import app
from domain.features.benchmarks import random_walk

runner = CliRunner()


def _figure(name: str = "speed", **values: object) -> Figure:
    return Figure(**{"name": name, "value": 2.0, "unit": "us", "says": "the usual way", **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", benches.names())
def test_every_file_is_a_bench_that_says_what_it_gives(name: str) -> None:
    bench = benches.load(name)

    assert bench.GIVES
    assert bench.TAKES
    assert isinstance(bench.ON_REQUEST, bool)
    assert callable(bench.run)
    assert bench.__doc__


def test_no_two_benches_give_the_same_figure() -> None:
    given = [figure for name in benches.names() for figure in benches.load(name).GIVES]

    assert len(given) == len(set(given))


def test_all_promised_figures_can_be_asked_for_by_name() -> None:
    promised = [
        *("indicators_live", "features_live", "features_batch", "latency_p50", "latency_p99"),
        *("latency_while_training_p99", "burst_1000", "replay", "memory", "soak", "growth", "faults_60x"),
        *("inference_p50", "inference_p99", "inference_1000", "lstm_training"),
        *("xgboost_training", "xgboost_training_seconds", "xgboost_small", "xgboost_small_seconds"),
        *("evaluate", "evaluate_memory"),
    ]

    for name in promised:
        assert benches.chosen([name])


def test_a_figure_picks_its_bench_and_leaves_the_others_of_it_out() -> None:
    ((name, (_, figures)),) = benches.chosen(["latency_p99"]).items()

    assert (name, figures) == ("latency", ("latency_p99",))


def test_without_names_the_long_ones_are_left_out() -> None:
    everything = benches.chosen([])

    assert "features_live" in everything
    assert not {"soak", "growth", "faults_60x"} & everything.keys()


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure as often as ever, but not for half a second each: here it only matters what is said."""
    monkeypatch.setitem(best_us.__kwdefaults__, "at_least_s", 0.0)


def test_an_unknown_name_is_refused_naming_what_there_is() -> None:
    answer = runner.invoke(app, ["bench", "speeed"])

    assert answer.exit_code == 2
    assert "speeed" in answer.stderr
    assert "features_live" in answer.stderr


@pytest.mark.usefixtures("briefly")
def test_the_answer_in_json_is_one_object_with_value_reference_and_ratio() -> None:
    answer = runner.invoke(app, ["bench", "indicators_live", "--symbols", "3", "--json"])

    found = json.loads(answer.stdout)["indicators_live"]
    assert answer.exit_code == 0
    assert found["unit"] == "us per symbol-candle"
    assert found["value"] > 0
    assert found["says"]
    if found["reference"] is not None:
        assert found["ratio"] == pytest.approx(found["value"] / found["reference"], rel=1e-3)


@pytest.mark.usefixtures("briefly")
def test_without_the_other_libraries_the_reference_is_null_and_said_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("talib", "talipp", "talipp.indicators", "pandas_ta_classic"):
        monkeypatch.setitem(sys.modules, module, None)

    (figure,) = benches.load("indicators_live").run(
        Sizes(folder=Path("unused"), symbols=3), ["indicators_live"]
    )

    answer = figure.as_json()
    assert answer["reference"] is None
    assert answer["ratio"] is None
    assert "tidecast[oracles]" in answer["says"]
    assert answer["value"] > 0


@pytest.mark.usefixtures("briefly")
def test_the_other_libraries_are_measured_where_they_are_installed() -> None:
    pytest.importorskip("talib")
    candles = random_walk(np.random.default_rng(0), classics.WINDOW + 20, 1)[:, 0]

    measured = [classics.talib_stream_us(candles), classics.talib_more_us(candles)]

    assert all(us is not None and us > 0 for us in measured)


def test_the_list_of_benches_says_which_run_by_name_only() -> None:
    answer = runner.invoke(app, ["bench", "--list", "--json"])

    found = json.loads(answer.stdout)
    assert found["soak"]["on_request"] is True
    assert found["latency"]["gives"] == ["latency_p50", "latency_p99", "latency_while_training_p99"]


def test_a_bound_holds_from_its_own_side() -> None:
    assert _figure(bound=2.0).holds is True
    assert _figure(bound=1.9).holds is False
    assert _figure(bound=1.9, at_least=True).holds is True
    assert _figure().holds is None
    assert _figure(value=None, bound=1.0).holds is None


def test_a_bound_may_be_about_the_ratio() -> None:
    figure = _figure(value=30.0, reference=25.0, bound=1.5, bound_of_ratio=True)

    assert figure.holds is True
    assert figure.promise == "at most 1.5 times the reference"


def test_no_ratio_without_a_reference() -> None:
    assert _figure().ratio is None
    assert _figure(reference=0.0).ratio is None
    assert _figure(reference=4.0).ratio == 0.5


def test_numbers_are_cut_to_four_digits_wherever_they_stand() -> None:
    found = rounded(
        {"a": 1.234567, "b": [123456.7, 0.000123456], "c": "text", "d": 7, "e": math.nan, "f": -2.0}
    )

    assert found == {"a": 1.235, "b": [123457, 0.0001235], "c": "text", "d": 7, "e": None, "f": -2.0}


def test_quantiles_lie_on_a_straight_line_between_neighbours() -> None:
    assert quantile([], 0.5) is None
    assert quantile([3.0], 0.99) == 3.0
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert quantile(list(range(101)), 0.99) == 99.0


def test_a_slope_is_the_rise_of_the_best_straight_line() -> None:
    assert slope([0.0, 1.0, 2.0], [5.0, 7.0, 9.0]) == pytest.approx(2.0)
    assert slope([1.0], [5.0]) is None
    assert slope([1.0, 1.0], [5.0, 6.0]) is None


def test_the_first_call_only_warms_up() -> None:
    calls = []

    def work() -> int:
        calls.append(len(calls))
        return 10

    us = best_us(work, times=3, at_least_s=0.0)

    assert len(calls) == 4
    assert us >= 0


def test_figures_replace_their_own_rows_of_a_page_and_leave_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")

    put_into(page, [_figure("one", value=1.0), _figure("two", value=2.0)])
    put_into(page, [_figure("two", value=3.0, reference=6.0, bound=4.0)])

    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    assert [row.split("|")[1:3] for row in rows] == [[" `one` ", " 1.0 "], [" `two` ", " 3.0 "]]
    assert "at most 4 | yes" in rows[1]


def test_a_figure_that_could_not_be_measured_leaves_the_page_as_it_was(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    put_into(page, [_figure("one")])
    before = page.read_text()

    put_into(page, [_figure("one", value=None, error="no server")])

    assert page.read_text() == before


def test_a_page_without_a_place_for_figures_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing here\n")

    with pytest.raises(NotMeasuredError, match="no part between"):
        put_into(page, [_figure()])


def test_the_table_in_markdown_has_one_row_a_figure() -> None:
    table = as_markdown([_figure("one"), _figure("two", reference=4.0)])

    assert [line.split("|")[1].strip() for line in table.splitlines()] == ["figure", "---", "`one`", "`two`"]


def test_the_page_about_benchmarks_names_every_bench_and_has_a_place_for_figures() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()

    assert BEGIN in page
    assert END in page
    for name in benches.names():
        assert f"`{name}`" in page

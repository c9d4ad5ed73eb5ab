"""The tables that are written in bulk: columns, types and natural keys, as the migrations make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What a writer must know of a table.

    Attributes
    ----------
    name
        As in SQL, without quotes.
    columns
        Name to type, in the order of the table.
    key
        The natural key that names a row.
    day
        The time column whose UTC day names the partition; None where the table is in one piece.
    """

    name: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    day: str | None = None


def partition_name(table: str, day: int) -> str:
    """Name the partition of a day, counted since the epoch."""
    return f"{table}_{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y%m%d}"


def _table(name: str, columns: str, *, key: str, day: str | None = None) -> Table:
    pairs = (column.partition(" ")[::2] for column in " ".join(columns.split()).split(", "))
    return Table(
        name=name,
        columns=MappingProxyType(dict(pairs)),
        key=tuple(key.split(", ")),
        day=day,
    )


_ALL = (
    _table(
        "rollingChartData",
        """
        id bigint, symbol varchar(20), timestamp timestamptz, open numeric(20,8), high numeric(20,8),
        low numeric(20,8), close numeric(20,8), volume numeric(20,8), rsi numeric(10,4), macd numeric(15,8),
        bollinger_upper numeric(20,8), bollinger_lower numeric(20,8), stochastic_k numeric(10,4),
        stochastic_d numeric(10,4), volatility numeric(10,6), is_complete boolean, created_at timestamptz,
        origin varchar(12), written_at timestamptz, extra jsonb
        """,
        key="symbol, timestamp",
        day="timestamp",
    ),
    _table(
        "ml_features",
        """
        timestamp timestamptz, close double precision, is_complete boolean, symbol varchar(20),
        schema_hash varchar(64), vector real[]
        """,
        key="symbol, timestamp",
        day="timestamp",
    ),
    _table(
        "mlTrainingSamples",
        """
        id bigint, symbol varchar(20), features jsonb, target numeric(10,6), forecast_horizon integer,
        created_at timestamptz, metadata jsonb, timestamp timestamptz, known_at timestamptz,
        written_at timestamptz
        """,
        key="symbol, timestamp, forecast_horizon",
        day="timestamp",
    ),
    _table(
        "persistentForecasts",
        """
        id bigint, symbol varchar(20), forecast_type varchar(30), confidence numeric(5,2),
        predicted_value numeric(15,8), actual_value numeric(15,8), forecast_horizon integer,
        model_version varchar(50), created_at timestamptz, expires_at timestamptz, regime varchar(10),
        reason varchar(40), scored_at timestamptz, missing_reason varchar(20), written_at timestamptz,
        lower_80 numeric(15,8), upper_80 numeric(15,8), lower_95 numeric(15,8), upper_95 numeric(15,8)
        """,
        key="symbol, forecast_type, forecast_horizon, created_at",
        day="created_at",
    ),
    _table(
        "forecastScoreSums",
        """
        symbol varchar(20), forecast_horizon integer, day timestamptz, sums jsonb, written_at timestamptz
        """,
        key="symbol, forecast_horizon, day",
    ),
    _table(
        "tradeSimulations",
        """
        id bigint, symbol varchar(20), signal_type varchar(10), entry_price numeric(20,8),
        tp_price numeric(20,8), sl_price numeric(20,8), current_price numeric(20,8), confidence integer,
        profit_likelihood integer, real_time_pnl numeric(10,4), highest_profit numeric(10,4),
        lowest_loss numeric(10,4), profitable_minutes integer, total_minutes integer, is_active boolean,
        created_at timestamptz, completed_at timestamptz, strategy varchar(30), forecast_horizon integer,
        model_version varchar(50), entered_at timestamptz, exit_price numeric(20,8), exit_reason varchar(30),
        fee_bps numeric(10,4), slippage_bps numeric(10,4), last_candle_at timestamptz, written_at timestamptz
        """,
        key="symbol, strategy, created_at",
    ),
    _table(
        "mlTrainingBatches",
        """
        id bigint, batch_id varchar(50), symbol varchar(20), model_type varchar(30), training_samples integer,
        validation_samples integer, rmse numeric(10,6), mae numeric(10,6), accuracy numeric(5,4),
        model_path varchar(255), is_production boolean, created_at timestamptz, model_version varchar(50),
        forecast_horizon integer, effective_from timestamptz, artifact_sha256 varchar(64),
        train_start timestamptz, train_end timestamptz, baseline_rmse numeric(10,6), promoted boolean,
        promotion_reason text, written_at timestamptz
        """,
        key="batch_id",
    ),
    _table(
        "ml_models",
        """
        id bigint, name varchar(255), model_type varchar(50), status varchar(50), created_at timestamptz,
        updated_at timestamptz, is_deleted boolean, deleted_at timestamptz, target_variable varchar(100),
        target_operator varchar(10), target_value numeric(20,8), future_minutes integer,
        train_start timestamptz, train_end timestamptz, test_size numeric(3,2), random_state integer,
        features_csv text, phases_csv text, params_csv text, feature_importance_csv text,
        training_accuracy numeric(5,4), training_f1 numeric(5,4), training_precision numeric(5,4),
        training_recall numeric(5,4), model_file_path text, description text, model_version varchar(50),
        symbol varchar(20), forecast_horizon integer, effective_from timestamptz, superseded_at timestamptz,
        is_production boolean, artifact_sha256 varchar(64), schema_hash varchar(64), metrics jsonb,
        rmse numeric(10,6), mae numeric(10,6), baseline_rmse numeric(10,6), train_seconds double precision,
        recipe_hash varchar(64), rolled_back_at timestamptz
        """,
        key="model_version",
    ),
    _table(
        "model_terms",
        """
        symbol varchar(20), forecast_horizon integer, model_type varchar(50), number integer,
        model_version varchar(50), effective_from timestamptz, superseded_at timestamptz, reason text,
        decided_by varchar(100), written_at timestamptz
        """,
        key="symbol, forecast_horizon, model_type, number",
    ),
    _table(
        "model_challenges",
        """
        model_version varchar(50), symbol varchar(20), forecast_horizon integer, model_type varchar(50),
        challenger_from timestamptz, challenger_until timestamptz, outcome varchar(10),
        incumbent varchar(50), is_refresh boolean, reason text, evidence jsonb, written_at timestamptz
        """,
        key="model_version",
    ),
    _table(
        "challengerForecasts",
        """
        symbol varchar(20), forecast_horizon integer, created_at timestamptz, model_version varchar(50),
        predicted_value numeric(15,8), probability_up double precision, written_at timestamptz
        """,
        key="symbol, forecast_horizon, created_at, model_version",
        day="created_at",
    ),
    _table(
        "ml_jobs",
        """
        id bigint, job_type varchar(20), status varchar(20), priority integer, created_at timestamptz,
        started_at timestamptz, completed_at timestamptz, progress numeric(3,2), progress_msg text,
        error_msg text, worker_id varchar(100), train_target_var varchar(100), train_operator varchar(10),
        train_value numeric(20,8), train_start timestamptz, train_end timestamptz, train_features_csv text,
        train_phases_csv text, train_params_csv text, train_model_type varchar(50), result_model_id bigint,
        test_model_id bigint, test_start timestamptz, test_end timestamptz, result_test_id bigint,
        compare_model_a_id bigint, compare_model_b_id bigint, compare_start timestamptz,
        compare_end timestamptz, result_comparison_id bigint, symbol varchar(20), forecast_horizon integer,
        train_at timestamptz, attempts integer, heartbeat_at timestamptz, settings jsonb
        """,
        key="job_type, symbol, forecast_horizon, train_model_type, train_at",
    ),
    _table(
        "systemLogs",
        """
        id bigint, category varchar(50), subcategory varchar(50), level varchar(10), message text,
        context jsonb, symbol varchar(20), timestamp timestamptz, stack_trace text
        """,
        key="id",
    ),
    _table(
        "recoveryState",
        """
        id bigint, service_name varchar(50), operation_id varchar(100), state_data jsonb,
        checkpoint_type varchar(30), created_at timestamptz, partition integer, position_sequence bigint,
        position_row integer, event_time timestamptz, outbox_sequence bigint, state_version integer,
        snapshot bytea, positions jsonb, written_at timestamptz
        """,
        key="service_name, operation_id",
    ),
    _table(
        "outbox",
        """
        topic varchar(50), partition integer, sequence bigint, event_from timestamptz, event_to timestamptz,
        payload bytea, written_at timestamptz
        """,
        key="topic, partition, sequence",
    ),
    _table(
        "dead_letters",
        """
        id bigint, kind varchar(50), exchange varchar(30), symbol varchar(20), raw bytea, error text,
        received_at timestamptz, replayed_at timestamptz
        """,
        key="id",
    ),
    _table(
        "backfill_requests",
        """
        id bigint, symbol varchar(20), from_at timestamptz, to_at timestamptz, requested_by varchar(50),
        created_at timestamptz, done_at timestamptz, result text
        """,
        key="symbol, from_at, to_at, created_at",
    ),
    _table(
        "driftChecks",
        """
        at timestamptz, train_at timestamptz, value double precision, threshold double precision,
        forecast_horizon integer, drifted boolean, symbol varchar(20), kind varchar(20), subject varchar(50),
        statistic varchar(20), reaction varchar(100), written_at timestamptz
        """,
        key="at, symbol, kind, subject, forecast_horizon, statistic",
    ),
    _table(
        "anomalies",
        """
        timestamp timestamptz, value double precision, threshold double precision, created_at timestamptz,
        symbol varchar(20), kind varchar(20), written_at timestamptz
        """,
        key="symbol, timestamp, kind",
    ),
)

TABLES: Mapping[str, Table] = MappingProxyType({table.name: table for table in _ALL})

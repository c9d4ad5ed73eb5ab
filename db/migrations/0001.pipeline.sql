-- What the five workers write: candles, vectors, samples, forecasts, trades.
--
-- Columns come in the order of the documents, ours after them. Times are event times (see created_at below)
-- but for written_at, which is the wall clock of the first write. Partitions are made by db/partitions.py.
-- Keys compare by bytes: quicker, and in the same order on every server whatever its locale.

CREATE TABLE "rollingChartData" (
    id bigserial NOT NULL,
    symbol varchar(20) COLLATE "C" NOT NULL,
    "timestamp" timestamptz NOT NULL,
    open numeric(20,8) NOT NULL,
    high numeric(20,8) NOT NULL,
    low numeric(20,8) NOT NULL,
    close numeric(20,8) NOT NULL,
    volume numeric(20,8) NOT NULL,
    rsi numeric(10,4),
    macd numeric(15,8),
    bollinger_upper numeric(20,8),
    bollinger_lower numeric(20,8),
    stochastic_k numeric(10,4),
    stochastic_d numeric(10,4),
    volatility numeric(10,6),
    is_complete boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    origin varchar(12) NOT NULL DEFAULT 'traded',
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT chart_key UNIQUE (symbol, "timestamp"),
    CONSTRAINT chart_high CHECK (high >= low AND high >= open AND high >= close),
    CONSTRAINT chart_low CHECK (low >= 0 AND low <= open AND low <= close),
    CONSTRAINT chart_volume CHECK (volume >= 0),
    CONSTRAINT chart_rsi CHECK (rsi BETWEEN 0 AND 100),
    CONSTRAINT chart_bollinger CHECK (bollinger_upper >= bollinger_lower),
    CONSTRAINT chart_stochastic CHECK (stochastic_k BETWEEN 0 AND 100 AND stochastic_d BETWEEN 0 AND 100),
    CONSTRAINT chart_volatility CHECK (volatility >= 0),
    CONSTRAINT chart_origin CHECK (origin IN ('traded', 'backfilled', 'synthetic', 'revised'))
) PARTITION BY RANGE ("timestamp");

-- A row costs one nextval otherwise.
ALTER SEQUENCE "rollingChartData_id_seq" CACHE 100;

-- "The last hour of all symbols": rows lie in the order of time, so a few kilobytes of block ranges do.
CREATE INDEX chart_time ON "rollingChartData" USING brin ("timestamp") WITH (pages_per_range = 16);

COMMENT ON TABLE "rollingChartData" IS 'Closed one-minute candles with the classic indicators';
COMMENT ON COLUMN "rollingChartData"."timestamp" IS 'open time of the minute';
COMMENT ON COLUMN "rollingChartData".created_at IS 'event time of the row: open time + 60 s';
COMMENT ON COLUMN "rollingChartData".origin IS
    'traded (live), backfilled (fetched later), synthetic (nothing traded), revised (changed by the exchange)';

-- Fixed-width columns first: this is the widest table that has no document to follow.
CREATE TABLE ml_features (
    "timestamp" timestamptz NOT NULL,
    close double precision NOT NULL,
    is_complete boolean NOT NULL,
    symbol varchar(20) COLLATE "C" NOT NULL,
    schema_hash varchar(64) NOT NULL,
    vector real[] NOT NULL,
    CONSTRAINT ml_features_pkey PRIMARY KEY (symbol, "timestamp")
) PARTITION BY RANGE ("timestamp");

-- float32 noise does not compress; do not try.
ALTER TABLE ml_features ALTER COLUMN vector SET STORAGE EXTERNAL;

COMMENT ON TABLE ml_features IS 'The vectors that models were served and are trained on; NaN where a feature is not warm';

CREATE TABLE "mlTrainingSamples" (
    id bigserial NOT NULL,
    symbol varchar(20) COLLATE "C" NOT NULL,
    features jsonb NOT NULL,
    target numeric(10,6),
    forecast_horizon integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    metadata jsonb,
    "timestamp" timestamptz NOT NULL,
    known_at timestamptz NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sample_key UNIQUE (symbol, "timestamp", forecast_horizon),
    CONSTRAINT sample_horizon CHECK (forecast_horizon > 0),
    CONSTRAINT sample_known CHECK (known_at > "timestamp")
) PARTITION BY RANGE ("timestamp");

ALTER SEQUENCE "mlTrainingSamples_id_seq" CACHE 100;

-- Compressing a sample costs twice what storing it costs.
ALTER TABLE "mlTrainingSamples" ALTER COLUMN features SET STORAGE EXTERNAL;

COMMENT ON TABLE "mlTrainingSamples" IS
    'Vectors by name with what happened later, for people (thinned by a setting); training reads ml_features';
COMMENT ON COLUMN "mlTrainingSamples".target IS 'percent change of the close, forecast_horizon minutes later';
COMMENT ON COLUMN "mlTrainingSamples".known_at IS 'event time at which the target was known';

CREATE TABLE "persistentForecasts" (
    id bigserial NOT NULL,
    symbol varchar(20) COLLATE "C" NOT NULL,
    forecast_type varchar(30) COLLATE "C" NOT NULL,
    confidence numeric(5,2),
    predicted_value numeric(15,8),
    actual_value numeric(15,8),
    forecast_horizon integer NOT NULL,
    model_version varchar(50) NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    regime varchar(10),
    reason varchar(40),
    scored_at timestamptz,
    missing_reason varchar(20),
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT forecast_key UNIQUE (symbol, forecast_type, forecast_horizon, created_at),
    CONSTRAINT forecast_types CHECK (forecast_type IN ('price_direction', 'volatility', 'trend')),
    CONSTRAINT forecast_confidence CHECK (confidence BETWEEN 0 AND 100),
    CONSTRAINT forecast_horizons CHECK (forecast_horizon > 0),
    CONSTRAINT forecast_expiry CHECK (expires_at > created_at),
    CONSTRAINT forecast_regime CHECK (regime IN ('trending', 'ranging', 'volatile'))
) PARTITION BY RANGE (created_at);

ALTER SEQUENCE "persistentForecasts_id_seq" CACHE 1000;

CREATE INDEX forecast_time ON "persistentForecasts" USING brin (created_at) WITH (pages_per_range = 16);

COMMENT ON COLUMN "persistentForecasts".confidence IS 'as issued, 0..100; "persistentForecastsNow" has it decayed';
COMMENT ON COLUMN "persistentForecasts".actual_value IS
    'the same quantity once known; NULL before, and for good where missing_reason says why';
COMMENT ON COLUMN "persistentForecasts".reason IS 'why nothing may be done on it (no model, warming, ...)';

CREATE TABLE "tradeSimulations" (
    id bigserial PRIMARY KEY,
    symbol varchar(20) COLLATE "C" NOT NULL,
    signal_type varchar(10) NOT NULL,
    entry_price numeric(20,8) NOT NULL,
    tp_price numeric(20,8),
    sl_price numeric(20,8),
    current_price numeric(20,8),
    confidence integer,
    profit_likelihood integer,
    real_time_pnl numeric(10,4),
    highest_profit numeric(10,4),
    lowest_loss numeric(10,4),
    profitable_minutes integer NOT NULL DEFAULT 0,
    total_minutes integer NOT NULL DEFAULT 0,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    strategy varchar(30) COLLATE "C" NOT NULL DEFAULT 'default',
    forecast_horizon integer,
    model_version varchar(50),
    entered_at timestamptz,
    exit_price numeric(20,8),
    exit_reason varchar(30),
    fee_bps numeric(10,4),
    slippage_bps numeric(10,4),
    last_candle_at timestamptz,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT trade_key UNIQUE (symbol, strategy, created_at),
    -- Looked at when the transaction ends, so that one batch may end a trade and open the next.
    CONSTRAINT trade_one_active EXCLUDE (symbol WITH =, strategy WITH =) WHERE (is_active)
        DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT trade_signal CHECK (signal_type IN ('LONG', 'SHORT', 'WAIT')),
    CONSTRAINT trade_prices CHECK (entry_price >= 0 AND tp_price >= 0 AND sl_price >= 0 AND current_price >= 0),
    CONSTRAINT trade_confidence CHECK (confidence BETWEEN 0 AND 100),
    CONSTRAINT trade_likelihood CHECK (profit_likelihood BETWEEN 0 AND 100),
    CONSTRAINT trade_extremes CHECK (highest_profit >= lowest_loss),
    CONSTRAINT trade_minutes CHECK (profitable_minutes BETWEEN 0 AND total_minutes),
    CONSTRAINT trade_horizon CHECK (forecast_horizon > 0),
    CONSTRAINT trade_end CHECK (completed_at >= created_at),
    CONSTRAINT trade_ended CHECK (is_active = (completed_at IS NULL))
);

CREATE INDEX trade_time ON "tradeSimulations" (created_at);

COMMENT ON COLUMN "tradeSimulations".real_time_pnl IS 'percent after fees, from closes';
COMMENT ON COLUMN "tradeSimulations".created_at IS 'event time of the signal; entered_at is the next candle';

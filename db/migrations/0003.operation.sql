-- What keeps the pipeline going: checkpoints, the outbox, logs, parked input, and whose data this is.

CREATE TABLE "systemLogs" (
    id bigserial PRIMARY KEY,
    category varchar(50) NOT NULL,
    subcategory varchar(50),
    level varchar(10) NOT NULL,
    message text NOT NULL,
    context jsonb,
    symbol varchar(20),
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    stack_trace text,
    CONSTRAINT log_level CHECK (level IN ('debug', 'info', 'warning', 'error', 'critical'))
);

CREATE INDEX log_time ON "systemLogs" ("timestamp");
CREATE INDEX log_trouble ON "systemLogs" ("timestamp") WHERE level IN ('warning', 'error', 'critical');

CREATE TABLE "recoveryState" (
    id bigserial PRIMARY KEY,
    service_name varchar(50) NOT NULL,
    operation_id varchar(100) NOT NULL,
    state_data jsonb,
    checkpoint_type varchar(30) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    partition integer NOT NULL DEFAULT 0,
    position_sequence bigint,
    position_row integer,
    event_time timestamptz,
    outbox_sequence bigint,
    state_version integer,
    snapshot bytea,
    positions jsonb,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT recovery_key UNIQUE (service_name, operation_id),
    CONSTRAINT recovery_type CHECK (checkpoint_type IN ('success', 'error', 'intermediate'))
) WITH (fillfactor = 70);

-- A few rows a service, rewritten with every batch: no other index, so that the rewrite stays on its page.
ALTER TABLE "recoveryState" ALTER COLUMN snapshot SET STORAGE EXTERNAL;

CREATE TABLE outbox (
    topic varchar(50) NOT NULL,
    partition integer NOT NULL,
    sequence bigint NOT NULL,
    event_from timestamptz NOT NULL,
    event_to timestamptz NOT NULL,
    payload bytea NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, sequence)
);

ALTER TABLE outbox ALTER COLUMN payload SET STORAGE EXTERNAL;

CREATE TABLE dead_letters (
    id bigserial PRIMARY KEY,
    kind varchar(50) NOT NULL,
    exchange varchar(30),
    symbol varchar(20),
    raw bytea NOT NULL,
    error text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    replayed_at timestamptz
);

CREATE INDEX dead_letter_open ON dead_letters (id) WHERE replayed_at IS NULL OR replayed_at = 'infinity';

COMMENT ON COLUMN dead_letters.replayed_at IS 'infinity: to be read again; a time: was read again';

CREATE TABLE backfill_requests (
    id bigserial PRIMARY KEY,
    symbol varchar(20) NOT NULL,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL,
    requested_by varchar(50) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    result text,
    CONSTRAINT backfill_key UNIQUE (symbol, from_at, to_at, created_at),
    CONSTRAINT backfill_span CHECK (from_at <= to_at)
);

CREATE INDEX backfill_open ON backfill_requests (created_at) WHERE done_at IS NULL;

CREATE TABLE deployment (
    is_only boolean PRIMARY KEY DEFAULT true,
    exchange varchar(30) NOT NULL,
    market varchar(200) NOT NULL,
    seed bigint,
    partitions integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT deployment_single CHECK (is_only),
    CONSTRAINT deployment_partitions CHECK (partitions > 0)
);

COMMENT ON TABLE deployment IS 'One row, written at birth: these tables hold the data of this market and no other';

-- A live market decays by the wall clock; a simulated or recorded one by how far its candles have come.
CREATE FUNCTION pipeline_now() RETURNS timestamptz LANGUAGE sql STABLE AS '
    SELECT CASE WHEN (SELECT market FROM deployment) = ''live'' THEN now()
           ELSE COALESCE((SELECT max(event_time) + interval ''1 minute'' FROM "recoveryState"), now()) END
';

-- Horizons reach up to a week, so older forecasts are not looked at.
CREATE VIEW "persistentForecastsNow" AS
SELECT f.id, f.symbol, f.forecast_type, f.forecast_horizon, f.predicted_value, f.confidence AS issued_confidence,
       round(f.confidence * power(0.95, EXTRACT(EPOCH FROM clock.moment - f.created_at)::numeric / 60
                                        / greatest(1, f.forecast_horizon / 60.0)), 2) AS confidence,
       f.model_version, f.regime, f.reason, f.created_at, f.expires_at
FROM (SELECT pipeline_now() AS moment) AS clock
JOIN "persistentForecasts" AS f
  ON f.created_at <= clock.moment AND f.expires_at > clock.moment AND f.created_at > clock.moment - interval '7 days';

COMMENT ON VIEW "persistentForecastsNow" IS 'Open forecasts with their confidence as it has decayed by now';

-- What the drift detectors found, and single candles that stand out.

CREATE TABLE "driftChecks" (
    at timestamptz NOT NULL,
    train_at timestamptz,
    value double precision NOT NULL,
    threshold double precision NOT NULL,
    forecast_horizon integer NOT NULL,
    drifted boolean NOT NULL,
    symbol varchar(20) COLLATE "C" NOT NULL,
    kind varchar(20) COLLATE "C" NOT NULL,
    subject varchar(50) COLLATE "C" NOT NULL,
    statistic varchar(20) COLLATE "C" NOT NULL,
    reaction varchar(100),
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT drift_check_key PRIMARY KEY (at, symbol, kind, subject, forecast_horizon, statistic),
    CONSTRAINT drift_check_kind CHECK (kind IN ('features', 'error', 'brier', 'coverage')),
    CONSTRAINT drift_check_horizon CHECK (forecast_horizon >= 0),
    CONSTRAINT drift_check_training CHECK (train_at IS NULL OR drifted)
);

CREATE INDEX drift_check_found ON "driftChecks" (at) WHERE drifted;
CREATE INDEX drift_check_training ON "driftChecks" (train_at) WHERE train_at IS NOT NULL;

COMMENT ON TABLE "driftChecks" IS 'One row for every look of a drift detector that is told; drifted says what it found';
COMMENT ON COLUMN "driftChecks".symbol IS 'ALL where several symbols are judged as one';
COMMENT ON COLUMN "driftChecks".subject IS 'the feature (features: all of them) or the model version';
COMMENT ON COLUMN "driftChecks".forecast_horizon IS 'minutes; 0 for features';
COMMENT ON COLUMN "driftChecks".reaction IS 'what follows, several separated by commas; NULL: nothing';
COMMENT ON COLUMN "driftChecks".train_at IS 'event time at which the training is due that this drift asks for';

CREATE TABLE anomalies (
    "timestamp" timestamptz NOT NULL,
    value double precision NOT NULL,
    threshold double precision NOT NULL,
    created_at timestamptz NOT NULL,
    symbol varchar(20) COLLATE "C" NOT NULL,
    kind varchar(20) COLLATE "C" NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT anomaly_key PRIMARY KEY (symbol, "timestamp", kind),
    CONSTRAINT anomaly_kind CHECK (kind IN ('spike', 'burst', 'frozen', 'repeated'))
);

CREATE INDEX anomaly_time ON anomalies ("timestamp");

COMMENT ON TABLE anomalies IS 'Candles that stand out; a candle has one row for each way in which it does';
COMMENT ON COLUMN anomalies.value IS
    'spike: move over the usual move; burst: usual deviations of the log volume; frozen: minutes; repeated: candles';

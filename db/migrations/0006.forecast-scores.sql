-- Every forecast has intervals, and every version a score for each symbol, type, horizon and day.

ALTER TABLE "persistentForecasts"
    ADD COLUMN lower_80 numeric(15,8), ADD COLUMN upper_80 numeric(15,8),
    ADD COLUMN lower_95 numeric(15,8), ADD COLUMN upper_95 numeric(15,8),
    ADD CONSTRAINT forecast_interval CHECK (lower_80 <= upper_80 AND lower_95 <= lower_80 AND upper_80 <= upper_95);

COMMENT ON COLUMN "persistentForecasts".lower_80 IS
    'the outcome lies between lower_80 and upper_80 in 80 of 100 cases; as stated, NULL in rows older than this column';

CREATE OR REPLACE VIEW "persistentForecastsNow" AS
SELECT f.id, f.symbol, f.forecast_type, f.forecast_horizon, f.predicted_value, f.confidence AS issued_confidence,
       round(f.confidence * power(clock.decay, EXTRACT(EPOCH FROM clock.moment - f.created_at)::numeric / 60
                                               / greatest(1, f.forecast_horizon / 60.0)), 2) AS confidence,
       f.model_version, f.regime, f.reason, f.created_at, f.expires_at,
       f.lower_80, f.upper_80, f.lower_95, f.upper_95
FROM (SELECT pipeline_now() AS moment,
             COALESCE((SELECT confidence_decay FROM deployment), 0.95)::numeric AS decay) AS clock
JOIN "persistentForecasts" AS f
  ON f.created_at <= clock.moment AND f.expires_at > clock.moment AND f.created_at > clock.moment - interval '7 days';

-- Written whole by the forecaster with the outcomes that it adds up. A row is rewritten every minute of its day:
-- room on the page, and no index but the key, keep the rewrite on its page.
CREATE TABLE "forecastScores" (
    model_version varchar(50) COLLATE "C" NOT NULL,
    symbol varchar(20) COLLATE "C" NOT NULL,
    forecast_type varchar(30) COLLATE "C" NOT NULL,
    forecast_horizon integer NOT NULL,
    day timestamptz NOT NULL,
    n integer NOT NULL,
    moved integer NOT NULL,
    hits double precision NOT NULL,
    sum_squared_error double precision NOT NULL,
    sum_absolute_error double precision NOT NULL,
    sum_no_change_squared double precision NOT NULL,
    sum_brier double precision NOT NULL,
    covered_80 integer NOT NULL,
    covered_95 integer NOT NULL,
    sum_width_80 double precision NOT NULL,
    sum_width_95 double precision NOT NULL,
    sum_interval_score_80 double precision NOT NULL,
    sum_interval_score_95 double precision NOT NULL,
    first_scored_at timestamptz NOT NULL,
    last_scored_at timestamptz NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT score_key PRIMARY KEY (symbol, forecast_type, forecast_horizon, day, model_version),
    CONSTRAINT score_counts CHECK (n > 0 AND hits <= moved AND moved <= n AND covered_80 <= covered_95
        AND covered_95 <= n)
) WITH (fillfactor = 50);

COMMENT ON TABLE "forecastScores" IS
    'Sums over the outcomes of a day, from which every score is made; "forecastScoreSummary" has the scores';
COMMENT ON COLUMN "forecastScores".day IS
    'midnight UTC of the day in which the outcomes were known (scored_at), not of the day of the forecasts';
COMMENT ON COLUMN "forecastScores".moved IS
    'outcomes that have a direction: not exactly zero; of a volatility all';
COMMENT ON COLUMN "forecastScores".hits IS
    'of those, the ones of the stated sign, half a hit where zero was stated; volatility: within a quarter of it';
COMMENT ON COLUMN "forecastScores".sum_no_change_squared IS
    'squared errors of "no change": 0, or of a volatility the one of the last forecast_horizon minutes';
COMMENT ON COLUMN "forecastScores".sum_brier IS
    '(confidence / 100 - hit)^2 over the outcomes counted by moved, 0.25 where zero was stated';

CREATE VIEW "forecastScoreSummary" AS
SELECT model_version, symbol, forecast_type, forecast_horizon, day, n,
       sqrt(sum_squared_error / n) AS rmse, sum_absolute_error / n AS mae,
       1 - sum_squared_error / NULLIF(sum_no_change_squared, 0) AS skill,
       hits / NULLIF(moved, 0) AS accuracy, sum_brier / NULLIF(moved, 0) AS brier,
       covered_80::double precision / n AS coverage_80, covered_95::double precision / n AS coverage_95,
       sum_width_80 / n AS width_80, sum_width_95 / n AS width_95,
       sum_interval_score_80 / n AS interval_score_80, sum_interval_score_95 / n AS interval_score_95,
       first_scored_at, last_scored_at
FROM "forecastScores";

COMMENT ON VIEW "forecastScoreSummary" IS
    'Scores by version, symbol, type, horizon and day; skill is against the forecast of no change';

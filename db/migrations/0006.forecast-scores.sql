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

-- Written whole, every minute of its day, by the forecaster: with the outcomes that it adds up. So three types
-- of forecast and all versions share a row, which costs a third of rows of their own; room on the page and no
-- index but the key keep the rewrite on its page.
CREATE TABLE "forecastScoreSums" (
    symbol varchar(20) COLLATE "C" NOT NULL,
    forecast_horizon integer NOT NULL,
    day timestamptz NOT NULL,
    sums jsonb NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT score_key PRIMARY KEY (symbol, forecast_horizon, day),
    CONSTRAINT score_day CHECK (extract(epoch FROM day)::bigint % 86400 = 0)
) WITH (fillfactor = 50);

-- Compressing a row a minute costs more than it saves.
ALTER TABLE "forecastScoreSums" ALTER COLUMN sums SET STORAGE EXTERNAL;

COMMENT ON TABLE "forecastScoreSums" IS 'What "forecastScores" is made of: one row a symbol, horizon and day';
COMMENT ON COLUMN "forecastScoreSums".sums IS
    '[[forecast_type, model_version, [numbers in the order of the columns of "forecastScores"]], ...]';

CREATE VIEW "forecastScores" AS
SELECT entry->>1 AS model_version, symbol, entry->>0 AS forecast_type, forecast_horizon, day,
       (entry->2->0)::integer AS n,
       (entry->2->1)::integer AS moved,
       (entry->2->2)::double precision AS hits,
       (entry->2->3)::double precision AS sum_squared_error,
       (entry->2->4)::double precision AS sum_absolute_error,
       (entry->2->5)::double precision AS sum_no_change_squared,
       (entry->2->6)::double precision AS sum_brier,
       (entry->2->7)::integer AS covered_80,
       (entry->2->8)::integer AS covered_95,
       (entry->2->9)::double precision AS sum_width_80,
       (entry->2->10)::double precision AS sum_width_95,
       (entry->2->11)::double precision AS sum_interval_score_80,
       (entry->2->12)::double precision AS sum_interval_score_95,
       to_timestamp((entry->2->13)::double precision * 60) AS first_scored_at,
       to_timestamp((entry->2->14)::double precision * 60) AS last_scored_at
FROM "forecastScoreSums" CROSS JOIN LATERAL jsonb_array_elements(sums) AS entry;

COMMENT ON VIEW "forecastScores" IS
    'Sums over the outcomes of a day, complete to the minute; "forecastScoreSummary" has the scores made of them';
COMMENT ON COLUMN "forecastScores".day IS
    'midnight UTC of the day in which the outcomes were known (scored_at), not of the day of the forecasts';
COMMENT ON COLUMN "forecastScores".n IS
    'forecasts with an outcome; those of a price that came too late to act on (reason ''too old'') do not count';
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

-- How fast the confidence of a forecast decays is a setting; the view reads it where the forecaster leaves it.

ALTER TABLE deployment ADD COLUMN confidence_decay double precision NOT NULL DEFAULT 0.95,
    ADD CONSTRAINT deployment_decay CHECK (confidence_decay > 0 AND confidence_decay <= 1);

COMMENT ON COLUMN deployment.confidence_decay IS
    'share of a forecast''s confidence left after each minute; longer horizons decay slower';

CREATE OR REPLACE VIEW "persistentForecastsNow" AS
SELECT f.id, f.symbol, f.forecast_type, f.forecast_horizon, f.predicted_value, f.confidence AS issued_confidence,
       round(f.confidence * power(clock.decay, EXTRACT(EPOCH FROM clock.moment - f.created_at)::numeric / 60
                                               / greatest(1, f.forecast_horizon / 60.0)), 2) AS confidence,
       f.model_version, f.regime, f.reason, f.created_at, f.expires_at
FROM (SELECT pipeline_now() AS moment,
             COALESCE((SELECT confidence_decay FROM deployment), 0.95)::numeric AS decay) AS clock
JOIN "persistentForecasts" AS f
  ON f.created_at <= clock.moment AND f.expires_at > clock.moment AND f.created_at > clock.moment - interval '7 days';

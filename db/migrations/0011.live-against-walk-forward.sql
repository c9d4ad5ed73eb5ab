-- What a model earns live stands beside what it earned in its walk-forward validation.

CREATE VIEW "liveAgainstWalkForward" AS
WITH daily AS (
    SELECT model_version, forecast_horizon, day, sum(n) AS n, sum(moved) AS moved, sum(hits) AS hits,
           sum(sum_squared_error) AS squared_error, sum(sum_no_change_squared) AS no_change,
           sum(sum_brier) AS brier, min(first_scored_at) AS first_scored_at, max(last_scored_at) AS last_scored_at
    FROM "forecastScores" WHERE forecast_type = 'price_direction' GROUP BY 1, 2, 3
), live AS (
    SELECT model_version, forecast_horizon, count(*) AS days, sum(n) AS n, sum(moved) AS moved,
           sum(squared_error) AS squared_error, sum(no_change) AS no_change,
           1 - sum(squared_error) / NULLIF(sum(no_change), 0) AS skill,
           sum(hits) / NULLIF(sum(moved), 0) AS accuracy, sum(brier) / NULLIF(sum(moved), 0) AS brier,
           sum(no_change) ^ 2 / NULLIF(sum(no_change ^ 2 / n), 0) AS equally_wild,
           min(first_scored_at) AS first_scored_at, max(last_scored_at) AS last_scored_at
    FROM daily GROUP BY 1, 2
), spread AS (
    SELECT model_version, forecast_horizon,
           sqrt(live.days / (live.days - 1.0) * sum((daily.no_change - daily.squared_error
               - live.skill * daily.no_change) ^ 2)) / NULLIF(live.no_change, 0) AS skill,
           sqrt(live.days / (live.days - 1.0) * sum((daily.hits - live.accuracy * daily.moved) ^ 2))
               / NULLIF(live.moved, 0) AS accuracy,
           sqrt(live.days / (live.days - 1.0) * sum((daily.brier - live.brier * daily.moved) ^ 2))
               / NULLIF(live.moved, 0) AS brier
    FROM live JOIN daily USING (model_version, forecast_horizon)
    WHERE live.days >= 3
    GROUP BY 1, 2, live.days, live.no_change, live.moved
), known AS (
    SELECT model_version, symbol, forecast_horizon, model_type,
           (metrics #>> '{validation,rmse}')::double precision AS rmse,
           (metrics #>> '{baseline,rmse}')::double precision AS no_change_rmse,
           (metrics #>> '{validation,rows}')::double precision AS rows,
           (metrics #>> '{walk_forward,moved}')::double precision AS moved,
           (metrics #>> '{validation,skill}')::double precision AS skill,
           (metrics #>> '{walk_forward,skill_error}')::double precision AS skill_error,
           (metrics #>> '{validation,accuracy}')::double precision AS accuracy,
           (metrics #>> '{walk_forward,accuracy_error}')::double precision AS accuracy_error,
           (metrics #>> '{walk_forward,brier}')::double precision AS brier,
           (metrics #>> '{walk_forward,brier_error}')::double precision AS brier_error,
           (metrics #>> '{walk_forward,blocks}')::integer AS blocks
    FROM ml_models WHERE model_version IS NOT NULL
)
SELECT model_version, known.symbol, forecast_horizon, known.model_type AS family,
       live.n::bigint AS n, live.days, live.first_scored_at, live.last_scored_at,
       sqrt(live.squared_error / live.n) AS live_rmse, known.rmse AS walk_forward_rmse,
       sqrt(live.no_change / live.n) AS live_no_change_rmse, known.no_change_rmse AS walk_forward_no_change_rmse,
       live.skill AS live_skill, known.skill AS walk_forward_skill, known.skill - live.skill AS skill_gap,
       (known.skill - live.skill) / NULLIF(sqrt(known.skill_error ^ 2 + greatest(
           known.skill_error * sqrt(known.rows / NULLIF(live.equally_wild, 0)), spread.skill) ^ 2), 0) AS skill_z,
       live.accuracy AS live_accuracy, known.accuracy AS walk_forward_accuracy,
       known.accuracy - live.accuracy AS accuracy_gap,
       (known.accuracy - live.accuracy) / NULLIF(sqrt(known.accuracy_error ^ 2 + greatest(
           known.accuracy_error * sqrt(known.moved / NULLIF(live.moved, 0)), spread.accuracy) ^ 2), 0) AS accuracy_z,
       live.brier AS live_brier, known.brier AS walk_forward_brier, live.brier - known.brier AS brier_gap,
       (live.brier - known.brier) / NULLIF(sqrt(known.brier_error ^ 2 + greatest(
           known.brier_error * sqrt(known.moved / NULLIF(live.moved, 0)), spread.brier) ^ 2), 0) AS brier_z,
       known.rows::bigint AS walk_forward_n, known.blocks AS walk_forward_blocks
FROM live JOIN known USING (model_version, forecast_horizon)
LEFT JOIN spread USING (model_version, forecast_horizon);

COMMENT ON VIEW "liveAgainstWalkForward" IS
    'Live scores of every model beside those of its validation, complete to the minute; a gap above 0: live is worse';
COMMENT ON COLUMN "liveAgainstWalkForward".symbol IS 'whose model it is: ALL for one pooled over all symbols';
COMMENT ON COLUMN "liveAgainstWalkForward".n IS
    'live forecasts with an outcome: all that the model made in time, those that led to WAIT and those of a lowered'
    ' weight too; where the no-change forecast stood in for it, nothing counts';
COMMENT ON COLUMN "liveAgainstWalkForward".live_rmse IS
    'percent; it moves with the market, so compare it with live_no_change_rmse, not with walk_forward_rmse';
COMMENT ON COLUMN "liveAgainstWalkForward".skill_z IS
    'the gap in standard errors, of both sides, that allow for overlapping outcomes and for days that differ; NULL:'
    ' the validation held too few independent outcomes (walk_forward_blocks below 10), or the model is older';
COMMENT ON COLUMN "liveAgainstWalkForward".walk_forward_n IS
    'rows behind the training''s cut that the model was validated on, never learned from';

-- Drift of coverage is watched by interval.

COMMENT ON COLUMN "driftChecks".subject IS
    'the feature (features: all of them), the model version, or type of forecast and level (coverage)';

-- Indicators that a user adds by name, beside the fixed columns.

ALTER TABLE "rollingChartData" ADD COLUMN extra jsonb;

COMMENT ON COLUMN "rollingChartData".extra IS
    'user-added indicators (features.extra_indicators) by name, null while warming; NULL where none are wanted';

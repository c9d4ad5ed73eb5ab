-- What a confidence is the probability of.

COMMENT ON COLUMN "persistentForecasts".confidence IS
    'percent, as issued ("persistentForecastsNow" has it decayed): the chance that what is stated comes true. Price by a model: that the sign of predicted_value is right, below 50 where the odds point the other way; by last_value: that the close is the same to the last digit; volatility: that it is met within a quarter; trend: its sign';

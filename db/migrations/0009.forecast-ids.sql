-- `tidecast explain` looks a forecast up by its id, which no key has. Ids grow with time, so block ranges do.

CREATE INDEX forecast_id ON "persistentForecasts" USING brin (id) WITH (pages_per_range = 16);

-- What begins to serve begins behind every minute that may have been served without it.

CREATE TABLE serving_marks (
    partition integer PRIMARY KEY,
    trained varchar(20)[] NOT NULL,
    served_to timestamptz NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

COMMENT ON TABLE serving_marks IS
    'Up to which event time each partition of the inference worker may have served; what it serves begins behind that';
COMMENT ON COLUMN serving_marks.trained IS 'symbols whose own models it serves; ALL: it may be any';

INSERT INTO serving_marks (partition, trained, served_to)
SELECT partition, '{ALL}', event_time + interval '1 minute' FROM "recoveryState"
WHERE service_name = 'ml_inference' AND checkpoint_type = 'intermediate' AND event_time IS NOT NULL;

COMMENT ON COLUMN model_challenges.incumbent IS
    'what it was compared with; NULL: the no-change forecast, or nothing because the comparison failed';

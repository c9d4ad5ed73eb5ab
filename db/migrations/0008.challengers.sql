-- A new model is a challenger until a paired test on the minutes since has spoken; what served when is a row of its own.

ALTER TABLE ml_models
    ADD COLUMN recipe_hash varchar(64), ADD COLUMN rolled_back_at timestamptz,
    ADD CONSTRAINT model_rolled_back CHECK (rolled_back_at IS NULL OR NOT is_production);

COMMENT ON COLUMN ml_models.effective_from IS
    'event time from which it serves, or served last; NULL: it never has. "modelTimeline" has every time';
COMMENT ON COLUMN ml_models.recipe_hash IS
    'equal where family, settings, features and horizons are: such a model refreshes the one before it';
COMMENT ON COLUMN ml_models.rolled_back_at IS
    'event time from which it was taken out of production by hand; it is not promoted again by itself';

-- The terms of one symbol, horizon and type follow each other without a gap, so that every moment has one of them.
CREATE TABLE model_terms (
    symbol varchar(20) COLLATE "C" NOT NULL,
    forecast_horizon integer NOT NULL,
    model_type varchar(50) COLLATE "C" NOT NULL REFERENCES ref_model_types (name),
    number integer NOT NULL,
    model_version varchar(50) COLLATE "C" REFERENCES ml_models (model_version),
    effective_from timestamptz NOT NULL,
    superseded_at timestamptz,
    reason text NOT NULL,
    decided_by varchar(100) NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT term_key PRIMARY KEY (symbol, forecast_horizon, model_type, number),
    CONSTRAINT term_number CHECK (number > 0),
    CONSTRAINT term_span CHECK (superseded_at >= effective_from)
);

CREATE UNIQUE INDEX term_one_open ON model_terms (symbol, forecast_horizon, model_type) WHERE superseded_at IS NULL;
CREATE INDEX term_version ON model_terms (model_version);

COMMENT ON TABLE model_terms IS 'Which model was in production when, why, and who decided so; "modelTimeline" is for readers';
COMMENT ON COLUMN model_terms.model_version IS 'NULL: no model of this type, after a rollback';
COMMENT ON COLUMN model_terms.superseded_at IS
    'event time from which the next term counts; NULL: the last term. A term that ends as it begins never served';

INSERT INTO model_terms (symbol, forecast_horizon, model_type, number, model_version, effective_from, superseded_at,
                         reason, decided_by)
SELECT symbol, forecast_horizon, model_type,
       row_number() OVER (PARTITION BY symbol, forecast_horizon, model_type ORDER BY effective_from, id),
       model_version, effective_from, superseded_at, COALESCE(description, 'promoted'), 'training'
FROM ml_models WHERE effective_from IS NOT NULL AND model_version IS NOT NULL;

CREATE VIEW "modelTimeline" AS
SELECT term.symbol, term.forecast_horizon, term.model_type AS family,
       COALESCE(term.model_version, 'last_value') AS model_version, term.effective_from,
       COALESCE(term.superseded_at, 'infinity') AS effective_until, term.reason, term.decided_by
FROM model_terms AS term
WHERE term.superseded_at IS NULL OR term.superseded_at > term.effective_from;

COMMENT ON VIEW "modelTimeline" IS
    'What was in production when: effective_from <= created_at AND created_at < effective_until, event time';

CREATE TABLE model_challenges (
    model_version varchar(50) COLLATE "C" PRIMARY KEY REFERENCES ml_models (model_version),
    symbol varchar(20) COLLATE "C" NOT NULL,
    forecast_horizon integer NOT NULL,
    model_type varchar(50) COLLATE "C" NOT NULL REFERENCES ref_model_types (name),
    challenger_from timestamptz NOT NULL,
    challenger_until timestamptz NOT NULL,
    outcome varchar(10) NOT NULL DEFAULT 'RUNNING',
    incumbent varchar(50) COLLATE "C" REFERENCES ml_models (model_version),
    is_refresh boolean,
    reason text,
    evidence jsonb,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT challenge_span CHECK (challenger_from < challenger_until),
    CONSTRAINT challenge_outcome CHECK (outcome IN ('RUNNING', 'PROMOTED', 'REFUSED')),
    CONSTRAINT challenge_decided CHECK (outcome = 'RUNNING' OR reason IS NOT NULL)
);

CREATE INDEX challenge_running ON model_challenges (challenger_until) WHERE outcome = 'RUNNING';

COMMENT ON TABLE model_challenges IS 'New models beside those in production: event times of the shadow, and what came of it';
COMMENT ON COLUMN model_challenges.incumbent IS 'what it was compared with; NULL: the no-change forecast';
COMMENT ON COLUMN model_challenges.is_refresh IS 'of the same recipe: it had to be not worse; else it had to be better';
COMMENT ON COLUMN model_challenges.evidence IS 'the numbers of the paired test';

CREATE TABLE "challengerForecasts" (
    symbol varchar(20) COLLATE "C" NOT NULL,
    forecast_horizon integer NOT NULL,
    created_at timestamptz NOT NULL,
    model_version varchar(50) COLLATE "C" NOT NULL,
    predicted_value numeric(15,8) NOT NULL,
    probability_up double precision NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT challenger_forecast_key PRIMARY KEY (symbol, forecast_horizon, created_at, model_version),
    CONSTRAINT challenger_forecast_probability CHECK (probability_up BETWEEN 0 AND 1)
) PARTITION BY RANGE (created_at);

COMMENT ON TABLE "challengerForecasts" IS
    'What challengers would have said of every candle in their shadow; nobody acts on it';

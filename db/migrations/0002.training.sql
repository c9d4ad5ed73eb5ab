-- Models, their tests and the queue of jobs, as the training service's document has them, and what serving needs.

CREATE TABLE ref_model_types (
    id integer PRIMARY KEY,
    name varchar(50) NOT NULL UNIQUE,
    description text,
    default_params_csv text
);

INSERT INTO ref_model_types (id, name, description, default_params_csv) VALUES
    (1, 'random_forest', 'many independent trees, averaged', 'n_estimators=100;max_depth=10;min_samples_split=2'),
    (2, 'xgboost', 'boosted trees by histograms', 'n_estimators=100;max_depth=6;learning_rate=0.1'),
    (3, 'gradient_boosting', 'boosted trees, the classic way', 'n_estimators=100;max_depth=3;learning_rate=0.1'),
    (4, 'logistic_regression', 'linear, quick, interpretable', 'C=1.0;max_iter=100'),
    (5, 'neural_network', 'a multi-layer perceptron', 'hidden_layers=100,50;activation=relu;max_iter=200'),
    (6, 'lightgbm', 'boosted trees grown leaf by leaf', NULL),
    (7, 'catboost', 'boosted symmetric trees', NULL),
    (8, 'lstm', 'a recurrent network over the last minutes', NULL),
    (9, 'ensemble', 'a weighted vote of other models', NULL),
    (10, 'last_value', 'the no-change forecast that every model must beat', NULL);

-- Which model types there are is data: a new family is a row of ref_model_types.
CREATE TABLE ml_models (
    id bigserial PRIMARY KEY,
    name varchar(255) NOT NULL,
    model_type varchar(50) NOT NULL REFERENCES ref_model_types (name),
    status varchar(50) NOT NULL DEFAULT 'TRAINING',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    is_deleted boolean NOT NULL DEFAULT false,
    deleted_at timestamptz,
    target_variable varchar(100),
    target_operator varchar(10),
    target_value numeric(20,8),
    future_minutes integer,
    train_start timestamptz,
    train_end timestamptz,
    test_size numeric(3,2),
    random_state integer,
    features_csv text,
    phases_csv text,
    params_csv text,
    feature_importance_csv text,
    training_accuracy numeric(5,4),
    training_f1 numeric(5,4),
    training_precision numeric(5,4),
    training_recall numeric(5,4),
    model_file_path text,
    description text,
    model_version varchar(50) UNIQUE,
    symbol varchar(20),
    forecast_horizon integer,
    effective_from timestamptz,
    superseded_at timestamptz,
    is_production boolean NOT NULL DEFAULT false,
    artifact_sha256 varchar(64),
    schema_hash varchar(64),
    metrics jsonb,
    rmse numeric(10,6),
    mae numeric(10,6),
    baseline_rmse numeric(10,6),
    train_seconds double precision,
    CONSTRAINT model_status CHECK (status IN ('TRAINING', 'READY', 'FAILED')),
    CONSTRAINT model_operator CHECK (target_operator IN ('>', '<', '>=', '<=', '=')),
    CONSTRAINT model_future CHECK (future_minutes > 0),
    CONSTRAINT model_horizon CHECK (forecast_horizon > 0),
    CONSTRAINT model_trained CHECK (train_start < train_end),
    CONSTRAINT model_test_size CHECK (test_size > 0 AND test_size < 1),
    CONSTRAINT model_accuracy CHECK (training_accuracy BETWEEN 0 AND 1 AND training_f1 BETWEEN 0 AND 1
        AND training_precision BETWEEN 0 AND 1 AND training_recall BETWEEN 0 AND 1),
    CONSTRAINT model_errors CHECK (rmse >= 0 AND mae >= 0 AND baseline_rmse >= 0),
    CONSTRAINT model_deleted CHECK (is_deleted = (deleted_at IS NOT NULL)),
    -- A model that serves is whole: it has a version, a file and a time from which it serves.
    CONSTRAINT model_production CHECK (NOT is_production OR (status = 'READY' AND NOT is_deleted
        AND model_version IS NOT NULL AND artifact_sha256 IS NOT NULL AND effective_from IS NOT NULL
        AND superseded_at IS NULL)),
    CONSTRAINT model_served CHECK (superseded_at >= effective_from)
);

CREATE UNIQUE INDEX model_one_in_production ON ml_models (symbol, forecast_horizon, model_type) WHERE is_production;
CREATE INDEX model_serving ON ml_models (effective_from) WHERE effective_from IS NOT NULL;
CREATE INDEX idx_models_status ON ml_models (status);
CREATE INDEX idx_models_created ON ml_models (created_at DESC);

COMMENT ON COLUMN ml_models.symbol IS 'ALL for a model pooled over all symbols';
COMMENT ON COLUMN ml_models.effective_from IS 'event time from which it serves; NULL: it never has';
COMMENT ON COLUMN ml_models.superseded_at IS 'event time from which its successor serves';

CREATE TABLE "mlTrainingBatches" (
    id bigserial PRIMARY KEY,
    batch_id varchar(50) NOT NULL,
    symbol varchar(20) NOT NULL,
    model_type varchar(30) REFERENCES ref_model_types (name),
    training_samples integer NOT NULL,
    validation_samples integer NOT NULL,
    rmse numeric(10,6),
    mae numeric(10,6),
    accuracy numeric(5,4),
    model_path varchar(255),
    is_production boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    model_version varchar(50),
    forecast_horizon integer,
    effective_from timestamptz,
    artifact_sha256 varchar(64),
    train_start timestamptz,
    train_end timestamptz,
    baseline_rmse numeric(10,6),
    promoted boolean NOT NULL DEFAULT false,
    promotion_reason text,
    written_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT batch_key UNIQUE (batch_id),
    CONSTRAINT batch_samples CHECK (training_samples >= 0 AND validation_samples >= 0),
    CONSTRAINT batch_errors CHECK (rmse >= 0 AND mae >= 0 AND baseline_rmse >= 0),
    CONSTRAINT batch_accuracy CHECK (accuracy BETWEEN 0 AND 1),
    CONSTRAINT batch_horizon CHECK (forecast_horizon > 0),
    CONSTRAINT batch_trained CHECK (train_start < train_end)
);

CREATE INDEX batch_model ON "mlTrainingBatches" (symbol, forecast_horizon, created_at DESC);

COMMENT ON COLUMN "mlTrainingBatches".rmse IS 'percent, on the validation rows; baseline_rmse is the no-change forecast''s';
COMMENT ON COLUMN "mlTrainingBatches".is_production IS 'whether its model is in production now; promoted says whether it ever was';

CREATE TABLE ml_test_results (
    id bigserial PRIMARY KEY,
    model_id bigint NOT NULL REFERENCES ml_models (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    test_start timestamptz NOT NULL,
    test_end timestamptz NOT NULL,
    accuracy numeric(5,4),
    f1_score numeric(5,4),
    precision_score numeric(5,4),
    recall numeric(5,4),
    roc_auc numeric(5,4),
    tp integer,
    tn integer,
    fp integer,
    fn integer,
    num_samples integer,
    num_positive integer,
    num_negative integer,
    has_overlap boolean NOT NULL DEFAULT false,
    overlap_note text,
    feature_importance_csv text,
    CONSTRAINT test_span CHECK (test_start < test_end),
    CONSTRAINT test_scores CHECK (accuracy BETWEEN 0 AND 1 AND f1_score BETWEEN 0 AND 1
        AND precision_score BETWEEN 0 AND 1 AND recall BETWEEN 0 AND 1 AND roc_auc BETWEEN 0 AND 1),
    CONSTRAINT test_counts CHECK (tp >= 0 AND tn >= 0 AND fp >= 0 AND fn >= 0
        AND num_positive >= 0 AND num_negative >= 0 AND num_samples >= 0)
);

CREATE INDEX idx_test_results_model ON ml_test_results (model_id);
CREATE INDEX idx_test_results_created ON ml_test_results (created_at DESC);

CREATE TABLE ml_comparisons (
    id bigserial PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    model_a_id bigint NOT NULL REFERENCES ml_models (id),
    model_b_id bigint NOT NULL REFERENCES ml_models (id),
    test_start timestamptz NOT NULL,
    test_end timestamptz NOT NULL,
    num_samples integer,
    a_accuracy numeric(5,4),
    a_f1 numeric(5,4),
    a_precision numeric(5,4),
    a_recall numeric(5,4),
    b_accuracy numeric(5,4),
    b_f1 numeric(5,4),
    b_precision numeric(5,4),
    b_recall numeric(5,4),
    winner_id bigint REFERENCES ml_models (id),
    CONSTRAINT comparison_two CHECK (model_a_id <> model_b_id),
    CONSTRAINT comparison_span CHECK (test_start < test_end),
    CONSTRAINT comparison_winner CHECK (winner_id IN (model_a_id, model_b_id)),
    CONSTRAINT comparison_scores CHECK (a_accuracy BETWEEN 0 AND 1 AND a_f1 BETWEEN 0 AND 1
        AND a_precision BETWEEN 0 AND 1 AND a_recall BETWEEN 0 AND 1 AND b_accuracy BETWEEN 0 AND 1
        AND b_f1 BETWEEN 0 AND 1 AND b_precision BETWEEN 0 AND 1 AND b_recall BETWEEN 0 AND 1)
);

CREATE INDEX idx_comparisons_models ON ml_comparisons (model_a_id, model_b_id);

CREATE TABLE ml_jobs (
    id bigserial PRIMARY KEY,
    job_type varchar(20) NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'PENDING',
    priority integer NOT NULL DEFAULT 5,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    completed_at timestamptz,
    progress numeric(3,2) NOT NULL DEFAULT 0,
    progress_msg text,
    error_msg text,
    worker_id varchar(100),
    train_target_var varchar(100),
    train_operator varchar(10),
    train_value numeric(20,8),
    train_start timestamptz,
    train_end timestamptz,
    train_features_csv text,
    train_phases_csv text,
    train_params_csv text,
    train_model_type varchar(50) REFERENCES ref_model_types (name),
    result_model_id bigint REFERENCES ml_models (id),
    test_model_id bigint REFERENCES ml_models (id),
    test_start timestamptz,
    test_end timestamptz,
    result_test_id bigint REFERENCES ml_test_results (id),
    compare_model_a_id bigint REFERENCES ml_models (id),
    compare_model_b_id bigint REFERENCES ml_models (id),
    compare_start timestamptz,
    compare_end timestamptz,
    result_comparison_id bigint REFERENCES ml_comparisons (id),
    symbol varchar(20),
    forecast_horizon integer,
    train_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    heartbeat_at timestamptz,
    settings jsonb,
    CONSTRAINT job_types CHECK (job_type IN ('TRAIN', 'TEST', 'COMPARE')),
    CONSTRAINT job_status CHECK (status IN ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    CONSTRAINT job_priority CHECK (priority BETWEEN 1 AND 10),
    CONSTRAINT job_progress CHECK (progress BETWEEN 0 AND 1),
    CONSTRAINT job_operator CHECK (train_operator IN ('>', '<', '>=', '<=', '=')),
    CONSTRAINT job_horizon CHECK (forecast_horizon > 0),
    CONSTRAINT job_train_span CHECK (train_start < train_end),
    CONSTRAINT job_test_span CHECK (test_start < test_end),
    CONSTRAINT job_compare_span CHECK (compare_start < compare_end),
    CONSTRAINT job_compare_two CHECK (compare_model_a_id <> compare_model_b_id)
);

-- A training that the pipeline asks for is asked for once; one that a person asks for has no train_at.
CREATE UNIQUE INDEX job_key ON ml_jobs (job_type, symbol, forecast_horizon, train_model_type, train_at);
CREATE INDEX idx_jobs_status ON ml_jobs (status, priority, created_at);
CREATE INDEX job_unfinished ON ml_jobs (train_at) WHERE status IN ('PENDING', 'RUNNING');

COMMENT ON COLUMN ml_jobs.train_at IS 'event time T at which this training was due; it sees data up to T';
COMMENT ON COLUMN ml_jobs.priority IS '1 (first) to 10 (last)';

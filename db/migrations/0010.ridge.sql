-- A linear member of ensembles, which can be trained by itself too.

INSERT INTO ref_model_types (id, name, description) VALUES (11, 'ridge', 'linear, on standardised features')
ON CONFLICT DO NOTHING;

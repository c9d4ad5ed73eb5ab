"""SQL beside its row mapping, one module per group of tables."""

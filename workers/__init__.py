"""The five processes: wiring and nothing else."""

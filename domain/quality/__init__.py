"""Is the data complete, fresh and sane? One file is one check."""

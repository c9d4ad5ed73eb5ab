"""Model families, one file each, and what serves them."""

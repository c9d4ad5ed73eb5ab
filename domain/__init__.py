"""Pure computation, grouped by subject."""

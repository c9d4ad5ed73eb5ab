"""Values that cross a boundary."""

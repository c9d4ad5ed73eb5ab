"""Whether the market is still the one that the models learned from, and they are still right about it."""

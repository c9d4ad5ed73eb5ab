"""Simulated trades: signals, entries, exits and what they earn after fees."""

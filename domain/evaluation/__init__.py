"""Splits without leakage, and scores."""

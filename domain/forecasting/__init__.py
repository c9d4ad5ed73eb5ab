"""Forecasts: what is stated about the next minutes, how sure, and what became of it."""

"""Splits without leakage, scores, how sure they are, and whether there is evidence of skill."""

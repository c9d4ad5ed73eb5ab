"""The causality gate, and features that leak in many ways to try it on: each function's name says how."""

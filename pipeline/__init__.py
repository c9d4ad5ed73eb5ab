"""Stages: pure steps from events to rows and events."""

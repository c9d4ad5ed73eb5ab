"""Handlers of training jobs: the order of the steps."""

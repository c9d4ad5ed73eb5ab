"""The life of a process and the runner of stages."""

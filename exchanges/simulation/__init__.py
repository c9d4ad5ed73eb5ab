"""The parts of the simulated exchange: clock, tape, limits, faults, and one protocol per exchange."""

"""Is the market still the one that the models learned from, and are they still right about it?"""

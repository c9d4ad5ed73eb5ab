"""Model files: written beside, fsynced, renamed; hash checked on read."""

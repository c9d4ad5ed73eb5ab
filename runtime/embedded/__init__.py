"""PostgreSQL and a Redis-compatible server from wheels, run as ordinary foreground processes."""

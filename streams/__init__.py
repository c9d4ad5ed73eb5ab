"""Redis streams: topics, publishing, reading."""

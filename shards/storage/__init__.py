"""Where bytes lie: a local folder, or a URL behind a cache."""

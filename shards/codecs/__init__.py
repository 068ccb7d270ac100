"""Arrays to bytes and back, exact or with a stated loss."""

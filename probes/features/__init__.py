"""From a benchmark's pixels to the numbers a head is fitted to."""

"""Is every byte what was written, and how is it mended?"""

"""The processes of a run: how they start, talk to each other and end."""

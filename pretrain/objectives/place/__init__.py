"""Objectives that learn where images are: location encoders against images."""

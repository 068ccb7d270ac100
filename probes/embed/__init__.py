"""Embeddings for people to use: of places, of datasets, of scenes; and looking in them.

Read in this order: `stage` (numbers on disk that survive a kill) and `target` (where the result
goes), `forms` (GeoTIFF and Zarr), `world` and `picture` (`--grid`), `verb`.
"""

"""Embeddings for people to use: of places, of datasets, of scenes; and looking in them.

Read in this order: `stage` (numbers on disk that survive a kill) and `target` (where the result
goes), `coding` and `forms` (GeoTIFF, Zarr), `world` and `picture` (`--grid`), `doubts`, `table` and
`parquet` (datasets), `scene`, `tiles` and `dense` (scenes), `verb`; `search`, `search_page`,
`search_verb`.
"""

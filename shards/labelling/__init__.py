"""Labels from elsewhere: land cover of each patch, from files or rasters, into a dataset."""

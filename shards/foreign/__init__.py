"""Other people's WebDataset tars, indexed in place and read where they lie; never rewritten.

`names` says which codec names a foreign member has, `tar_scan` reads tar headers, `members` decodes
`npy`, `tif`, `safetensors` and (through `zarr_zip`) `zarr.zip`, `declare` is what a user or a
layout of `layouts` says of the members, `index` makes `dataset.json` and `index.parquet` from them,
`pickles` is why pickles are refused and how tensors are taken out of them safely.
"""

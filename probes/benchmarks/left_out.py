"""Benchmarks that are not read here, and why: the last part of the page."""

LEFT_OUT: tuple[tuple[str, str], ...] = (
    (
        "Copernicus-Bench's Biomass-S3, AQ-NO2-S5P and AQ-O3-S5P",
        "ask for a number a pixel (the authors' RMSE is of pixels, torchgeo gives maps), which no "
        "task here takes. `copernicus-biomass-s3-mean` asks for the mean of a map. Images of air "
        "quality are columns of one gas, to which no band or wavelength of a model corresponds, "
        "and whether the ozone maps hold SOMO35 or a percentile is told in both ways",
    ),
    (
        "GFM-Bench's archives (arXiv 2503.12843)",
        "a zip, or parts of an archive, and a loader script that current `datasets` refuses to "
        "run. DFC2020's and SegMunich's unpack to a folder with `metadata.csv` (`split`, "
        "`optical_path`, `label_path`); no source that could be read tells the type of the files, "
        "nor the columns of the others. Set by set",
    ),
    (
        "GFM-Bench EuroSAT",
        "the images and numbers of samples of `eurosat`. Its card names the bands in the sensor's "
        "order, but the mean it gives for B8A is that of B09 (732)",
    ),
    (
        "GFM-Bench BigEarthNet",
        "the numbers of samples of `bigearthnet-v1-s1s2`, all bands brought to 120 px",
    ),
    (
        "GFM-Bench So2Sat",
        "a tenth of the training patches of `so2sat-culture10`, by a list that only its archive "
        "has",
    ),
    (
        "GFM-Bench DFC2020",
        "its maps are MODIS' (IGBP classes, `lc` of SEN12MS), not the contest's: the authors' "
        "earlier loader reads them so, and a reader of the archive measured it; its card's numbers "
        "of samples (41,537 and 4,615) are no multiples of the nine windows that each picture "
        "gives. Take `dfc2020-s2` and `dfc2020-s1`",
    ),
    (
        "GFM-Bench MARIDA",
        "`marida` cut into nine windows that overlap, test joined with val, val drawn from train "
        "by a list that only the archive has; its card's 5,622 and 624 are no multiples of nine",
    ),
    (
        "GFM-Bench SegMunich",
        "the level of its Sentinel-2 and the legend of its codes (13 classes, of which the "
        "loader renames nine) are not published",
    ),
    (
        "GFM-Bench NLCD-L",
        "20 bands of Landsat 7 and 8 over 25,000 places; which files make a pair, and the lists, "
        "only the archive tells. Take `ssl4eo-l-etm-toa-nlcd` and `ssl4eo-l-oli-tirs-toa-nlcd`",
    ),
)
"""What, and why."""

"""Models in other people's formats, each compared with ours before anything is written.

Read in this order: `graph` (a model as one function of tensors), `verify` (what agreement means),
the formats (`torch_export`, `onnx_file`, `timm_folder`, `single_file`), `folder` (what every
exported folder holds).
"""

from fm.export.folder import FORMATS, export
from fm.export.written import Settings

__all__ = ["FORMATS", "Settings", "export"]

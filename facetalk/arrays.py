"""Names for arrays in annotations, by the type of their elements; shapes stand in docstrings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["AnyFloat", "AnyInt", "Bool", "Float32", "Float64", "Int32", "Int64", "UInt8"]

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
AnyFloat = NDArray[np.floating[Any]]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
AnyInt = NDArray[np.integer[Any]]
UInt8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

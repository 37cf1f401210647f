"""Reads what an exported page carries."""

import base64
import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def decode(array: Mapping) -> np.ndarray:
    """Return an array of the page."""
    content = base64.b64decode(array["base64"])
    return np.frombuffer(content, array["dtype"]).reshape(array["shape"])


def read_inlined(page: Path) -> dict:
    """Return the data that an export carries."""
    (packed,) = re.findall(r'id="inlined">([^<]*)<', page.read_text())
    return json.loads(gzip.decompress(base64.b64decode(packed)))

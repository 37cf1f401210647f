"""Changes the JSON files that a test reads."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def edited_json(path: Path) -> Iterator[Any]:
    """Yield the content of a JSON file, and write it back as the test leaves it."""
    content = json.loads(path.read_text())
    yield content
    path.write_text(json.dumps(content))

"""What is in a JSON file of a model's folder."""

from __future__ import annotations

import json
from pathlib import Path

from ..ir.errors import ConfigError

__all__ = ["read_json"]


def read_json(path: Path) -> object:
    """Return the value in a file; ``None`` where there is no such file.

    Raises:
        ConfigError: it cannot be read, or is not JSON.
    """
    try:
        value: object = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    return value

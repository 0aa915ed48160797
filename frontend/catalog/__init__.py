"""What models are known, and what was measured of each: ``ingot models``."""

from .checked import Checked, CheckedArchitecture, CheckedFamily, read_checked

__all__ = ["Checked", "CheckedArchitecture", "CheckedFamily", "read_checked"]

"""Other inference systems on this machine, measured as ``ingot bench`` measures.

Prompts and answers are as long, as many requests run at once, on as many threads.

Each runs in a process of its own, with the Python that has it installed: ``harness.py`` and the module of one
peer beside it, which import nothing of this package.
"""

from .comparison import Comparison, measure_peers
from .known import PEERS

__all__ = ["PEERS", "Comparison", "measure_peers"]

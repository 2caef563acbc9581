"""What is asked of every worker: 4 members x 3 classes, 4 partitions. Peers read it: nothing but the standard
library here.
"""

from __future__ import annotations

MEMBERS = ("m0", "m1", "m2", "m3")
CLASSES = ("a", "b", "c")
WEIGHTS = (0.1, 0.2, 0.3, 0.4)
PARTITIONS = 4

"""Compiled kernels for the loops that a profile of a busy worker shows: JSON read and written, batches
framed, ids looked up.

They are built when the package is installed, where a C compiler is; without them the same is done in Python,
with the same results, at about half the speed. Nothing here imports anything of ours.
"""

from __future__ import annotations

try:
    from stream_ensemble.compiled import reading as reading
    from stream_ensemble.compiled import records as records
    from stream_ensemble.compiled import slots as slots
    from stream_ensemble.compiled import writing as writing

    AVAILABLE = True
except ImportError:
    AVAILABLE = False

#: What it costs where they are missing, and what brings them back.
PROBLEM = "the compiled kernels are not there: fusing takes about twice the processor time"
REPAIR = "install a C compiler and Python's headers, then stream-ensemble again"

"""``python -m stream_ensemble.cli``, where the script ``stream-ensemble`` is not installed."""

import sys

from stream_ensemble.cli.main import main

sys.exit(main())

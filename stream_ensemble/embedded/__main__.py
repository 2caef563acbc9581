"""``python -m stream_ensemble.embedded``: gets ready what an embedded Kafka needs, so that no start waits."""

from __future__ import annotations

import sys

from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.kafka_archive import make_archive


def main() -> int:
    try:
        make_archive()
    except EmbeddedServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One member of the demo's ensemble: ``python -m stream_ensemble.demo.model_worker MEMBER``."""

from __future__ import annotations

import argparse
import logging
import sys

import numpy as np
from numpy.typing import NDArray

from stream_ensemble import ModelWorker, Request
from stream_ensemble.demo import models
from stream_ensemble.demo.dataset import corrupted, digits
from stream_ensemble.demo.scenario import MEMBERS, number_of
from stream_ensemble.settings_file import load

READY = "answers requests from"


def main() -> int:
    parser = argparse.ArgumentParser(description="One model of the demo, as a worker of its own.")
    parser.add_argument("member", choices=MEMBERS)
    parser.add_argument("--corrupt-from", type=int, help="corrupt its input from this request on")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("stream_ensemble").setLevel(logging.INFO)
    model = models.train(options.member, digits().train)

    def predict(batch: list[Request]) -> NDArray[np.float64]:
        pixels = np.array([request.features["pixels"] for request in batch], np.float64)
        if options.corrupt_from is not None:
            late = np.array([number_of(request.request_id) >= options.corrupt_from for request in batch])
            pixels = np.where(late[:, None], corrupted(pixels), pixels)
        return model(pixels)

    settings = load()
    ensemble = next(iter(settings.ensembles))
    ModelWorker(settings, ensemble, options.member, predict, max_batch=64, from_beginning=True).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

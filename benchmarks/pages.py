"""What a worker says of itself at ``/metrics``."""

from __future__ import annotations

from urllib.error import URLError
from urllib.request import urlopen

from stream_ensemble.embedded.ports import HOST

_PATIENCE_S = 30.0


def page(port: int) -> list[str]:
    """The lines of the page; none while it is not served."""
    try:
        with urlopen(f"http://{HOST}:{port}/metrics", timeout=_PATIENCE_S) as answer:
            text: str = answer.read().decode()
    except (URLError, ConnectionError, TimeoutError):
        return []
    return text.splitlines()


def total(lines: list[str], name: str, **labels: str) -> float:
    """The sum of a metric over all its labels but those given; 0 where it is not on the page."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith((f"{name}{{", f"{name} ")) and all(each in line for each in wanted)
    )


def metric(port: int, name: str, **labels: str) -> float:
    """The same of the page as it is now."""
    return total(page(port), name, **labels)


def partitions(port: int) -> list[int]:
    """The partitions a worker owns, by its gauge of open requests or of parked labels."""
    gauges = ("stream_ensemble_open_requests{", "stream_ensemble_labels_parked{")
    return sorted(
        int(line.split('partition="')[1].split('"')[0]) for line in page(port) if line.startswith(gauges)
    )

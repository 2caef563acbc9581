"""What pyproject.toml cannot say yet: the compiled kernels, left out where there is no C compiler."""

from setuptools import Extension, setup

KERNELS = ("reading", "records", "slots", "writing")

setup(
    ext_modules=[
        Extension(f"stream_ensemble.compiled.{name}", [f"stream_ensemble/compiled/{name}.pyx"], optional=True)
        for name in KERNELS
    ]
)

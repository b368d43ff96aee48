import sys
from pathlib import Path

# Helpers of the benchmarks are plain modules beside them; pytest's importlib mode leaves sys.path alone.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_benchmark_update_machine_info(config, machine_info):
    """What a figure depends on beside the processor, for scripts/benchmark_tables.py."""
    from importlib.metadata import PackageNotFoundError, version

    from facetalk import ops

    packages = ("facetalk", "torch", "numpy", "scikit-image", "PyMCubes", "vtk", "diffusers", "transformers")
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    machine_info["packages"] = found
    machine_info["threads"] = ops.threads()

import sys
from pathlib import Path

# Helpers of the benchmarks are plain modules beside them; pytest's importlib mode leaves sys.path alone.
sys.path.insert(0, str(Path(__file__).parent))

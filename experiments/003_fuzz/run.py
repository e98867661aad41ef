"""The fuzzing run whose figures are in result.json: `python experiments/003_fuzz/run.py`, about half an hour."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.fuzz import main

RESULT = Path(__file__).with_name("result.json")

if __name__ == "__main__":
    sys.exit(main(["run", "--inputs", "10000000", "--jobs", "1", "--seed", "2", "--result", str(RESULT)]))

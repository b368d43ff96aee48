#!/usr/bin/env bash
# What a machine with a GPU has to say, in three commands of under ten minutes each: right, fast, why.
#
#   scripts/gpu_check.sh right|fast|why [--out FOLDER] [--seconds N] [--dry-run] [STEP ...]
#
# --help says more. PYTHON is the interpreter to use, FACETALK_COMMIT names the commit where the tree is a copy
# without history.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
exec env PYTHONUNBUFFERED=1 "${PYTHON:-python3}" "$here/gpu_check.py" "$@"

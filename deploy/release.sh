#!/usr/bin/env bash
# Makes the files of a release: the wheel, install.sh, and SHA256SUMS of both. Put them on a server as they are.
#
#   deploy/release.sh [DIRECTORY]      (default: dist)
set -euo pipefail
cd "$(dirname "$0")/.."
to=${1:-dist}
mkdir -p "$to"
rm -f "$to"/stockade-*.whl
.venv/bin/python -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir "$to" .
cp deploy/install.sh "$to/install.sh"
(cd "$to" && sha256sum stockade-*.whl install.sh >SHA256SUMS)

#!/usr/bin/env bash
# Builds the agent's image without a container engine: Debian's packages by mmdebstrap, wheels by pip, and a tar that is an OCI layout.
#
#   deploy/docker/build.sh [OPTIONS]      as root; prints the path of the tar. Its SBOM (CycloneDX) is beside it, and in the image
#
#   --to DIR       where the tar is put (default: dist)
#   --name NAME    the image's name with its tag (default: localhost/stockade/agent:VERSION)
#   --cache DIR    where the lower layer is kept by the digest of what it is made of (default: /var/cache/stockade-image)
#   --gpu          ONNX Runtime with CUDA's libraries: some gigabytes more. The node brings the driver (docs/gpu.md)
#   --gzip         for a registry: smaller, and slower to make
#   --locked       refuse any version of a package that is not packages.lock's
#
# ctr -n k8s.io images import FILE, or podman load -i FILE, takes it. What it is made of: root.sh.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd) CHECKOUT=$(cd "$(dirname "$0")/../.." && pwd)
fail() { printf 'image: %s\n' "$@" >&2; exit 1; }
TO=dist CACHE=/var/cache/stockade-image NAME='' GPU='' GZIP='' LOCKED=''
while [ $# -gt 0 ]; do
    case $1 in
        --to|--name|--cache) [ $# -gt 1 ] || fail "$1 wants a value" ;;&
        --to)     TO=$2; shift ;;
        --name)   NAME=$2; shift ;;
        --cache)  CACHE=$2; shift ;;
        --gpu)    GPU=-gpu ;;
        --gzip)   GZIP=--gzip ;;
        --locked) LOCKED=1 ;;
        -h|--help) sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *)        fail "unknown argument: $1" "--help shows what there is" ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || fail "needs root: files of many owners are made"
[ "$(uname -m)" = x86_64 ] || fail "the image is of x86-64, and is made on one"
command -v mmdebstrap >/dev/null || fail "there is no mmdebstrap: apt-get install mmdebstrap"
export PYTHON=${PYTHON:-$CHECKOUT/.venv/bin/python} LOCKED REQUIREMENTS=$HERE/requirements$GPU.txt
"$PYTHON" -m pip --version >/dev/null 2>&1 || fail "PYTHON=$PYTHON has no pip: deploy/setup.sh makes .venv, or name another"
SOURCE_DATE_EPOCH=$(date -u -d "$(sed -n 's/^# Debian 13 as of \([0-9-]*\).*/\1/p' "$HERE/packages.lock")" +%s)
export SOURCE_DATE_EPOCH
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$CHECKOUT/agent/stockade/__init__.py")

digest=$(cat <(sed '/^app() {/,/^}/d' "$HERE/root.sh") "$HERE/packages" "$HERE/packages.lock" "$REQUIREMENTS" <(echo "${MIRROR:-}") | sha256sum | cut -c1-16)
place=$CACHE/$digest
mkdir -p "$CACHE" "$TO"
exec 9>"$CACHE/lock"
flock 9      # one at a time: the second finds what the first made
if [ ! -d "$place" ]; then
    rm -rf "$CACHE/part"
    mkdir "$CACHE/part"
    "$HERE/root.sh" base "$CACHE/part"
    mv "$CACHE/part" "$place"
fi
"$HERE/root.sh" app "$place" "$CHECKOUT"
file=$(realpath "$TO")/stockade-agent$GPU-$version.tar
"$PYTHON" "$HERE/layout.py" $GZIP --name "${NAME:-localhost/stockade/agent:$version${GPU}}" --version "$version" --to "$file" "$place/root" "$place/app"
cp "$place/sbom.cdx.json" "${file%.tar}.cdx.json"
echo "$file"

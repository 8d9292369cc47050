#!/usr/bin/env bash
# Makes what an image is of, below DIRECTORY: `root` (Debian 13 and the wheels), `app` (Stockade itself, as a layer over it), and the
# SBOM of both. Called by build.sh and by the Containerfile: there is one way to make it.
#
#   root.sh base DIRECTORY           as root; mmdebstrap, and pip for the wheels of $REQUIREMENTS
#   root.sh app DIRECTORY CHECKOUT   the checkout's wheel; needs the base
#
# PYTHON: one with pip, 3.12 or newer. MIRROR: an archive of Debian other than the usual ones; https://snapshot.debian.org/archive/debian/TIME
# gives the versions of packages.lock for good. LOCKED=1 refuses any other versions; without it a newer one is said, and stands in the SBOM.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
WHAT=${1:?base or app} TO=$(realpath -m "${2:?a directory}")
PYTHON=${PYTHON:-$HERE/../../.venv/bin/python} REQUIREMENTS=${REQUIREMENTS:-$HERE/requirements.txt}
SITE=opt/stockade/lib/python3.13/site-packages
# Of files made now: the day of the locked versions. What packages bring keeps its own, and the image has nothing newer than that.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -u -d "$(sed -n 's/^# Debian 13 as of \([0-9-]*\).*/\1/p' "$HERE/packages.lock")" +%s)}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_COMPILE=1 PYTHONDONTWRITEBYTECODE=1

say() { printf 'image: %s\n' "$*" >&2; }

guest() {  # the image's own interpreter, by its own loader: what it runs needs no chroot
    local lib=$TO/root/usr/lib/x86_64-linux-gnu
    PYTHONHOME=$TO/root/usr "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$TO/root/usr/bin/python3.13" "$@"
}

installed() {  # PLACE, and what to install, as pip's arguments: for the image's Python, whichever runs pip
    local place=$1 minor platforms=()
    shift
    for minor in {41..5}; do platforms+=("--platform=manylinux_2_${minor}_x86_64"); done
    "$PYTHON" -m pip install -q --no-deps --only-binary=:all: --python-version=3.13 --implementation=cp "${platforms[@]}" \
        --platform=manylinux2014_x86_64 --platform=manylinux1_x86_64 --target="$place/$SITE" "$@"
    rm -rf "${place:?}/$SITE/bin"  # scripts of libraries, for the interpreter of whoever ran pip
    # By contents, not by time: a root that is read-only cannot have them made, and the same sources give the same files.
    guest -S -m compileall -q -s "$place" -p / --invalidation-mode unchecked-hash "$place/$SITE"
}

base() {
    local packages options=() each
    packages=$(grep -v '^#' "$HERE/packages" | paste -sd,)
    for each in /usr/share/{man,info,locale,lintian,bug}/\* /usr/share/doc/\*; do options+=("--dpkgopt=path-exclude=$each"); done
    mkdir -p "$TO"
    say "Debian 13 with $packages"
    # No apt, no shell but dash's and bash, no compiler: BCC's is a library.
    mmdebstrap --quiet --mode=root --variant=essential --include="$packages" --aptopt='Apt::Install-Recommends "false"' \
        ${SKIP:+"--skip=$SKIP"} "${options[@]}" --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        trixie "$TO/root" ${MIRROR:+"$MIRROR"}
    rm -rf "$TO/root"/var/{log,cache,tmp,lib/apt}/* "$TO/root"/var/lib/dpkg/*-old "$TO/root"/etc/{hostname,resolv.conf,machine-id} "$TO/root"/dev/*
    find "$TO/root" -xdev -type f -perm /6000 -exec chmod a-s {} +  # nobody in it is to become somebody else
    dpkg-query --admindir="$TO/root/var/lib/dpkg" -W -f '${Package}=${Version}\n' | LC_ALL=C sort >"$TO/packages"
    if ! diff <(grep -v '^#' "$HERE/packages.lock") "$TO/packages" >"$TO/differs"; then
        say "other versions than packages.lock has (<, and what came: >):"
        cat "$TO/differs" >&2
        [ -z "${LOCKED:-}" ] || exit 1
    fi
    say "the wheels of $(basename "$REQUIREMENTS")"
    installed "$TO/root" --require-hashes -r "$REQUIREMENTS"
    if compgen -G "$TO/root/$SITE/nvidia/*/lib" >/dev/null; then  # CUDA's, where a loader finds them that has no environment
        (cd "$TO/root" && printf '/%s\n' "$SITE"/nvidia/*/lib) >"$TO/root/etc/ld.so.conf.d/nvidia.conf"
        /sbin/ldconfig -r "$TO/root"
    fi
    mkdir -p "$TO/root"/opt/stockade/bin "$TO/root"/etc/stockade "$TO/root"/var/{lib,log,cache}/stockade "$TO/root"/run/stockade
    printf 'home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.13\n' >"$TO/root/opt/stockade/pyvenv.cfg"
    ln -s /usr/bin/python3 "$TO/root/opt/stockade/bin/python"
    ln -s /usr/lib/python3/dist-packages/bcc "$TO/root/$SITE/bcc"  # pure Python over libbcc
    ln -s /opt/stockade/bin/stockade "$TO/root/usr/local/bin/stockade"
}

app() {
    local checkout=$1
    room=$(mktemp -d)
    trap 'rm -rf "$room"' EXIT
    rm -rf "$TO/app"
    # Of a copy: what setuptools leaves beside its sources, and finds there of another build, stays out of both.
    mkdir -p "$room/source/agent" "$TO/app/$SITE" "$TO/app/opt/stockade/bin" "$TO/app/usr/share/stockade"
    (cd "$checkout" && tar -c --exclude=__pycache__ --exclude='*.egg-info' agent/stockade bpf policies pyproject.toml README.md LICENSE) |
        tar -x -C "$room/source"
    "$PYTHON" -m pip wheel -q --no-deps --wheel-dir "$room" "$room/source"
    installed "$TO/app" "$room"/stockade-*.whl
    rm -f "$TO/app/$SITE"/stockade-*.dist-info/{direct_url.json,REQUESTED}  # where it was built, which is another place each time
    sed -i '/dist-info\/\(direct_url.json\|REQUESTED\),/d' "$TO/app/$SITE"/stockade-*.dist-info/RECORD
    printf '#!/opt/stockade/bin/python\nimport sys\n\nfrom stockade.cli import main\n\nsys.exit(main())\n' >"$TO/app/opt/stockade/bin/stockade"
    chmod 755 "$TO/app/opt/stockade/bin/stockade"
    install -Dm755 "$HERE/on_node.py" "$TO/app/usr/local/bin/on-node"
    install -Dm755 "$HERE/leave_node.py" "$TO/app/usr/local/bin/leave-node"
    "$PYTHON" "$HERE/sbom.py" "$TO/root" "$TO/app" >"$TO/sbom.cdx.json"
    cp "$TO/sbom.cdx.json" "$TO/app/usr/share/stockade/sbom.cdx.json"
    PYTHONHOME='' "$PYTHON" - "$TO/root/$SITE" "$TO/app/$SITE" <<'END'
import email.parser, pathlib, re, sys
names = lambda place: {re.sub(r"[-_.]+", "-", m.parent.name.split("-")[0]).lower() for m in pathlib.Path(place).glob("*.dist-info/METADATA")}
metadata = next(pathlib.Path(sys.argv[2]).glob("stockade-*.dist-info/METADATA")).read_text()
wanted = (each for each in email.parser.Parser().parsestr(metadata).get_all("Requires-Dist", []) if "extra ==" not in each or "kubernetes" in each.rpartition("extra ==")[2])
needed = {re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", each)[0]).lower().replace("onnxruntime-gpu", "onnxruntime") for each in wanted}
have = {name.replace("onnxruntime-gpu", "onnxruntime") for name in names(sys.argv[1])}
if missing := needed - have:
    sys.exit(f"image: the locked wheels lack {', '.join(sorted(missing))}: run deploy/docker/lock.py")
END
}

case $WHAT in
    base) base ;;
    app)  app "$(realpath "${3:?a checkout}")" ;;
    *)    echo "image: $WHAT is neither base nor app" >&2; exit 2 ;;
esac

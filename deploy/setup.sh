#!/usr/bin/env bash
# Prepares a checkout on Debian 12 or 13: what apt must provide, a Python >= 3.12, and .venv with Stockade installed editable.
#
#   deploy/setup.sh            what Stockade needs to run
#   deploy/setup.sh --tests    and the clients and servers that the tests drive; and --kernels where it can be had, for the quick ones of them
#   deploy/setup.sh --bench    and the load generator of the benchmarks
#   deploy/setup.sh --kernels  and an emulator with Debian's kernels, unpacked into .vm and not installed (about 200 MB to fetch). What is
#                              unpacked stays: rm -r .vm/SERIES for a newer one
#
# Idempotent: the second run finds everything in place, asks no registry and takes well under a second.
# PYTHON=/path/to/python3 chooses the interpreter. Where pip and apt fetch from is theirs to know: nothing is set here.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VENV=.venv
readonly STAMP=$VENV/.stockade-setup

# shellcheck source=deploy/install.sh
. deploy/install.sh     # RUNTIME, and the functions that a machine is prepared with
SAYS=setup
TESTS=(python3-requests python3-pip python3-dev python3-setuptools python3-wheel pytest-3=python3-pytest libc6-dev musl-tools gcc=gcc git=git openssl=openssl dig=bind9-dnsutils nginx=nginx-light busybox=busybox-static
       node=nodejs npm=npm java=default-jre-headless javac=default-jdk-headless make=make strace=strace less=less ps=procps softhsm2-util=softhsm2 ssh=openssh-client runc=runc podman=podman conmon=conmon containerd=containerd rsyslogd=rsyslog rsyslog-gnutls journalctl=systemd tmux=tmux prometheus=prometheus promtool=prometheus chromium=chromium)
BENCH=(wrk=wrk bwrap=bubblewrap)
EMULATOR=(qemu-system-x86_64=qemu-system-x86 modprobe=kmod mkfs.ext4=e2fsprogs busybox-static mmdebstrap=mmdebstrap ruby=ruby)
KERNELS=(6.1 6.12)      # of those, what apt offers
readonly VM=.vm VIRTME=virtme-ng==1.42

make_venv() {
    local python wanted log
    # A venv knows its Python: looking for one again costs more than everything else of a second run.
    if [ -x $VENV/bin/python ] && fits $VENV/bin/python && [ -z "${PYTHON:-}" ]; then python=$VENV/bin/python; else python=$(find_python); fi
    wanted="$("$python" -c 'import sys; print(sys.version)' | tr '\n' ' ') $(sha256sum <pyproject.toml) $(pwd)"
    [ "$(cat $STAMP 2>/dev/null)" != "$wanted" ] || return 0
    if [ "$python" != $VENV/bin/python ]; then
        say "making $VENV with $("$python" --version) ($python)"
        "$python" -m venv --clear $VENV
    fi
    say "installing Stockade and what it needs into $VENV"
    log=$(mktemp)
    $VENV/bin/python -m pip install --disable-pip-version-check --editable '.[dev,kubernetes]' >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; fail "pip could not install Stockade (all of its output: $log)"; }
    rm -f "$log"
    link_bcc $VENV
    $VENV/bin/python -W ignore -c 'import bcc, mitmproxy, stockade' || fail "$VENV is incomplete" "rm -r $VENV and run this again"
    printf '%s' "$wanted" >$STAMP
}

newest_kernel() {  # of a series: the package, not of the cloud or the real-time flavour
    apt-cache search --names-only "^linux-image-${1//./\\.}\\.[0-9]+[^-]*(-[0-9]+)?-amd64\$" | cut -d' ' -f1 | sort -V | tail -n 1
}

unpack_kernels() {
    local series package
    mkdir -p $VM/cache $VM/results
    for series in "${KERNELS[@]}"; do
        ! compgen -G "$VM/$series/linux-image-*" >/dev/null || continue
        [ -n "$(newest_kernel "${KERNELS[-1]}")" ] || apt-get update -q >/dev/null || fail "apt-get update failed"
        package=$(newest_kernel "$series")
        [ -n "$package" ] || { say "apt offers no kernel $series: it is left out"; continue; }
        say "fetching $package"
        rm -rf "${VM:?}/$series" "$VM/fetched" && mkdir -p "$VM/fetched"
        (cd "$VM/fetched" && apt-get download -q "$package" >log 2>&1) || fail "apt-get could not fetch $package" "see $VM/fetched/log"
        dpkg-deb -x "$VM/fetched/$package"_*.deb "$VM/$series"
        PATH=$PATH:/usr/sbin:/sbin depmod -b "$PWD/$VM/$series" "${package#linux-image-}"
        rm -r "$VM/fetched"
        touch "$VM/$series/$package"
    done
}

make_virtme() {
    [ "$(cat $VM/virtme/.wanted 2>/dev/null)" != "$VIRTME" ] || return 0
    say "installing $VIRTME into $VM/virtme"
    $VENV/bin/python -m venv --clear $VM/virtme
    $VM/virtme/bin/python -m pip install --disable-pip-version-check -q "$VIRTME" >$VM/virtme/log 2>&1 ||
        { tail -n 20 $VM/virtme/log >&2; fail "pip could not install $VIRTME"; }
    printf '%s' "$VIRTME" >$VM/virtme/.wanted
}

case ${1:-} in
    '')      install_packages "${RUNTIME[@]}" ;;
    --tests) install_packages "${RUNTIME[@]}" "${TESTS[@]}" ;;
    --bench) install_packages "${RUNTIME[@]}" "${TESTS[@]}" "${BENCH[@]}" ;;
    --kernels) install_packages "${RUNTIME[@]}" "${TESTS[@]}" "${EMULATOR[@]}" ;;
    *)       fail "unknown argument: $1" "usage: deploy/setup.sh [--tests | --bench | --kernels]" ;;
esac
make_venv
case ${1:-} in
    --tests)   [ "$(uname -m)" != x86_64 ] || "$BASH" deploy/setup.sh --kernels || say "no kernels to boot: tests/vm will be skipped" ;;
    --kernels) unpack_kernels; make_virtme ;;
esac

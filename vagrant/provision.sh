#!/usr/bin/env bash
# Makes a Debian 13 machine one that Stockade can be developed and tested in, BPF LSM on. Root; Vagrant runs it, and so can you.
#
#   provision.sh [CHECKOUT] prepare         packages and .venv (deploy/setup.sh), and `bpf` among the LSMs of the next boot
#   provision.sh [CHECKOUT] check [TEST…]   after that boot: BPF LSM is on, doctor names it as the backend, the tests pass (all: make test)
#
# and the halves of `prepare`, for images: `packages` needs no kernel of its own (a chroot will do), `lsm` no network.
# Idempotent: what is in place is left as it is. CHECKOUT is where this file lies unless it is given. Only GRUB is known here.
set -euo pipefail

readonly ACTIVE=/sys/kernel/security/lsm SETTING=/etc/default/grub.d/zz-stockade.cfg   # zz: of two lsm= the kernel takes the later
say()  { printf 'provision: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

packages() {
    if ! command -v make >/dev/null; then apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends make; fi
    make --no-print-directory -C "$CHECKOUT" setup
}

active() {  # the LSMs that this kernel was booted with
    [ -e $ACTIVE ] || mount -t securityfs none "${ACTIVE%/*}"
    cat $ACTIVE
}

has_bpf() { [[ ,$1, == *,bpf,* ]]; }

lsm() {
    local now line
    now=$(active)
    if has_bpf "$now"; then say "BPF LSM is on ($now): the kernel's command line stays as it is"; return; fi
    # What was on stays on, AppArmor with it. The kernel puts `capability` first by itself.
    line="GRUB_CMDLINE_LINUX=\"\$GRUB_CMDLINE_LINUX lsm=${now#capability,},bpf\""
    if [ "$(cat $SETTING 2>/dev/null)" = "$line" ]; then say "$SETTING says so already: reboot"; return; fi
    command -v update-grub >/dev/null || fail "no GRUB here: have your boot loader give the kernel lsm=${now#capability,},bpf"
    mkdir -p "${SETTING%/*}"
    echo "$line" >$SETTING
    update-grub
    grep -q "lsm=${now#capability,},bpf" /boot/grub/grub.cfg || fail "update-grub left /boot/grub/grub.cfg without lsm=${now#capability,},bpf"
    say "BPF LSM is on from the next boot: reboot"
}

check() {
    local now said
    now=$(active)
    has_bpf "$now" || fail "BPF LSM is off ($now): run \`$0 prepare\` and reboot"
    said=$("$CHECKOUT/.venv/bin/stockade" doctor) || { echo "$said"; fail "doctor is not content"; }
    echo "$said"
    grep -Eq '^available +exec refusal by BPF LSM' <<<"$said" || fail "doctor does not find exec refusal by BPF LSM"
    if [ $# -gt 0 ]; then (cd "$CHECKOUT" && .venv/bin/pytest "$@"); else make --no-print-directory -C "$CHECKOUT" test; fi
}

CHECKOUT=$(cd "$(dirname "$0")/.." && pwd)
case ${1:-} in /*) CHECKOUT=$1; shift ;; esac
[ "$(id -u)" = 0 ] || fail "needs root: sudo $0 $*"
[ -e "$CHECKOUT/deploy/setup.sh" ] || fail "there is no checkout of Stockade in $CHECKOUT"
case ${1:-} in
    prepare)      packages; lsm ;;
    packages|lsm) "$1" ;;
    check)        shift; check "$@" ;;
    *)            sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac

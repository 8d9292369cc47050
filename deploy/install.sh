#!/usr/bin/env bash
# Installs a release of Stockade on a machine, replaces an older one, or takes it away again. Debian 12 or 13, as root.
#
#   install.sh --from URL|DIRECTORY              the release's files: a wheel, SHA256SUMS, and this script
#   install.sh --from URL --sha256 HEX           and the wheel must be this one, whatever SHA256SUMS says
#   install.sh --uninstall                       everything but trails and settings; refuses while a sandbox lives
#   install.sh --uninstall --force --purge       ends the sandboxes, and removes trails and settings too
#
#   --prefix DIR    where it is kept (default /opt/stockade): a directory for each version, and `current`, which is switched at once
#   --command FILE  the command on the PATH (default /usr/local/bin/stockade)
#   --no-apt        install no package: say which are missing
#
# PYTHON=/path/to/python3 chooses the interpreter, 3.12 or newer. Where pip and apt fetch from is theirs to know: nothing is set here.
# A sandbox that runs while another version is installed goes on with the code that it was started with.
set -euo pipefail

# What must be installed: a package, or COMMAND=PACKAGE where another vendor's package may already provide the command.
RUNTIME=(python3-bpfcc bpftool iproute2 nft=nftables libseccomp2 ca-certificates python3-venv curl=curl)
SAYS=install

say()  { printf '%s: %s\n' "$SAYS" "$*" >&2; }
fail() { printf '%s: %s\n' "$SAYS" "$1" >&2; shift; [ $# -eq 0 ] || printf '         %s\n' "$@" >&2; exit 1; }

missing_packages() {  # one package name a line
    local want package
    for want in "$@"; do
        case $want in
            *=*) PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin command -v "${want%%=*}" >/dev/null || echo "${want#*=}" ;;
            *)   package=$want
                 [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package" ;;
        esac
    done
}

install_packages() {
    local missing log
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "these packages are missing, and there is no apt-get here: ${missing[*]}"
    [ "$(id -u)" = 0 ] || fail "these packages are missing: ${missing[*]}" "run as root, or: sudo apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    log=$(mktemp)
    # No package may start a service for it: the tests run servers in namespaces of their own, and the machine's would take their ports.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "apt-get could not install ${missing[*]} (all of its output: $log)"
    fi
    rm -f "$log"
}

# By running it: pyenv leaves a python3.13 on the PATH that exists and only prints an error.
fits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

find_python() {
    local candidate pyenv=${PYENV_ROOT:-${HOME:-/root}/.pyenv}
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" || fail "PYTHON=$PYTHON is not a Python >= 3.12 with venv and ensurepip"
        command -v "$PYTHON"
        return
    fi
    for candidate in /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3 "$pyenv"/versions/3.13*/bin/python3 \
                     "$pyenv"/versions/3.12*/bin/python3 python3.13 python3.12 python3; do
        if fits "$candidate"; then command -v "$candidate"; return; fi
    done
    fail "no Python >= 3.12 found (looked at the system's, at $pyenv and along PATH)" \
         "Debian 13, Ubuntu 24.04: apt-get install python3 python3-venv" \
         "Debian 12 has none: build one with pyenv (pyenv install 3.13), then run this again, or name it: PYTHON=/path/to/python3.13"
}

link_bcc() {  # VENV: python3-bpfcc is pure Python over libbcc, and any Python 3 can import it through a link
    local from site
    from=$(/usr/bin/python3 -c 'import bcc, os; print(os.path.dirname(bcc.__file__))') || fail "/usr/bin/python3 cannot import bcc" \
        "apt-get install --reinstall python3-bpfcc"
    site=$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    ln -sfn "$from" "$site/bcc"
}

# --- the release ---

fetched() {  # FROM NAME TO: one file of the release
    case $1 in
        http://*|https://*) curl -fsSL --retry 3 --output "$3" "${1%/}/$2" || fail "cannot fetch ${1%/}/$2" ;;
        *)                  cp "$1/$2" "$3" || fail "there is no $1/$2" ;;
    esac
}

the_wheel() {  # FROM ROOM: fetches the release's wheel into ROOM, checked, and prints its name
    local name sum
    fetched "$1" SHA256SUMS "$2/SHA256SUMS"
    name=$(awk '$2 ~ /^\*?stockade-[0-9A-Za-z.+]+-py3-none-any\.whl$/ {sub(/^\*/, "", $2); print $2}' "$2/SHA256SUMS")
    [ "$(wc -w <<<"$name")" = 1 ] || fail "SHA256SUMS names ${name:-no wheel}, where one stockade-VERSION-py3-none-any.whl is due"
    sum=$(awk -v name="$name" '$2 == name || $2 == "*" name {print $1}' "$2/SHA256SUMS")
    fetched "$1" "$name" "$2/$name"
    [ -z "$SHA256" ] || sum=$SHA256
    [ "$(sha256sum "$2/$name" | cut -d' ' -f1)" = "$sum" ] || fail "$name is not the file whose SHA-256 is $sum" "nothing was installed"
    echo "$name"
}

install_release() {
    local room name version place python log
    [ -n "$FROM" ] || fail "from where?" "install.sh --from https://HOST/PATH, or a directory with the release's files"
    [ "$(id -u)" = 0 ] || fail "needs root" "sudo $0 …"
    if [ "$APT" = yes ]; then
        install_packages "${RUNTIME[@]}"
    else
        mapfile -t missing < <(missing_packages "${RUNTIME[@]}")
        [ ${#missing[@]} -eq 0 ] || fail "these packages are missing: ${missing[*]}"
    fi
    python=$(find_python)
    room=$(mktemp -d)
    name=$(the_wheel "$FROM" "$room")
    version=$(cut -d- -f2 <<<"$name")
    mkdir -p "$PREFIX"
    place=$PREFIX/$version
    # Beside what is there, and the switch is one rename: whatever fails before leaves the old version as it was.
    [ ! -e "$place" ] || place=$PREFIX/$version.$(date +%s)
    say "installing Stockade $version into $place with $("$python" --version)"
    log=$room/log
    if ! { "$python" -m venv "$place" && "$place/bin/python" -m pip install --disable-pip-version-check "$room/$name"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -rf "$place"
        fail "pip could not install $name (all of its output: $log)"
    fi
    link_bcc "$place"
    "$place/bin/python" -W ignore -c 'import bcc, mitmproxy, stockade' || { rm -rf "$place"; fail "what was installed cannot be imported"; }
    ln -sfn "$place" "$PREFIX/.next" && mv -T "$PREFIX/.next" "$PREFIX/current"
    mkdir -p "$(dirname "$COMMAND")"
    ln -sfn "$PREFIX/current/bin/stockade" "$COMMAND"
    cp "$0" "$PREFIX/install.sh" 2>/dev/null || fetched "$FROM" install.sh "$PREFIX/install.sh"  # `curl … | bash` has no file of its own
    chmod 755 "$PREFIX/install.sh"
    mkdir -p -m 755 /etc/stockade
    rm -rf "$room"
    forget_others "$place"
    say "$("$COMMAND" --version): $COMMAND"
    say "next: $COMMAND doctor; $COMMAND init"
}

in_use() { grep -lzqF "$1/" /proc/[0-9]*/cmdline /proc/[0-9]*/maps 2>/dev/null; }  # VERSION: whether a process runs of it

forget_others() {  # KEPT: older versions that no process runs any more
    local other
    for other in "$PREFIX"/[0-9]*; do
        [ "$other" != "$1" ] || continue
        if in_use "$other"; then
            say "$other is kept: something still runs of it"
        else
            rm -rf "$other"
        fi
    done
}

# --- and away again ---

at_rest() {  # until no agent runs: one whose sandbox was ended still writes that down, and holds its programs until it has
    local each _
    for _ in {1..60}; do
        for each in "$PREFIX"/[0-9]*; do if in_use "$each"; then sleep 0.5; continue 2; fi; done
        return
    done
    say "something still runs of $PREFIX: it is removed under it"
}

emptied() {  # DIR…: gone, but for a directory that is a mount of its own, which is left empty
    local each
    for each in "$@"; do
        [ -d "$each" ] || continue
        find "$each" -xdev -mindepth 1 -delete
        mountpoint -q "$each" || rmdir "$each"
    done
}

no_daemon() {  # the service and its unit; one that somebody started by hand is theirs to end
    local unit=/etc/systemd/system/stockade.service pid
    if [ -e "$unit" ]; then
        systemctl disable --now stockade >/dev/null 2>&1 || say "systemd does not answer: $unit is removed all the same"
        rm -f "$unit"
    fi
    if pid=$(pgrep -o -f "^$PREFIX/.*/stockade daemon( |\$)"); then fail "a daemon runs (pid $pid)" "end it first: kill $pid"; fi
}

uninstall() {
    local name mounted left
    [ "$(id -u)" = 0 ] || fail "needs root" "sudo $0 …"
    [ -x "$COMMAND" ] || say "there is no $COMMAND: what else is left is removed"
    if [ -x "$COMMAND" ]; then
        mapfile -t living < <("$COMMAND" sandbox ls -o json | "$PREFIX/current/bin/python" -c 'import json, sys
for each in json.load(sys.stdin): print(each["name"])')
        if [ ${#living[@]} -gt 0 ]; then
            [ "$FORCE" = yes ] || fail "these sandboxes live: ${living[*]}" "stockade sandbox kill NAME ends one; --force ends them all"
            for name in "${living[@]}"; do "$COMMAND" sandbox kill "$name" || fail "$name could not be ended"; done
        fi
        no_daemon
        [ ${#living[@]} -eq 0 ] || at_rest
    fi
    if mountpoint -q /run/stockade/bpf; then umount /run/stockade/bpf; fi  # with the pins go the programs
    emptied /run/stockade /var/cache/stockade
    while read -r mounted; do
        for left in "$mounted"/stockade "$mounted"/stockade-daemon-*; do
            if [ -d "$left" ]; then find "$left" -depth -type d -exec rmdir {} + || say "$left is still in use"; fi
        done
    done < <(awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/self/mounts)
    [ "$(readlink "$COMMAND" 2>/dev/null)" != "$PREFIX/current/bin/stockade" ] || rm -f "$COMMAND"
    rm -rf "$PREFIX"/[0-9]* "$PREFIX/current" "$PREFIX/install.sh"  # what this script put there, and no more
    rmdir "$PREFIX" 2>/dev/null || [ ! -d "$PREFIX" ] || say "$PREFIX holds something that is not Stockade's: it stays"
    if [ "$PURGE" = yes ]; then
        emptied /etc/stockade /var/log/stockade
        say "removed, with settings and trails"
    else
        rmdir /etc/stockade 2>/dev/null || true
        say "removed; what is in /etc/stockade and /var/log/stockade stays (--purge)"
    fi
}

main() {
    FROM='' SHA256='' PREFIX=/opt/stockade COMMAND=/usr/local/bin/stockade APT=yes FORCE=no PURGE=no
    local what=install_release
    while [ $# -gt 0 ]; do
        case $1 in
            --from|--sha256|--prefix|--command) [ $# -gt 1 ] || fail "$1 wants a value" ;;&
            --from)      FROM=$2; shift ;;
            --sha256)    SHA256=$2; shift ;;
            --prefix)    PREFIX=$2; shift ;;
            --command)   COMMAND=$2; shift ;;
            --no-apt)    APT=no ;;
            --uninstall) what=uninstall ;;
            --force)     FORCE=yes ;;
            --purge)     PURGE=yes ;;
            -h|--help)   sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
            *)           fail "unknown argument: $1" "--help shows what there is" ;;
        esac
        shift
    done
    case $PREFIX in /?*) ;; *) fail "--prefix $PREFIX: an absolute path is wanted" ;; esac
    $what
}

# deploy/setup.sh reads this file for what both need.
if [ "${BASH_SOURCE[0]:-$0}" = "$0" ]; then main "$@"; fi

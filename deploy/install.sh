#!/usr/bin/env bash
# Installs a release of Stockade on a machine, replaces an older one, or takes it away again. Debian 12 or 13, as root.
#
#   install.sh --from URL|DIRECTORY              the release's files: a wheel, SHA256SUMS, and this script
#   install.sh --from URL --sha256 HEX           and the wheel must be this one, whatever SHA256SUMS says
#   install.sh --from URL --service              and a unit of systemd for `stockade daemon`, started, with a group `stockade` that may look
#   install.sh --uninstall                       everything but trails and settings; refuses while a sandbox lives, or a container is held
#   install.sh --uninstall --force --purge       ends the sandboxes, lets go of the containers, and removes trails and settings too
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

summed() { awk -v name="$2" '$2 == name || $2 == "*" name {print $1}' "$1/SHA256SUMS"; }  # ROOM NAME: what SHA256SUMS says of it

checked() {  # FILE SUM
    [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ] || fail "${1##*/} is not the file whose SHA-256 is ${2:-in SHA256SUMS}" "nothing was installed"
}

the_wheel() {  # FROM ROOM: fetches the release's wheel into ROOM, checked, and prints its name
    local name sum
    fetched "$1" SHA256SUMS "$2/SHA256SUMS"
    name=$(awk '$2 ~ /^\*?stockade-[0-9A-Za-z.+]+-py3-none-any\.whl$/ {sub(/^\*/, "", $2); print $2}' "$2/SHA256SUMS")
    [ "$(wc -w <<<"$name")" = 1 ] || fail "SHA256SUMS names ${name:-no wheel}, where one stockade-VERSION-py3-none-any.whl is due"
    sum=$(summed "$2" "$name")
    fetched "$1" "$name" "$2/$name"
    checked "$2/$name" "${SHA256:-$sum}"
    echo "$name"
}

this_script() {  # FROM ROOM: into ROOM, to be kept: root runs it again to uninstall
    # The file that bash reads this from, by a path, or the release's own. Never $0: with `curl … | bash` that is `bash`, and who owns the
    # current directory may have put a file of that name there.
    case $SCRIPT in
        */*) if [ -f "$SCRIPT" ]; then cp "$SCRIPT" "$2/install.sh"; return; fi ;;
    esac
    fetched "$1" install.sh "$2/install.sh"
    checked "$2/install.sh" "$(summed "$2" install.sh)"
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
    this_script "$FROM" "$room"
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
    install -m 755 "$room/install.sh" "$PREFIX/.install.sh" && mv -T "$PREFIX/.install.sh" "$PREFIX/install.sh"  # bash may be reading it
    mkdir -p -m 755 /etc/stockade
    rm -rf "$room"
    forget_others "$place"
    serviced
    say "$("$COMMAND" --version): $COMMAND"
    say "next: $COMMAND doctor; $COMMAND init"
}

serviced() {  # the unit of the daemon, when asked for; and what to do where it runs already
    local ran=no
    ! systemctl is-active --quiet stockade 2>/dev/null || ran=yes
    if [ "$SERVICE" = yes ]; then
        getent group stockade >/dev/null || groupadd --system stockade
        mkdir -p "${UNIT%/*}"
        "$COMMAND" daemon --unit >"$UNIT.next" && mv "$UNIT.next" "$UNIT"
        if [ -d /run/systemd/system ]; then
            systemctl daemon-reload
            systemctl enable --now stockade || fail "the service does not start" "systemctl status stockade; $COMMAND daemon --check"
        else
            say "$UNIT is there; systemd does not run here, so nothing was started"
        fi
    fi
    [ $ran = no ] || say "the daemon is still the one before: systemctl restart stockade starts this one, which takes the sandboxes over"
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
    local pid
    if [ -e "$UNIT" ]; then
        systemctl disable --now stockade >/dev/null 2>&1 || say "systemd does not answer: $UNIT is removed all the same"
        rm -f "$UNIT"
        systemctl daemon-reload >/dev/null 2>&1 || true
    fi
    if pid=$(pgrep -o -f "^$PREFIX/.*/stockade daemon( |\$)"); then fail "a daemon runs (pid $pid)" "end it first: kill $pid"; fi
}

living() {  # names of sandboxes, and of containers that are governed and have an agent; fails when that cannot be known
    local said unsaid
    unsaid=$(mktemp)
    # An agent that does not answer is told of there, and is in no list.
    if ! said=$("$COMMAND" sandbox ls -o json 2>"$unsaid") || [ -s "$unsaid" ]; then cat "$unsaid" >&2; rm -f "$unsaid"; return 1; fi
    rm -f "$unsaid"
    "$PREFIX/current/bin/python" -c 'import json, sys
for each in json.load(sys.stdin): print(each["name"])' <<<"$said"
}

ended() {  # NAME: a container is let go of and runs on, a sandbox ends
    local said
    if said=$("$COMMAND" attach --let-go "$1" 2>&1); then say "$said"; return; fi
    case $said in
        *'[no_verb]'*|*'[no_sandbox]'*) "$COMMAND" sandbox kill "$1" ;;
        *)                              say "$said"; return 1 ;;
    esac
}

held() {  # containers that somebody attached to, with an agent or without: their cgroups, each with processes in it (attach/berth.py)
    local file cgroup
    for file in "$ATTACHED"/[0-9]*; do
        [[ -f $file && ${file##*/} =~ ^[0-9]+$ ]] || continue
        cgroup=$(<"$file")
        [ -n "$cgroup" ] && [ "$(stat -c %i "$cgroup" 2>/dev/null)" = "${file##*/}" ] || continue
        ! grep -qx 'populated 1' "$cgroup/cgroup.events" || echo "$cgroup"
    done
}

let_go() {  # CGROUP: of a container whose agent died: its devices are opened. Its programs go with their pins
    local number pid namespace seen='' own
    number=$(stat -c %i "$1")
    flock --nonblock "$ATTACHED/$number" true || { say "$1 has an agent, which did not let go"; return 1; }
    own=$(readlink /proc/self/ns/net)
    while read -r pid; do
        namespace=$(readlink "/proc/$pid/ns/net") || continue  # it has just ended
        [ "$namespace" != "$own" ] || continue  # there is no device to open
        case $seen in *"$namespace"*) continue ;; esac
        seen+=$namespace
        nsenter --net="/proc/$pid/ns/net" nft delete table netdev stockade 2>/dev/null || true  # it is not there, or the process is not
        ! nsenter --net="/proc/$pid/ns/net" nft list tables netdev 2>/dev/null | grep -qx 'table netdev stockade' || return 1
    done < <(find "$1" -name cgroup.procs -exec cat {} +)
    nft delete table netdev "stockade_$number" 2>/dev/null || true  # where its devices were closed at the host's end
    rm -rf "/run/stockade/bpf/attached-$number-"*
    rm -f "$ATTACHED/$number"
    say "$1: let go of; what runs there is not governed any more"
}

nobody_held() {  # refuses while somebody is; --force ends sandboxes and lets go of containers
    local names containers name cgroup
    names=$(living) || fail "which sandboxes live cannot be known: $COMMAND sandbox ls does not say" "nothing was removed" \
        "an agent that does not answer: end it (kill -9), and its sandbox is in the list; a command that fails: install that version again"
    containers=$(held)
    [ -n "$names$containers" ] || { no_daemon; return; }
    if [ "$FORCE" != yes ]; then
        [ -z "$names" ] || say "these sandboxes live: ${names//$'\n'/ }"
        [ -z "$containers" ] || say "these containers are held: ${containers//$'\n'/ }"
        fail "nothing was removed" "stockade sandbox kill NAME ends a sandbox; stockade attach --let-go NAME lets go of a container that has an agent" \
             "--force ends every sandbox and lets go of every container, also of those whose agent died"
    fi
    while read -r name; do [ -z "$name" ] || ended "$name" || fail "$name could not be ended"; done <<<"$names"
    no_daemon
    containers=$(held)
    while read -r cgroup; do [ -z "$cgroup" ] || let_go "$cgroup" || fail "$cgroup could not be let go of"; done <<<"$containers"
    at_rest
}

no_hooks() {  # podman's file, when its hook is our command: without that no such container would start. Of others that is said
    local file
    for file in /etc/containers/oci/hooks.d/*.json /usr/share/containers/oci/hooks.d/*.json; do
        [ -f "$file" ] && grep -qF -e "\"$COMMAND\"" -e "\"$PREFIX/current/bin/stockade\"" "$file" || continue
        if [ "${file##*/}" = stockade.json ]; then
            rm -f "$file"
            say "$file is removed: podman starts containers without Stockade from here on"
        else
            say "$file still names Stockade's hook: no container that it is for will start"
        fi
    done
}

uninstall() {
    local mounted left
    [ "$(id -u)" = 0 ] || fail "needs root" "sudo $0 …"
    if [ -x "$COMMAND" ]; then
        nobody_held
    else
        left=$(held)
        [ -z "$left" ] || fail "these containers are held, and there is no $COMMAND to let go of them: ${left//$'\n'/ }" "install that version again"
        say "there is no $COMMAND: what else is left is removed"
        no_daemon
    fi
    no_hooks
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
        # the group that --service made, unless somebody was put into it
        [ "$(getent group stockade | cut -d: -f4)" ] || groupdel stockade 2>/dev/null || true
        say "removed, with settings and trails"
    else
        rmdir /etc/stockade 2>/dev/null || true
        say "removed; what is in /etc/stockade and /var/log/stockade stays (--purge)"
    fi
}

main() {
    FROM='' SHA256='' PREFIX=/opt/stockade COMMAND=/usr/local/bin/stockade APT=yes FORCE=no PURGE=no SERVICE=no
    UNIT=/etc/systemd/system/stockade.service ATTACHED=/run/stockade/attached
    local what=install_release
    while [ $# -gt 0 ]; do
        case $1 in
            --from|--sha256|--prefix|--command) [ $# -gt 1 ] || fail "$1 wants a value" ;;&
            --from)      FROM=$2; shift ;;
            --sha256)    SHA256=$2; shift ;;
            --prefix)    PREFIX=$2; shift ;;
            --command)   COMMAND=$2; shift ;;
            --no-apt)    APT=no ;;
            --service)   SERVICE=yes ;;
            --uninstall) what=uninstall ;;
            --force)     FORCE=yes ;;
            --purge)     PURGE=yes ;;
            -h|--help)   [ -f "$SCRIPT" ] || fail "the script's own head says what there is"
                         sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$SCRIPT"; exit 0 ;;
            *)           fail "unknown argument: $1" "--help shows what there is" ;;
        esac
        shift
    done
    case $PREFIX in /?*) ;; *) fail "--prefix $PREFIX: an absolute path is wanted" ;; esac
    $what
}

SCRIPT=${BASH_SOURCE[0]:-}  # empty when bash reads this from its input

# deploy/setup.sh reads this file for what both need.
if [ "${BASH_SOURCE[0]:-$0}" = "$0" ]; then main "$@"; fi

#!/usr/bin/env bash
# Builds the binaries of a Kubernetes node from Debian's own source package: some minutes on two cores, once.
#
#   build.sh DIRECTORY     leaves kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kubectl there; a second run finds them
#
# Debian packages of all that only kubectl, so the source is built. It is the one of Debian 12, whose suite is asked for by name: of what
# apt on this machine is set up for, nothing is changed. apt checks what it fetches against the archive's key.
set -euo pipefail
readonly CACHE=${1:?build.sh DIRECTORY} SUITE=bookworm COMMANDS=(kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl)
SOURCE=$(cd "$(dirname "$0")/../../.." && pwd)
# shellcheck source=deploy/install.sh
. "$SOURCE/deploy/install.sh"     # install_packages, which starts no service, and fail
SAYS=kubernetes
RUNS=(etcd=etcd-server containerd=containerd runc=runc containernetworking-plugins iptables=iptables ip=iproute2 conntrack=conntrack gcc=gcc libc6-dev)
BUILDS=(go=golang-go dpkg-source=dpkg-dev make=make rsync=rsync golang-github-modern-go-reflect2-dev)

built() { local each; for each in "${COMMANDS[@]}"; do [ -x "$CACHE/$each" ] || return; done; }

fetch() {  # the source package, into the current directory, by apt's own means with lists of its own
    local apt=(-q -o Dir::State::lists="$PWD/lists" -o Dir::Etc::sourcelist="$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null
               -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=true)
    local mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$') || mirror=http://deb.debian.org/debian
    mkdir -p lists/partial
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $SUITE main" >sources.list
    apt-get "${apt[@]}" update && apt-get "${apt[@]}" source --download-only kubernetes
}

install_packages "${RUNS[@]}"
! built || exit 0
install_packages "${BUILDS[@]}"
room=$(mktemp -d)
trap 'chmod -R u+w "$room"; rm -rf "$room"' EXIT
cd "$room"
say "building the node's binaries into $CACHE (log: $CACHE/log)"
mkdir -p "$CACHE"
exec >"$CACHE/log" 2>&1
fetch || fail "apt-get could not fetch the source of kubernetes"
tree=$room/go/src/k8s.io/kubernetes
mkdir -p "$tree"
tar -xf kubernetes_*.orig.tar.* -C "$tree" --strip-components=1
cd "$tree"
# The reflect2 that it brings reads the runtime's insides as they were before Go 1.18, and crashes; Debian's does not.
rm -r vendor/github.com/modern-go/reflect2
cp -r /usr/share/gocode/src/github.com/modern-go/reflect2 vendor/github.com/modern-go/
export GO111MODULE=off GOPATH=$room/go GOCACHE=$room/gocache CGO_ENABLED=0
make generated_files
mkdir "$room/out"
go build -ldflags '-s -w' -o "$room/out/" "${COMMANDS[@]/#/./cmd/}"
mv "$room/out/"* "$CACHE/"

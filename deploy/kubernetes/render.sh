#!/usr/bin/env bash
# Makes the plain manifests from the chart, for those without helm; a test holds them to it.
#
#   deploy/kubernetes/render.sh [DIRECTORY]      HELM=/path/to/helm
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd) TO=${1:-$(cd "$(dirname "$0")" && pwd)}

# The image is a name that no registry can have (RFC 6761), for whoever applies them to put theirs in its place (README.md).
# As for 1.29, where an AppArmor profile is an annotation: newer servers take that too, and ones before 1.30 refuse the field that replaced it.
made() {  # FILE WHAT OPTION…: without the lines by which helm says which template a resource is of
    local file=$1 what=$2
    shift 2
    {
        echo "# $what Made by deploy/kubernetes/render.sh from deploy/helm/stockade."
        "${HELM:-helm}" template stockade "$HERE/../helm/stockade" --namespace stockade --kube-version 1.29.0 \
            --set crds.install=false --set image.repository=image.invalid/stockade/agent "$@" 2>"$TO/.said" |
            grep -v '^# Source: ' || { cat "$TO/.said" >&2; exit 1; }
    } >"$TO/$file"
    rm -f "$TO/.said"
}

made stockade.yaml "The agent of every node: kubectl apply -f namespace.yaml -f crds.yaml -f stockade.yaml." --set webhook.enabled=false
made webhook.yaml "Trust stores and capabilities of pods; wants cert-manager." --show-only templates/webhook.yaml \
    --set webhook.certificate.from=cert-manager
made leave.yaml "In place of stockade.yaml before it is deleted: each node is left as it was before (deploy/helm/stockade/README.md)." \
    --set webhook.enabled=false,leave.enabled=true

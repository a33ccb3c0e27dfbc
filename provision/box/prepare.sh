#!/bin/sh
# Installs on the host what building and running the embedded lab needs. Nothing of the lab itself: that has a
# root file system of its own.
set -eu
instead='point Labproof at a cloud: make conformance LAB=cloud (docs/admin.md)'
if [ "$(id -u)" != 0 ]; then
    echo "labproof: the embedded lab needs root; run as root, or $instead" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null || ! grep -qs '^ID=debian' /etc/os-release; then
    echo "labproof: the embedded lab is built on Debian 12; this is another system: $instead" >&2
    exit 1
fi
missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update >/dev/null || echo "labproof: apt-get update had errors; going on with what it has" >&2
    # shellcheck disable=SC2086
    apt-get -q -y install --no-install-recommends $missing >/dev/null
fi

#!/bin/bash
# Lets a containerd of a node's root file system take images in, and keeps its store.
# usage: take-in.sh ROOT ARCHIVE STORE      (in mount and pid namespaces of its own)
set -euo pipefail
root=$1 archive=$2 store=$3
work=$(mktemp -d "${store%/*}/work.XXXX")
mount -t tmpfs tmpfs "$work"
mkdir "$work"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" "$work/root"
new=$work/root
mount -t proc proc "$new/proc"
mount -t tmpfs tmpfs "$new/run"
mkdir -p "$new/var/lib/containerd"
# layers are laid over one another by overlayfs, which not every file system lets it do: memory does
mount -t tmpfs tmpfs "$new/var/lib/containerd"
touch "$new/images.tar"
mount --bind "$archive" "$new/images.tar"
chroot "$new" containerd --config /dev/null --log-level warn > "$work/said" 2>&1 &
server=$!
until chroot "$new" ctr version > /dev/null 2>&1; do
    if ! kill -0 $server 2> /dev/null; then
        cat "$work/said" >&2
        exit 1
    fi
    sleep 0.1
done
chroot "$new" ctr --namespace k8s.io images import /images.tar
kill $server
wait $server || true
cp -a "$new/var/lib/containerd" "$store"
umount -l "$work"
rmdir "$work"

#!/bin/bash
# Becomes process 1 of one node, in fresh mount, pid, uts, ipc and cgroup namespaces on the node's network.
# Up to pivot_root the paths are the host's, and so are the process ids that /proc tells.
# usage: node.sh NAME DATA ROOT PROGRAMS STORE CODE CGROUPS...    (CGROUPS: HIERARCHY=OPTIONS; "2" for the one of version 2)
set -euo pipefail
name=$1 data=$2 root=$3 programs=$4 store=$5 code=$6
shift 6
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount --make-rprivate /
hostname "$name"
mount -t tmpfs -o mode=755 tmpfs "$data/mnt"
mkdir "$data"/mnt/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$root,upperdir=$data/mnt/upper,workdir=$data/mnt/work" "$data/mnt/root"
new=$data/mnt/root
mount -t proc proc "$new/proc"
mount -t sysfs sysfs "$new/sys"
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mount -t tmpfs -o mode=1777 tmpfs "$new/tmp"
mount -t tmpfs -o mode=755,nosuid tmpfs "$new/dev"
mkdir -p "$new"/dev/{pts,shm,net,mqueue}
for device in null zero full random urandom tty kmsg net/tun; do
    if [ -c "/dev/$device" ]; then cp -a "/dev/$device" "$new/dev/$device"; fi
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$new/dev/pts"
ln -s pts/ptmx "$new/dev/ptmx"
ln -s /proc/self/fd "$new/dev/fd"
ln -s fd/0 "$new/dev/stdin"
ln -s fd/1 "$new/dev/stdout"
ln -s fd/2 "$new/dev/stderr"
mount -t tmpfs -o mode=1777 tmpfs "$new/dev/shm"
mount -t mqueue mqueue "$new/dev/mqueue"

# the node's own part of the machine's cgroups: the namespace begins where this process is
if [ "$*" = 2 ]; then
    mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
    # processes and controllers at the same place are refused: the node's own services have one of theirs
    mkdir -p "$new/sys/fs/cgroup/services"
    echo 0 > "$new/sys/fs/cgroup/services/cgroup.procs"
else
    mount -t tmpfs -o mode=755 cgroup "$new/sys/fs/cgroup"
    for hierarchy; do
        mkdir "$new/sys/fs/cgroup/${hierarchy%%=*}"
        mount -t cgroup -o "${hierarchy#*=}" cgroup "$new/sys/fs/cgroup/${hierarchy%%=*}"
    done
fi
# the kubelet sets some of the whole kernel's settings where they are others: it is shown those that it wants
mkdir "$new/run/kernel"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    path=${setting%=*}
    shown=$new/run/kernel/${path//\//.}
    echo "${setting#*=}" > "$shown"
    mount --bind "$shown" "$new/proc/sys/$path"
done

# containerd's store: a copy of the one that took the images in, in memory as overlayfs wants it, but the layers, which
# nobody changes, are where they are for all nodes
kept=$new/var/lib/containerd
mkdir -p "$kept" "$new"/opt/labproof/{bin,store,code} "$new"/etc/{kubernetes,containerd,cni/net.d} "$new/var/lib/kubelet"
mount -t tmpfs -o mode=711 tmpfs "$kept"
mount --bind "$store" "$new/opt/labproof/store"
blobs=io.containerd.content.v1.content/blobs/sha256 layers=io.containerd.snapshotter.v1.overlayfs
mkdir -p "$kept"/{$blobs,$layers/snapshots,io.containerd.metadata.v1.bolt}
mkdir "$kept/io.containerd.content.v1.content/ingest"
cp -a "$store/io.containerd.metadata.v1.bolt/meta.db" "$kept/io.containerd.metadata.v1.bolt/"
cp -a "$store/$layers/metadata.db" "$kept/$layers/"
(cd "$store/$blobs" && for blob in *; do ln -s "/opt/labproof/store/$blobs/$blob" "$kept/$blobs/$blob"; done)
for layer in "$store/$layers"/snapshots/*; do
    mkdir -p "$kept/$layers/snapshots/${layer##*/}/fs"
    mount --bind "$layer/fs" "$kept/$layers/snapshots/${layer##*/}/fs"
done
mount --bind "$programs" "$new/opt/labproof/bin"
mount --bind "$code" "$new/opt/labproof/code"
for folder in store bin code; do mount -o remount,bind,ro "$new/opt/labproof/$folder"; done
cp -r "$data/etc/." "$new/etc/"
chmod -R go= "$new/etc/kubernetes"
: > "$new/etc/resolv.conf"
mount --bind "$data/log" "$new/var/log"
mkdir -p "$new"/var/log/{pods,containers}

read -r stat < /proc/self/stat
echo "$stat" > "$data/init.new"
mkdir "$new/run/old"
pivot_root "$new" "$new/run/old"
cd /
# whoever looks for the node's process 1 finds a node: all of it is mounted
mv "/run/old$data/init.new" "/run/old$data/init"
umount -l /run/old
rmdir /run/old
mount --make-rshared /
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1 \
    net.ipv4.conf.all.rp_filter=0
exec env -i PATH="/opt/labproof/bin:$PATH" HOME=/root LC_ALL=C.UTF-8 KUBECONFIG=/etc/kubernetes/admin.conf \
    tini -s -- sleep infinity

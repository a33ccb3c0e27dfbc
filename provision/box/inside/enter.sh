#!/bin/bash
# Runs as process 1 of fresh mount, pid, net, uts and ipc namespaces. Up to pivot_root the paths are the host's.
# usage: enter.sh ROOTFS RUN CODE MODE
set -euo pipefail
rootfs=$1 run=$2 code=$3 mode=$4
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$run/mnt"
mkdir "$run/mnt/upper" "$run/mnt/work" "$run/mnt/root"
# the changes to the root file system are in memory: they go with the namespace, and the host's own file
# system need not be one that overlayfs accepts as an upper layer
mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$run/mnt/upper,workdir=$run/mnt/work" "$run/mnt/root"
new=$run/mnt/root
mount -t tmpfs -o mode=755,nosuid tmpfs "$new/dev"
mkdir -p "$new"/dev/{pts,shm,net,mqueue}
for device in null zero full random urandom tty net/tun kvm vhost-net; do
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
mount -t proc proc "$new/proc"
mount -t sysfs sysfs "$new/sys"
mount --rbind /sys/fs/cgroup "$new/sys/fs/cgroup" || true
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mkdir -p "$new"/run/{netns,lock,libvirt,mysqld,nova,neutron,openvswitch}
mount -t tmpfs -o mode=1777 tmpfs "$new/tmp"
mkdir -p "$new/box" "$new/labproof"
mount --bind "$run/data" "$new/box"
mount --bind "$code" "$new/labproof"
mount -o remount,bind,ro "$new/labproof"
mkdir "$new/run/old"
pivot_root "$new" "$new/run/old"
cd /
umount -l /run/old
rmdir /run/old

cp -r /box/etc/. /etc/
mkdir -p /box/state/{libvirt,libvirt-cache,rabbitmq/log,nova/instances,nova/lock,neutron/lock,glance/images,placement} /box/log/libvirt
mkdir -p /var/lib/libvirt /var/log/libvirt /var/cache/libvirt
mount --bind /box/state/libvirt /var/lib/libvirt
mount --bind /box/log/libvirt /var/log/libvirt
mount --bind /box/state/libvirt-cache /var/cache/libvirt
hostname box
. /labproof/world.sh
exec env -i PATH="/labproof/bin:$PATH" HOME=/root LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 \
    /usr/bin/python3 -u /labproof/init.py "$mode"

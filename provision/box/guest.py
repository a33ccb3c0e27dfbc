"""The embedded lab's guest image: Debian 12 with SSH, network tools and Python, up in seconds even under TCG.

:mod:`provision.box.guest_build` makes it; busybox shell scripts under ``guest/`` are its whole start-up.
"""

from __future__ import annotations

from pathlib import Path

from provision.box import guest_build, paths
from provision.box.command import Log
from provision.box.guest_build import Recipe

SUITE = "bookworm"
LOGIN = "user"
MIN_DISK_GIB = 1
SCRIPTS = paths.HERE / "guest"
PACKAGES = (
    *("linux-image-cloud-amd64", "busybox-static", "dropbear-bin", "openssh-sftp-server"),
    *("python3", "iputils-ping", "iproute2", "curl", "ca-certificates"),
    *("sudo", "procps", "passwd", "login", "e2fsprogs", "kmod"),
)

INITRAMFS_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng")
MODULES = (
    *INITRAMFS_MODULES,
    *("button", "evdev", "isofs", "vfat", "nls_cp437", "nls_ascii", "nls_utf8"),
    *("ata_piix", "sr_mod", "sd_mod", "virtio_scsi", "virtio_balloon"),
    *("8021q", "bridge", "br_netfilter", "dummy", "veth", "tun", "macvlan", "vxlan", "overlay", "sch_netem"),
    *("nf_tables", "nft_compat", "nft_chain_nat", "nft_masq", "nft_ct", "nft_reject_inet"),
    *("iptable_filter", "iptable_nat", "xt_MASQUERADE", "xt_conntrack", "xt_tcpudp"),
)

# Each word was measured (CPU seconds of a boot under TCG); what bought nothing is not here. `acpi=noirq`
# would buy as much again, but with it a server of two vCPUs has one.
KERNEL_OPTIONS = (
    "root=/dev/vda",
    "console=tty0",
    "console=ttyS0",
    "net.ifnames=0",
    "quiet",
    "loglevel=3",
    "mitigations=off",
    "cryptomgr.notests",
    "noreplace-smp",
    "panic=5",
)

INSTALLED = {
    "init": "sbin/init",
    "inittab": "etc/inittab",
    "dhcp": "etc/labproof/dhcp",
    "hotplug": "etc/labproof/hotplug",
    "instance": "etc/labproof/instance",
    "json.awk": "etc/labproof/json.awk",
    "stop": "etc/labproof/stop",
    "ssh": "etc/init.d/ssh",
}
TEXTS = {
    "etc/hostname": "guest\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n127.0.1.1\tguest\n::1\tlocalhost ip6-localhost\n",
    "etc/fstab": "/dev/vda / ext4 noatime,commit=1 0 0\n",
    "etc/resolv.conf": "",
    f"etc/sudoers.d/90-{LOGIN}": f"{LOGIN} ALL=(ALL) NOPASSWD:ALL\n",
    "etc/acpi/PWRF/00000080": "#!/bin/sh\nexec /sbin/poweroff\n",
}

RECIPE = Recipe(
    suite=SUITE,
    packages=PACKAGES,
    initramfs=SCRIPTS / "initramfs",
    initramfs_modules=INITRAMFS_MODULES,
    modules=MODULES,
    installed={target: SCRIPTS / name for name, target in INSTALLED.items()},
    texts=TEXTS,
    users={LOGIN: ("sudo",)},
    disk_gib=MIN_DISK_GIB,
    options=KERNEL_OPTIONS,
)


def content_hash() -> str:
    """Names the image by all that determines its content: the scripts, and the recipe with its lists.

    The mirror is not in it: it changes where packages come from, not what is asked for.
    """
    recipe = [Path(__file__), *(paths.HERE / f"{name}.py" for name in ("guest_build", "debian", "cpio"))]
    return paths.content_hash([SCRIPTS, *recipe])


def glance_properties() -> dict[str, str]:
    """Image properties besides ``kernel_id`` and ``ramdisk_id``."""
    return {
        "os_command_line": " ".join(KERNEL_OPTIONS),
        "hw_rng_model": "virtio",
        "hw_disk_bus": "virtio",
        "hw_vif_model": "virtio",
        "os_distro": "debian",
    }


def ensure(log: Log) -> Path:
    """The image's folder in the cache, built first where the cache has none.

    Raises:
        BuildError: a step of the build failed.
    """
    return paths.once(paths.cache() / f"guest-{content_hash()}", lambda scratch: build(scratch, log))


def build(out: Path, log: Log) -> None:
    """Makes ``vmlinuz``, ``initrd.img``, ``root.qcow2`` and ``guest.json`` in the folder `out`.

    About 45 s on two cores; needs what `guest_build.make` does.

    Raises:
        BuildError: a step failed; nothing of use is in `out`.
    """
    version = guest_build.make(RECIPE, out, log)
    guest_build.pack(out, log)
    guest_build.describe(RECIPE, out, version, content_hash(), properties=glance_properties())

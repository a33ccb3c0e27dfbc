"""QEMU's disks and their registry, on real images by the real qemu-img; how VMs run: test_qemu_vm.py, test_qemu_guest.py."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.natvm import Forwarding, VmSettings
from provision.qemu import Qemu, last_lines
from provision.qemu_disks import Document, Machine, Medium
from provision.qemu_image import kind_of, read_uuid, set_uuid
from tests.natvm_contract import NatVmContract, boot_disk, refusal

ROOT = Path(__file__).parents[1]


def tool(*argv: str | Path) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{argv}: {done.stderr}{done.stdout}"
    return done.stdout


def reads(image: Path, *commands: str) -> None:
    """qemu-io's read commands, each with the pattern that must be there."""
    said = tool("qemu-io", *(word for command in commands for word in ("-c", command)), image)
    assert said.count("read ") == len(commands)
    assert "failed" not in said, said


def qcow2(path: Path, *options: str, size: str = "8M") -> Path:
    tool("qemu-img", "create", "-q", "-f", "qcow2", *options, path, size)
    return path


@pytest.fixture
def hypervisor(tmp_path: Path) -> Iterator[Qemu]:
    qemu = Qemu(tmp_path / "qemu")
    yield qemu
    for name in qemu.vms():
        qemu.vm(name).remove()


@pytest.fixture
def make_disk(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        path = tmp_path / "disks" / f"{name}.qcow2"
        path.parent.mkdir(exist_ok=True)
        raw = path.with_suffix(".raw")
        raw.write_bytes(boot_disk())
        tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
        raw.unlink()
        set_uuid(path)  # a disk that VirtualBox makes has one from the beginning
        return path

    return make


class TestContract(NatVmContract):
    pass


# --- the UUID in the image ------------------------------------------------------------------------------


def test_a_uuid_stays_through_all_that_qemu_does_to_an_image(tmp_path: Path):
    base = qcow2(tmp_path / "base.qcow2")
    image = qcow2(tmp_path / "disk.qcow2", "-b", str(base), "-F", "qcow2")
    uuid = set_uuid(image)
    other_base = qcow2(tmp_path / "a-base-with-a-much-longer-name.qcow2")
    for argv in (
        ["qemu-io", "-c", "write -P 7 0 1M", image],
        ["qemu-img", "snapshot", "-c", "one", image],
        ["qemu-io", "-c", "write -P 8 0 1M", image],
        ["qemu-img", "snapshot", "-a", "one", image],
        ["qemu-img", "snapshot", "-d", "one", image],
        ["qemu-img", "resize", "-q", image, "16M"],
        ["qemu-img", "bitmap", "--add", image, "somebody"],
        ["qemu-img", "bitmap", "--remove", image, "somebody"],
        ["qemu-img", "rebase", "-b", other_base, "-F", "qcow2", image],
        ["qemu-img", "amend", "-o", "lazy_refcounts=on", image],
        ["qemu-img", "check", "-q", "-r", "all", image],
        ["qemu-img", "rebase", "-b", "", image],
    ):
        tool(*argv)
        assert read_uuid(image) == uuid, argv
    reads(image, "read -P 7 0 1M")


def test_a_uuid_stays_when_qemu_is_killed_while_it_writes(tmp_path: Path):
    image = qcow2(tmp_path / "disk.qcow2")
    uuid = set_uuid(image)
    writer = subprocess.Popen(
        ["qemu-io", image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert writer.stdin
    assert writer.stdout
    writer.stdin.write("write -P 7 0 1M\n")
    writer.stdin.flush()
    while "wrote" not in writer.stdout.readline():
        pass
    writer.kill()
    writer.communicate()
    assert read_uuid(image) == uuid
    tool("qemu-img", "resize", "-q", image, "16M")  # a bitmap in the image would make this fail
    assert read_uuid(image) == uuid


@pytest.mark.parametrize("options", [(), ("-o", "compat=0.10"), ("-o", "cluster_size=4k")])
def test_a_uuid_changes_nothing_else(tmp_path: Path, options: tuple[str, ...]):
    base = qcow2(tmp_path / "base.qcow2")
    tool("qemu-io", "-c", "write -P 5 1M 1M", base)
    image = qcow2(tmp_path / "disk.qcow2", *options, "-b", str(base), "-F", "qcow2")
    tool("qemu-io", "-c", "write -P 6 2M 1M", image)
    before = json.loads(tool("qemu-img", "info", "--output=json", image))
    assert read_uuid(image) is None
    first = set_uuid(image)
    assert read_uuid(image) == first
    second = set_uuid(image)
    assert read_uuid(image) == second != first
    assert first.bytes not in image.read_bytes()
    assert json.loads(tool("qemu-img", "info", "--output=json", image)) == before
    tool("qemu-img", "check", "-q", image)
    reads(image, "read -P 5 1M 1M", "read -P 6 2M 1M")


def test_what_has_no_place_for_a_uuid(tmp_path: Path):
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(4096))
    assert read_uuid(raw) is None
    with pytest.raises(ValueError, match="no qcow2"):
        set_uuid(raw)
    # a first cluster of 512 bytes, nearly full with the backing file's name
    deep = tmp_path / "d"
    while len(str(deep)) < 350:
        deep /= "d" * min(200, 360 - len(str(deep)))
    deep.mkdir(parents=True)
    base = qcow2(deep / "b")
    small = qcow2(tmp_path / "small", "-o", "cluster_size=512", "-b", str(base), "-F", "qcow2")
    before = small.read_bytes()
    with pytest.raises(ValueError, match="no room"):
        set_uuid(small)
    assert small.read_bytes() == before


# --- the registry ---------------------------------------------------------------------------------------


def test_a_plain_copy_is_refused_in_virtualboxs_words(hypervisor: Qemu, tmp_path: Path):
    first, copy = qcow2(tmp_path / "first.qcow2"), tmp_path / "copy.qcow2"
    uuid = hypervisor.register_disk(first).uuid
    tool("cp", first, copy)
    assert refusal("conflict", lambda: hypervisor.register_disk(copy)).answer == (
        f"Cannot register the hard disk '{copy}' {{{uuid}}} because a hard disk '{first}' with UUID {{{uuid}}} "
        "already exists"
    )
    assert set_uuid(copy) != uuid
    assert hypervisor.register_disk(copy).path == copy


def test_a_disk_is_registered_once_by_whatever_name(hypervisor: Qemu, tmp_path: Path):
    disk = hypervisor.register_disk(qcow2(tmp_path / "a.qcow2"))
    assert hypervisor.register_disk(tmp_path / "a.qcow2") == disk
    (tmp_path / "link").symlink_to("a.qcow2")
    assert hypervisor.register_disk(tmp_path / "link") == disk
    (tmp_path / "hard").hardlink_to(tmp_path / "a.qcow2")
    refusal("conflict", lambda: hypervisor.register_disk(tmp_path / "hard"))
    assert hypervisor.disks() == [disk]
    assert hypervisor.create(VmSettings("vm", tmp_path / "link")).disk == disk.path
    assert hypervisor.used_by(tmp_path / "link") == "vm"
    hypervisor.vm("vm").remove()
    assert not disk.path.exists()


def test_a_moved_or_replaced_disk_is_not_taken_for_the_registered_one(hypervisor: Qemu, tmp_path: Path):
    image = qcow2(tmp_path / "a.qcow2")
    uuid = hypervisor.register_disk(image).uuid
    image.rename(tmp_path / "moved.qcow2")
    refusal("missing", lambda: hypervisor.register_disk(image))
    refusal("conflict", lambda: hypervisor.register_disk(tmp_path / "moved.qcow2"))
    assert [(disk.uuid, disk.size_mb) for disk in hypervisor.disks()] == [(uuid, 0)]
    other = set_uuid(qcow2(image))
    said = refusal("conflict", lambda: hypervisor.register_disk(image)).answer
    assert str(uuid) in said
    assert str(other) in said
    hypervisor.remove_disk(image)
    assert hypervisor.register_disk(tmp_path / "moved.qcow2").uuid == uuid


def test_a_raw_disk_is_registered_and_another_format_refused(hypervisor: Qemu, tmp_path: Path):
    (tmp_path / "raw").write_bytes(boot_disk())
    disk = hypervisor.register_disk(tmp_path / "raw")
    assert (disk.format, disk.size_mb) == ("RAW", 4)
    # what a guest wrote does not make it another format
    set_uuid(qcow2(tmp_path / "inner"))
    (tmp_path / "raw").write_bytes((tmp_path / "inner").read_bytes().ljust(4 * 1024 * 1024, b"\0"))
    assert hypervisor.register_disk(tmp_path / "raw") == disk
    tool("qemu-img", "create", "-q", "-f", "vdi", tmp_path / "a.vdi", "4M")
    assert "vdi" in refusal("refused", lambda: hypervisor.register_disk(tmp_path / "a.vdi")).answer
    refusal("refused", lambda: hypervisor.clone_disk(tmp_path / "a.vdi", tmp_path / "b.vdi"))


def test_names_that_mean_something_to_qemu(hypervisor: Qemu, tmp_path: Path):
    folder = tmp_path / "a, b:c=d {%s} é"
    folder.mkdir()
    source, target = folder / "nbd:1, x.qcow2", folder / "json:{}.qcow2"
    qcow2(source)
    hypervisor.register_disk(source)
    hypervisor.clone_disk(source, target)
    assert [disk.path for disk in hypervisor.disks()] == [source, target]
    assert sorted(folder.iterdir()) == sorted([source, target])


def register(folder: Path, image: Path) -> None:
    Qemu(folder).register_disk(image)


def test_processes_that_register_at_once_lose_nothing(hypervisor: Qemu, tmp_path: Path):
    images = [qcow2(tmp_path / f"{number}.qcow2") for number in range(8)]
    apart = multiprocessing.get_context("spawn")
    others = [apart.Process(target=register, args=(tmp_path / "qemu", image)) for image in images[:4]]
    ours = [threading.Thread(target=hypervisor.register_disk, args=(image,)) for image in images[4:]]
    for each in (*others, *ours):
        each.start()
    for each in (*others, *ours):
        each.join()
    assert sorted(disk.path for disk in hypervisor.disks()) == images


def test_a_killed_process_does_not_keep_the_registry(hypervisor: Qemu, tmp_path: Path):
    script = (
        "import sys, time; from pathlib import Path; from provision.qemu_disks import Registry\n"
        "with Registry(Path(sys.argv[1])).changing(): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "qemu"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    done = threading.Event()
    waiting = threading.Thread(
        target=lambda: (hypervisor.register_disk(qcow2(tmp_path / "a.qcow2")), done.set())
    )
    waiting.start()
    assert not done.wait(0.3), "two have the registry at once"
    holder.kill()
    holder.communicate()
    waiting.join(10)
    assert done.is_set()


def test_a_damaged_registry_is_said_and_kept(hypervisor: Qemu, tmp_path: Path):
    file = tmp_path / "qemu/registry.json"
    file.parent.mkdir()
    for damaged in ("{", "[]", '{"version": 2}', '{"version": 1, "disks": {"a": {}}, "vms": {}}'):
        file.write_text(damaged)
        assert str(file) in str(refusal("fault", hypervisor.vms))
        refusal("fault", lambda: hypervisor.register_disk(qcow2(tmp_path / "a.qcow2")))
        assert file.read_text() == damaged
    file.unlink()


addresses = st.sampled_from([None, IPv4Address("127.0.0.1"), IPv4Address("10.1.5.89")])
files = st.sampled_from([Path("/a"), Path("/a, b/c=d.é"), Path('/"\\n')])
rules = st.builds(
    Forwarding,
    st.sampled_from(["ssh", "1"]),
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.sampled_from(["tcp", "udp"]),
    addresses,
    addresses,
)
settings = st.builds(
    VmSettings,
    *(st.sampled_from(["vm", "1"]), files, st.integers(16, 9999), st.integers(1, 8)),
    *(st.none() | files, st.none() | files, st.none() | files, st.text(max_size=9)),
)


@given(
    vms=st.lists(st.builds(Machine, settings, st.lists(rules, max_size=2)), max_size=2),
    disks=st.dictionaries(files, st.builds(Medium, st.uuids(), st.sampled_from(["qcow2", "raw"]))),
)
def test_what_is_registered_is_read_back(vms: list[Machine], disks: dict[Path, Medium]):
    document = Document(disks, {vm.settings.name: vm for vm in vms})
    assert Document.from_json(json.loads(json.dumps(document.to_json(), default=str))) == document


# --- clones ---------------------------------------------------------------------------------------------


def test_a_clone_has_the_content_of_the_backing_file_and_shows_progress(hypervisor: Qemu, tmp_path: Path):
    base = qcow2(tmp_path / "base.qcow2", size="64M")
    tool("qemu-io", "-c", "write -P 5 0 40M", base)
    source = qcow2(tmp_path / "source.qcow2", "-b", str(base), "-F", "qcow2", size="64M")
    tool("qemu-io", "-c", "write -P 6 1M 1M", source)
    percent: list[float] = []
    clone = hypervisor.clone_disk(source, tmp_path / "clone.qcow2", percent.append)
    base.unlink()
    reads(clone.path, "read -P 5 0 1M", "read -P 6 1M 1M", "read -P 5 2M 38M")
    assert (clone.format, clone.size_mb) == ("QCOW2", 64)
    assert read_uuid(clone.path) == clone.uuid
    assert percent == sorted(percent)
    assert percent[-1] == 100
    assert len(set(percent)) > 10
    assert [disk.path for disk in hypervisor.disks()] == [clone.path], "the source is not registered by it"


def test_a_clone_of_a_raw_disk_is_raw(hypervisor: Qemu, tmp_path: Path):
    (tmp_path / "raw").write_bytes(boot_disk())
    clone = hypervisor.clone_disk(tmp_path / "raw", tmp_path / "clone")
    assert (clone.format, clone.path.read_bytes()) == ("RAW", boot_disk())


def test_a_disk_that_cannot_be_read_is_not_cloned(hypervisor: Qemu, tmp_path: Path):
    source = qcow2(tmp_path / "secret.qcow2")
    source.chmod(0)
    before = sorted(tmp_path.iterdir())
    error = refusal("access", lambda: hypervisor.clone_disk(source, tmp_path / "clone.qcow2"))
    assert "Permission denied" in error.answer
    assert error.answer.startswith("qemu-img:")
    refusal("access", lambda: hypervisor.register_disk(source))
    refusal("access", lambda: hypervisor.create(VmSettings("vm", source)))
    assert sorted(path for path in tmp_path.iterdir() if path.name != "qemu") == before
    assert (hypervisor.disks(), hypervisor.vms()) == ([], [])
    source.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert hypervisor.clone_disk(source, tmp_path / "clone.qcow2").path.exists()


def test_a_disk_in_use_is_neither_cloned_nor_registered(hypervisor: Qemu, tmp_path: Path):
    source = qcow2(tmp_path / "busy.qcow2")
    user = subprocess.Popen(["qemu-io", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert user.stdin
    assert user.stdout
    try:
        user.stdin.write("length\n")
        user.stdin.flush()
        assert user.stdout.readline()
        error = refusal("conflict", lambda: hypervisor.clone_disk(source, tmp_path / "clone.qcow2"))
        assert "another process" in error.answer
        refusal("conflict", lambda: hypervisor.register_disk(source))
        assert not (tmp_path / "clone.qcow2").exists()
    finally:
        user.kill()
        user.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts a small file system")
def test_a_full_disk_is_said_and_nothing_left(tmp_path: Path):
    source, full = qcow2(tmp_path / "source.qcow2"), tmp_path / "full"
    tool("qemu-io", "-c", "write -P 5 0 8M", source)
    full.mkdir()
    script = (
        "import sys; from pathlib import Path; from provision.qemu import Qemu; "
        "from provision.natvm import NatVmError\n"
        "try: Qemu(Path(sys.argv[1])).clone_disk(Path(sys.argv[2]), Path(sys.argv[3]) / 'clone.qcow2')\n"
        "except NatVmError as error: print(error.kind, error, sorted(Path(sys.argv[3]).iterdir()))"
    )
    said = tool(
        *("unshare", "--mount", "--propagation", "private", "--", "sh", "-ec"),
        f'mount -t tmpfs -o size=2m none "$3"; cd {ROOT}; exec {sys.executable} -c "$0" "$@"',
        *(script, tmp_path / "qemu", source, full),
    )
    assert said.startswith("fault cloning the disk")
    assert "No space left on device" in said
    assert said.endswith(" []\n")
    assert Qemu(tmp_path / "qemu").disks() == []


def test_a_clone_that_is_given_up_or_overtaken_leaves_nothing(hypervisor: Qemu, tmp_path: Path):
    source, target = qcow2(tmp_path / "source.qcow2", size="64M"), tmp_path / "clone.qcow2"
    tool("qemu-io", "-c", "write -P 5 0 64M", source)

    def gives_up(percent: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hypervisor.clone_disk(source, target, gives_up)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.qcow2"]
    refusal(
        "conflict", lambda: hypervisor.clone_disk(source, target, lambda _: target.write_text("somebody's"))
    )
    assert target.read_text() == "somebody's"
    assert sorted(path.name for path in tmp_path.glob("*c*w2")) == ["clone.qcow2", "source.qcow2"]
    assert not list(tmp_path.glob(".*"))
    assert hypervisor.disks() == []


def test_a_clone_into_no_folder(hypervisor: Qemu, tmp_path: Path):
    source = qcow2(tmp_path / "source.qcow2")
    error = refusal("missing", lambda: hypervisor.clone_disk(source, tmp_path / "nowhere/clone.qcow2"))
    assert "nowhere" in error.answer


# --- without a VM ---------------------------------------------------------------------------------------


def test_without_qemu(tmp_path: Path):
    image = qcow2(tmp_path / "a.qcow2")
    for without in (
        Qemu(tmp_path / "qemu", qemu="no-such-qemu"),
        Qemu(tmp_path / "qemu", qemu_img="no-such-img"),
        Qemu(tmp_path / "qemu", prefix=("env",), qemu="no-such-qemu"),
    ):
        assert "apt install" in without.cannot_start()
        assert "no-such" in without.cannot_start() or "qemu-img" in without.cannot_start()
    refusal("configuration", lambda: Qemu(tmp_path / "qemu", qemu_img="no-such-img").register_disk(image))
    refusal("configuration", Qemu(tmp_path / "qemu", qemu="no-such-qemu").version)
    Qemu(tmp_path / "qemu").create(VmSettings("vm", image))
    for prefix in ((), ("env",)):
        vm = Qemu(tmp_path / "qemu", prefix=prefix, qemu="no-such-qemu").vm("vm")
        assert "no-such-qemu" in refusal("configuration", vm.start).answer
        assert vm.state() == "off"


def test_what_a_vm_is_not_made_of(hypervisor: Qemu, tmp_path: Path):
    image = qcow2(tmp_path / "a.qcow2")
    for field in ("seed", "kernel"):
        asked = VmSettings("vm", image, **{field: tmp_path / "absent"})
        assert "absent" in refusal("missing", lambda asked=asked: hypervisor.create(asked)).answer
    refusal("refused", lambda: hypervisor.create(VmSettings("vm", image, command_line="quiet")))
    assert (hypervisor.vms(), hypervisor.disks(), read_uuid(image)) == ([], [], None)


def test_rules_overlap_by_their_address(hypervisor: Qemu, tmp_path: Path):
    vm = hypervisor.create(VmSettings("vm", qcow2(tmp_path / "a.qcow2")))
    local, lan = IPv4Address("127.0.0.1"), IPv4Address("10.1.5.89")
    vm.forward(Forwarding("local", 1234, 22, host_ip=local))
    vm.forward(Forwarding("lan", 1234, 22, host_ip=lan))
    vm.forward(Forwarding("udp", 1234, 22, "udp"))
    refusal("conflict", lambda: vm.forward(Forwarding("all", 1234, 22)))
    refusal("conflict", lambda: vm.forward(Forwarding("again", 1234, 23, host_ip=lan)))
    assert [rule.name for rule in vm.forwardings()] == ["local", "lan", "udp"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('qemu: Failed to get "write" lock\nIs another process using the image [/a]?', "conflict"),
        ("qemu-img: Could not open '/a': Permission denied", "access"),
        ("qemu-img: Could not open '/a': Could not open '/a': No such file or directory", "missing"),
        ("Could not access KVM kernel module: No such file or directory", "configuration"),
        ("qemu: failed to initialize kvm: Permission denied", "configuration"),
        ("qemu-img: error while writing: block 12: I/O error", "fault"),
    ],
)
def test_kinds_of_failure(text: str, kind: str):
    assert kind_of(text, "fault") == kind


def test_the_last_lines_of_a_console():
    assert last_lines("a\r\n\x1b[1;32mb\x1b[0m\n\n  c  \nd", 3) == "b | c | d"
    assert last_lines("\x1b[2J\r\n") == "(nothing on the console)"


@pytest.mark.parametrize(
    ("version", "threaded"), [("7.2.22", False), ("8.0.5", False), ("8.1.0", True), ("10.0.2", True)]
)
def test_processors_are_emulated_at_once_where_that_is_sound(tmp_path: Path, version: str, threaded: bool):
    said = f"echo 'QEMU emulator version {version} (Debian 1:{version}+dfsg-1)'"
    qemu = Qemu(tmp_path / "qemu", qemu=("sh", "-c", said))
    assert (qemu.version(), qemu.threaded()) == (version, threaded)
    argv = qemu.create(VmSettings("vm", qcow2(tmp_path / "a.qcow2")))._argv(
        VmSettings("vm", tmp_path / "a.qcow2"), "qcow2"
    )
    assert argv[argv.index("-accel") + 1] == f"tcg,thread={'multi' if threaded else 'single'}"

"""Runs the tests of the owner check on the kernel that Debian ships: `make old-kernel KERNEL=package`.

qemu boots it in software and sees this machine's files by 9p, read-only; so Python, the package and the tests are those of this
environment. Needs Debian or Ubuntu on amd64, and root or an installed qemu and busybox. Takes some minutes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = ("tests/system/test_socket_owners.py", "tests/services/test_listeners.py", "tests/gateway/test_policy.py")
UNFIT = "not under_20_ms"  # a machine in software has no speed to measure
VIRTIO = "virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci"
MODULES = f"{VIRTIO} netfs fscache 9pnet 9pnet_virtio 9p inet_diag tcp_diag"
PACKAGES = ["qemu-system-x86", "busybox-static", "cpio"]
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox ln -s /proc/self/fd /dev/fd
/bin/busybox hostname old-kernel
# Several times: in which order they need each other differs between kernels.
for round in 1 2 3; do for module in {modules}; do /bin/busybox insmod /$module.ko 2>/dev/null; done; done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose host /host
/bin/busybox mount -t proc none /host/proc
/bin/busybox mount --move /dev /host/dev
/bin/busybox mount -t tmpfs none /host/tmp
/bin/busybox ip link set lo up
echo "== Linux $(/bin/busybox uname -r)"
/bin/busybox chroot /host /bin/sh -c 'cd {folder} && PYTHONDONTWRITEBYTECODE=1 HOME=/tmp {command}'
echo "== exit code $?"
/bin/busybox poweroff -f
"""
SECONDS = 900


def main(package: str = "") -> int:
    """Boot the kernel of a package, by default of the newest one of this distribution; returns the tests' exit code."""
    if os.getuid() == 0:
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "qemu-system-x86", "busybox-static", "cpio"], check=True, stdout=sys.stderr
        )
    depends = subprocess.run(["apt-cache", "depends", "linux-image-amd64"], check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        package = package or re.findall(r"linux-image-\d\S+", depends)[0]
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        subprocess.run(["dpkg", "-x", next(folder.glob("*.deb")), "kernel"], cwd=folder, check=True)
        with subprocess.Popen(_qemu(folder), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as machine:
            try:
                output = machine.communicate(timeout=SECONDS)[0].decode(errors="replace")
            finally:
                machine.kill()
    print(output[output.find("== Linux") :] if "== Linux" in output else output)
    code = re.search(r"== exit code (\d+)", output)
    return int(code[1]) if code else 1


def _qemu(folder: Path) -> list[str]:
    kernel = next(folder.glob("kernel/boot/vmlinuz-*"))
    return [
        *("qemu-system-x86_64", "-m", "1024", "-nographic", "-no-reboot", "-kernel", str(kernel)),
        *("-initrd", str(_initramfs(folder)), "-append", "console=ttyS0 quiet panic=1"),
        *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
    ]


def _initramfs(folder: Path) -> Path:
    root = folder / "root"
    for each in ("bin", "dev", "host"):
        (root / each).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), root / "bin" / "busybox")
    for module in MODULES.split():
        for found in folder.glob(f"kernel/lib/modules/*/kernel/**/{module}.ko"):
            shutil.copy(found, root / f"{module}.ko")
    tests = f'{sys.executable} -m pytest -q --color=no --tb=short -p no:cacheprovider -k "{UNFIT}" {" ".join(TESTS)}'
    (root / "init").write_text(INIT.format(modules=MODULES, folder=Path(__file__).parents[2], command=tests))
    (root / "init").chmod(0o755)
    image = folder / "initrd"
    with image.open("wb") as file:
        names = subprocess.run(["find", "."], cwd=root, check=True, capture_output=True).stdout
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, check=True, input=names, stdout=file)
    return image


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

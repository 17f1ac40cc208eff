"""A host of its own for a test: the machine's systemd as PID 1 of new namespaces over a throw-away /.

    with SystemdHost(files) as host:
        host.run("systemctl", "start", "perpcore-engine.service")

The root file system is an overlay whose upper layer is memory, so nothing of the real host changes;
network, pids, ipc, /dev/shm and cgroups are new. Needs root; `unavailable` says what is missing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

# PID 1 is reached in four steps: new namespaces, an overlay with its own /dev /run /tmp, pivot_root
# into it, and exec of systemd, which needs shared mounts to hand credentials to units.
_BOOT = r"""
set -eu
work=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/scratch" "$work/new"
new=$work/new
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/scratch" overlay "$new"
mount -t proc proc "$new/proc"
mount -t sysfs sysfs "$new/sys"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$new/dev"
for node in null zero full random urandom tty; do cp -a "/dev/$node" "$new/dev/$node"; done
mkdir "$new/dev/pts" "$new/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$new/dev/pts"
ln -s pts/ptmx "$new/dev/ptmx"
ln -s /proc/self/fd "$new/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$new/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mount -t tmpfs -o mode=1777 tmpfs "$new/tmp"
rm -rf "$new/opt/perpcore" "$new/etc/perpcore" "$new/var/lib/perpcore" # the overlay's, if any
cp -r "$2/." "$new/"
echo 00112233445566778899aabbccddeeff >"$new/etc/machine-id"
hostname perpcore-test
ip link set lo up
mkdir "$new/run/old"
cd "$new"
pivot_root . run/old
cd /
umount -l /run/old
mount --make-rshared /
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
    /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=no
"""


def unavailable() -> str:
    """Why there can be no such host here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root for namespaces and mounts"
    if not Path("/lib/systemd/systemd").exists():
        return "no systemd here: apt-get install systemd"
    missing = [p for p in ("unshare", "nsenter", "ip", "pivot_root") if shutil.which(p) is None]
    return f"missing: {', '.join(missing)} (util-linux, iproute2)" if missing else ""


class SystemdHost:
    """Boots on entry, powers off on exit. `files` is copied onto its root before it boots."""

    def __init__(self, files: Path) -> None:
        self._files = files
        self._folder = Path(tempfile.mkdtemp(prefix="systemd-host-"))
        self._cgroup = self._make_cgroup()
        self._boot: subprocess.Popen[bytes] | None = None
        self.pid = 0

    @staticmethod
    def _make_cgroup() -> Path:
        base = Path("/sys/fs/cgroup")
        if not (base / "cgroup.controllers").exists():
            base = base / "unified"
        cgroup = base / f"perpcore-test-{os.getpid()}-{time.monotonic_ns()}"
        cgroup.mkdir()
        return cgroup

    def __enter__(self) -> SystemdHost:
        join = f'echo $BASHPID > "{self._cgroup}/cgroup.procs"; exec "$@"'
        unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--net", "--fork"]
        inside = ["bash", "-c", _BOOT, "boot", str(self._folder), str(self._files)]
        self._boot = subprocess.Popen(
            ["bash", "-c", join, "join", *unshare, "--kill-child", *inside],
            stdin=subprocess.DEVNULL,
        )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            children = Path(f"/proc/{self._boot.pid}/task/{self._boot.pid}/children")
            found = children.read_text().split() if children.exists() else []
            if found:
                self.pid = int(found[0])
                if self.run("systemctl", "is-system-running", check=False).strip() == "running":
                    return self
            assert self._boot.poll() is None, "the host did not boot"
            time.sleep(0.05)
        self.close()
        raise AssertionError("the host did not come up within 30 s")

    def run(self, *command: str, check: bool = True, seconds: float = 300.0) -> str:
        """Run a command there; its output."""
        into = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-p", "-n", "-C"]
        done = subprocess.run([*into, *command], capture_output=True, text=True, timeout=seconds)
        assert done.returncode == 0 or not check, (
            f"{' '.join(command)}: {done.stdout}{done.stderr}\n"
            + self.run("journalctl", "--no-pager", "-n", "60", check=False)
        )
        return done.stdout

    def property(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", unit, "-p", name, "--value").strip()

    def until(self, unit: str, state: str, other_than_pid: str = "", seconds: float = 300) -> str:
        """Wait until a unit is in a state, with another main process when asked; its main pid."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.property(unit, "ActiveState") == state:
                pid = self.property(unit, "MainPID")
                if pid not in ("0", other_than_pid):
                    return pid
            time.sleep(0.05)
        raise AssertionError(
            f"{unit} was not {state}\n" + self.run("journalctl", "--no-pager", "-n", "60")
        )

    def close(self) -> None:
        assert self._boot is not None
        if self._boot.poll() is None:
            if self.pid:
                self.run("systemctl", "exit", check=False, seconds=30)
            try:
                self._boot.wait(20)
            except subprocess.TimeoutExpired:
                self._boot.send_signal(signal.SIGKILL)  # --kill-child ends the namespace with it
                self._boot.wait()
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            for _ in range(100):  # its processes may take a moment to be gone
                try:
                    os.rmdir(folder)
                    break
                except OSError:
                    time.sleep(0.02)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

"""Several hosts on one machine: network namespaces with addresses of their own, joined by a switch.

The switch is a bridge in a namespace of its own, so nothing of the machine's own network changes, and all of
it vanishes with the namespaces.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[3]
_PREFIX = "lstmfcn"
_DISK = "disk"
_FOLDER_PREFIX = "lstmfcn-hosts-"
_FOLDERS = Path("/tmp")  # noqa: S108
"""Short, for Ray's sockets."""
_CLONE_NEWNET = 0x40000000
"""From Linux's sched.h."""
_OWN_PROCESSES = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Ray looks for a Ray among all processes that it sees."""
_SECONDS_TO_START = 120
_OBJECT_STORE_BYTES = 100 << 20
_DASHBOARD_PORT, _GCS_PORT = 8265, 6379
STORE_PORT = 9000
HEAD, CLIENT = 1, 4


def _address(number: int) -> str:
    return f"10.213.0.{number}"


def why_not() -> str:
    """Why there can be no hosts on this machine; empty if there can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    for program, package in (("ip", "iproute2"), ("unshare", "util-linux")):
        if shutil.which(program) is None:
            return f"{package} is missing: apt-get install {package}"
    name = f"{_PREFIX}-{os.getpid()}-try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"this machine makes no network namespaces: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


def _namespaces() -> list[str]:
    return [line.split()[0] for line in _ip("netns", "list").splitlines()]


def _remove_namespace(name: str) -> None:
    """Remove a namespace, and end its processes."""
    _end_processes(name)
    _ip("netns", "del", name)


def _end_processes(namespace: str) -> None:
    """Kill all processes of a namespace, also those that start meanwhile."""
    give_up = time.monotonic() + 30
    while running := _processes(namespace):
        if time.monotonic() > give_up:
            raise TimeoutError(f"{running} don't end")
        for process in running:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.05)


def _processes(namespace: str) -> list[psutil.Process]:
    found = []
    for pid in _ip("netns", "pids", namespace).split():
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return found


def _remove_leftovers() -> None:
    """Remove namespaces and folders of test runs that were killed."""
    for name in _namespaces():
        prefix, _, rest = name.partition("-")
        owner, _, _ = rest.partition("-")
        if prefix == _PREFIX and owner.isdecimal() and not psutil.pid_exists(int(owner)):
            _remove_namespace(name)
    for folder in _FOLDERS.glob(f"{_FOLDER_PREFIX}*"):
        owner = folder.name.removeprefix(_FOLDER_PREFIX)
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            _remove_folder(folder)


def _remove_folder(folder: Path) -> None:
    """Remove a folder, and unmount the disk in it."""
    if (folder / _DISK).is_mount():
        subprocess.run(["umount", str(folder / _DISK)], check=True)
    shutil.rmtree(folder, ignore_errors=True)


class Host:
    """A host: what is started on it sees the host's own network and home."""

    def __init__(self, name: str, number: int, folder: Path, environment: Mapping[str, str]) -> None:
        self.name, self.address, self.folder = name, _address(number), folder
        self.namespace = f"{_PREFIX}-{os.getpid()}-{name}"
        self.environment = {
            **environment,
            "HOME": str(folder),
            "RAY_TMPDIR": str(folder),  # where Ray notes which cluster this machine has
        }
        self._started: list[subprocess.Popen[str]] = []
        folder.mkdir()

    def popen(
        self, *command: str, environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a program on it."""
        process = subprocess.Popen(
            [*("ip", "netns", "exec", self.namespace), *_OWN_PROCESSES, *("nice", "-n", "10"), *command],
            env={**self.environment, **(environment or {})},
            cwd=self.folder,
            text=True,
            **options,
        )
        self._started.append(process)
        return process

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, seconds: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on it: its status and what it wrote, stderr among it.

        Raises TimeoutExpired when it takes longer.
        """
        with self.popen(
            *command, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                written, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, written)

    def processes(self) -> list[psutil.Process]:
        """Return the processes that run on it."""
        return _processes(self.namespace)

    def listen(self, port: int) -> socket.socket:
        """Return a socket of this process that listens on the host's address."""

        def make() -> socket.socket:
            namespace = os.open(f"/var/run/netns/{self.namespace}", os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(namespace)
            return socket.create_server((self.address, port))

        # A thread has a network, and a socket that of its thread.
        with ThreadPoolExecutor(1) as elsewhere:
            return elsewhere.submit(make).result()

    def kill(self) -> None:
        """End all its processes at once, as a power cut does."""
        _end_processes(self.namespace)
        for started in self._started:
            started.wait()


class Hosts:
    """A head that runs no work, two workers, and a client with a token, from which jobs are submitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        """What all hosts see under one path, as they do a network file system."""
        self.shared.mkdir()
        self.disk = folder / _DISK
        """The same, a file system of 64 MB."""
        self.disk.mkdir()
        self.secret = secrets.token_hex(20)
        """Of the object storage."""
        self.token = secrets.token_hex(32)
        token_file = folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(self.token)
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token_file),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_JOB_STOP_SIGNAL": "SIGINT",
            "RAY_JOB_STOP_WAIT_TIME_S": "60",
            "RAY_grpc_keepalive_timeout_ms": "60000",
            # Anyone may use the object storage, which is on the client.
            "AWS_ENDPOINT_URL": f"http://{_address(CLIENT)}:{STORE_PORT}",
            "AWS_ACCESS_KEY_ID": "anyone",
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self.head, self.first, self.second, self.client = (
            Host(name, number, folder / name, environment)
            for number, name in enumerate(("head", "w1", "w2", "client"), HEAD)
        )
        self.all = [self.head, self.first, self.second, self.client]
        self._switch = f"{_PREFIX}-{os.getpid()}-switch"

    @property
    def dashboard(self) -> str:
        """Where jobs are submitted to."""
        return f"http://{self.head.address}:{_DASHBOARD_PORT}"

    @property
    def gcs(self) -> str:
        """What other nodes and drivers connect to."""
        return f"{self.head.address}:{_GCS_PORT}"

    def connect(self) -> None:
        """Make the namespaces and the network between them."""
        # Before any host is started, for what is mounted later they don't see.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(self.disk)], check=True)
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        for host in self.all:
            _ip("netns", "add", host.namespace)
            port = ("netns", self._switch, "name", host.name)
            _ip("-n", host.namespace, "link", "add", "eth0", "type", "veth", "peer", *port)
            _ip("-n", self._switch, "link", "set", host.name, "master", "bridge", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", host.namespace, "link", "set", device, "up")

    def disconnect(self) -> None:
        """End all processes and remove the network, as far as there is any."""
        made = _namespaces()
        for host in self.all:
            if host.namespace in made:
                host.kill()
                _remove_namespace(host.namespace)
        if self._switch in made:
            _remove_namespace(self._switch)

    def plug(self, host: Host, *, into_the_switch: bool) -> None:
        """Put in a host's cable, or pull it."""
        _ip("-n", self._switch, "link", "set", host.name, "up" if into_the_switch else "down")

    def start_head(self, environment: Mapping[str, str] | None = None) -> None:
        """Start Ray's head."""
        dashboard = ("--dashboard-host", self.head.address, "--dashboard-port", str(_DASHBOARD_PORT))
        head = ("--head", "--port", str(_GCS_PORT), "--num-cpus", "0", *dashboard)
        # What it knows survives its restart. Another host's own Ray would take the storage for its own.
        storage = {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(self.folder / "gcs")}
        self._start(self.head, *head, environment={**storage, **(environment or {})})
        self.wait_for(lambda: self.nodes() != [], "the head")

    def start_worker(
        self, host: Host, num_cpus: int = 1, environment: Mapping[str, str] | None = None
    ) -> None:
        """Start Ray on a worker."""
        resources = ("--num-cpus", str(num_cpus), "--resources", json.dumps({host.name: 1}))
        self._start(host, "--address", self.gcs, *resources, environment=environment)
        self.wait_for(lambda: host.address in self.nodes(), host.name)

    def _start(self, host: Host, *flags: str, environment: Mapping[str, str] | None) -> None:
        common = ("--node-ip-address", host.address, "--temp-dir", str(host.folder / "ray"))
        memory = ("--object-store-memory", str(_OBJECT_STORE_BYTES))
        with (host.folder / "ray-start.log").open("a") as log:
            host.popen(
                *("ray", "start", *common, *memory, *flags, "--block"),
                environment=environment,
                stdout=log,
                stderr=log,
            )

    def wait_for(self, holds: Callable[[], bool], what: str, seconds: float = _SECONDS_TO_START) -> None:
        """Wait until something holds. Raises TimeoutError when it takes longer."""
        give_up = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > give_up:
                raise TimeoutError(f"{what} took longer than {seconds:g} s")
            time.sleep(0.5)

    def nodes(self) -> list[str]:
        """Return the addresses of Ray's nodes that are alive."""
        status, body = self.get("/api/v0/nodes?limit=100", self.token)
        if status != 200:
            return []
        rows = json.loads(body)["data"]["result"]["result"]
        return [row["node_ip"] for row in rows if row["state"] == "ALIVE"]

    def get(self, path: str, token: str | None, method: str = "GET") -> tuple[int, str]:
        """Return status and body of the dashboard's answer to the client; status 0 without an answer."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        asked = json.dumps([method, self.dashboard + path, headers])
        ended = self.client.run(sys.executable, "-c", _ASK, asked)
        status, _, body = ended.stdout.partition("\n")
        return (int(status), body) if ended.returncode == 0 else (0, ended.stdout)


_ASK = """
import json, sys, urllib.error, urllib.request
method, url, headers = json.loads(sys.argv[1])
request = urllib.request.Request(url, method=method, headers=headers)
if method == "POST":
    request.data = b"{}"
    request.add_header("Content-Type", "application/json")
try:
    answer = urllib.request.urlopen(request, timeout=10)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status)
print(answer.read().decode())
"""


@contextmanager
def hosts() -> Iterator[Hosts]:
    """Yield connected hosts; with the block they end, and so does all that was started on them."""
    _remove_leftovers()
    folder = _FOLDERS / f"{_FOLDER_PREFIX}{os.getpid()}"
    folder.mkdir(mode=0o700)
    connected = Hosts(folder)
    try:
        connected.connect()
        yield connected
    finally:
        connected.disconnect()
        _remove_folder(folder)

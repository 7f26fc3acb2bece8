"""A SLURM of this machine's own, for tests: munge, slurmctld and slurmd of Debian's packages. All files lie in one folder, with
ports and a socket of its own, so that it stands beside any other. Needs root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WHY_NOT = "no SLURM, and no root or apt to install it"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ReturnToService=2
MaxJobCount={most_jobs}
MinJobAge=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=60 State=UP
"""


def installed() -> bool:
    """Installs the packages where that is possible."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if os.geteuid() != 0:
        return False
    if not all(shutil.which(name, path=path) for name in PROGRAMS) and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (("update", "-qq"), ("install", "-y", "-qq", "slurm-wlm", "munge")):
            subprocess.run(["apt-get", *words], env=quiet, capture_output=True, timeout=600, check=False)
    return all(shutil.which(name, path=path) for name in PROGRAMS)


@contextmanager
def running(folder: Path, cpus: int = 2, most_jobs: int = 1000, hidden: Path | None = None) -> Iterator[dict[str, str]]:
    """Environment variables under which SLURM's commands speak to it. Ends what it started, and nothing else.

    hidden: a folder that its node does not share with this process, but has empty.
    """
    folder.chmod(0o755)
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    ports = free_ports()
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=host, ports=ports, cpus=cpus, most_jobs=most_jobs))
    environment = {"SLURM_CONF": str(conf), "NODE": host, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    whole = {**os.environ, **environment}
    munge = ["munged", "-F", "--force", f"--key-file={key}", f"--socket={folder}/munge/socket", "--num-threads=2"]
    munge += [f"--{name}-file={folder}/munge/{name}" for name in ("pid", "log", "seed")]
    started = []
    try:
        node = ["slurmd", "-D", "-f", str(conf)]
        if hidden is not None:
            node = ["unshare", "-m", "sh", "-c", f"mount -t tmpfs none {hidden} && exec {' '.join(node)}"]
        for words in (munge, ["slurmctld", "-D", "-f", str(conf)], node):
            quiet = subprocess.DEVNULL
            started.append(subprocess.Popen(words, env=whole, stdout=quiet, stderr=quiet, start_new_session=True))
            time.sleep(1)
        for _ in range(60):
            state = subprocess.run(["sinfo", "-h", "-o", "%t"], env=whole, capture_output=True, text=True).stdout
            if state.strip() == "idle":
                break
            time.sleep(1)
        else:
            raise RuntimeError(f"slurm did not come up: {(folder / 'slurmctld.log').read_text()[-500:]}")
        yield environment
    finally:
        subprocess.run(["scancel", "-u", "root"], env=whole, capture_output=True)
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports

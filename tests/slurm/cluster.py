"""A SLURM of one node with a stand-in for a GPU, for tests: as the user who starts it, on this machine alone.

    python tests/slurm/cluster.py up /tmp/slurm       prints what to export
    python tests/slurm/cluster.py down /tmp/slurm

Needs Debian's packages slurm-wlm, munge and procps, and no systemd, cgroups or database. Everything lies in one folder, nothing in
/etc or /var, and the daemons listen on 127.0.0.1 at ports that were free: a SLURM that is already there is not touched.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue", "ps")

# What is not said has SLURM's default. Jobs are tracked by their process groups, as there may be no cgroups here. A job that is
# queued again waits until its credential has expired, here for 10 s. A node that comes back is used again. Jobs of the
# partition `main` are preempted by those of `urgent`.
CONFIGURATION = """\
ClusterName=popdl
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0,requeue_delay=0
GresTypes=gpu
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=300
KillWait=5
MinJobAge=3600
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP PriorityTier=1
PartitionName=urgent Nodes={host} State=UP PriorityTier=2
"""


class Cluster:
    """The daemons, with their configuration and logs in ``folder``.

    Parameters
    ----------
    folder
        A folder that does not exist or is empty; its path must be short (a socket lies in it) and without a space.
    cpus, memory
        What the node has to give; memory in MB. Neither needs to be true.
    """

    def __init__(self, folder: Path, *, cpus: int = 2, memory: int = 64_000) -> None:
        self.folder = folder
        self.cpus = cpus
        self.memory = memory
        self.host = socket.gethostname().split(".")[0]

    @staticmethod
    def missing() -> list[str]:
        """Programs that this machine lacks."""
        return [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which SLURM's commands find this cluster, and no other."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_", "SRUN_"))}
        return {**kept, "PATH": f"{self.folder}/bin:{_path()}", "SLURM_CONF": str(self.folder / "slurm.conf")}

    def up(self) -> None:
        """Start authentication, controller and node, and wait until the node takes jobs."""
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        # Any device will do, and this one is everywhere.
        (self.folder / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File=/dev/null\n")
        ports = _free_ports(2)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=self.folder,
                host=self.host,
                user=getpass.getuser(),
                cpus=self.cpus,
                memory=self.memory,
                controller_port=ports[0],
                node_port=ports[1],
            )
        )
        # Snakemake's plugin takes SLURM_CONF from the environment of srun; this gives it back.
        step = self.folder / "bin" / "srun"
        step.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        step.chmod(0o755)
        own = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        # Forced, because /tmp, in which its folder may lie, can be written by others.
        self.run("munged", "--force", f"--socket={self.folder}/munge.socket", *own)
        self.run("slurmctld")
        self.start_node()

    def start_node(self) -> None:
        """Start the node's daemon, and wait until the controller gives it jobs."""
        self.run("slurmd")
        self.wait_for(lambda: self.output("sinfo", "--noheader", "--format=%T").startswith(("idle", "mixed", "alloc")))

    def fail_node(self) -> None:
        """Let the node fail as if its power were cut: nothing on it has time to clean up, and the controller hears of it."""
        self._cut_power()
        self.run("scontrol", "update", f"NodeName={self.host}", "State=DOWN", "Reason=test")

    def down(self) -> None:
        """End every job and every daemon, also where not all of them came up."""
        with contextlib.ExitStack() as stack:
            for name in ("munge", "slurmctld"):  # called in the opposite order, each whatever becomes of the others
                stack.callback(self._end, name)
            self._cut_power()

    def run(self, *command: str) -> None:
        """Run one of SLURM's commands."""
        subprocess.run(command, env=self.environment, check=True)

    def output(self, *command: str) -> str:
        """Standard output of a command; empty if it fails."""
        return subprocess.run(command, env=self.environment, check=False, capture_output=True, text=True).stdout

    def wait_for(self, condition: Callable[[], bool], *, seconds: float = 60) -> None:
        """Wait until a condition holds; a :class:`TimeoutError` tells where the logs are."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited for {seconds:g} s; see {self.folder}/slurmctld.log and slurmd.log")
            time.sleep(0.1)

    def _cut_power(self) -> None:
        """Kill the node's daemon, then what watches over jobs, then the jobs."""
        self._end("slurmd", signal.SIGKILL)
        # A table with a heading: processes of jobs, some of which have one of slurmstepd above them.
        jobs = [line.split()[0] for line in self.output("scontrol", "listpids").splitlines()[1:]]
        above = self.output("ps", "-o", "ppid=", "-p", ",".join(jobs)).split()
        watching = self.output("ps", "-o", "pid=,args=", "-p", ",".join(above)).splitlines()
        for process in [*(line.split()[0] for line in watching if "slurmstepd: [" in line), *jobs]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)

    def _end(self, daemon: str, how: signal.Signals = signal.SIGTERM) -> None:
        try:
            process = int((self.folder / f"{daemon}.pid").read_text())
            os.kill(process, how)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return  # it is not running
        self.wait_for(lambda: not _runs(process))


def _path() -> str:
    """Daemons are where an ordinary user's PATH does not look."""
    return f"{os.environ['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    cluster = Cluster(options.folder.resolve())
    if missing := cluster.missing():
        raise SystemExit(f"{', '.join(missing)}: not found; install Debian's packages slurm-wlm, munge and procps.")
    if options.action == "up":
        cluster.up()
        print(f"export SLURM_CONF={cluster.folder}/slurm.conf PATH={cluster.folder}/bin:$PATH")
    else:
        cluster.down()


if __name__ == "__main__":
    main()

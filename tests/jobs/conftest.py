"""A real Slurm on this machine, with keys, ports and folders of its own: munged, slurmctld and slurmd."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "srun", "scancel")
SBIN = "/usr/sbin:/sbin"  # Debian's place for daemons, which not every PATH holds

# More CPUs than there are, so that no job of a test waits for another (config_overrides believes us). cred_expire: a
# requeued job waits so many seconds, 120 by default. KillWait: seconds from SIGTERM to SIGKILL. MinJobAge: finished
# jobs stay visible.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1
ReturnToService=2
KillWait=30
MinJobAge=3600
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=16000 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """A running Slurm. folder : its own files. environment : what makes the client commands talk to it."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str | Path, **environment: str) -> str:
        """What a client command prints; AssertionError with its complaint if it fails."""
        done = subprocess.run(
            [str(word) for word in command],
            env={**self.environment, **environment},
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def state(self, number: str) -> str:
        """PENDING, RUNNING, COMPLETED, FAILED, ..."""
        return self.job(number)["JobState"]

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` knows of a job, or of an array's task 'JOB_TASK'."""
        words = self.run("scontrol", "show", "job", "--oneliner", number).splitlines()[0].split()
        return dict(word.split("=", 1) for word in words if "=" in word)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(command: list[str], environment: dict[str, str], ready: list[str]) -> subprocess.Popen[bytes]:
    """Start a daemon in the foreground and wait until the command `ready` succeeds. The test is skipped if it won't."""
    daemon = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while subprocess.run(ready, env=environment, capture_output=True, check=False).returncode:
        if daemon.poll() is not None:
            complaint = daemon.communicate()[1].decode(errors="replace").strip().splitlines()
            pytest.skip(f"{command[0]} does not start here: {complaint[-1] if complaint else daemon.returncode}")
        time.sleep(0.2)
    return daemon


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Slurm, ready for jobs; everything it started is gone afterwards. Skipped where it is not installed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:{SBIN}"  # jobs find the commands of this environment
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    missing = [name for name in PROGRAMS if shutil.which(name, path=environment["PATH"]) is None]
    if missing:
        pytest.skip(f"no Slurm here ({', '.join(missing)}); apt-get install slurmctld slurmd slurm-client munge")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs as other users, so it wants root")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # a short path: munge's socket lies there
    folder.chmod(0o755)
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        key, conf = folder / "munge.key", folder / "slurm.conf"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        conf.write_text(
            CONFIGURATION.format(
                folder=folder,
                host=socket.gethostname().split(".")[0],
                controller_port=free_port(),
                node_port=free_port(),
            )
        )
        environment["SLURM_CONF"] = str(conf)
        munged = ["munged", "--foreground", f"--key-file={key}"]
        munged += [f"--{kind}-file={folder}/munge.{kind}" for kind in ("log", "pid", "seed")]
        munge_socket = f"--socket={folder}/munge.socket"
        daemons.append(start([*munged, munge_socket], environment, ["munge", munge_socket, "--no-input"]))
        daemons.append(start(["slurmctld", "-D"], environment, ["scontrol", "ping"]))
        idle = ["sh", "-c", "sinfo --noheader --format=%T | grep -q idle"]
        daemons.append(start(["slurmd", "-D"], environment, idle))
        yield Slurm(folder, environment)
        subprocess.run(["scancel", "--full", "--signal=KILL", "--state=RUNNING"], env=environment, check=False)
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate()
        shutil.rmtree(folder, ignore_errors=True)

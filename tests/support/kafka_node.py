"""A real Apache Kafka for tests: one KRaft node (broker and controller) on loopback, from jars that Maven resolves.

Its data is in a temporary folder and stays over ``kill`` and ``restart``, as do its ports.
"""

import base64
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
JARS = HERE.parents[1] / ".kafka"

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{secure}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{secure}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=1500
log.cleaner.dedupe.buffer.size=2097152
log.cleaner.backoff.ms=200
transaction.max.timeout.ms=3600000
log.initial.task.delay.ms=500
"""
#: A second listener with TLS and a password (user "feed", password "secret"). Its user may do what nobody forbids; the
#: other listener's may do everything.
_SASL_SSL = """\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=\\
  org.apache.kafka.common.security.plain.PlainLoginModule required user_feed="secret";
ssl.keystore.type=PEM
ssl.keystore.location={pem}
"""
_JAVA_OPTIONS = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


def missing() -> str | None:
    """What a node would need and this machine does not have; None when it can be started."""
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if absent:
        return f"no {' and no '.join(absent)} on PATH (MURMURATION_TEST_KAFKA=host:port serves all but the kill tests)"
    return None


def jars() -> Path:
    """The folder with Kafka's jars, resolved by Maven on first use and whenever pom.xml changes."""
    pom = HERE / "pom.xml"
    folder = JARS / hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    if not folder.is_dir():
        JARS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=JARS) as partial:
            command = ["mvn", "-B", "-q", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
            done = subprocess.run(
                [*command, f"-DoutputDirectory={partial}/jars"],
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"Maven could not resolve Kafka:\n{(done.stdout + done.stderr)[-2000:]}")
            try:
                os.rename(f"{partial}/jars", folder)
            except OSError:
                if not folder.is_dir():  # else another run was faster
                    raise
    return folder


class KafkaNode:
    """One node. ``start`` returns when it answers; ``stop`` is a clean shutdown, ``kill`` is not (kill -9).

    With ``pem`` (a file with a private key and its certificate) it also listens on ``secure_port``, by SASL_SSL.
    """

    def __init__(self, folder: Path, pem: Path | None = None) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.port, controller_port, self.secure_port = _free_ports(3)
        self._properties = folder / "server.properties"
        secure = f",SASL_SSL://127.0.0.1:{self.secure_port}" if pem else ""
        self._properties.write_text(
            _PROPERTIES.format(port=self.port, controller_port=controller_port, data=folder / "data", secure=secure)
            + (_SASL_SSL.format(pem=pem) if pem else "")
        )
        self._log = folder / "kafka.log"
        self._log_before = 0
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._java("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(self._properties))

    @property
    def bootstrap(self) -> str:
        """host:port of the broker."""
        return f"127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it was started and neither stopped nor killed since."""
        return self._process is not None

    def start(self, timeout_s: float = 60.0) -> None:
        """Start and wait until it answers."""
        assert self._process is None, "already started"
        self._log_before = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("kafka.Kafka", str(self._properties)), stdout=log, stderr=log, cwd=self._folder
            )
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(
                    f"Kafka did not start within {timeout_s:g} s; the end of its log:\n{self.log_tail()}"
                )
            time.sleep(0.1)

    def stop(self, timeout_s: float = 30.0) -> None:
        """End it cleanly (SIGTERM); idempotent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)  # it may have been paused by a test that failed
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End it at once (SIGKILL); idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, timeout_s: float = 60.0) -> None:
        """Start again on the same data and ports, after ``stop`` or ``kill``."""
        self.stop()
        self.start(timeout_s)

    def pause(self) -> None:
        """Let it hang (SIGSTOP): connections stay, nothing answers, once all of its threads have stopped."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")
        while any(task.read_text().rpartition(")")[2].split()[0] != "T" for task in tasks.glob("*/stat")):
            time.sleep(0.01)

    def resume(self) -> None:
        """Go on after ``pause``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The last lines it wrote."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:]) if self._log.exists() else ""

    def _answers(self) -> bool:
        """Whether the broker answers a request (ApiVersions) and has said that it started: the port opens earlier."""
        request = b"\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.settimeout(2.0)
                connection.sendall(len(request).to_bytes(4, "big") + request)
                answered = len(connection.recv(4)) == 4
        except OSError:
            return False
        with self._log.open("rb") as log:
            log.seek(self._log_before)
            return answered and b"Kafka Server started" in log.read()

    def _command(self, *arguments: str) -> list[str]:
        return ["java", *_JAVA_OPTIONS, "-cp", f"{jars()}/*", *arguments]

    def _java(self, *arguments: str) -> str:
        done = subprocess.run(self._command(*arguments), capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RuntimeError(f"{arguments}: {(done.stdout + done.stderr)[-2000:]}")
        return done.stdout


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()

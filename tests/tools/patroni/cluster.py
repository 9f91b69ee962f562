#!/usr/bin/env python3
"""Runs PostgreSQL with high availability on this machine, for tests: three etcd, three Patroni with a
PostgreSQL each, and HAProxy with deploy/haproxy/haproxy.cfg. Everything listens on 127.0.0.1 only.

  cluster.py start            starts it and prints the URL through HAProxy; an existing folder keeps its data
  cluster.py url | urls       prints the URL through HAProxy, or those of the three servers
  cluster.py leader           prints which of n1, n2, n3 is the leader
  cluster.py failover WAY     takes the leader away and waits until the cluster takes writes again
  cluster.py revive           starts again what was killed or stopped; waits until both standbys are ready
  cluster.py stop [--purge]   stops every process it started, by its pid; --purge removes the folder too

Ways:
  switchover      as an operator does, with Patroni's REST API
  crash           kill -9 of the leader's Patroni and PostgreSQL: a machine that lost power
  hang            SIGSTOP of both: a machine that answers nothing and closes no connection
  postgres        kill -9 of the leader's PostgreSQL alone
  etcd            kill -9 of one etcd: nothing must happen
  etcd-majority   kill -9 of two etcd: PostgreSQL becomes read-only until `revive`

The programs come from Debian packages (etcd-server, haproxy), which are downloaded and unpacked unless
installed, and from PyPI (patroni). Nothing is installed, and root is not needed; PostgreSQL refuses root,
so for root all programs run as the user postgres, or nobody.
"""

import argparse
import json
import os
import pathlib
import platform
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

WAYS = ("switchover", "crash", "hang", "postgres", "etcd", "etcd-majority")
NODES = (1, 2, 3)
# Debian 12 has 3.0.2, whose old leader can take the lock back from a new one.
PATRONI = "4.1.5"
HAPROXY_CFG = pathlib.Path(__file__).resolve().parents[3] / "deploy/haproxy/haproxy.cfg"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Failure(Exception):
    """What went wrong, for the person who ran this."""


def default_folder():
    return os.environ.get("LAPSED_PATRONI_DIR", "/var/tmp/lapsed-patroni")


def newest_postgres():
    """The folder of PostgreSQL's programs: the environment's, the newest of Debian's, or the one on the path."""
    if folder := os.environ.get("LAPSED_TEST_POSTGRES_BIN"):
        return folder
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    initdb = found[-1] if found else shutil.which("initdb")
    if not initdb:
        raise Failure("no initdb: apt-get install postgresql")
    return str(pathlib.Path(initdb).resolve().parent)


def wait_until(condition, seconds, message, interval=0.2):
    """Returns the first true value of `condition()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(interval)
    raise Failure(f"{message} after {seconds} s")


def start_ticks(pid):
    """When a process started; with its pid it identifies the process, as pids are used again."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def is_running(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def process_tree(pid):
    yield pid
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = path.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from process_tree(int(child))


def send_signal(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


class Cluster:
    def __init__(self, folder=None, sync="on", ttl=20, loop=2, retry=3, postgres_bin=None, patroni=PATRONI):
        if ttl < 20 or loop + 2 * retry > ttl:
            raise Failure("Patroni needs ttl >= 20 and loop + 2 * retry <= ttl")
        self.dir = pathlib.Path(folder or default_folder()).resolve()
        self.sync, self.ttl, self.loop, self.retry = sync, ttl, loop, retry
        self.bin, self.patroni = postgres_bin or newest_postgres(), patroni
        self.debs = self.dir / "debian"
        self.identity = {}
        if os.getuid() == 0:
            users = {user.pw_name: user for user in pwd.getpwall()}
            self.user = users.get("postgres") or users["nobody"]
            self.identity = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        self.children = {}

    # ---- programs

    def install(self):
        """Makes the folder and gets what is not there yet."""
        self.dir.mkdir(parents=True, exist_ok=True)
        self.dir.chmod(0o755)
        if self.identity:
            os.chown(self.dir, self.user.pw_uid, self.user.pw_gid)
        if not (self.find_program("etcd") and self.find_program("haproxy")):
            self.unpack_packages()
        if not self.patroni_program().exists():
            # Debian's own Python: that of a version manager is often below the closed home of root.
            python = "/usr/bin/python3" if pathlib.Path("/usr/bin/python3").exists() else sys.executable
            venv = self.patroni_program().parents[1]
            self.run_installer([python, "-m", "venv", "--clear", venv], "apt-get install python3-venv")
            packages = [f"patroni[etcd3]=={self.patroni}", "psycopg[binary]"]
            pip = [venv / "bin/pip", "-q", "--disable-pip-version-check", "install", *packages]
            self.run_installer(pip, "is PyPI reachable?")

    def run_installer(self, command, advice, **options):
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
        if done.returncode != 0:
            raise Failure(f"{' '.join(map(str, command))} failed ({advice}):\n{(done.stderr or done.stdout)[-2000:]}")
        return done.stdout

    def unpack_packages(self):
        advice = "apt-get update, or apt-get install etcd-server haproxy"
        plan = ["apt-get", "-s", "install", "--no-install-recommends", "etcd-server", "haproxy"]
        packages = re.findall(r"^Inst (\S+)", self.run_installer(plan, advice), re.MULTILINE)
        downloads = self.debs / "packages"
        downloads.mkdir(parents=True, exist_ok=True)
        downloads.chmod(0o777)  # apt downloads as another user
        self.run_installer(["apt-get", "download", *packages], advice, cwd=downloads)
        for deb in downloads.glob("*.deb"):
            self.run_installer(["dpkg", "-x", deb, self.debs], "a broken download?")
        for name in ("etcd", "haproxy"):
            if not self.find_program(name):
                raise Failure(f"{self.debs} has no {name} after unpacking {' '.join(packages)}")

    def find_program(self, name):
        return shutil.which(name, path=f"{self.debs}/usr/bin:{self.debs}/usr/sbin:{SYSTEM_PATH}")

    def patroni_program(self):
        return self.dir / f"patroni-{self.patroni}" / "bin/patroni"

    def environment(self):
        return {"HOME": str(self.dir), "LC_ALL": "C", "PATH": f"{self.bin}:{SYSTEM_PATH}", "PYTHONDONTWRITEBYTECODE": "1",
                "LD_LIBRARY_PATH": self.libraries()}

    def libraries(self):
        """PostgreSQL's own, which another version's would not replace, and those of the unpacked packages."""
        return f"{pathlib.Path(self.bin).parent}/lib:{self.debs}/usr/lib/{platform.machine()}-linux-gnu"

    # ---- processes

    def launch(self, name, *command):
        """Starts a program in the background unless it runs."""
        if self.pid(name):
            return
        with open(self.dir / f"{name}.log", "ab") as log:
            child = subprocess.Popen([str(part) for part in command], cwd=self.dir, env=self.environment(), stdout=log, stderr=log,
                                     stdin=subprocess.DEVNULL, start_new_session=True, **self.identity)
        self.children[name] = child
        (self.dir / f"{name}.pid").write_text(f"{child.pid} {start_ticks(child.pid)}\n")

    def pid(self, name):
        """The pid of a program that this tool started, while it runs."""
        if child := self.children.get(name):
            child.poll()  # a child that ended is a zombie until then
        try:
            pid, ticks = (self.dir / f"{name}.pid").read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if ticks == start_ticks(pid) and is_running(pid) else None

    def postmaster(self, node):
        try:
            pid = int((self.data(node) / "postmaster.pid").read_text().split("\n", 1)[0])
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        # The file outlives its process, and the pid may be another's by now.
        return pid if str(self.data(node)).encode() in command and is_running(pid) else None

    def data(self, node):
        return self.dir / f"n{node}/data"

    def of_node(self, node):
        pids = [pid for pid in (self.pid(f"patroni{node}"), self.postmaster(node)) if pid]
        return [pid for top in pids for pid in process_tree(top)]

    # ---- addresses

    def port(self, name):
        if not hasattr(self, "ports"):
            file = self.dir / "ports.json"
            if not file.exists():
                raise Failure(f"no cluster in {self.dir}: run `start`")
            self.ports = json.loads(file.read_text())
        return self.ports[name]

    def choose_ports(self):
        file = self.dir / "ports.json"
        if file.exists():
            return
        names = ["haproxy", *(f"{kind}{node}" for node in NODES for kind in ("etcd", "peer", "pg", "rest"))]
        held = [socket.create_server(("127.0.0.1", 0)) for _ in names]
        file.write_text(json.dumps({name: sock.getsockname()[1] for name, sock in zip(names, held)}))
        for sock in held:
            sock.close()

    def url(self, database="lapsed"):
        return f"postgres://postgres@127.0.0.1:{self.port('haproxy')}/{database}"

    def urls(self, database="lapsed"):
        return [f"postgres://postgres@127.0.0.1:{self.port(f'pg{node}')}/{database}" for node in NODES]

    def rest(self, node, path, data=None, method=None, timeout=1.0):
        """Patroni's answer as (status, text); (0, reason) without one."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port(f'rest{node}')}{path}", method=method,
                                         data=None if data is None else json.dumps(data).encode())
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    # ---- state

    def leader(self):
        """The number of the leader, as Patroni reports it, or None."""
        return next((node for node in NODES if self.rest(node, "/primary")[0] == 200), None)

    def is_ready(self):
        """Whether a failover would succeed now. With synchronous mode Patroni promotes only a standby that is named in
        etcd as synchronous; a second failure before one is named would wait for the first leader."""
        leader = self.leader()
        status, text = self.rest(leader, "/cluster", timeout=2) if leader else (0, "")
        if status != 200:
            return False
        standbys = [member for member in json.loads(text)["members"] if member["role"] != "leader"]
        streaming = [member for member in standbys if member["state"] == "streaming" and member.get("lag") == 0]
        named = any(member["role"] == "sync_standby" for member in standbys)
        return len(streaming) == 2 and (self.sync == "off" or named) and all(self.is_etcd_healthy(node) for node in NODES)

    def is_etcd_healthy(self, node):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port(f'etcd{node}')}/health", timeout=1) as answer:
                return json.load(answer).get("health") == "true"
        except (OSError, ValueError):
            return False

    def psql(self, sql, url=None, timeout=10):
        """The output of one statement; raises when it fails or takes too long."""
        command = [f"{self.bin}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1", url or self.url(), "-c", sql]
        environment = {**os.environ, "PGCONNECT_TIMEOUT": str(max(2, int(timeout))), "LD_LIBRARY_PATH": self.libraries()}
        try:
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, env=environment)
        except subprocess.TimeoutExpired:
            raise Failure(f"no answer in {timeout} s: {sql}") from None
        if done.returncode != 0:
            raise Failure(done.stderr.strip())
        return done.stdout.strip()

    def takes_writes(self):
        """Whether a write through HAProxy succeeds: Patroni's word alone does not count."""
        try:
            self.psql("CREATE TABLE IF NOT EXISTS probe (n int); INSERT INTO probe VALUES (1)", self.url("postgres"), timeout=3)
            return True
        except Failure:
            return False

    # ---- verbs

    def start(self):
        self.install()
        self.choose_ports()
        for node in NODES:
            self.write_patroni_config(node)
        self.write_haproxy_config()
        self.start_all()
        wait_until(self.leader, 90, "no leader: see patroni*.log; still none")
        settings = {"ttl": self.ttl, "loop_wait": self.loop, "retry_timeout": self.retry, **self.sync_settings()}
        status, text = self.rest(self.leader(), "/config", settings, "PATCH", timeout=5)
        if status != 200:
            raise Failure(f"Patroni refused its settings: {status} {text}")
        self.wait_until_ready()
        if self.psql("SELECT count(*) FROM pg_database WHERE datname = 'lapsed'", self.url("postgres")) == "0":
            self.psql("CREATE DATABASE lapsed", self.url("postgres"), timeout=30)
        return self.url()

    def start_all(self):
        for node in NODES:
            self.start_etcd(node)
        wait_until(lambda: all(self.is_etcd_healthy(node) for node in NODES), 60, "etcd has no quorum: see etcd*.log; still none")
        for node in NODES:
            self.launch(f"patroni{node}", self.patroni_program(), self.dir / f"n{node}.yml")
        self.launch("haproxy", self.find_program("haproxy"), "-db", "-f", self.dir / "haproxy.cfg")

    def start_etcd(self, node):
        client, peer = (f"http://127.0.0.1:{self.port(f'{kind}{node}')}" for kind in ("etcd", "peer"))
        members = ",".join(f"e{other}=http://127.0.0.1:{self.port(f'peer{other}')}" for other in NODES)
        self.launch(f"etcd{node}", self.find_program("etcd"), "--name", f"e{node}", "--data-dir", self.dir / f"etcd{node}",
                    "--unsafe-no-fsync", "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", members,
                    "--initial-cluster-token", "lapsed", "--initial-cluster-state", "new",
                    "--heartbeat-interval", "200", "--election-timeout", "2000", "--log-level", "warn")

    def sync_settings(self):
        return {"synchronous_mode": self.sync != "off", "synchronous_mode_strict": self.sync == "strict"}

    def write_patroni_config(self, node):
        rest, postgres = (f"127.0.0.1:{self.port(f'{kind}{node}')}" for kind in ("rest", "pg"))
        access = ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
        parameters = {"wal_log_hints": "on", "wal_keep_size": "256MB", "max_connections": 60, "shared_buffers": "64MB",
                      "synchronous_commit": "on"}
        config = {
            "scope": "lapsed",
            "name": f"n{node}",
            "restapi": {"listen": rest, "connect_address": rest},
            "etcd3": {"hosts": ",".join(f"127.0.0.1:{self.port(f'etcd{other}')}" for other in NODES)},
            "bootstrap": {
                "dcs": {"ttl": self.ttl, "loop_wait": self.loop, "retry_timeout": self.retry, **self.sync_settings(),
                        "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": parameters}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}],
            },
            "postgresql": {
                "listen": postgres,
                "connect_address": postgres,
                "data_dir": str(self.data(node)),
                "bin_dir": self.bin,
                "pgpass": str(self.dir / f"n{node}/pgpass"),
                "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "replicator"}},
                "parameters": {"unix_socket_directories": str(self.dir / f"n{node}")},
                "pg_hba": access,
            },
            "watchdog": {"mode": "off"},
        }
        folder = self.dir / f"n{node}"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)
        if self.identity:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        (self.dir / f"n{node}.yml").write_text(json.dumps(config, indent=1))  # JSON is YAML

    def write_haproxy_config(self):
        """The example that lapsed ships, with the ports of this cluster."""
        text, count = re.subn(r"bind 127\.0\.0\.1:5432", f"bind 127.0.0.1:{self.port('haproxy')}", HAPROXY_CFG.read_text())
        for node in NODES:
            here = f"127.0.0.1:{self.port(f'pg{node}')} check port {self.port(f'rest{node}')}"
            text, more = re.subn(rf"pg{node}\.example\.org:5432 check port 8008", here, text)
            count += more
        if count != 4:
            raise Failure(f"{HAPROXY_CFG} does not have the lines that are replaced for the test")
        (self.dir / "haproxy.cfg").write_text(text)
        for file in (HAPROXY_CFG, self.dir / "haproxy.cfg"):
            self.run_installer([self.find_program("haproxy"), "-c", "-q", "-f", file], "not a valid configuration", env=self.environment())

    def take_away(self, way):
        """Takes the leader away; returns its number without waiting for another."""
        leader = self.leader()
        if leader is None:
            raise Failure("there is no leader to take away")
        if way == "switchover":
            status, text = self.rest(leader, "/switchover", {"leader": f"n{leader}"}, timeout=90)
            if status != 200:
                raise Failure(f"Patroni refused the switchover: {status} {text}")
        elif way == "crash":
            send_signal([self.pid(f"patroni{leader}")], signal.SIGKILL)
            send_signal(self.of_node(leader), signal.SIGKILL)
        elif way == "hang":
            send_signal(self.of_node(leader), signal.SIGSTOP)
        elif way == "postgres":
            send_signal(process_tree(self.postmaster(leader)), signal.SIGKILL)
        elif way in ("etcd", "etcd-majority"):
            send_signal([self.pid(f"etcd{node}") for node in NODES[: 2 if way == "etcd-majority" else 1]], signal.SIGKILL)
        else:
            raise Failure(f"unknown way {way}: {', '.join(WAYS)}")
        return leader

    def wait_until_ready(self, seconds=120):
        wait_until(self.is_ready, seconds, f"no standby that could take over: see {self.dir}/patroni*.log; still none", 0.5)

    def resume(self):
        """Starts again what was killed and continues what was stopped, without waiting."""
        for node in NODES:
            send_signal(self.of_node(node), signal.SIGCONT)
        self.start_all()

    def stop(self, purge=False):
        names = [path.stem for path in self.dir.glob("*.pid")]
        for node in NODES:
            send_signal(self.of_node(node), signal.SIGCONT)
        patroni = [name for name in names if name.startswith("patroni")]
        self.end(patroni, signal.SIGTERM, 40)
        for node in NODES:  # a Patroni that was killed leaves its PostgreSQL behind
            if pid := self.postmaster(node):
                send_signal([pid], signal.SIGINT)
                wait_until(lambda node=node: not self.postmaster(node), 30, f"the PostgreSQL of n{node} still runs")
        self.end([name for name in names if name not in patroni], signal.SIGTERM, 10)
        for name in names:
            (self.dir / f"{name}.pid").unlink(missing_ok=True)
        if purge:
            shutil.rmtree(self.dir)

    def end(self, names, number, seconds):
        def left():
            return [pid for pid in map(self.pid, names) if pid]

        send_signal(left(), number)
        try:
            wait_until(lambda: not left(), seconds, "still running")
        except Failure:
            send_signal(left(), signal.SIGKILL)
            wait_until(lambda: not left(), 10, f"{' '.join(names)} cannot be ended")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("start", "url", "urls", "leader", "failover", "revive", "stop"))
    parser.add_argument("way", nargs="?", choices=WAYS, help="of failover")
    add_options(parser)
    parser.add_argument("--purge", action="store_true", help="stop: removes the folder")
    options = parser.parse_args()
    cluster = from_options(options)
    match options.verb:
        case "start":
            print(cluster.start())
        case "url":
            print(cluster.url())
        case "urls":
            print("\n".join(cluster.urls()))
        case "leader":
            print(f"n{cluster.leader()}")
        case "failover":
            if not options.way:
                parser.error("failover needs a way")
            cluster.wait_until_ready()
            began = time.monotonic()
            was = cluster.take_away(options.way)
            if options.way == "etcd-majority":
                print("PostgreSQL is read-only soon, until `revive`")
                return
            if options.way in ("crash", "hang"):
                wait_until(lambda: cluster.leader() not in (None, was), 180, "no new leader")
            wait_until(cluster.takes_writes, 180, "no writes")
            print(f"n{was} -> n{cluster.leader()} after {time.monotonic() - began:.1f} s")
        case "revive":
            cluster.resume()
            cluster.wait_until_ready()
        case "stop":
            if cluster.dir.exists():
                cluster.stop(options.purge)


def add_options(parser):
    parser.add_argument("--dir", help="the folder (LAPSED_PATRONI_DIR; /var/tmp/lapsed-patroni)")
    parser.add_argument("--sync", choices=("on", "off", "strict"), default="on", help="synchronous_mode (on)")
    parser.add_argument("--ttl", type=int, default=20, help="seconds until a silent leader has lost (20)")
    parser.add_argument("--loop", type=int, default=2, help="Patroni's loop_wait in seconds (2)")
    parser.add_argument("--retry", type=int, default=3, help="Patroni's retry_timeout in seconds (3)")
    parser.add_argument("--postgres-bin", help="the folder of initdb and postgres (LAPSED_TEST_POSTGRES_BIN; Debian's newest)")
    parser.add_argument("--patroni", default=PATRONI, help=f"the version of Patroni on PyPI ({PATRONI})")


def from_options(options):
    return Cluster(options.dir, options.sync, options.ttl, options.loop, options.retry, options.postgres_bin, options.patroni)


if __name__ == "__main__":
    try:
        main()
    except Failure as failure:
        sys.exit(f"patroni: {failure}")

"""Real stores on this machine, each with a bucket or a folder of its own: Garage (three nodes), s3s-fs, moto, Google's interface in front of moto, Azurite, OpenSSH.

What is not installed is fetched once into target/stores: Garage and s3s-fs by cargo, moto by pip, Azurite by npm. All of it is separate programs that
nothing of icecore is linked with.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "stores"
GARAGE_VERSION = "2.5.0"
S3S_FS_VERSION = "0.14.1"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port, what, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as client:
            client.settimeout(1)
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    sys.exit(f"{what} does not listen on port {port}")


class Server:
    """One or more processes, a place for a repository, and what icecore needs to reach it."""

    name = ""

    def __init__(self, folder):
        self.folder = folder / self.name
        self.folder.mkdir()
        self.processes = []

    def start(self, *command, **more):
        log = open(self.folder / f"{len(self.processes)}.log", "wb")
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, **more)
        self.processes.append(process)
        return process

    def stop(self):
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def place(self, prefix):
        return f"s3://bucket/{prefix}"

    def environment(self):
        return {}


class Garage(Server):
    """Three nodes that hold each object three times; clients speak to the first one."""

    name = "garage"

    def __init__(self, folder):
        super().__init__(folder)
        self.program = self.build()
        self.ports = [(free_port(), free_port()) for _ in range(3)]
        for number, (rpc, s3) in enumerate(self.ports):
            home = self.folder / f"node{number}"
            home.mkdir()
            (home / "garage.toml").write_text(
                f'metadata_dir = "{home}/meta"\ndata_dir = "{home}/data"\ndb_engine = "sqlite"\nreplication_factor = 3\n'
                f'rpc_bind_addr = "127.0.0.1:{rpc}"\nrpc_public_addr = "127.0.0.1:{rpc}"\nrpc_secret = "{"5a" * 32}"\n'
                f'[s3_api]\ns3_region = "garage"\napi_bind_addr = "127.0.0.1:{s3}"\n'
            )
            self.start_node(number)
        for _, s3 in self.ports:
            wait_for(s3, "garage")
        ids = [self.ask("node", "id", "-q", node=number).strip() for number in range(3)]
        for other in ids[1:]:
            self.ask("node", "connect", other)
        for node in ids:
            self.ask("layout", "assign", "-z", "here", "-c", "4G", node.split("@")[0])
        self.ask("layout", "apply", "--version", "1")
        self.retry("bucket", "create", "bucket")
        key = self.retry("key", "create", "icecore")
        self.key = re.search(r"Key ID:\s*(\S+)", key).group(1)
        self.secret = re.search(r"Secret key:\s*(\S+)", key).group(1)
        self.ask("bucket", "allow", "--read", "--write", "--owner", "bucket", "--key", "icecore")

    @staticmethod
    def build():
        named = os.environ.get("ICECORE_GARAGE")
        program = pathlib.Path(named) if named else CACHE / "garage/bin/garage"
        if not program.exists():
            print(f"building garage {GARAGE_VERSION}, which takes half an hour, once", flush=True)
            command = ["cargo", "install", "garage", "--version", GARAGE_VERSION, "--locked", "--no-default-features"]
            command += ["--features", "bundled-libs,sqlite", "--root", str(CACHE / "garage")]
            subprocess.run(command, check=True)
        return str(program)

    def start_node(self, number):
        node = self.start(self.program, "-c", str(self.folder / f"node{number}/garage.toml"), "server")
        if number < len(self.processes) - 1:
            # It takes the place of the one that was killed.
            self.processes[number] = self.processes.pop()
        return node

    def kill_node(self, number):
        os.killpg(self.processes[number].pid, signal.SIGKILL)
        self.processes[number].wait()

    def ask(self, *arguments, node=0):
        command = [self.program, "-c", str(self.folder / f"node{node}/garage.toml"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def retry(self, *arguments):
        """The new layout takes a moment to be known to all nodes."""
        for _ in range(60):
            try:
                return self.ask(*arguments)
            except subprocess.CalledProcessError as error:
                said = error.stderr
                time.sleep(0.5)
        sys.exit(f"garage {arguments}: {said}")

    def environment(self):
        endpoint = f"http://127.0.0.1:{self.ports[0][1]}"
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "garage"}


class S3sFs(Server):
    """An S3 server in Rust that keeps objects as files: fast, so that what is measured through it is not it."""

    name = "s3s-fs"

    def __init__(self, folder):
        super().__init__(folder)
        program = CACHE / "s3s-fs/bin/s3s-fs"
        if not program.exists():
            print(f"building s3s-fs {S3S_FS_VERSION}, which takes some minutes, once", flush=True)
            command = ["cargo", "install", "s3s-fs", "--version", S3S_FS_VERSION, "--locked", "--features", "binary", "--root", str(CACHE / "s3s-fs")]
            subprocess.run(command, check=True)
        (self.folder / "objects/bucket").mkdir(parents=True)
        self.port = free_port()
        keys = ["--access-key", "testing", "--secret-key", "testing"]
        self.start(str(program), "--host", "127.0.0.1", "--port", str(self.port), *keys, str(self.folder / "objects"))
        wait_for(self.port, "s3s-fs")

    def environment(self):
        endpoint = f"http://127.0.0.1:{self.port}"
        return {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1"}


class Moto(Server):
    """An S3 server in Python."""

    name = "moto"

    def __init__(self, folder, tls=False):
        super().__init__(folder)
        python = CACHE / "moto/bin/python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(CACHE / "moto")], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", "moto[server,s3]==5.2.1"], check=True)
        self.port = free_port()
        self.endpoint, self.certificate = f"http://127.0.0.1:{self.port}", None
        secure, trust = [], None
        if tls:
            self.endpoint, self.certificate = f"https://127.0.0.1:{self.port}", self.folder / "certificate.pem"
            make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
            make += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(self.folder / "key.pem"), "-out", str(self.certificate)]
            subprocess.run(make, check=True, capture_output=True)
            secure = ["-s", "-c", str(self.certificate), "-k", str(self.folder / "key.pem")]
            trust = ssl.create_default_context(cafile=str(self.certificate))
        self.start(str(python.parent / "moto_server"), "-H", "127.0.0.1", "-p", str(self.port), *secure)
        wait_for(self.port, "moto")
        request = urllib.request.Request(f"{self.endpoint}/bucket", method="PUT")
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request")
        urllib.request.urlopen(request, context=trust).read()

    def environment(self):
        return {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": "us-east-1"}


class Google(Moto):
    """Google's interface, by `google.py`, in front of moto."""

    name = "google"

    def __init__(self, folder):
        super().__init__(folder)
        self.front = free_port()
        self.start(sys.executable, str(pathlib.Path(__file__).with_name("google.py")), str(self.front), f"127.0.0.1:{self.port}")
        wait_for(self.front, "google.py")
        # A service account that asks nobody for a token. It cannot sign addresses either, as most that Google gives to machines cannot.
        private = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True, text=True).stdout
        account = {"client_email": "test@test", "private_key_id": "1", "private_key": private, "disable_oauth": True}
        (self.folder / "account.json").write_text(json.dumps(account))

    def place(self, prefix):
        return f"gs://bucket/{prefix}"

    def environment(self):
        return {"GOOGLE_BASE_URL": f"http://127.0.0.1:{self.front}", "GOOGLE_SERVICE_ACCOUNT": str(self.folder / "account.json")}


class Azurite(Server):
    """Microsoft's emulator of Azure Blob Storage, with its well-known account."""

    name = "azurite"
    ACCOUNT = "devstoreaccount1"
    # Published by Microsoft for this emulator, and no secret.
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

    def __init__(self, folder):
        super().__init__(folder)
        program = CACHE / "azurite/node_modules/.bin/azurite-blob"
        if not program.exists():
            subprocess.run(["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(CACHE / "azurite"), "azurite@3"], check=True)
        self.port = free_port()
        command = [str(program), "--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        self.start(*command, "--location", str(self.folder))
        wait_for(self.port, "azurite")
        self.make_container()

    def make_container(self):
        import base64
        import email.utils
        import hashlib
        import hmac

        date = email.utils.formatdate(usegmt=True)
        path = f"/{self.ACCOUNT}/container"
        headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
        text = f"PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}/{self.ACCOUNT}{path}\nrestype:container"
        signature = base64.b64encode(hmac.new(base64.b64decode(self.KEY), text.encode(), hashlib.sha256).digest()).decode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}?restype=container", method="PUT", data=b"")
        request.add_header("x-ms-date", date)
        request.add_header("x-ms-version", "2021-08-06")
        request.add_header("Authorization", f"SharedKey {self.ACCOUNT}:{signature}")
        request.add_header("Content-Length", "0")
        request.add_header("Content-Type", "")
        urllib.request.urlopen(request).read()

    def place(self, prefix):
        return f"az://container/{prefix}"

    def environment(self):
        endpoint = f"http://127.0.0.1:{self.port}/{self.ACCOUNT}"
        return {"AZURE_STORAGE_ACCOUNT_NAME": self.ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": self.KEY, "AZURE_STORAGE_ENDPOINT": endpoint}


class Sftp(Server):
    """OpenSSH's server with throwaway keys, reached by OpenSSH's client with a configuration of its own."""

    name = "sftp"

    def __init__(self, folder):
        super().__init__(folder)
        self.folder.chmod(0o700)
        for key in ["host", "user"]:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)], check=True)
        self.port = free_port()
        (self.folder / "authorized").write_text((self.folder / "user.pub").read_text())
        (self.folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/authorized\nPidFile none\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
        )
        host_key = (self.folder / "host.pub").read_text().split()
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {host_key[0]} {host_key[1]}\n")
        # What a user has in ~/.ssh/config: icecore finds it there by the home folder of the user, which a test must not touch.
        wrapper = self.folder / "bin/ssh"
        wrapper.parent.mkdir()
        wrapper.write_text(
            f'#!/bin/sh\nexec {shutil.which("ssh")} -F none -i {self.folder}/user -oIdentitiesOnly=yes -oUserKnownHostsFile={self.folder}/known "$@"\n'
        )
        wrapper.chmod(0o700)
        # It insists on a folder for its unprivileged half.
        if os.getuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        self.start(shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config"))
        wait_for(self.port, "sshd")

    def place(self, prefix):
        return f"sftp://127.0.0.1:{self.port}{self.folder}/repositories/{prefix}"

    def environment(self):
        return {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"}


SERVERS = {server.name: server for server in [Garage, S3sFs, Moto, Google, Azurite, Sftp]}

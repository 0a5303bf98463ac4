#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Test what vhost-user and systemd expect of a device's program: its flags, the sockets that it
may get, and the messages to a service manager. Prints TAP.

Usage: conventions-test.py FOLDER
"""
import fcntl
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

TOOLS = pathlib.Path(sys.argv[1]).resolve()
HERE = pathlib.Path(__file__).resolve().parent
SECONDS = 20
GET_FEATURES, VERSION, REPLY = 1, 1, 4


class Work:
    """A folder with a disk and a file to map."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "file").write_bytes(bytes(1 << 20))
        # The network device passes frames to it. A service manager's socket is descriptor 3.
        self.pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.link = fcntl.fcntl(self.pair[0], fcntl.F_DUPFD, 100)

    def words(self, program):
        """What each program needs besides a socket."""
        return {"gmem-vhost-blk": [f"--blk-file={self.folder / 'file'}"],
                "gmem-vhost-net": [f"--link-fds={self.link}"],
                "gmem-vhost-shm": [f"--map={self.folder / 'file'}"]}[program]


def run(program, *words, **options):
    return subprocess.run([TOOLS / program, *words], capture_output=True, text=True,
                          timeout=SECONDS, check=False, **options)


def start(work, program, *words, pass_fds=(), **options):
    return subprocess.Popen([TOOLS / program, *work.words(program), *words],
                            stderr=subprocess.PIPE, text=True,
                            pass_fds=[work.link, *pass_fds], **options)


def ask_features(peer):
    """Does the program answer GET_FEATURES there?"""
    peer.settimeout(SECONDS)
    peer.sendall(struct.pack("=III", GET_FEATURES, VERSION, 0))
    request, flags, size, features = struct.unpack("=IIIQ", peer.recv(20, socket.MSG_WAITALL))
    assert (request, flags, size) == (GET_FEATURES, VERSION | REPLY, 8)
    assert features & 1 << 32, f"no virtio 1 in {features:#x}"


def connect(path):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(str(path))
    return peer


def ends(process, status):
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == status, f"status {process.returncode}: {errors}"
    return errors


def stop(process):
    process.send_signal(signal.SIGTERM)
    return ends(process, 0)


def capabilities(work, program):
    result = run(program, "--print-capabilities")
    assert result.returncode == 0 and result.stderr == "", result.stderr
    said = json.loads(result.stdout)
    want = {"gmem-vhost-blk": {"type": "block", "features": ["read-only", "blk-file"]},
            "gmem-vhost-net": {"type": "net"},
            "gmem-vhost-shm": {"type": "gmem-shm"}}[program]
    assert said == want, said


def connected_descriptor(work, program):
    ours, its = socket.socketpair()
    process = start(work, program, f"--fd={its.fileno()}", pass_fds=[its.fileno()])
    its.close()
    ask_features(ours)
    ours.close()
    assert ends(process, 0) == ""


def listening_descriptor(work, program):
    path = work.folder / f"{program}.listening"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        process = start(work, program, f"--fd={listener.fileno()}", pass_fds=[listener.fileno()])
    for _ in range(2):
        with connect(path) as peer:
            ask_features(peer)
    assert stop(process) == ""


def bad_descriptors(work, program):
    with open(work.folder / "file", "rb") as file:
        for fd, text in ((file.fileno(), "Socket operation on non-socket"),
                         (1000, "Bad file descriptor")):
            errors = ends(start(work, program, f"--fd={fd}", pass_fds=[file.fileno()]), 2)
            assert errors.startswith(f"{program}: ") and text in errors, errors
    result = run(program, *work.words(program), "--fd=0", "--socket-path=x")
    assert result.returncode == 2 and "give one of --socket-path" in result.stderr, result.stderr
    result = run(program, *work.words(program), "--fd=-1")
    assert result.returncode == 2 and "use a number from 0" in result.stderr, result.stderr


def start_activated(work, program, listener, nr_fds, **more):
    """As a service manager does: its socket is descriptor 3, and the variables name the process."""
    script = f'LISTEN_FDS={nr_fds} LISTEN_PID=$$ exec "$0" "$@" 3<&{listener.fileno()}'
    return subprocess.Popen(
        ["sh", "-c", script, TOOLS / program, *work.words(program)], stderr=subprocess.PIPE,
        text=True, pass_fds=[work.link, listener.fileno()], env={**os.environ, **more})


def service_manager(work, program):
    path, notify = (work.folder / f"{program}.{name}" for name in ("activated", "notify"))
    with socket.socket(socket.AF_UNIX) as listener, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        listener.bind(str(path))
        listener.listen()
        manager.bind(str(notify))
        manager.settimeout(SECONDS)
        process = start_activated(work, program, listener, 1, NOTIFY_SOCKET=str(notify))
        assert manager.recv(100) == b"READY=1"
        with connect(path) as peer:
            ask_features(peer)
        assert stop(process) == ""
        assert manager.recv(100) == b"STOPPING=1"
        errors = ends(start_activated(work, program, listener, 2), 2)
        assert "passes 2 sockets" in errors, errors
        # An address without a path.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(f"\0gmem-{os.getpid()}-{program}")
            other.settimeout(SECONDS)
            process = start(work, program, f"--socket-path={work.folder / program}",
                            env={**os.environ, "NOTIFY_SOCKET": f"@gmem-{os.getpid()}-{program}"})
            assert other.recv(100) == b"READY=1"
            stop(process)


def sandbox(work, program):
    """The program gives up its rights, and can still remove its socket."""
    for words, seccomp in (([], "2"), (["--sandbox=off"], "0")):
        path = work.folder / f"{program}.sandbox"
        process = start(work, program, f"--socket-path={path}", *words)
        for _ in range(SECONDS * 50):
            if path.exists():
                break
            time.sleep(0.02)
        with connect(path) as peer:
            ask_features(peer)
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        assert f"Seccomp:\t{seccomp}" in status, status
        assert stop(process) == "" and not path.exists()


def foreign_variables(work, program):
    """The manager's variables are for another process."""
    result = run(program, *work.words(program),
                 env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"})
    assert result.returncode == 2 and "--socket-path is missing" in result.stderr, result.stderr


def json_file(work, program):
    if program == "gmem-vhost-shm":
        assert not list(HERE.glob("*shm*.json"))  # QEMU has no type for it.
        return
    told = json.loads((HERE / f"50-{program}.json").read_text())
    said = json.loads(run(program, "--print-capabilities").stdout)
    assert told["binary"] == f"@PREFIX@/bin/{program}" and told["description"]
    assert told["type"] == said["type"] and told.get("features") == said.get("features")


def main():
    tests = [(test, program)
             for test in (capabilities, connected_descriptor, listening_descriptor,
                          bad_descriptors, service_manager, sandbox, foreign_variables, json_file)
             for program in ("gmem-vhost-blk", "gmem-vhost-net", "gmem-vhost-shm")]
    failed = False
    print(f"TAP version 13\n1..{len(tests)}")
    with tempfile.TemporaryDirectory() as folder:
        work = Work(folder)
        for number, (test, program) in enumerate(tests, 1):
            try:
                test(work, program)
                print(f"ok {number} {program}: {test.__name__}")
            except Exception as error:  # pylint: disable=broad-except
                failed = True
                print(f"not ok {number} {program}: {test.__name__}\n# {error!r}")
    return failed


if __name__ == "__main__":
    sys.exit(main())

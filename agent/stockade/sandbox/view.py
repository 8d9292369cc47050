"""What a sandbox sees of the file system: read-only binds, its workdir, and private tmpfs. Whatever is not named is absent."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from stockade.sandbox import libc
from stockade.sandbox.plan import NODES, Bind, Plan
from stockade.types import StockadeError

STAGE = "/run/stockade/root"  # in the launcher's own mount namespace
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NEVER_WRITABLE = ("/etc", "/dev", "/proc", "/sys", "/run", "/boot")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")


def system_binds() -> tuple[tuple[Bind, ...], dict[str, str]]:
    """The read-only system: directories as binds, and what is a symbolic link on a merged /usr as the same link."""
    binds, links = [], {}
    for name in SYSTEM:
        path = Path(name)
        if path.is_symlink():
            links[name] = str(path.readlink())
        elif path.is_dir():
            binds.append(Bind(name, name))
    return tuple(binds), links


def no_links(path: Path) -> Path:
    """The path, absolute. Raises StockadeError when it leads through a symbolic link: whoever can replace the link says what is shown."""
    absolute = Path(os.path.normpath(path.absolute()))
    if (resolved := absolute.resolve()) != absolute:
        raise StockadeError(f"{absolute} leads through a symbolic link", hint=f"name what is meant: {resolved}", code="symbolic_link")
    return absolute


def workdir_bind(directory: Path, user: int, *, executable: bool) -> Bind:
    """The workdir, writable, owned inside by the sandbox's user whoever owns it on disk. Raises StockadeError for a system directory."""
    if not directory.is_dir():
        raise StockadeError(f"{directory} is not a directory, and only one can be shown writable", code="workdir")
    resolved = no_links(directory)
    within = any(resolved.is_relative_to(Path(name).resolve()) for name in (*SYSTEM, *_NEVER_WRITABLE))
    if within or str(resolved) in ("/", "/var", "/home"):
        hint = "name a project directory with --workdir"
        raise StockadeError(f"{resolved} cannot be a writable workdir", hint=hint, code="workdir")
    state = resolved.stat()
    owner = None if state.st_uid == user else (state.st_uid, state.st_gid)
    return Bind(str(resolved), str(resolved), writable=True, executable=executable, owner=owner)


def user_namespace(owner: tuple[int, int], user: int) -> int:
    """A user namespace that maps the one `owner`, uid and gid, to `user` outside it; its descriptor. Raises OSError.

    For an id-mapped mount, owner is who owns the files on disk; for a process that enters, who it is then. Needs the machine's own /proc.
    The process that it was made with is over already, and its maps can be written until somebody waits for it.
    """
    child = libc.namespace_of_the_dead(libc.CLONE_NEWUSER)
    try:
        for name, said in (("setgroups", "deny"), ("uid_map", f"{owner[0]} {user} 1\n"), ("gid_map", f"{owner[1]} {user} 1\n")):
            _write(f"/proc/{child}/{name}", said.encode(), os.O_WRONLY)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.waitpid(child, 0)


def _write(path: str, content: bytes, flags: int) -> None:
    """A file that is whole, or OSError. Not through pathlib and io: they are slow in a process that was forked a moment ago."""
    file = os.open(path, flags | os.O_CLOEXEC, 0o444)
    try:
        while content:
            content = content[os.write(file, content) :]
    finally:
        os.close(file)


def build(plan: Plan) -> None:
    """Build the new root and make it the root of this mount namespace. /proc comes later, from inside the PID namespace.

    Raises OSError; the launcher gives up, and nothing of it outlives its namespace.
    """
    mappings = {owner: user_namespace(owner, plan.user) for owner in {bind.owner for bind in plan.binds} if owner}
    noexec = libc.MS_NOEXEC if plan.noexec else 0
    private = libc.MS_NOSUID | libc.MS_NODEV
    libc.mount("none", "/", "", libc.MS_REC | libc.MS_PRIVATE)
    Path(STAGE).mkdir(mode=0o700, parents=True, exist_ok=True)
    libc.mount("tmpfs", STAGE, "tmpfs", private, "mode=755,size=16m")

    def inside(path: str) -> str:
        return STAGE + path

    for path, target in plan.links.items():
        Path(inside(path)).symlink_to(target)
    _etc(plan, _directory("/etc"))
    for path, mode in (("/tmp", 0o1777), ("/var/tmp", 0o1777), (plan.home, 0o700)):
        libc.mount("tmpfs", _directory(path), "tmpfs", private | noexec, f"mode={mode:o},size={plan.tmpfs_bytes}")
        if mode == 0o700:
            os.chown(inside(path), plan.user, plan.user)
    for bind in sorted(plan.binds, key=lambda bind: len(Path(bind.target).parts)):  # what lies inside another stays on top of it
        if Path(bind.source).is_dir():
            _directory(bind.target)
        elif not os.path.lexists(inside(bind.target)):
            _file(bind.target)
        _bind(bind, inside(bind.target), mappings[bind.owner] if bind.owner else None)
    for path in ("/run", "/proc"):
        _directory(path)
    _dev(_directory("/dev"), plan)
    for path in plan.hidden:
        _hide(inside(path))
    libc.mount("none", STAGE, "", libc.MS_REMOUNT | libc.MS_RDONLY | private, "mode=755")
    libc.pivot_root(STAGE)
    for mapping in mappings.values():
        os.close(mapping)


def _directory(path: str) -> str:
    """Make a directory of the new root, and those above it; its path on the stage.

    Component by component, and never through a link: below the workdir another sandbox may be exchanging names this very moment, and what
    is made here is made by root.
    """
    os.close(_walk(path))
    return STAGE + path


def _file(path: str) -> None:
    """Make an empty file of the new root, for another to be bound on."""
    parent = _walk(str(Path(path).parent))
    try:
        os.close(os.open(Path(path).name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444, dir_fd=parent))
    finally:
        os.close(parent)


def _walk(path: str) -> int:
    at = os.open(STAGE, _DIRECTORY)
    for part in Path(path).parts[1:]:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=at)
            found = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        except NotADirectoryError:
            raise OSError(f"{path} leads through a symbolic link or a file in the sandbox") from None
        finally:
            os.close(at)
        at = found
    return at


def _bind(bind: Bind, target: str, mapping: int | None) -> None:
    attributes = libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NODEV
    attributes |= 0 if bind.writable else libc.MOUNT_ATTR_RDONLY
    attributes |= 0 if bind.executable else libc.MOUNT_ATTR_NOEXEC
    libc.bind(bind.source, target, attributes, mapping)


def _etc(plan: Plan, target: str) -> None:
    """/etc is the host's below ours: one overlay of two read-only layers, so that no file of the host is touched or left out of date."""
    layer = STAGE + "-etc"  # stays behind when the root is pivoted
    Path(layer).mkdir(mode=0o700, parents=True, exist_ok=True)
    libc.mount("tmpfs", layer, "tmpfs", libc.MS_NOSUID | libc.MS_NODEV, "mode=755,size=16m")
    for path, content in plan.files.items():
        if not path.startswith("/etc/"):
            continue
        file = layer + path.removeprefix("/etc")
        Path(file).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write(file, content, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for path in plan.hidden:
        if path.startswith("/etc/") and os.path.lexists(path):
            at = layer + path.removeprefix("/etc")
            Path(at).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            os.mknod(at, stat.S_IFCHR, 0)  # a whiteout: absent, not merely forbidden
    libc.mount("overlay", target, "overlay", libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV, f"lowerdir={layer}:/etc")


def _dev(target: str, plan: Plan) -> None:
    libc.mount("tmpfs", target, "tmpfs", libc.MS_NOSUID | libc.MS_NOEXEC, "mode=755,size=64k")
    for path in (*(f"/dev/{name}" for name in NODES), *(node.path for node in plan.devices)):
        node = target + path.removeprefix("/dev")
        Path(node).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _write(node, b"", os.O_WRONLY | os.O_CREAT)
        libc.bind(path, node, libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NOEXEC)
    for name, link in {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}.items():
        Path(target, name).symlink_to(link)
    for name in ("pts", "shm"):
        Path(target, name).mkdir()
    libc.mount("devpts", f"{target}/pts", "devpts", libc.MS_NOSUID | libc.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    libc.mount("tmpfs", f"{target}/shm", "tmpfs", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC, "mode=1777,size=256m")


def _hide(path: str) -> None:
    """Cover what a bind brought along: an empty directory, or an empty file. Raises OSError for a path that leads through a link."""
    if not os.path.lexists(path):
        return
    place = libc.open_path(path)
    try:
        if stat.S_ISDIR(os.fstat(place).st_mode):
            flags = libc.MS_RDONLY | libc.MS_NOSUID | libc.MS_NODEV
            libc.mount("tmpfs", f"/proc/self/fd/{place}", "tmpfs", flags, "mode=000,size=4k")
        else:
            libc.bind("/dev/null", path, libc.MOUNT_ATTR_NOSUID | libc.MOUNT_ATTR_NOEXEC | libc.MOUNT_ATTR_RDONLY)
    finally:
        os.close(place)

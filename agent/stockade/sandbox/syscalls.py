"""The system calls of Linux on x86-64, each in one place: what a sandbox may call and why, what it never may, and what a policy may add.

A table and nothing else: which arguments are let through is conditions.py's to say, how it becomes a program is filter.py's. Written for
agent workloads: shells, compilers, Python, Node, Java, Go, git, package managers, databases in a workdir. Source: syscalls(2),
arch/x86/entry/syscalls/syscall_64.tbl.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Numbers above this one came with Linux 5.18 and later. A call nobody has judged yet is absent (ENOSYS), as on an older kernel: libc and
# the runtimes then fall back to the older call, which EPERM would keep them from.
NEWEST_JUDGED = 450

CONTAINER_DEFAULT = 300  # container engines' own default profiles allow more than this many


@dataclass(frozen=True, slots=True)
class Group:
    """System calls that belong together. why: what needs them, or what they would break."""

    name: str
    why: str
    calls: tuple[str, ...]


def _group(name: str, why: str, calls: str) -> Group:
    return Group(name, why, tuple(calls.split()))


ALLOWED = (
    _group(
        "input and output",
        "every program",
        """read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek sendfile copy_file_range splice tee readahead
        fadvise64 fsync fdatasync sync syncfs sync_file_range""",
    ),
    _group(
        "descriptors",
        "every program; ioctl drives terminals",
        "open openat creat close close_range dup dup2 dup3 fcntl flock ioctl pipe pipe2",
    ),
    _group(
        "files and directories",
        "what is reachable is the mount view's and Landlock's to say",
        """stat fstat lstat newfstatat statx statfs fstatfs access faccessat faccessat2 getdents getdents64 getcwd chdir fchdir mkdir
        mkdirat rmdir rename renameat renameat2 link linkat unlink unlinkat symlink symlinkat readlink readlinkat mknod
        mknodat truncate ftruncate fallocate utime utimes futimesat utimensat umask""",
    ),
    _group(
        "owners, modes and attributes",
        "git, tar, pip and cp -p keep them",
        """chmod fchmod fchmodat chown fchown lchown fchownat setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr
        llistxattr flistxattr removexattr lremovexattr fremovexattr""",
    ),
    _group(
        "memory",
        "every program; libnuma (OpenBLAS, PyTorch) reads and sets its own placement, V8 uses protection keys",
        """mmap mprotect munmap mremap msync mincore madvise brk mlock mlock2 munlock mlockall munlockall membarrier pkey_mprotect
        pkey_alloc pkey_free get_mempolicy set_mempolicy mbind""",
    ),
    _group(
        "processes",
        "shells and everything they start; what may be executed is judged at exec",
        """clone fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid getpgid getpgrp setpgid getsid setsid
        set_tid_address prctl arch_prctl personality getrlimit setrlimit prlimit64 getrusage getpriority setpriority
        pidfd_open""",
    ),
    _group(
        "signals",
        "job control, timeouts, and Go's scheduler; a signal goes no further than the PID namespace",
        """rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack pause kill tkill tgkill
        rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal signalfd signalfd4 restart_syscall""",
    ),
    _group(
        "threads and scheduling",
        "every threaded runtime; more than its share needs a capability",
        """futex futex_waitv set_robust_list get_robust_list rseq sched_yield sched_getaffinity sched_setaffinity sched_getparam
        sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr sched_get_priority_max
        sched_get_priority_min sched_rr_get_interval ioprio_get ioprio_set getcpu""",
    ),
    _group(
        "time",
        "reading clocks and waiting; setting one is refused",
        """nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times alarm getitimer setitimer timer_create
        timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime""",
    ),
    _group(
        "waiting for events",
        "event loops, and watchers of files",
        """poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2
        inotify_init inotify_init1 inotify_add_watch inotify_rm_watch""",
    ),
    _group(
        "sockets",
        "what a socket may reach is the policy's to say, in the kernel's connect hooks",
        """socket socketpair bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt sendto recvfrom sendmsg
        recvmsg sendmmsg recvmmsg shutdown""",
    ),
    _group(
        "System V IPC",
        "PostgreSQL, and shared arrays; the sandbox has an IPC namespace of its own",
        "shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl",
    ),
    _group(
        "users",
        "asking, and changing to what one is already; anything else needs a capability",
        """getuid geteuid getgid getegid getgroups getresuid getresgid setuid setgid setreuid setregid setresuid setresgid setgroups
        setfsuid setfsgid capget capset""",
    ),
    _group("the machine", "reading its name, its load and random numbers", "uname sysinfo getrandom"),
    _group(
        "confining oneself",
        "browsers and build tools sandbox their own children; a filter or a ruleset on top can only take away",
        "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
)

ANONYMOUS = _group(
    "files without a name",
    "are on no noexec mount: a library in one could be loaded into any binary; `exec: {writable: true}` allows memfd_create",
    "memfd_create memfd_secret",
)

# Absent rather than refused: their arguments are behind a pointer, where no filter can look, and libc falls back to the call in registers.
ABSENT = _group(
    "calls whose arguments a filter cannot read",
    "answered with ENOSYS, so that libc falls back: clone3 could make namespaces, openat2 and fchmodat2 set-uid files",
    "clone3 openat2 fchmodat2",
)

# What may never be allowed, whatever a policy says: with any of these the boundary is another one than SECURITY.md describes.
NEVER = (
    _group(
        "mounts and roots",
        "would change what is reachable",
        "mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick open_tree open_tree_attr move_mount mount_setattr",
    ),
    _group("namespaces", "would lead out, or into one with capabilities", "unshare setns"),
    _group(
        "other processes' memory and descriptors",
        "would let one binary act as another",
        "ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp",
    ),
    _group(
        "code in the kernel",
        "the largest part of it that an unprivileged process can reach; io_uring also passes by filters and hooks",
        """bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register init_module finit_module delete_module
        create_module kexec_load kexec_file_load""",
    ),
    _group("handles of files", "would open what no path of the view leads to", "open_by_handle_at name_to_handle_at"),
    _group("keyrings", "know no namespace", "add_key request_key keyctl"),
    _group(
        "the machine's own settings",
        "are nobody's inside",
        """reboot swapon swapoff acct quotactl quotactl_fd sethostname setdomainname settimeofday clock_settime syslog iopl ioperm
        nfsservctl""",
    ),
    ANONYMOUS,
    ABSENT,
)

# Refused because no ordinary workload has need of them: less of the kernel to attack. A policy may allow them by name.
BY_POLICY = (
    _group(
        "asynchronous I/O of files", "databases; they can do without", "io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy"
    ),
    _group("POSIX message queues", "rarely used", "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"),
    _group(
        "moving pages",
        "tuning tools; vmsplice and remap_file_pages have had more than their share of holes",
        "vmsplice move_pages migrate_pages remap_file_pages set_mempolicy_home_node process_mrelease cachestat map_shadow_stack mseal",
    ),
    _group("watching whole mounts", "virus scanners", "fanotify_init fanotify_mark"),
    _group("reading how a clock is steered", "time daemons; setting it needs a capability", "adjtimex clock_adjtime"),
    _group("segments of 16-bit code", "Wine", "modify_ldt"),
    _group("newer ways to wait", "runtimes fall back to futex", "futex_wake futex_wait futex_requeue"),
    _group(
        "newer ways to ask and to set",
        "tools fall back to /proc and to the older calls",
        """statmount listmount listns lsm_get_self_attr lsm_set_self_attr lsm_list_modules setxattrat getxattrat listxattrat
        removexattrat file_getattr file_setattr""",
    ),
    _group(
        "left over",
        "obsolete, of other architectures, or never built",
        """uselib ustat sysfs _sysctl vhangup lookup_dcookie get_kernel_syms query_module getpmsg putpmsg afs_syscall tuxcall security
        vserver epoll_ctl_old epoll_wait_old set_thread_area get_thread_area uretprobe uprobe""",
    ),
)

# Without these nothing starts: the sandbox's own init, the loader and libc call them before a program's first line.
NEEDED = frozenset(
    _group(
        "needed",
        "to start",
        """read pread64 write writev close close_range openat fstat newfstatat mmap mprotect munmap brk execve exit exit_group clone wait4
        kill rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait restart_syscall arch_prctl set_tid_address set_robust_list
        prlimit64 getpid futex fcntl dup2""",
    ).calls
)


def names(groups: Iterable[Group]) -> tuple[str, ...]:
    return tuple(call for group in groups for call in group.calls)


KNOWN = frozenset(names((*ALLOWED, *NEVER, *BY_POLICY)))


def allowed(allow: Iterable[str] = (), deny: Iterable[str] = (), *, executable: bool = False) -> frozenset[str]:
    """What a sandbox may call, some of it under conditions. allow, deny: a policy's changes; executable: it lets run what it can write.

    Nothing of NEVER is in it, whoever asks; policy/format/calls.py says so to the policy's author.
    """
    more = (KNOWN & set(allow)) - set(names(NEVER))
    anonymous = {"memfd_create"} if executable else set()
    return (frozenset(names(ALLOWED)) | more | anonymous) - set(deny)


def never(call: str) -> Group | None:
    """The group for which a call may never be allowed."""
    return next((group for group in NEVER if call in group.calls), None)

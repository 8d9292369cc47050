"""The programs of bpf/ and where each is attached: the one list that the loader attaches by and the probes try."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hook:
    """A program of bpf/: its type and attach type (enum bpf_prog_type, enum bpf_attach_type), and where it is attached.

    where: "sandbox" or "listeners" (a cgroup), "tracepoint:NAME", "typed:NAME" (a tracepoint whose arguments the verifier knows by their
    types, so that a socket's storage can be read), "lsm:NAME", "step" (reached by a tail call) or "run" (only by TEST_RUN).
    """

    program: str
    kind: int
    attach_type: int
    where: str


_RAW_TRACEPOINT, _SOCK_ADDR, _SOCK, _SOCK_OPS, _SKB, _SOCKOPT = 17, 18, 9, 13, 8, 25
LSM, LSM_MAC = 29, 27
TRACING, TRACE_RAW_TP = 26, 23

EXEC_STEPS = ("on_exec_environment", "on_exec_more")  # by their place in exec_steps
HOOKS = (
    *(Hook(program, _RAW_TRACEPOINT, 0, "step") for program in EXEC_STEPS),
    Hook("on_exec", _RAW_TRACEPOINT, 0, "tracepoint:sched_process_exec"),
    Hook("on_fork", _RAW_TRACEPOINT, 0, "tracepoint:sched_process_fork"),
    Hook("on_exit", _RAW_TRACEPOINT, 0, "tracepoint:sched_process_exit"),
    Hook("on_refusal", _RAW_TRACEPOINT, 0, "tracepoint:sys_exit"),
    Hook("enrol", _RAW_TRACEPOINT, 0, "run"),
    Hook("identify", _RAW_TRACEPOINT, 0, "run"),
    Hook("connect4", _SOCK_ADDR, 10, "sandbox"),
    Hook("connect6", _SOCK_ADDR, 11, "sandbox"),
    Hook("sendmsg4", _SOCK_ADDR, 14, "sandbox"),
    Hook("sendmsg6", _SOCK_ADDR, 15, "sandbox"),
    Hook("recvmsg4", _SOCK_ADDR, 19, "sandbox"),
    Hook("recvmsg6", _SOCK_ADDR, 20, "sandbox"),
    Hook("getpeername4", _SOCK_ADDR, 29, "sandbox"),
    Hook("getpeername6", _SOCK_ADDR, 30, "sandbox"),
    Hook("bind4", _SOCK_ADDR, 8, "sandbox"),
    Hook("bind6", _SOCK_ADDR, 9, "sandbox"),
    Hook("sock_create", _SOCK, 2, "sandbox"),
    Hook("sock_release", _SOCK, 34, "sandbox"),
    Hook("sock_ops", _SOCK_OPS, 3, "sandbox"),
    Hook("skb_ingress", _SKB, 0, "sandbox"),
    Hook("skb_egress", _SKB, 1, "sandbox"),
    Hook("listener_ops", _SOCK_OPS, 3, "listeners"),
    Hook("listener_release", _SOCK, 34, "listeners"),
    Hook("getsockopt", _SOCKOPT, 21, "listeners"),
)

LSM_HOOKS = (  # beside the tracepoints, where the kernel runs them (backend.py)
    Hook("check_exec", LSM, LSM_MAC, "lsm:bprm_check_security"),
    Hook("check_mmap", LSM, LSM_MAC, "lsm:mmap_file"),
    Hook("check_mprotect", LSM, LSM_MAC, "lsm:file_mprotect"),
)

OPENS_HOOK = Hook("on_open", _RAW_TRACEPOINT, 0, "tracepoint:sys_exit")  # when a policy asks: everybody would pay for it

TAINT_HOOK = Hook("on_send", TRACING, TRACE_RAW_TP, "typed:sock_send_length")  # where the kernel has that tracepoint: from 6.3 on
LSM_TAINT_HOOKS = (  # where it has not, and runs LSM programs
    Hook("check_send", LSM, LSM_MAC, "lsm:socket_sendmsg"),
    Hook("check_write", LSM, LSM_MAC, "lsm:file_permission"),
)

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What crosses between the kernel and agent/stockade/kernel/abi.py. Fixed widths, explicit padding, sizes asserted on both sides.
 * Enums append only. Addresses are in network order, an IPv4 address in the first four bytes of addr; ports are in host order.
 */

enum verdict { VERDICT_DENY, VERDICT_RELAY, VERDICT_INSPECT, VERDICT_LOCAL, VERDICT_RESOLVE,
	VERDICT_KEPT,		/* a connection of a container from before it was governed, which may go on */
};

enum why {
	WHY_POLICY,		/* the verdict map, or its silence, decided: user space says which rule */
	WHY_UNTAGGED,		/* no exec of this process was ever admitted */
	WHY_EXE_MISMATCH,	/* mm->exe_file is not the file whose exec was admitted */
	WHY_AGENT_ADDRESS,
	WHY_PROTOCOL,
	WHY_BIND,
	WHY_UNLISTED,
	WHY_CHANGED,		/* enrolled inode, other size or ctime */
	WHY_ANONYMOUS,		/* memfd, deleted, or the dynamic loader run as a program */
	WHY_LOADER_VARIABLE,
	WHY_ENV_UNREADABLE,
	WHY_MAP_FULL,
	WHY_PACKET,		/* the last net: a packet no hook had admitted */
	WHY_WRITABLE,		/* a file that the sandbox may have written, to be mapped as code */
};

enum event_type { EVENT_EXEC = 1, EVENT_CONNECT, EVENT_DATAGRAM, EVENT_BIND, EVENT_SOCKET, EVENT_PACKET, EVENT_MAPPING,
	EVENT_DEVICE,		/* agent/stockade/kernel/devices.py: major in port, minor in name, what was asked in protocol */
	EVENT_INBOUND,		/* a container's own device: who came in, and to which port */
};

enum sandbox_flag {
	SANDBOX_OBSERVE = 1,
	SANDBOX_UNLISTED_RUNS = 2,
	SANDBOX_SEALED = 4,	/* code is mapped from read-only mounts alone (exec.writable: false); held by lsm.c, else by noexec mounts */
	SANDBOX_CONTAINED = 8,	/* in a network namespace of a runtime's: a resolver on loopback may be that one's, and leads out */
	SANDBOX_SHARED = 16,	/* the namespace is the host's: what listens on loopback is not the sandbox's own */
};

enum binary_flag {
	BINARY_RUNS = 1,	/* may be executed on its own, not only as the interpreter of an enrolled script */
	BINARY_NETWORK = 2,	/* has network rules: loader variables in its environment are refused, not merely remembered */
	BINARY_CARRIES = 4,	/* env(1) started by a shebang: passes its script on to the interpreter it execs */
	BINARY_LOADER = 8,	/* ld.so: never a program, whatever exec.unlisted says */
	BINARY_WEAK = 16,
	BINARY_ISOLATED = 32,	/* a Python script: refused without PYTHONNOUSERSITE, which keeps packages below $HOME out of it */
};

enum task_flag { TASK_CARRIES = 1, TASK_WEAK = 2 };

/* Every helper that fails is counted here, per CPU. */
enum failure {
	FAIL_TASK_TAG, FAIL_SK_STORAGE, FAIL_ORIGIN, FAIL_ASKER, FAIL_EVENT, FAIL_SIGNAL, FAIL_SCRATCH, FAIL_EXE, FAIL_CB_FLAGS, FAIL_QUOTA,
	FAIL_DROPPED,		/* packets dropped by the last net: exact, while their events are sampled */
	FAIL_ENV,
	FAIL_REFUSAL,		/* a call that the kernel refused, for which there was no room */
	FAIL_OPEN,		/* an open that was to be counted, for which there was no room */
	FAIL_COUNT
};

struct file_key {
	__u64 ino;
	__u32 dev;
	__u32 gen;
};
_Static_assert(sizeof(struct file_key) == 16, "abi.py: FileKey");

struct sandbox {
	__u32 id;
	__u32 generation;	/* the switch: programs read it once per decision */
	__u32 flags;
	__u32 place;		/* which of several cgroups of one sandbox: EVENT_EXEC has it in name */
	__u32 outside;		/* mount namespace of a runtime that starts programs in it: until they are in its own they are not judged; 0: none */
	__u32 pad;
};
_Static_assert(sizeof(struct sandbox) == 24, "abi.py: SANDBOX");

struct binary_key {
	__u32 sandbox;
	__u32 pad;
	struct file_key file;
};
_Static_assert(sizeof(struct binary_key) == 24, "abi.py: BINARY_KEY");

struct binary {
	__u32 identity;
	__u32 flags;
	__s64 size;
	__s64 ctime_sec;
	__u32 ctime_nsec;
	__u32 pad;
};
_Static_assert(sizeof(struct binary) == 32, "abi.py: BINARY");

#define SCRIPT_PATH 256

struct script_key {
	__u32 sandbox;
	__u32 interpreter;	/* identity of the interpreter's file */
	char path[SCRIPT_PATH];
};
_Static_assert(sizeof(struct script_key) == 264, "abi.py: SCRIPT_KEY");

struct script {
	__u32 identity;		/* of the pair */
	__u32 flags;		/* binary_flag */
	__u32 script;		/* the script alone, the same for every interpreter it passes through */
	__u32 carried;		/* 1: only from a task that carries this script */
};
_Static_assert(sizeof(struct script) == 16, "abi.py: SCRIPT");

struct task {
	__u32 sandbox;
	__u32 identity;
	__u64 exec_id;
	__u64 parent_exec_id;
	struct file_key exe;
	__u32 flags;
	__u32 script;
};
_Static_assert(sizeof(struct task) == 48, "abi.py: TASK");

struct verdict_key {
	__u32 sandbox;
	__u32 generation;
	__u32 identity;
	__u32 name;		/* index of a synthetic address; NAME_LOCALHOST for the host's loopback services */
	__u32 port;
};
_Static_assert(sizeof(struct verdict_key) == 20, "abi.py: VERDICT_KEY");

struct literal_key {
	__u32 prefixlen;	/* bits of all that follows: 128 + those of the network */
	__u32 sandbox;
	__u32 generation;
	__u32 identity;
	__u16 port;
	__u8 family;
	__u8 pad;
	__u8 addr[16];
};
_Static_assert(sizeof(struct literal_key) == 36, "abi.py: LITERAL_KEY");

#define IDENTITY_INBOUND 0xfffffffe	/* of literals that say who may come in by a container's own device, and to which port */

struct service_key {
	__u32 sandbox;
	__u32 generation;
	__u32 port;
};
_Static_assert(sizeof(struct service_key) == 12, "abi.py: SERVICE_KEY");

struct variable_key {
	__u32 prefixlen;	/* 32 + 8 for each byte of the name (and of '=' when it is whole) */
	__u32 sandbox;
	__u8 name[32];
};
_Static_assert(sizeof(struct variable_key) == 40, "abi.py: VARIABLE_KEY");

struct tuple_key {		/* the whole 4-tuple and its namespace: a source port alone is shared between destinations */
	__u64 netns;
	__u8 client[16];
	__u8 agent[16];
	__u16 client_port;
	__u16 agent_port;
	__u32 family;
};
_Static_assert(sizeof(struct tuple_key) == 48, "abi.py: nobody reads it there");

struct origin {
	__u32 sandbox;
	__u32 identity;
	__u64 exec_id;
	__u32 pid;
	__u32 name;
	__u32 generation;
	__u16 port;
	__u8 family;
	__u8 verdict;
	__u8 addr[16];
	__u64 cookie;
};
_Static_assert(sizeof(struct origin) == 56, "abi.py: Origin");

struct socket_state {
	struct origin origin;
	__u16 asked_from;	/* source port under which this socket's DNS queries went out */
	__u8 asked_family;
	__u8 pad[5];
};
_Static_assert(sizeof(struct socket_state) == 64, "abi.py: SOCKET_STATE");

struct asker_key {
	__u32 sandbox;
	__u16 port;
	__u8 family;
	__u8 pad;
};
_Static_assert(sizeof(struct asker_key) == 8, "abi.py: ASKER_KEY");

struct asker {
	__u32 identity;
	__u32 pid;
	__u64 exec_id;
};
_Static_assert(sizeof(struct asker) == 16, "abi.py: ASKER");

struct usage {
	__u64 tasks;
	__u64 origins;
	__u64 conversations;
};
_Static_assert(sizeof(struct usage) == 24, "abi.py: USAGE");

struct conversation {		/* a connection to one of the agent's listeners, as the accepted socket knows it */
	__u64 cookie;		/* of the client's socket */
	__u32 sandbox;
	__u32 pad;
};
_Static_assert(sizeof(struct conversation) == 16, "abi.py: nobody reads it there");

struct speaker {		/* who wrote to a connection beside the image that connected it */
	__u32 identity;
	__u32 pid;
	__u64 exec_id;
	__u32 claims;		/* 0: nobody; 1: who is named here, once ready; more: several, or somebody without a tag */
	__u32 ready;
};
_Static_assert(sizeof(struct speaker) == 24, "abi.py: Speaker");

struct event {
	__u8 type;
	__u8 verdict;
	__u8 why;
	__u8 family;
	__u16 port;
	__u16 protocol;		/* IPPROTO_*, or the address family for EVENT_SOCKET */
	__u32 sandbox;
	__u32 generation;
	__u32 identity;
	__u32 name;
	__u32 pid;
	__u32 size;		/* bytes used of the tail */
	__u64 time;		/* CLOCK_MONOTONIC, ns */
	__u64 exec_id;
	__u64 parent_exec_id;
	__u64 cookie;
	__u8 addr[16];
	struct file_key exe;
};
_Static_assert(sizeof(struct event) == 96, "abi.py: Event");

struct long_event {
	struct event head;
	char tail[SCRIPT_PATH];	/* the path given to execve, or that of the file mapped; EVENT_PACKET: the packet from its IP header */
	char variable[32];	/* WHY_LOADER_VARIABLE: the start of NAME=value */
};
_Static_assert(sizeof(struct long_event) == 384, "abi.py: Event with tail");

enum refused {			/* of a system call: with which errors it is told of, and where its path is */
	REFUSED_EPERM = 1, REFUSED_EACCES = 2, REFUSED_EROFS = 4, REFUSED_EPROTONOSUPPORT = 8, REFUSED_EAFNOSUPPORT = 16,
	REFUSED_FIRST_PATH = 32, REFUSED_SECOND_PATH = 64,
	REFUSED_UNIX = 128,	/* the second argument is a socket's address: of a unix socket alone */
};

/*
 * Calls are told of by numbers below REFUSED_CALLS. REFUSALS_APART of a sandbox are kept apart in one turn, the others counted by call and
 * error alone; how many there are is counted under REFUSAL_ROOM, a call that there is not.
 */
#define REFUSED_CALLS 512
#define REFUSALS_APART 64
#define REFUSAL_ROOM 65535

struct refusal_key {
	__u32 sandbox;
	__u32 identity;
	__u64 exec_id;
	__u32 epoch;
	__u16 call;
	__u16 error;
	char path[SCRIPT_PATH];
};
_Static_assert(sizeof(struct refusal_key) == 280, "abi.py: REFUSAL_KEY");

struct refusal {
	__u64 count;
	__u64 time;		/* of the first one: CLOCK_MONOTONIC, ns */
	__u32 pid;		/* of the last one */
	__u32 generation;	/* at the first one */
};
_Static_assert(sizeof(struct refusal) == 24, "abi.py: REFUSAL");

/*
 * Directories are numbered from 1. OPEN_STEPS are walked up to one. OPENS_APART entries of a sandbox are kept apart by identity, the others
 * counted as nobody's, whose entries are there from the start; how many there are is counted under OPEN_ROOM, a directory that there is not.
 */
#define OPEN_UNKNOWN 0
#define OPEN_ELSEWHERE 0xfffffffe
#define OPEN_ROOM 4294967295
#define OPEN_STEPS 64
#define OPENS_APART 4096

struct open_key {
	__u32 sandbox;
	__u32 directory;
	__u32 identity;
	__u32 pad;
};
_Static_assert(sizeof(struct open_key) == 16, "abi.py: OPEN_KEY");

struct file_facts {		/* what BPF reads of an open file: written by enrol(), run through BPF_PROG_TEST_RUN */
	struct file_key key;
	__s64 size;
	__s64 ctime_sec;
	__u32 ctime_nsec;
	__u32 nlink;
};
_Static_assert(sizeof(struct file_facts) == 40, "abi.py: FileFacts");

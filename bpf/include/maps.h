/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every map: key, value, writer, reader, and what happens when it is full. None is LRU: an entry that is gone is a denial, never another's.
 * Entries are allocated as they are made (BPF_F_NO_PREALLOC): all of them at once cost 170 ms of every start.
 */
#define SHARED_HASH(name, key_type, leaf_type, size) BPF_F_TABLE("hash", key_type, leaf_type, name, size, 1)

/* cgroup id -> sandbox. Written by the agent. Full: the sandbox is not started. */
SHARED_HASH(sandboxes, __u64, struct sandbox, 4096);

/* One word: bit n set when some governed cgroup is at level n. Written by the agent. */
BPF_ARRAY(levels, __u32, 1);

/* cgroup id -> whether whoever begins in it waits until the agent has looked at it (a pod), or does not, since nobody will (a container of
   it). Written by the agent. Full: nobody waits in that pod, or in that container whoever begins stands still. */
#define GATE_STOPS 1
#define GATE_PASSES 2
SHARED_HASH(gates, __u64, __u32, 4096);

/* File -> identity, per sandbox. Written by the agent at policy load. Full: the policy does not load. */
SHARED_HASH(binaries, struct binary_key, struct binary, 65536);

/* (interpreter, script path) -> identity. Written by the agent at policy load. Full: the policy does not load. */
SHARED_HASH(scripts, struct script_key, struct script, 65536);

/* tgid -> tag. Written at exec and fork, deleted when the whole group is dead. Full: the new image is killed, the fork is untagged. */
SHARED_HASH(tasks, __u32, struct task, 65536);

/* (sandbox, generation, identity, name, port) -> verdict. Written by the agent before a name is answered. Full: SERVFAIL. Missing: deny. */
SHARED_HASH(verdicts, struct verdict_key, __u32, 262144);

/* The same for literal addresses and networks. Written by the agent at policy load. */
BPF_LPM_TRIE(literals, struct literal_key, __u32, 65536);

/* Loopback ports that belong to the host (rules on `localhost`). Written by the agent at policy load. */
SHARED_HASH(services, struct service_key, __u32, 16384);

/* Names of loader variables per sandbox, by prefix: 1 refuses, 2 is what BINARY_ISOLATED asks for, 4 spoils it. Written by the agent at start. */
BPF_LPM_TRIE(variables, struct variable_key, __u32, 131072);

/* 4-tuple -> origin, from the SYN to the end of the handshake. Written or deleted on every TCP connect. Full: no origin, so the worker
   closes the connection. */
SHARED_HASH(origins, struct tuple_key, struct origin, 65536);

/* Source port of a DNS query -> who sent it. Written as the datagram leaves, deleted with the socket. Full: the datagram is dropped. */
SHARED_HASH(askers, struct asker_key, struct asker, 65536);

/* Per-socket state of the sandbox's sockets, freed with the socket. */
BPF_SK_STORAGE(sockets, struct socket_state);

/* Accepted socket -> origin, until the worker reads it. Freed with the socket. */
BPF_SK_STORAGE(accepted, struct origin);

/* Cookie of a client's socket -> who else spoke on it. Written as it connects and by whoever sends on it, deleted with the accepted
   socket. Full: no origin. Missing: the worker refuses. */
SHARED_HASH(speakers, __u64, struct speaker, 65536);

/* Accepted socket -> its conversation. Freed with the socket. */
BPF_SK_STORAGE(conversations, struct conversation);

/* When this CPU last dropped a packet, in seconds, and how many since. */
struct drop_window {
	__u64 second;
	__u64 count;
};
BPF_PERCPU_ARRAY(drop_windows, struct drop_window, 1);

/* Sandbox -> what it holds of the shared maps: no sandbox can fill them for another. Written by the programs. */
SHARED_HASH(usages, __u32, struct usage, 1024);
#define QUOTA_TASKS 8192
#define QUOTA_ORIGINS 8192
#define QUOTA_CONVERSATIONS 16384

/* To the agent. Full: what was to be allowed is denied; the loss is counted. */
BPF_RINGBUF_OUTPUT(events, 1024);

/* Per CPU: failures, numbers for exec ids, and room that the 512 byte stack lacks. */
BPF_PERCPU_ARRAY(failures, __u64, FAIL_COUNT);
BPF_PERCPU_ARRAY(exec_numbers, __u64, 2);	/* of images, and of the attempts that lsm.c refuses */
#define ENV_VALUE (32768 - 8)
struct exec_scratch {
	struct long_event event;
	struct script_key script;
	struct task tag;
	__u64 env_at;
	__u64 env_end;
	__u32 flags;
	__u32 why;
	__u32 runs;
	__u32 known;		/* the process had a tag already */
	__u32 isolated;		/* its environment says so */
	__u32 pad;
};
struct env_value {		/* begins as a struct variable_key, so that a variable is looked up where it was read */
	__u32 prefixlen;
	__u32 sandbox;
	char bytes[ENV_VALUE];	/* a variable is read whole to learn where the next begins; per-CPU values end at 32 KiB */
};
BPF_PERCPU_ARRAY(execs, struct exec_scratch, 1);	/* tracepoints do not nest; a packet may interrupt one, so it has room of its own */
BPF_PERCPU_ARRAY(packets, struct long_event, 1);
BPF_PERCPU_ARRAY(env_values, struct env_value, 1);

/* Programs that on_exec goes on in. Written by the loader, pinned: the kernel empties it with its last user. */
BPF_PROG_ARRAY(exec_steps, 2);

/* Answer of enrol(). Written by it, read by the agent. */
BPF_ARRAY(enrolled, struct file_facts, 1);

/* System call -> enum refused. Written by the agent at load. */
BPF_ARRAY(refused_calls, __u32, REFUSED_CALLS);

/* Number of the turn that refusals are counted in. Written by the agent. */
BPF_ARRAY(refusal_epoch, __u32, 1);

/* What the kernel refused -> how often. Written by refusal.c, read and deleted by the agent a turn later. Full: counted as lost. */
SHARED_HASH(refusals, struct refusal_key, struct refusal, 16384);
BPF_PERCPU_ARRAY(refusal_keys, struct refusal_key, 1);

/* Directories of a sandbox whose opens are counted -> number. Written by the agent before the first exec. Full: the sandbox is not started. */
SHARED_HASH(counted_directories, struct binary_key, __u32, 4096);

/* Opens that were let through, by directory and identity, since the start. Written by opens.c, begun by the agent. Full: nobody's. */
SHARED_HASH(opened, struct open_key, __u64, 65536);

/* What of these is on record. Written by the agent, for itself and for the one after it. Full: told again. */
SHARED_HASH(opened_told, struct open_key, __u64, 65536);

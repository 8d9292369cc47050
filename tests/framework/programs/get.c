// SPDX-License-Identifier: Apache-2.0
/* get HOST PORT PATH: one HTTP/1.0 request through this libc's own resolver, the answer on stdout. For a static and a musl binary. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *all, *one;
	char buffer[4096];
	int error, fd = -1;
	ssize_t n;

	if (argc != 4)
		return 2;
	error = getaddrinfo(argv[1], argv[2], &hints, &all);
	if (error) {
		fprintf(stderr, "getaddrinfo: %s\n", gai_strerror(error));
		return 6;
	}
	for (one = all; one; one = one->ai_next) {
		fd = socket(one->ai_family, one->ai_socktype, one->ai_protocol);
		if (fd >= 0 && connect(fd, one->ai_addr, one->ai_addrlen) == 0)
			break;
		perror("connect");
		close(fd);
		fd = -1;
	}
	if (fd < 0)
		return 7;
	dprintf(fd, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", argv[3], argv[1]);
	while ((n = read(fd, buffer, sizeof(buffer))) > 0)
		fwrite(buffer, 1, n, stdout);
	return n < 0 ? 8 : 0;
}

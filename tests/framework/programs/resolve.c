// SPDX-License-Identifier: Apache-2.0
/* resolve HOST...: what this libc's getaddrinfo says of each name, a line a name, with the milliseconds it took. AI_ADDRCONFIG as browsers. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG }, *all = NULL, *one;
		struct timespec from, to;
		int error;

		clock_gettime(CLOCK_MONOTONIC, &from);
		error = getaddrinfo(argv[i], "443", &hints, &all);
		clock_gettime(CLOCK_MONOTONIC, &to);
		printf("%s %ld", argv[i], (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000);
		if (error)
			printf(" %s", error == EAI_NONAME ? "EAI_NONAME" : gai_strerror(error));
		for (one = all; one; one = one->ai_next) {
			char text[64];
			getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
			printf(" %s", text);
		}
		printf("\n");
	}
	return 0;
}

/* Asks for a name as its libc does, connects, asks for / by HTTP, and prints the first line of the answer. 2: no such name, 3: no connection. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
	char answer[256] = {0};
	int fd;

	if (argc != 3 || getaddrinfo(argv[1], argv[2], &hints, &found))
		return 2;
	fd = socket(found->ai_family, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen))
		return 3;
	dprintf(fd, "GET / HTTP/1.0\r\nHost: %s:%s\r\n\r\n", argv[1], argv[2]);
	if (read(fd, answer, sizeof(answer) - 1) <= 0)
		return 4;
	puts(strtok(answer, "\r\n"));
	return 0;
}

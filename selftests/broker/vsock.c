// SPDX-License-Identifier: GPL-2.0-only
/*
 * vsock serve: echo what comes, on the host.
 * vsock load: in the guest, send records to the host and check the echo, each in a
 * buffer of its own. A file "stop" in the current folder ends the program. A file
 * "records" has the number of records so far.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define PORT 1234
#define RECORD 3000
#define RECORDS 4096

static int fail(const char *what)
{
	printf("vsock: %s: %s\n", what, strerror(errno));
	return 1;
}

static int serve(void)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = PORT,
	};
	int listener = socket(AF_VSOCK, SOCK_STREAM, 0), fd;
	char buffer[1 << 16];
	ssize_t got;

	if (bind(listener, (void *)&address, sizeof(address)) ||
	    listen(listener, 1))
		return fail("listen");
	for (;;) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0)
			return fail("accept");
		while ((got = recv(fd, buffer, sizeof(buffer), 0)) > 0)
			if (send(fd, buffer, got, MSG_NOSIGNAL) != got)
				break;
		close(fd);
	}
}

static int load(void)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_HOST,
		.svm_port = PORT,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0), i;
	uint8_t *buffers = malloc((size_t)RECORD * RECORDS), *at;
	uint8_t echo[RECORD];
	uint64_t nr = 0;
	FILE *file;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!buffers || connect(fd, (void *)&address, sizeof(address)))
		return fail("connect");
	while (access("stop", F_OK)) {
		at = buffers + nr % RECORDS * RECORD;
		for (i = 0; i < RECORD; i++)
			at[i] = nr + i * 7;
		if (send(fd, at, RECORD, MSG_NOSIGNAL) != RECORD)
			return fail("send");
		if (recv(fd, echo, RECORD, MSG_WAITALL) != RECORD)
			return fail("receive");
		if (memcmp(at, echo, RECORD)) {
			printf("vsock: record %llu is wrong\n",
			       (unsigned long long)nr);
			return 1;
		}
		if (++nr % 16)
			continue;
		file = fopen("records", "w");
		if (file) {
			fprintf(file, "%llu\n", (unsigned long long)nr);
			fclose(file);
		}
	}
	printf("vsock: all %llu records are right\n", (unsigned long long)nr);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "serve"))
		return serve();
	if (argc == 2 && !strcmp(argv[1], "load"))
		return load();
	return 2;
}

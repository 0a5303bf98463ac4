// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The guest's only program: the first process of its Linux. It takes commands
 * from the serial console, a line each, and touches guest memory:
 *
 *   read ADDRESS           print the 32-bit word at ADDRESS
 *   write ADDRESS VALUE    set the word
 *   count ADDRESS          count the word up in the background, without end
 *   cpus                   print the number of CPUs
 *   ring ADDRESS BELL N    send N numbers through the ring at ADDRESS: see ring.h
 *   disk N                 write N blocks to /dev/vda, read them back, and print how many
 *                          are as they were written: see disk_pattern.h
 *   poweroff
 *
 * Addresses are physical. The program reaches memory that Linux doesn't use as
 * RAM through /dev/mem. In RAM, it reaches only a page of its own, whose
 * address it prints at its start. Every answer is one line, "guest: ...".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "disk_pattern.h"
#include "ring.h"

#define PAGE 4096ul

/* How to turn the machine off: a PC of minivmm can only reset itself. */
#ifdef __x86_64__
#define OFF RB_AUTOBOOT
#else
#define OFF RB_POWER_OFF
#endif

static volatile uint8_t *own_page;
static uint64_t own_address;

static void die(const char *what)
{
	printf("guest: %s: %s\n", what, strerror(errno));
	tcdrain(STDOUT_FILENO);
	reboot(OFF);
}

/* A page of RAM that stays where it is, and its physical address. */
static void get_own_page(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	own_page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE, -1, 0);
	if (own_page == MAP_FAILED)
		die("mmap");
	if (fd < 0 || pread(fd, &entry, sizeof(entry),
			    (off_t)((uintptr_t)own_page / PAGE * sizeof(entry))) != sizeof(entry))
		die("/proc/self/pagemap");
	close(fd);
	/* Bits 0 to 54 are the page frame number; bit 63: there is one. */
	if (!(entry >> 63))
		die("no page");
	own_address = (entry & ((1ull << 55) - 1)) * PAGE;
}

static volatile uint32_t *at(uint64_t address)
{
	static int fd = -1;
	void *page;

	if (address / PAGE == own_address / PAGE)
		return (volatile uint32_t *)(own_page + address % PAGE);
	if (fd < 0)
		fd = open("/dev/mem", O_RDWR);
	if (fd < 0)
		die("/dev/mem");
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    (off_t)(address & ~(PAGE - 1)));
	if (page == MAP_FAILED)
		die("mmap of /dev/mem");
	return (volatile uint32_t *)((uint8_t *)page + address % PAGE);
}

static void count(uint64_t address)
{
	volatile uint32_t *word = at(address);

	if (fork())
		return;
	for (;;)
		++*word;
}

static uint32_t wait_for_room(const struct ring *ring, uint32_t sent, uint32_t room)
{
	uint32_t done;

	while ((done = __atomic_load_n(&ring->done, __ATOMIC_ACQUIRE)) + RING_SIZE < sent + room)
		usleep(1000);
	return done;
}

/* Send the numbers from 1 on. Returns the sum of the doubled ones. */
static uint32_t use_ring(uint64_t address, uint64_t bell_address, uint32_t n)
{
	struct ring *ring = (struct ring *)at(address);
	volatile uint32_t *bell = at(bell_address);
	uint32_t sum = 0, taken = 0, done;

	for (uint32_t sent = 0; taken < n;) {
		/* Send all that there is room for; at the end, wait for the rest. */
		done = wait_for_room(ring, sent, sent < n ? 1 : RING_SIZE);
		for (; taken < done; taken++)
			sum += ring->numbers[taken % RING_SIZE];
		if (sent == n)
			continue;
		ring->numbers[sent % RING_SIZE] = sent + 1;
		__atomic_store_n(&ring->sent, ++sent, __ATOMIC_RELEASE);
		*bell = sent;
	}
	return sum;
}

/* The disk's driver gets the program's own page: with O_DIRECT, there is no copy in between. */
static uint32_t use_disk(uint32_t n)
{
	volatile uint32_t *words = (volatile uint32_t *)own_page;
	int fd = open("/dev/vda", O_RDWR | O_DIRECT);
	uint32_t same = 0, word;

	if (fd < 0)
		die("/dev/vda");
	for (uint32_t block = 0; block < n; block++) {
		for (word = 0; word < DISK_BLOCK_WORDS; word++)
			words[word] = disk_word(block, word);
		if (pwrite(fd, (void *)own_page, DISK_BLOCK, (off_t)block * DISK_BLOCK) !=
		    DISK_BLOCK)
			die("write to /dev/vda");
	}
	if (fsync(fd))
		die("fsync of /dev/vda");
	for (uint32_t block = 0; block < n; block++) {
		for (word = 0; word < DISK_BLOCK_WORDS; word++)
			words[word] = 0;
		if (pread(fd, (void *)own_page, DISK_BLOCK, (off_t)block * DISK_BLOCK) !=
		    DISK_BLOCK)
			die("read of /dev/vda");
		for (word = 0; word < DISK_BLOCK_WORDS; word++)
			if (words[word] != disk_word(block, word))
				break;
		same += word == DISK_BLOCK_WORDS;
	}
	close(fd);
	return same;
}

static void command(const char *line)
{
	uint64_t address, bell;
	uint32_t value;

	if (sscanf(line, "read %" SCNx64, &address) == 1) {
		printf("guest: %#" PRIx64 " holds %" PRIu32 "\n", address, *at(address));
	} else if (sscanf(line, "write %" SCNx64 " %" SCNu32, &address, &value) == 2) {
		*at(address) = value;
		printf("guest: wrote %" PRIu32 " to %#" PRIx64 "\n", value, address);
	} else if (sscanf(line, "count %" SCNx64, &address) == 1) {
		count(address);
		printf("guest: counting at %#" PRIx64 "\n", address);
	} else if (sscanf(line, "ring %" SCNx64 " %" SCNx64 " %" SCNu32, &address, &bell,
			  &value) == 3) {
		printf("guest: sum %" PRIu32 "\n", use_ring(address, bell, value));
	} else if (sscanf(line, "disk %" SCNu32, &value) == 1) {
		printf("guest: disk blocks %" PRIu32 "\n", use_disk(value));
	} else if (!strcmp(line, "cpus\n")) {
		printf("guest: cpus %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
	} else if (!strcmp(line, "poweroff\n")) {
		printf("guest: bye\n");
		tcdrain(STDOUT_FILENO);
		/* The counter would keep the CPU once the clock is off. */
		kill(-1, SIGKILL);
		while (wait(NULL) > 0)
			;
		reboot(OFF);
	} else {
		printf("guest: what?\n");
	}
}

int main(void)
{
	struct utsname name;
	struct termios tty;
	char line[80];

	setvbuf(stdout, NULL, _IOLBF, 0);
	mkdir("/proc", 0555);
	mkdir("/sys", 0555);
	if (mount("none", "/proc", "proc", 0, NULL) || mount("none", "/dev", "devtmpfs", 0, NULL) ||
	    mount("none", "/sys", "sysfs", 0, NULL))
		die("mount");
	/* No echo, and no carriage return before a line feed. */
	if (!tcgetattr(STDIN_FILENO, &tty)) {
		tty.c_lflag &= ~(tcflag_t)ECHO;
		tty.c_oflag &= ~(tcflag_t)ONLCR;
		tcsetattr(STDIN_FILENO, TCSANOW, &tty);
	}
	get_own_page();
	uname(&name);
	printf("guest: %s %s is up\n", name.sysname, name.release);
	printf("guest: page %#" PRIx64 "\n", own_address);
	while (fgets(line, sizeof(line), stdin))
		command(line);
	die("console");
}

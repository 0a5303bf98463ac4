// SPDX-License-Identifier: GPL-2.0-only
/*
 * fuzz [OPTION]...: run rounds until the time is over; prints TAP.
 *
 *   -s SEED     the seed of the first round; the next round has the next number.
 *               Default: GMEM_SEED of the environment, else the time
 *   -t SECONDS  time of the whole; default: GMEM_FUZZ_SECONDS, else 60
 *   -r SECONDS  time of a round; default 5
 *   -1          one round only, as to replay a seed
 *   -T THREAD   only this thread makes calls
 *   -n CALLS    each thread ends after so many calls, whatever the time
 *   -p          print how many calls of each kind were made, and their seconds
 *   -v          print the name of each call before it is made
 *
 * After a failure, "fuzz -1 -s SEED" makes the same calls again.
 */
#include "fuzz.h"

#include "lib/fail_nth.h"

#include <sys/prctl.h>

struct shared *shared;
struct options options = {
	.seconds = 60,
	.round_seconds = 5,
	.thread = -1,
};

/* How long a round may take after its time: a debug kernel is slow. */
#define PATIENCE 90
/* How long a process may take to die. */
#define DEATH 30

static struct tally tally[MAX_OPS];
static bool one_round;
static int kmsg;

/* A line in the console: then it has the seed, even if the machine dies. */
static void note(__u64 seed)
{
	char line[80];
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	int length = snprintf(line, sizeof(line), "gmem fuzz: seed %llu\n", seed);

	if (fd < 0)
		return;
	if (write(fd, line, length) < 0)
		perror("# /dev/kmsg");
	close(fd);
}

/* Has the kernel reported a bug since the last look? selftests/runner/splats knows more. */
static bool kernel_complains(void)
{
	static const char *const words[] = {
		"BUG: ", "WARNING: ", "kernel BUG at", "Oops: ", "general protection",
		"UBSAN: ", "refcount_t: ", "possible circular", "INFO: task",
	};
	bool found = false;
	char line[2048];
	unsigned int i;
	ssize_t got;

	while ((got = read(kmsg, line, sizeof(line) - 1)) > 0 ||
	       (got < 0 && errno == EPIPE)) {
		line[got > 0 ? got : 0] = 0;
		for (i = 0; i < ARRAY_SIZE(words); i++)
			found |= strstr(line, words[i]) != NULL;
	}
	return found;
}

static void print_file(const char *path)
{
	char line[256];
	FILE *file = fopen(path, "re");

	while (file && fgets(line, sizeof(line), file))
		printf("#     %s", line);
	if (file)
		fclose(file);
}

/* Print the call of each thread, and where the thread is in the kernel. */
static void report(__u64 seed, pid_t child, const char *why, bool stacks)
{
	char path[64];
	int i;

	printf("# %s: replay with \"fuzz -1 -s %llu\"\n", why, seed);
	if (*shared->error)
		printf("# %s\n", shared->error);
	for (i = 0; i < NR_THREADS; i++) {
		struct thread *t = &shared->thread[i];

		printf("# thread %d, call %lu: %s\n", i, t->call,
		       t->name ? t->name : "");
		snprintf(path, sizeof(path), "/proc/%d/task/%d/stack", child, t->tid);
		if (stacks)
			print_file(path);
	}
	fflush(stdout);
}

/* Wait for the round's process. False: it runs still. */
static bool wait_until(pid_t child, double end, int *status, __u64 seed)
{
	do {
		if (waitpid(child, status, WNOHANG) == child)
			return true;
		if (kernel_complains()) {
			report(seed, child, "the kernel reports a bug", false);
			shared->stop = 1;
			end = now() + 10;
		}
		usleep(20000);
	} while (now() < end);
	return false;
}

/* Children that have lost their parent become this process's. */
static void reap(void)
{
	double end = now() + DEATH;
	int status;

	while (waitpid(-1, &status, WNOHANG) >= 0 && now() < end)
		usleep(1000);
}

/* One round in a process of its own. */
static bool round_ok(__u64 seed, bool *settled, const struct gmem_stats *before)
{
	/* Every fourth round ends with SIGKILL at some time. */
	double life = options.round_seconds + PATIENCE;
	bool murder = !(seed % 4) && !options.calls, ok;
	int status = 0;
	pid_t child;

	memset(shared, 0, sizeof(*shared));
	note(seed);
	fflush(stdout);
	child = fork();
	if (!child)
		_exit(run_round(seed));
	if (murder)
		life = 0.2 + (seed / 4 % 100) * options.round_seconds / 100.0;
	ok = wait_until(child, now() + life, &status, seed);
	if (!ok) {
		if (!murder)
			report(seed, child, "a call doesn't end", true);
		kill(child, SIGKILL);
		ok = wait_until(child, now() + DEATH, &status, seed);
		if (!ok)
			report(seed, child, "the process doesn't die", true);
		ok &= murder;
	} else if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		report(seed, child, "the process ends too early", false);
		printf("# status %#x\n", status);
		ok = false;
	}
	reap();
	*settled = stats_settle(before);
	if (!*settled)
		report(seed, child, "objects are left over", false);
	if (kernel_complains()) {
		report(seed, child, "the kernel reports a bug", false);
		ok = false;
	}
	return ok;
}

static void add_tally(void)
{
	int i;

	for (i = 0; i < MAX_OPS; i++) {
		if (!shared->tally[i].name)
			continue;
		tally[i].name = shared->tally[i].name;
		tally[i].nr += shared->tally[i].nr;
		tally[i].seconds += shared->tally[i].seconds;
	}
}

static void print_tally(void)
{
	int i;

	for (i = 0; i < MAX_OPS; i++)
		if (tally[i].name)
			printf("# %8lu %8.2f s %s\n", tally[i].nr, tally[i].seconds,
			       tally[i].name);
}

static void result(int number, bool ok, const char *text)
{
	printf("%sok %d %s\n", ok ? "" : "not ", number, text);
	fflush(stdout);
}

static void parse(int argc, char **argv)
{
	struct timespec ts;
	int option;

	clock_gettime(CLOCK_REALTIME, &ts);
	options.seed = ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
	if (getenv("GMEM_SEED"))
		options.seed = strtoull(getenv("GMEM_SEED"), NULL, 0);
	options.seconds = env_uint("GMEM_FUZZ_SECONDS", options.seconds);
	while ((option = getopt(argc, argv, "s:t:r:1T:n:pv")) != -1)
		switch (option) {
		case 's':
			options.seed = strtoull(optarg, NULL, 0);
			break;
		case 't':
			options.seconds = strtoul(optarg, NULL, 0);
			break;
		case 'r':
			options.round_seconds = strtoul(optarg, NULL, 0);
			break;
		case '1':
			one_round = true;
			break;
		case 'T':
			options.thread = strtoul(optarg, NULL, 0);
			break;
		case 'n':
			options.calls = strtoul(optarg, NULL, 0);
			break;
		case 'p':
			options.profile = true;
			break;
		case 'v':
			options.trace = true;
			break;
		default:
			exit(2);
		}
}

/*
 * KVM patches the kernel's code when its first VM comes and when the last one
 * goes; see lib/kvm_guest.h. So this process keeps one.
 */
static void keep_kvm(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm >= 0)
		ioctl(vm, KVM_CREATE_VCPU, 0);
}

int main(int argc, char **argv)
{
	unsigned long calls = 0, rounds = 0;
	bool ok = true, settled = true;
	struct gmem_stats before;
	double end;
	__u64 seed;
	int i;

	parse(argc, argv);
	printf("TAP version 13\n1..2\n");
	if (gmem_dev() < 0 || get_stats(&before)) {
		printf("Bail out! no /dev/gmem\n");
		return 1;
	}
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	lseek(kmsg, 0, SEEK_END);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	keep_kvm();
	/* Set the knobs of fault injection; each thread has a descriptor of its own. */
	close(fail_nth_open());

	end = now() + options.seconds;
	seed = options.seed;
	printf("# seed %llu\n", seed);
	do {
		ok &= round_ok(seed++, &settled, &before);
		for (i = 0; i < NR_THREADS; i++)
			calls += shared->thread[i].call;
		add_tally();
		rounds++;
	} while (ok && settled && now() < end && !one_round);
	printf("# seeds %llu to %llu: %lu rounds, %lu calls\n",
	       options.seed, seed - 1, rounds, calls);
	if (options.profile)
		print_tally();
	result(1, ok, "every round ends as it must");
	result(2, settled, "no object is left over");
	return ok && settled ? 0 : 1;
}

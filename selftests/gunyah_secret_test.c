// SPDX-License-Identifier: GPL-2.0-only
/* Memory outside the kernel's linear map, lent to a guest under Gunyah. */
#include "lib/gunyah_fixture.h"
#include "lib/secret.h"

#include <elf.h>
#include <sys/uio.h>

#define SIZE KIB(64)
#define LENT GIB(4)

static int new_secret_mem(void)
{
	int fd = new_secret(SIZE);
	int err = fd < 0 ? fd : fill_secret(fd, SIZE);

	return err ?: from_secret(fd, GMEM_MEM_CLOEXEC);
}

static __u64 phys_of(const volatile void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	__u64 entry = 0;

	if (pread(fd, &entry, sizeof(entry), ptr_u64(p) / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	return (entry & ((1ULL << 55) - 1)) * PAGE;
}

/*
 * The 8 bytes at @pa in the kernel's linear map; /proc/kcore has zeroes where
 * nothing is mapped. ~0: there is no such address.
 */
static __u64 linear_map_read(__u64 pa)
{
	int fd = open("/proc/kcore", O_RDONLY | O_CLOEXEC);
	__u64 value = ~0ULL;
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr;
	int i;

	if (pread(fd, &ehdr, sizeof(ehdr), 0) != sizeof(ehdr))
		ehdr.e_phnum = 0;
	for (i = 0; i < ehdr.e_phnum; i++) {
		if (pread(fd, &phdr, sizeof(phdr), ehdr.e_phoff +
			  i * sizeof(phdr)) != sizeof(phdr))
			break;
		if (phdr.p_type != PT_LOAD || pa < phdr.p_paddr ||
		    pa >= phdr.p_paddr + phdr.p_memsz)
			continue;
		if (pread(fd, &value, sizeof(value),
			  phdr.p_offset + pa - phdr.p_paddr) != sizeof(value))
			value = ~0ULL;
		break;
	}
	close(fd);
	return value;
}

#define PATTERN 0xa5a5a5a5a5a5a5a5ULL

FIXTURE(secret)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct gunyah_guest guest;
	struct el2 el2;
	int mem;
	__u8 *host;
};

FIXTURE_SETUP(secret)
{
	/* The agent's memory isn't secret. */
	SETUP_GUNYAH();
	ASSERT_EQ(0, gunyah_guest_open(&self->guest, GMEM_POLICY_ALLOW));
	ASSERT_EQ(0, gunyah_allow_mapped(false));
	self->mem = new_secret_mem();
	ASSERT_LE(0, self->mem);
	self->host = map_host(self->mem, 0, SIZE);
	ASSERT_NE(MAP_FAILED, self->host);
	ASSERT_EQ(0, map_mem(self->guest.vm, LENT, self->mem, 0, SIZE / 2,
			     LEND | RWX));
	ASSERT_EQ(0, map_mem(self->guest.vm, LENT + SIZE, self->mem, SIZE / 2,
			     SIZE / 2, SHARE | RWX));
}

FIXTURE_TEARDOWN(secret)
{
	struct gmem_stats stats;
	struct el2_stats after;

	munmap(self->host, SIZE);
	gunyah_guest_close(&self->guest);
	close(self->mem);
	/* Restore the parameter that the other tests expect. */
	EXPECT_EQ(0, gunyah_allow_mapped(true));
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	EXPECT_TRUE(stats_settle(&self->before));
	EXPECT_EQ(0, get_stats(&stats));
	after = el2_stats(&self->el2);
	EXPECT_EQ(EL2_PAGES(stats.leaked_pages - self->before.leaked_pages),
		  after.pages - self->el2_before.pages);
	el2_close(&self->el2);
}

TEST_F(secret, rejects_unfit_secrets)
{
	int fd, other;

	EXPECT_EQ(-EBADF, from_secret(-1, 0));
	EXPECT_EQ(-EINVAL, from_secret(gmem_dev(), 0));
	EXPECT_EQ(-EINVAL, from_secret(self->mem, 0));
	fd = new_secret(0);
	EXPECT_EQ(-EINVAL, from_secret(fd, 0));
	close(fd);
	fd = new_secret(SIZE);
	EXPECT_EQ(-EINVAL, from_secret(fd, 2));
	EXPECT_EQ(-ENODATA, from_secret(fd, 0));
	ASSERT_EQ(0, fill_secret(fd, SIZE - PAGE));
	EXPECT_EQ(-ENODATA, from_secret(fd, 0));
	ASSERT_EQ(0, fill_secret(fd, SIZE));
	other = dup(fd);
	EXPECT_EQ(-EBUSY, from_secret(fd, 0));
	close(other);
	{
		void *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

		EXPECT_EQ(-EBUSY, from_secret(fd, 0));
		munmap(p, PAGE);
	}
	other = from_secret(fd, 0);
	EXPECT_LE(0, other);
	EXPECT_EQ(-1, fcntl(fd, F_GETFD));
	close(other);
}

TEST_F(secret, behaves_as_a_guestmem)
{
	struct gmem_mem_query q;
	struct stat st;
	int window;

	ASSERT_EQ(0, fstat(self->mem, &st));
	EXPECT_EQ(SIZE, st.st_size);
	EXPECT_EQ(0xa5, peek(self->host + 100));
	ASSERT_EQ(0, query_mem(self->mem, 0, SIZE, &q));
	EXPECT_EQ(SIZE / PAGE, q.host);
	EXPECT_EQ(0, mem_alloc(self->mem, 0, 0, SIZE));
	EXPECT_EQ(-EOPNOTSUPP, mem_alloc(self->mem, PUNCH, 0, PAGE));
	window = new_vm("window", GMEM_POLICY_ALLOW);
	ASSERT_LE(0, window);
	ASSERT_EQ(0, unmap_range(self->guest.vm, LENT, PAGE, NULL));
	EXPECT_EQ(-EOPNOTSUPP, map_mem(window, 0, self->mem, 0, PAGE,
				       LEND | RWX));
	close(window);
}

/*
 * A system call that pins memory or reads another process's would use the
 * linear map.
 */
TEST_F(secret, cannot_be_pinned)
{
	char buf[16];
	struct iovec local = { buf, sizeof(buf) };
	struct iovec remote = { self->host, sizeof(buf) };
	int pipefd[2];

	EXPECT_EQ(0xa5, peek(self->host));
	EXPECT_EQ(-1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(0, pipe(pipefd));
	EXPECT_EQ(-1, vmsplice(pipefd[1], &remote, 1, 0));
	close(pipefd[0]);
	close(pipefd[1]);
}

TEST_F(secret, lent_and_out_of_the_linear_map)
{
	__u64 pa, shared_pa;
	int plain;
	__u8 *p;

	ONLY_MONITOR();
	plain = new_mem(PAGE, 0);
	p = map_host(plain, 0, PAGE);
	ASSERT_NE(MAP_FAILED, p);
	memset(p, 0xa5, PAGE);
	/* Check that linear_map_read() finds plain memory. */
	ASSERT_EQ(PATTERN, linear_map_read(phys_of(p)));
	munmap(p, PAGE);
	close(plain);

	EXPECT_EQ(0xa5, peek(self->host));
	EXPECT_EQ(0xa5, peek(self->host + SIZE / 2));
	pa = phys_of(self->host);
	shared_pa = phys_of(self->host + SIZE / 2);
	ASSERT_NE(0, pa);
	EXPECT_EQ(0, linear_map_read(pa));
	EXPECT_EQ(0, linear_map_read(shared_pa));

	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	EXPECT_EQ(0xa5, gunyah_read(&self->guest, LENT));
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT + 8, 0x5a));
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT + SIZE, 0x5b));
	EXPECT_EQ('l', page_state(self->mem, 0));
	EXPECT_EQ(0, el2_page_at(&self->el2, pa).host_access);
	EXPECT_EQ(7, el2_page_at(&self->el2, shared_pa).host_access);
	/*
	 * A stray access of the kernel finds no mapping, instead of a fatal
	 * abort.
	 */
	EXPECT_EQ(0, linear_map_read(pa));
	EXPECT_EQ(0x5b, peek(self->host + SIZE / 2));

	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	EXPECT_EQ(0x5a, peek(self->host + 8));
	EXPECT_EQ(0, linear_map_read(pa));
}

TEST_F(secret, scrubbed_after_the_end)
{
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT, 0x5a));
	EXPECT_EQ(-ESHUTDOWN, gunyah_command(&self->guest, GUNYAH_PSCI,
					     GUNYAH_PSCI_OFF, 0, 0, NULL));
	ASSERT_EQ(0, set_policy(self->guest.vm, GMEM_POLICY_SCRUB));
	EXPECT_EQ(0, peek(self->host));
	EXPECT_EQ(0, peek(self->host + 1));
}

TEST_F(secret, plain_memory_needs_the_parameter)
{
	int plain = new_mem(PAGE, 0);

	EXPECT_EQ(-EPERM, map_mem(self->guest.vm, GIB(5), plain, 0, PAGE,
				  LEND | RWX));
	close(plain);
}

/*
 * A page that isn't given back keeps its file, since freeing the page would
 * write to it.
 */
TEST_F(secret, leaked_page_keeps_its_file)
{
	ONLY_MONITOR();
	ASSERT_EQ(0, gunyah_guest_start(&self->guest));
	ASSERT_EQ(0, gunyah_write(&self->guest, LENT, 0x5a));
	if (has_extents(&self->el2))
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_HYPERCALL_ERROR, 0x61, 1,
			30, 100000);
	else
		el2_hvc(&self->el2, EL2_RULE, EL2_RULE_RPC_ERROR,
			RM_MEM_RECLAIM, 1, 3, 100000);
	munmap(self->guest.run, self->guest.run_size);
	close(self->guest.vcpu);
	close(self->guest.vm);
	self->guest.vm = self->guest.vcpu = -1;
	self->guest.run = MAP_FAILED;
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	EXPECT_EQ(-SIGBUS, peek(self->host));
	EXPECT_EQ('x', page_state(self->mem, 0));
}

TEST_HARNESS_MAIN

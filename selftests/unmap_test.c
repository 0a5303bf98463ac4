// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unbind a whole binding, a part, several at once; punch holes into the file.
 */
#include "lib/fixture.h"

#define UNITS 12
#define GPA GIB(1)

FIXTURE(unmap)
{
	struct gmem_stats before;
	int vm;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
	/* Pages in a unit. */
	__u64 nr;
	/* page_state() of a page that the guest has. */
	char held;
};

FIXTURE_VARIANT(unmap)
{
	const char *provider;
	__u64 mem_flags;
	__u32 access;
	__u32 policy;
};

#define VARIANTS_UNMAP(fixture, name, ...)				\
	VARIANTS_ACCESS(fixture, name, __VA_ARGS__);			\
	VARIANT(fixture, name##_lend_deny, .access = LEND,		\
		.policy = GMEM_POLICY_DENY, __VA_ARGS__)

EACH_PROVIDER_SIZE(VARIANTS_UNMAP, unmap);

FIXTURE_SETUP(unmap)
{
	SETUP_VM_AND_MEM(UNITS, variant->policy);
	SETUP_HOST();
	self->nr = self->unit / PAGE;
	self->held = variant->access == LEND ? 'l' : 's';
}

FIXTURE_TEARDOWN(unmap)
{
	TEARDOWN_HOST();
	TEARDOWN_VM_AND_MEM();
}

#define BIND(gpa, first, count)						\
	ASSERT_EQ(0, map_mem(self->vm, GPA + (gpa) * self->unit,	\
			     self->mem, (first) * self->unit,		\
			     (count) * self->unit, variant->access | RWX))

#define UNMAP(gpa, count, nr)						\
	unmap_range(self->vm, GPA + (gpa) * self->unit,			\
		    (count) * self->unit, nr)

/*
 * The host reads this from an unbound page in which the guest has written
 * @byte.
 */
#define AFTER_UNBIND(byte)						\
	(variant->access == LEND && variant->policy ? 0 : (byte))

/*
 * Bind the whole file, let the guest use it, and unbind [first, first + count)
 * by one of the two calls. B3 (trim passed an end where a count was meant) and
 * B5 (no unmap from the middle): every page of the rest stays bound and
 * provided.
 */
static void trim(struct __test_metadata *_metadata, FIXTURE_DATA(unmap) *self,
		 const FIXTURE_VARIANT(unmap) *variant, int first, int count,
		 bool exact)
{
	struct gmem_binding_info b[3];
	int i, nr_bindings, expected, e = 0;
	__u64 nr = 0;
	bool out;

	BIND(0, 0, UNITS);
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0,
			  guest_write(self->vm, GPA + i * self->unit, i + 1));

	if (exact) {
		ASSERT_EQ(0, unmap_mem(self->vm, GPA + first * self->unit,
				       self->mem, first * self->unit,
				       count * self->unit,
				       variant->access | RWX));
	} else {
		ASSERT_EQ(0, UNMAP(first, count, &nr));
		ASSERT_EQ(count * self->nr, nr);
	}

	nr_bindings = (first > 0) + (first + count < UNITS);
	ASSERT_EQ(nr_bindings, query_guest(self->vm, b, 3));
	if (first) {
		EXPECT_EQ(GPA, b[e].guest_addr);
		EXPECT_EQ(first * self->unit, b[e].length);
		EXPECT_EQ(0, b[e].offset);
		e++;
	}
	if (first + count < UNITS) {
		EXPECT_EQ(GPA + (first + count) * self->unit, b[e].guest_addr);
		EXPECT_EQ((UNITS - first - count) * self->unit, b[e].length);
		EXPECT_EQ((first + count) * self->unit, b[e].offset);
	}

	for (i = 0; i < UNITS; i++) {
		out = i >= first && i < first + count;
		ASSERT_EQ(out ? 'h' : self->held,
			  page_state(self->mem, i * self->unit));
		ASSERT_EQ(out ? 'h' : self->held,
			  page_state(self->mem, (i + 1) * self->unit - PAGE));
		ASSERT_EQ(out ? -EFAULT : i + 1,
			  guest_read(self->vm, GPA + i * self->unit));
		expected = AFTER_UNBIND(i + 1);
		if (out)
			ASSERT_EQ(expected, peek(self->host + i * self->unit));
	}
	ASSERT_EQ(0, UNMAP(0, UNITS, &nr));
	ASSERT_EQ((UNITS - count) * self->nr, nr);
}

TEST_F(unmap, b03_b05_trim_by_range)
{
	/* A sample of the counts where loops are short. */
	const int step = scaled(8) == 8 ? 2 : 5;
	int first, count;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be unbound");
	for (first = 0; first < UNITS; first += 1 + first % 3)
		for (count = 1; first + count <= UNITS; count += step)
			trim(_metadata, self, variant, first, count, false);
	trim(_metadata, self, variant, 0, UNITS, false);
}

TEST_F(unmap, b03_b05_trim_by_exact_match)
{
	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be unbound");
	trim(_metadata, self, variant, 0, 1, true);
	trim(_metadata, self, variant, 0, 5, true);
	trim(_metadata, self, variant, UNITS - 1, 1, true);
	trim(_metadata, self, variant, UNITS - 5, 5, true);
	trim(_metadata, self, variant, 1, 1, true);
	trim(_metadata, self, variant, 4, 5, true);
	trim(_metadata, self, variant, 0, UNITS, true);
}

/* Unbind across several bindings and holes; both ends are inside a binding. */
TEST_F(unmap, across_bindings_and_holes)
{
	struct gmem_binding_info b[8];
	__u64 nr = 0;
	int i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be unbound");
	/*
	 * Guest: 0 1 2 3 . . 6 7 8 9 . 11 12; the file has them in the other
	 * order.
	 */
	BIND(0, 8, 4);
	BIND(6, 4, 2);
	BIND(8, 2, 2);
	BIND(11, 0, 2);
	for (i = 0; i < UNITS; i++)
		guest_write(self->vm, GPA + i * self->unit, i + 1);
	ASSERT_EQ(0, UNMAP(2, 10, &nr));
	EXPECT_EQ((2 + 2 + 2 + 1) * self->nr, nr);
	ASSERT_EQ(2, query_guest(self->vm, b, 8));
	EXPECT_EQ(GPA, b[0].guest_addr);
	EXPECT_EQ(2 * self->unit, b[0].length);
	EXPECT_EQ(8 * self->unit, b[0].offset);
	EXPECT_EQ(GPA + 12 * self->unit, b[1].guest_addr);
	EXPECT_EQ(self->unit, b[1].length);
	EXPECT_EQ(self->unit, b[1].offset);
	EXPECT_EQ(1, guest_read(self->vm, GPA));
	EXPECT_EQ(2, guest_read(self->vm, GPA + self->unit));
	for (i = 2; i < 12; i++)
		EXPECT_EQ(-EFAULT, guest_read(self->vm, GPA + i * self->unit));

	/* An unbound page can be bound elsewhere. */
	BIND(100, 2, 4);
	EXPECT_EQ(0, guest_write(self->vm, GPA + 100 * self->unit, 1));
}

TEST_F(unmap, holes_are_no_error)
{
	/*
	 * The whole address space; Gunyah's agent lives at its end and stays
	 * bound.
	 */
	__u64 end = strcmp(variant->provider, "gunyah") ? 1ULL << 52 : GUEST_END;
	__u64 nr = 1;

	ASSERT_EQ(0, UNMAP(0, UNITS, &nr));
	EXPECT_EQ(0, nr);
	BIND(4, 0, 2);
	nr = 1;
	ASSERT_EQ(0, UNMAP(0, 4, &nr));
	EXPECT_EQ(0, nr);
	ASSERT_EQ(0, UNMAP(6, 100, &nr));
	EXPECT_EQ(0, nr);
	ASSERT_EQ(0, unmap_range(self->vm, 0, end, &nr));
	EXPECT_EQ(2 * self->nr, nr);
	ASSERT_EQ(0, unmap_range(self->vm, 0, end, &nr));
	EXPECT_EQ(0, nr);
}

/* Unbind units of one binding until single units are left. */
TEST_F(unmap, crumble)
{
	struct gmem_binding_info b[UNITS];
	__u64 nr;
	int i;

	if (has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be unbound");
	BIND(0, 0, UNITS);
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0,
			  guest_write(self->vm, GPA + i * self->unit, i + 1));
	for (i = 1; i < UNITS; i += 2) {
		ASSERT_EQ(0, UNMAP(i, 1, &nr));
		ASSERT_EQ(self->nr, nr);
	}
	ASSERT_EQ(UNITS / 2, query_guest(self->vm, b, UNITS));
	for (i = 0; i < UNITS; i++)
		EXPECT_EQ(i % 2 ? -EFAULT : i + 1,
			  guest_read(self->vm, GPA + i * self->unit));
	/* Bind the gaps again. */
	for (i = 1; i < UNITS; i += 2)
		BIND(i, i, 1);
	for (i = 0; i < UNITS; i++)
		EXPECT_EQ(i % 2 ? AFTER_UNBIND(i + 1) : i + 1,
			  guest_read(self->vm, GPA + i * self->unit));
	ASSERT_EQ(0, UNMAP(0, UNITS, &nr));
	EXPECT_EQ(UNITS * self->nr, nr);
}

TEST_F(unmap, fallocate)
{
	static const int modes[] = {
		FALLOC_FL_PUNCH_HOLE, FALLOC_FL_COLLAPSE_RANGE,
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_INSERT_RANGE,
		FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_UNSHARE_RANGE,
	};
	struct gmem_mem_query q;
	unsigned int i;

	ASSERT_EQ(0, mem_alloc(self->mem, 0, 2 * self->unit, 3 * self->unit));
	ASSERT_EQ(0, mem_alloc(self->mem, FALLOC_FL_KEEP_SIZE, 4 * self->unit,
			       2 * self->unit));
	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	EXPECT_EQ(4 * self->nr, q.host);
	EXPECT_EQ((UNITS - 4) * self->nr, q.absent);
	EXPECT_EQ('a', page_state(self->mem, 2 * self->unit - PAGE));
	EXPECT_EQ('h', page_state(self->mem, 2 * self->unit));
	EXPECT_EQ('h', page_state(self->mem, 6 * self->unit - PAGE));
	EXPECT_EQ('a', page_state(self->mem, 6 * self->unit));
	EXPECT_EQ(0, peek(self->host + 2 * self->unit));
	for (i = 0; i < ARRAY_SIZE(modes); i++)
		EXPECT_GT(0, mem_alloc(self->mem, modes[i], 0, self->unit)) {
			TH_LOG("mode %#x", modes[i]);
		}
	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	EXPECT_EQ(4 * self->nr, q.host);

	/* Allocating doesn't change pages that exist. */
	ASSERT_EQ(0, touch_write(self->host + 3 * self->unit, 9));
	ASSERT_EQ(0, mem_alloc(self->mem, 0, 0, self->size));
	EXPECT_EQ(9, peek(self->host + 3 * self->unit));
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 0, self->size));
	ASSERT_EQ(0, query_mem(self->mem, 0, self->size, &q));
	EXPECT_EQ(UNITS * self->nr, q.absent);
	EXPECT_EQ(0, peek(self->host + 3 * self->unit));
	/* Punch a hole twice. */
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 4 * self->unit, self->unit));
	ASSERT_EQ(0, mem_alloc(self->mem, PUNCH, 4 * self->unit, self->unit));
}

/* Allocating takes no page from a guest. */
TEST_F(unmap, fallocate_over_held_pages)
{
	int i;

	BIND(0, 0, UNITS);
	for (i = 0; i < UNITS; i += 2)
		ASSERT_EQ(0,
			  guest_write(self->vm, GPA + i * self->unit, i + 1));
	ASSERT_EQ(0, mem_alloc(self->mem, 0, 0, self->size));
	for (i = 0; i < UNITS; i++) {
		EXPECT_EQ(i % 2 ? 'h' : self->held,
			  page_state(self->mem, i * self->unit));
		EXPECT_EQ(i % 2 ? 0 : i + 1,
			  guest_read(self->vm, GPA + i * self->unit));
	}
}

/* A binding outlives a hole in its file; the guest reads zeroes there. */
TEST_F(unmap, punch_under_a_binding)
{
	int expected = variant->access == LEND && variant->policy ? -EACCES : 0;
	bool gone;
	int i;

	if (!expected && has_parcels(self->vm))
		SKIP(return, "parcels: no page of a running guest can be punched");
	BIND(0, 0, UNITS);
	for (i = 0; i < UNITS; i++)
		ASSERT_EQ(0,
			  guest_write(self->vm, GPA + i * self->unit, i + 1));
	ASSERT_EQ(expected, mem_alloc(self->mem, PUNCH, 4 * self->unit,
				      3 * self->unit));
	for (i = 0; i < UNITS; i++) {
		gone = !expected && i >= 4 && i < 7;
		EXPECT_EQ(gone ? 'a' : self->held,
			  page_state(self->mem, i * self->unit));
		EXPECT_EQ(gone ? 0 : i + 1,
			  guest_read(self->vm, GPA + i * self->unit));
		EXPECT_EQ(self->held, page_state(self->mem, i * self->unit));
	}
}

/*
 * B22 with two guests: the host may take pages back from the first, but not
 * from the second. No page is freed, both guests find their data, and the host
 * reads zeroes from every page that has to be scrubbed.
 */
TEST_F(unmap, b22_punch_is_all_or_nothing)
{
	int deny, i;

	if (variant->access != LEND || variant->policy != GMEM_POLICY_ALLOW)
		return;
	if (has_parcels(self->vm))
		SKIP(return, "parcels: no guest gives a page back");
	ASSERT_EQ(0, set_policy(self->vm, GMEM_POLICY_SCRUB));
	deny = new_guest(variant->provider, GMEM_POLICY_DENY);
	ASSERT_LE(0, deny);
	BIND(0, 0, 4);
	ASSERT_EQ(0, map_mem(deny, 0, self->mem, 4 * self->unit, 4 * self->unit,
			     LEND | RWX));
	ASSERT_EQ(0, touch_write(self->host + 8 * self->unit, 0x42));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, guest_write(self->vm, GPA + i * self->unit, 0x40));
	ASSERT_EQ(0, guest_write(deny, 3 * self->unit, 0x41));

	ASSERT_EQ(-EACCES, mem_alloc(self->mem, PUNCH, 0, self->size));
	for (i = 0; i < 4; i++)
		EXPECT_NE('a', page_state(self->mem, i * self->unit));
	EXPECT_EQ('h', page_state(self->mem, 8 * self->unit));
	EXPECT_EQ('l', page_state(self->mem, 7 * self->unit));
	EXPECT_EQ(0x40, guest_read(self->vm, GPA));
	EXPECT_EQ(0x41, guest_read(deny, 3 * self->unit));
	EXPECT_EQ(0x42, peek(self->host + 8 * self->unit));

	/* Try again; this time the host reads before the guest does. */
	ASSERT_EQ(-EACCES, mem_alloc(self->mem, PUNCH, 0, self->size));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, peek(self->host + i * self->unit));
	close_guest(deny);
}

TEST_HARNESS_MAIN

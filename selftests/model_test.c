// SPDX-License-Identifier: GPL-2.0-only
/*
 * A long random sequence of calls and accesses, compared with a model that
 * computes the result of each and the content of each page.
 *
 * GMEM_SEED replays a sequence (a failure prints the seed), GMEM_MODEL_SECONDS
 * limits the time of each variant.
 */
#include "lib/fixture.h"

/* Units of the file, and of the guest address space of each VM. */
#define UNITS 24
#define GUEST_UNITS 32
#define NR_VMS 2
#define GPA MIB(64)
#define NOBODY (-1)

enum page_state { ABSENT, HOST, LENT, SHARED };

struct page {
	enum page_state state;
	/* The first byte of the page, the same for host and guest. */
	__u8 byte;
	/* The VM that has borrowed the page, or NOBODY. */
	int vm;
};

/* A unit of a guest's address space; @page is NOBODY if it is unbound. */
struct slot {
	int page;
	__u32 flags;
	/* Its own, or NOBODY: the VM's. */
	int policy;
	/*
	 * The first unit of a binding, which isn't merged with its neighbour.
	 */
	bool first;
};

struct model {
	__u64 unit;
	bool multi;
	bool paged;
	bool gunyah;
	int mem;
	__u8 *host;
	int vm[NR_VMS];
	__u32 policy[NR_VMS];
	struct page page[UNITS];
	struct slot slot[NR_VMS][GUEST_UNITS];
	unsigned long step;
	__u64 random;
	char what[128];
};

FIXTURE(model)
{
	struct gmem_stats before;
	struct model m;
	__u64 seed;
};

FIXTURE_VARIANT(model)
{
	const char *provider;
	__u64 mem_flags;
};

VARIANTS_PROVIDER_SIZE(model);

FIXTURE_SETUP(model)
{
	struct model *m = &self->m;
	struct gmem_info info;
	struct timespec ts;
	int i, u;

	SKIP_UNLESS_POSSIBLE(variant);
	SETUP_STATS();
	ASSERT_TRUE(find_provider(variant->provider, &info));
	m->multi = info.provider_flags & GMEM_PROVIDER_SHARE_MULTI;
	m->paged = !strcmp(variant->provider, "window");
	m->gunyah = !strcmp(variant->provider, "gunyah");
	m->unit = variant->mem_flags & GMEM_MEM_ALLOW_HUGEPAGE ? HUGE_PAGE :
								 PAGE;
	m->mem = new_mem(UNITS * m->unit, variant->mem_flags);
	ASSERT_LE(0, m->mem);
	m->host = map_host(m->mem, 0, UNITS * m->unit);
	ASSERT_NE(MAP_FAILED, m->host);
	for (i = 0; i < NR_VMS; i++) {
		m->vm[i] = new_guest(variant->provider, GMEM_POLICY_ALLOW);
		ASSERT_LE(0, m->vm[i]);
		for (u = 0; u < GUEST_UNITS; u++)
			m->slot[i][u].page = NOBODY;
	}
	for (u = 0; u < UNITS; u++)
		m->page[u].vm = NOBODY;
	clock_gettime(CLOCK_REALTIME, &ts);
	self->seed = getenv("GMEM_SEED") ?
			     strtoull(getenv("GMEM_SEED"), NULL, 0) :
			     (__u64)ts.tv_sec * 1000003 + ts.tv_nsec;
	m->random = self->seed;
}

FIXTURE_TEARDOWN(model)
{
	int i;

	munmap(self->m.host, UNITS * self->m.unit);
	for (i = 0; i < NR_VMS; i++)
		close_guest(self->m.vm[i]);
	close(self->m.mem);
	TEARDOWN_STATS();
}

static __u32 roll(struct model *m, __u32 sides)
{
	m->random = m->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (m->random >> 33) % sides;
}

/* ---- what the rules say ---- */

/* Is a page bound, and is one of its bindings exclusive? */
static bool bound(const struct model *m, int page, bool *exclusive)
{
	bool found = false;
	int i, u;

	*exclusive = false;
	for (i = 0; i < NR_VMS; i++)
		for (u = 0; u < GUEST_UNITS; u++)
			if (m->slot[i][u].page == page) {
				found = true;
				*exclusive |= (m->slot[i][u].flags & LEND) ||
					      !m->multi;
			}
	return found;
}

static __u32 slot_policy(const struct model *m, int vm, const struct slot *slot)
{
	return slot->policy == NOBODY ? m->policy[vm] : (__u32)slot->policy;
}

/* The policy of a lent page, which has one binding. */
static __u32 page_policy(const struct model *m, const struct page *page)
{
	const struct slot *slot = m->slot[page->vm];

	while (slot->page != page - m->page)
		slot++;
	return slot_policy(m, page->vm, slot);
}

/* Neighbours on both sides of a unit that continue each other become one. */
static void join(struct model *m, int vm, int u)
{
	struct slot *right = &m->slot[vm][u], *left = right - 1;

	if (u > 0 && u < GUEST_UNITS && left->page != NOBODY &&
	    right->page == left->page + 1 && right->flags == left->flags &&
	    right->policy == left->policy)
		right->first = false;
}

static void use(struct page *page)
{
	if (page->state == ABSENT) {
		page->state = HOST;
		page->byte = 0;
	}
}

/*
 * A lent page comes back, by an access of the host or the end of its binding.
 */
static void come_back(struct model *m, struct page *page)
{
	if (page_policy(m, page) != GMEM_POLICY_ALLOW)
		page->byte = 0;
	page->state = HOST;
	page->vm = NOBODY;
}

/* Does the host's access succeed? */
static bool host_gets(struct model *m, struct page *page)
{
	use(page);
	if (page->state != LENT)
		return true;
	if (page_policy(m, page) == GMEM_POLICY_DENY)
		return false;
	come_back(m, page);
	return true;
}

static void guest_gets(struct model *m, int vm, const struct slot *slot)
{
	struct page *page = &m->page[slot->page];

	use(page);
	if (slot->flags & LEND) {
		page->state = LENT;
		page->vm = vm;
	} else {
		page->state = SHARED;
	}
}

static void unbind(struct model *m, int vm, int u)
{
	struct slot *slot = &m->slot[vm][u];
	struct page *page = &m->page[slot->page];
	bool exclusive;
	int index = slot->page;

	if (page->state == LENT)
		come_back(m, page);
	slot->page = NOBODY;
	if (page->state == SHARED && !bound(m, index, &exclusive))
		page->state = HOST;
	/* The rest behind it is a binding of its own. */
	if (u + 1 < GUEST_UNITS && m->slot[vm][u + 1].page != NOBODY)
		m->slot[vm][u + 1].first = true;
}

/* ---- one step of each kind: the answer that the model expects ---- */

#define SAY(...) snprintf(m->what, sizeof(m->what), __VA_ARGS__)

static int step_map(struct model *m, int vm, int u, int nr, int *expected)
{
	static const __u32 allowed[] = { RWX, RX };
	__u32 flags = (roll(m, 3) ? LEND : SHARE) | allowed[!roll(m, 4)];
	int first = roll(m, UNITS), i, ret;
	int policy = roll(m, 4) ? NOBODY : (int)roll(m, 3);
	bool exclusive, clash = false, joins = roll(m, 2);
	__u32 more = (joins ? GMEM_MAP_JOIN : 0) |
		     (policy == NOBODY ? 0 : GMEM_MAP_POLICY);

	SAY("map VM %d unit %d to %d, %d units, flags %#x, policy %d", vm, u,
	    first, nr, flags | more, policy);
	if (more)
		ret = new_map(m->vm[vm], GPA + u * m->unit, m->mem,
			      first * m->unit, nr * m->unit, flags | more,
			      policy == NOBODY ? 0 : policy);
	else
		ret = map_mem(m->vm[vm], GPA + u * m->unit, m->mem,
			      first * m->unit, nr * m->unit, flags);
	if (first + nr > UNITS) {
		*expected = -EINVAL;
		return ret;
	}
	for (i = 0; i < nr; i++) {
		clash |= m->slot[vm][u + i].page != NOBODY;
		if (bound(m, first + i, &exclusive))
			clash |= exclusive || (flags & LEND) || !m->multi;
	}
	*expected = clash ? -EEXIST : 0;
	if (clash)
		return ret;
	for (i = 0; i < nr; i++)
		m->slot[vm][u + i] = (struct slot){ first + i, flags, policy,
						    !i };
	if (u + nr < GUEST_UNITS && m->slot[vm][u + nr].page != NOBODY)
		m->slot[vm][u + nr].first = true;
	if (joins) {
		join(m, vm, u);
		join(m, vm, u + nr);
	}
	return ret;
}

/* A unit whose flags become @flags. */
static void change(struct model *m, int vm, struct slot *slot, __u32 flags)
{
	struct page *page = &m->page[slot->page];

	if ((flags & LEND) && page->state == SHARED) {
		page->state = LENT;
		page->vm = vm;
	} else if ((flags & SHARE) && page->state == LENT) {
		page->state = SHARED;
		page->vm = NOBODY;
	}
	slot->flags = flags;
}

static int step_change(struct model *m, int vm, int u, int nr, int *expected)
{
	static const __u32 changes[] = { LEND, SHARE, RWX, RX, LEND | RWX,
					 SHARE | RWX, SHARE | RX };
	__u32 to = changes[roll(m, ARRAY_SIZE(changes))], flags[GUEST_UNITS];
	struct slot *slot = &m->slot[vm][u];
	bool changes_any = false;
	int i, k, v, ret;

	SAY("change VM %d unit %d, %d units, to %#x", vm, u, nr, to);
	ret = change_range(m->vm[vm], GPA + u * m->unit, nr * m->unit, to);
	*expected = 0;
	for (i = 0; i < nr; i++) {
		if (slot[i].page == NOBODY)
			*expected = -ENOENT;
		flags[i] = (to & 3 ? to & 3 : slot[i].flags & 3) |
			   (to & RWX ? to & RWX : slot[i].flags & RWX);
		changes_any |= flags[i] != slot[i].flags;
	}
	for (i = 0; !*expected && i < nr; i++) {
		if (!m->multi || !(flags[i] & LEND) || (slot[i].flags & LEND))
			continue;
		for (v = 0; v < NR_VMS; v++)
			for (k = 0; k < GUEST_UNITS; k++)
				if (m->slot[v][k].page == slot[i].page &&
				    &m->slot[v][k] != &slot[i])
					*expected = -EEXIST;
	}
	if (*expected || !changes_any)
		return ret;
	if (slot[0].flags != flags[0])
		slot[0].first = true;
	if (u + nr < GUEST_UNITS && slot[nr].page != NOBODY &&
	    slot[nr - 1].flags != flags[nr - 1])
		slot[nr].first = true;
	for (i = 1; i < nr; i++)
		if (flags[i] != flags[i - 1])
			slot[i].first = true;
	for (i = 0; i < nr; i++)
		change(m, vm, &slot[i], flags[i]);
	for (i = 0; i <= nr; i++)
		join(m, vm, u + i);
	return ret;
}

static int step_unmap(struct model *m, int vm, int u, int nr, int *expected)
{
	__u64 pages = 0, want = 0;
	int i, ret;

	SAY("unmap VM %d unit %d, %d units", vm, u, nr);
	ret = unmap_range(m->vm[vm], GPA + u * m->unit, nr * m->unit, &pages);
	for (i = u; i < u + nr; i++)
		if (m->slot[vm][i].page != NOBODY) {
			want += m->unit / PAGE;
			unbind(m, vm, i);
		}
	*expected = 0;
	return !ret && pages != want ? -ERANGE : ret;
}

static int step_unmap_exact(struct model *m, int vm, int u, int nr,
			    int *expected)
{
	struct slot *slot = &m->slot[vm][u];
	__u32 flags = roll(m, 8) ? slot->flags : LEND | RX;
	int first = slot->page, i, ret;
	bool match;

	if (nr > UNITS)
		nr = UNITS;
	if (first == NOBODY || first + nr > UNITS)
		first = roll(m, UNITS - nr + 1);
	if (!(flags & RWX))
		flags = LEND | RWX;
	SAY("exact unmap VM %d unit %d of %d, %d units, flags %#x", vm, u, first,
	    nr, flags);
	ret = unmap_mem(m->vm[vm], GPA + u * m->unit, m->mem, first * m->unit,
			nr * m->unit, flags);
	match = slot->page == first && slot->flags == flags;
	for (i = 1; i < nr; i++)
		match &= slot[i].page == first + i && !slot[i].first;
	*expected = match ? 0 : -ENOENT;
	for (i = 0; match && i < nr; i++)
		unbind(m, vm, u + i);
	return ret;
}

static int step_guest(struct model *m, int vm, int u, int *expected)
{
	bool write = roll(m, 2);
	__u8 byte = 1 + roll(m, 255);
	struct slot *slot = &m->slot[vm][u];
	__u64 gpa = GPA + u * m->unit;
	int ret;

	/*
	 * Under Gunyah, a write to a read-only page would stop the vCPU for
	 * ever.
	 */
	if (m->gunyah && slot->page != NOBODY &&
	    !(slot->flags & GMEM_MAP_ALLOW_WRITE))
		write = false;
	SAY("guest %d %s unit %d", vm, write ? "writes" : "reads", u);
	ret = write ? guest_write(m->vm[vm], gpa, byte) :
		      guest_read(m->vm[vm], gpa);
	if (slot->page == NOBODY) {
		*expected = -EFAULT;
	} else if (write && !(slot->flags & GMEM_MAP_ALLOW_WRITE)) {
		/* A paged window can't be mapped for writing then. */
		*expected = m->paged ? -EACCES : -EFAULT;
	} else {
		guest_gets(m, vm, slot);
		if (write)
			m->page[slot->page].byte = byte;
		*expected = write ? 0 : m->page[slot->page].byte;
	}
	return ret;
}

static int step_host(struct model *m, int p, int *expected)
{
	bool write = roll(m, 2);
	__u8 byte = 1 + roll(m, 255);
	struct page *page = &m->page[p];
	int ret;

	SAY("host %s page %d", write ? "writes" : "reads", p);
	ret = write ? -touch_write(m->host + p * m->unit, byte) :
		      peek(m->host + p * m->unit);
	if (!host_gets(m, page)) {
		*expected = -SIGBUS;
		return ret;
	}
	if (write)
		page->byte = byte;
	*expected = write ? 0 : page->byte;
	return ret;
}

static int step_punch(struct model *m, int p, int nr, int *expected)
{
	int i, ret, first_deny = UNITS;

	if (p + nr > UNITS)
		nr = UNITS - p;
	SAY("punch page %d, %d units", p, nr);
	ret = mem_alloc(m->mem, PUNCH, p * m->unit, nr * m->unit);
	*expected = 0;
	for (i = p + nr - 1; i >= p; i--)
		if (m->page[i].state == LENT &&
		    page_policy(m, &m->page[i]) == GMEM_POLICY_DENY)
			first_deny = i;
	if (first_deny == UNITS) {
		for (i = p; i < p + nr; i++)
			m->page[i] = (struct page){ ABSENT, 0, NOBODY };
		return ret;
	}
	*expected = -EACCES;
	/* The call may have taken some pages back before it failed: ask. */
	for (i = p; i < first_deny; i++)
		if (m->page[i].state == LENT &&
		    page_state(m->mem, i * m->unit) == 'h')
			come_back(m, &m->page[i]);
	return ret;
}

static int step_allocate(struct model *m, int p, int nr, int *expected)
{
	int i;

	if (p + nr > UNITS)
		nr = UNITS - p;
	SAY("allocate page %d, %d units", p, nr);
	for (i = p; i < p + nr; i++)
		use(&m->page[i]);
	*expected = 0;
	return mem_alloc(m->mem, 0, p * m->unit, nr * m->unit);
}

static int step_reclaim(struct model *m, int vm, int u, int nr, int *expected)
{
	bool any = false, denied = false;
	__u64 pages = 0, want = 0;
	struct page *page;
	int i, ret;

	SAY("reclaim VM %d unit %d, %d units", vm, u, nr);
	ret = reclaim_range(m->vm[vm], GPA + u * m->unit, nr * m->unit, &pages);
	for (i = u; i < u + nr; i++) {
		if (m->slot[vm][i].page == NOBODY)
			continue;
		any = true;
		denied |= slot_policy(m, vm, &m->slot[vm][i]) ==
			  GMEM_POLICY_DENY;
	}
	if (denied || (!any && m->policy[vm] == GMEM_POLICY_DENY)) {
		*expected = -EACCES;
		return ret;
	}
	for (i = u; i < u + nr; i++) {
		if (m->slot[vm][i].page == NOBODY)
			continue;
		page = &m->page[m->slot[vm][i].page];
		if (page->state == LENT) {
			come_back(m, page);
			want += m->unit / PAGE;
		}
	}
	*expected = 0;
	return !ret && pages != want ? -ERANGE : ret;
}

static int step_populate(struct model *m, int vm, int u, int nr, int *expected)
{
	int i, ret;

	SAY("populate VM %d unit %d, %d units", vm, u, nr);
	ret = populate_range(m->vm[vm], GPA + u * m->unit, nr * m->unit, NULL);
	*expected = 0;
	for (i = u; i < u + nr; i++)
		if (m->slot[vm][i].page == NOBODY)
			*expected = -ENOENT;
	for (i = u; !*expected && i < u + nr; i++)
		guest_gets(m, vm, &m->slot[vm][i]);
	return ret;
}

static int step(struct model *m, int *expected)
{
	int vm = roll(m, NR_VMS), u = roll(m, GUEST_UNITS), p = roll(m, UNITS);
	int nr = 1 + roll(m, roll(m, 4) ? 4 : GUEST_UNITS);

	m->step++;
	if (u + nr > GUEST_UNITS)
		nr = GUEST_UNITS - u;
	switch (roll(m, 36)) {
	case 0 ... 4:
		return step_map(m, vm, u, nr, expected);
	case 5 ... 6:
		return step_unmap(m, vm, u, nr, expected);
	case 7 ... 8:
		return step_unmap_exact(m, vm, u, nr, expected);
	case 9 ... 17:
		return step_guest(m, vm, u, expected);
	case 18 ... 24:
		return step_host(m, p, expected);
	case 25:
		return step_punch(m, p, nr, expected);
	case 26:
		return step_allocate(m, p, nr, expected);
	case 27 ... 28:
		return step_reclaim(m, vm, u, nr, expected);
	case 29:
		return step_populate(m, vm, u, nr, expected);
	case 32 ... 35:
		return step_change(m, vm, u, nr, expected);
	default:
		m->policy[vm] = roll(m, 8) ? roll(m, 2) : GMEM_POLICY_DENY;
		SAY("policy of VM %d is %u", vm, m->policy[vm]);
		*expected = 0;
		return set_policy(m->vm[vm], m->policy[vm]);
	}
}

/* Compare the model with what the queries report; touch no page. */
static bool same(struct model *m)
{
	static const char letter[] = { 'a', 'h', 'l', 's' };
	struct gmem_binding_info b[GUEST_UNITS];
	int vm, u, nr, n, length;

	for (u = 0; u < UNITS; u++)
		if (page_state(m->mem, u * m->unit) !=
		    letter[m->page[u].state]) {
			printf("# page %d is '%c', not '%c'\n", u,
			       page_state(m->mem, u * m->unit),
			       letter[m->page[u].state]);
			return false;
		}
	for (vm = 0; vm < NR_VMS; vm++) {
		nr = query_guest(m->vm[vm], b, GUEST_UNITS);
		for (u = 0, n = 0; u < GUEST_UNITS; u += length) {
			struct slot *s = &m->slot[vm][u];

			length = 1;
			if (s->page == NOBODY)
				continue;
			while (u + length < GUEST_UNITS &&
			       s[length].page != NOBODY && !s[length].first)
				length++;
			if (n >= nr || b[n].guest_addr != GPA + u * m->unit ||
			    b[n].length != length * m->unit ||
			    b[n].offset != s->page * m->unit ||
			    (b[n].flags & ~GMEM_MAP_POLICY) != s->flags ||
			    (b[n].flags & GMEM_MAP_POLICY ?
			     (int)b[n].policy : NOBODY) != s->policy) {
				printf("# binding %d of VM %d differs from the model\n", n, vm);
				return false;
			}
			n++;
		}
		if (n != nr) {
			printf("# VM %d has %d bindings, not %d\n", vm, nr, n);
			return false;
		}
	}
	return true;
}

TEST_F(model, random_sequence)
{
	double end = now() + env_uint("GMEM_MODEL_SECONDS", 10);
	struct model *m = &self->m;
	int expected, ret;

	/* Half of the steps take pages back. */
	if (m->gunyah && has_parcels(m->vm[0]))
		SKIP(return, "parcels: the guest keeps every page until its end");
	while (now() < end) {
		expected = 0;
		ret = step(m, &expected);
		ASSERT_EQ(expected, ret) {
			TH_LOG("GMEM_SEED=%llu, step %lu: %s", self->seed,
			       m->step, m->what);
		}
		ASSERT_TRUE(m->step % 16 || same(m)) {
			TH_LOG("GMEM_SEED=%llu, after step %lu: %s", self->seed,
			       m->step, m->what);
		}
	}
	TH_LOG("%lu steps", m->step);
	/* A sequence that is too short proves nothing. */
	EXPECT_LT(100, m->step);
}

TEST_HARNESS_MAIN

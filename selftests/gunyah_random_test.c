// SPDX-License-Identifier: GPL-2.0-only
/*
 * A random sequence of steps, some of which the hypervisor fails. After each
 * step, the module's view is compared with the hypervisor's database, page by
 * page.
 *
 * GMEM_SEED repeats a sequence, GMEM_RANDOM_SECONDS limits the time of each
 * variant, GMEM_VERBOSE prints each step.
 */
#include "lib/gunyah_fixture.h"

#define UNITS 16
/* The units in which bindings begin, and the most units of one call. */
#define GUEST_UNITS 24
#define MAX_STEP 4
#define GPA GIB(4)
/* More bindings than the variant with huge pages can have. */
#define MAX_BINDINGS (UNITS + 1)

#define TAG 0x6d656d67ULL

#define DUMP_PAGES (EL2_PAGE_SIZE / sizeof(struct el2_page))

FIXTURE(random)
{
	struct gmem_stats before;
	struct el2_stats el2_before;
	struct gunyah_guest guest;
	struct el2 el2;
	int mem;
	__u8 *host;
	__u64 unit;
	__u64 size;
	__u64 seed;
	__u64 state;
	/* The first 8 bytes of each page of the file. */
	__u64 *tag;
	/*
	 * For each page: a failed step has taken it from the guest, which gets
	 * it back at its next access.
	 */
	bool *withdrawn;
	/* Pages that the hypervisor keeps for good since earlier tests. */
	__u64 *lost;
	__u32 nr_lost;
	/* The first 8 bytes of each page of the agent. */
	__u64 agent_tag[GUNYAH_AGENT_PAGES];
	/* The last step, for a message. */
	char what[128];
	unsigned long steps;
	unsigned long failed;
	unsigned long started;
};

FIXTURE_VARIANT(random)
{
	__u64 mem_flags;
};

VARIANT(random, 4k, .mem_flags = 0);
VARIANT(random, 2m, .mem_flags = GMEM_MEM_ALLOW_HUGEPAGE);

typedef FIXTURE_DATA(random) self_t;

static bool note_lost(self_t *self)
{
	struct el2_page page;
	__u64 pa;

	self->lost = calloc(self->el2_before.pages + 1, sizeof(*self->lost));
	for (pa = 0; self->nr_lost < self->el2_before.pages &&
	     el2_next_page(&self->el2, pa, &page); pa = page.pa + EL2_PAGE_SIZE)
		self->lost[self->nr_lost++] = page.pa;
	return self->nr_lost == self->el2_before.pages;
}

static bool is_lost(self_t *self, __u64 pa)
{
	__u32 i;

	for (i = 0; i < self->nr_lost; i++)
		if (self->lost[i] == pa)
			return true;
	return false;
}

static __u32 draw(self_t *self, __u32 below)
{
	/* Knuth's MMIX */
	self->state = self->state * 6364136223846793005ULL +
		      1442695040888963407ULL;
	return (self->state >> 33) % below;
}

/* Write a tag, if the host has the page. */
static void set_tag(self_t *self, __u64 page, __u64 tag)
{
	if (!touch_copy(self->host + page * PAGE, &tag, sizeof(tag)))
		self->tag[page] = tag;
}

FIXTURE_SETUP(random)
{
	const char *seed = getenv("GMEM_SEED");
	__u64 i;

	SETUP_GUNYAH();
	ONLY_MONITOR();
	ASSERT_TRUE(note_lost(self));
	self->seed = seed ? strtoull(seed, NULL, 0) : (__u64)time(NULL);
	self->state = self->seed;
	self->unit = variant->mem_flags ? HUGE_PAGE : PAGE;
	self->size = UNITS * self->unit;
	self->tag = calloc(self->size / PAGE, sizeof(*self->tag));
	self->withdrawn = calloc(self->size / PAGE, sizeof(*self->withdrawn));
	ASSERT_NE(NULL, self->tag);
	ASSERT_NE(NULL, self->withdrawn);
	self->mem = new_mem(self->size, variant->mem_flags);
	ASSERT_LE(0, self->mem);
	self->host = map_host(self->mem, 0, self->size);
	ASSERT_NE(MAP_FAILED, self->host);
	for (i = 0; i < self->size / PAGE; i++)
		set_tag(self, i, TAG << 32 | i);
}

FIXTURE_TEARDOWN(random)
{
	munmap(self->host, self->size);
	close(self->mem);
	EXPECT_TRUE(stats_settle(&self->before));
	el2_close(&self->el2);
	free(self->lost);
	free(self->withdrawn);
	free(self->tag);
}

/* ---- the comparison ---- */

/* The state of a unit's pages, as page_state() has it; '?' if they differ. */
static char unit_state(self_t *self, __u64 offset)
{
	struct gmem_mem_query q;

	if (query_mem(self->mem, offset, self->unit, &q))
		return '?';
	if (q.lent == self->unit / PAGE)
		return 'l';
	if (q.shared == self->unit / PAGE)
		return 's';
	return q.lent || q.shared || q.leaked ? '?' : 'h';
}

/* The module's view of a bound page. */
struct belief {
	__u64 gpa;
	__u64 offset;
	char state;
	bool lent;
	bool seen;
};

static struct belief *beliefs(self_t *self, __u32 *nr)
{
	const __u64 length = (GUEST_UNITS + MAX_STEP) * self->unit;
	struct gmem_binding_info b[MAX_BINDINGS];
	int i, nr_bindings = query_vm_range(self->guest.vm, GPA, length, b,
					    MAX_BINDINGS);
	struct belief *all = calloc(self->size / PAGE, sizeof(*all));
	char state = '?';
	__u64 at;

	*nr = 0;
	for (i = 0; i < nr_bindings; i++) {
		for (at = 0; at < b[i].length; at += PAGE) {
			if (!(at % self->unit))
				state = unit_state(self, b[i].offset + at);
			all[(*nr)++] = (struct belief){
				.gpa = b[i].guest_addr + at,
				.offset = b[i].offset + at,
				.state = state,
				.lent = b[i].flags & LEND,
			};
		}
	}
	return all;
}

/* A page that is in transfer, and in no guest, is recognised by its content. */
static struct belief *belief_of_tag(self_t *self, struct belief *all, __u32 nr,
				    __u64 tag)
{
	__u32 i;

	for (i = 0; i < nr; i++)
		if (!all[i].seen && self->tag[all[i].offset / PAGE] == tag &&
		    (all[i].state == 'l' || all[i].state == 's'))
			return &all[i];
	return NULL;
}

static struct belief *belief_of(self_t *self, struct belief *all, __u32 nr,
				const struct el2_page *page)
{
	__u32 low = 0, high = nr;
	__u64 gpa = page->gpa;

	if (gpa == EL2_NO_ADDR)
		return belief_of_tag(self, all, nr,
				     el2_peek(&self->el2, page->pa));
	while (low < high) {
		__u32 middle = (low + high) / 2;

		if (all[middle].gpa == gpa)
			return &all[middle];
		if (all[middle].gpa < gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* Compare one page of the hypervisor's; the difference, or NULL. */
static const char *differs(self_t *self, const struct el2_page *page,
			   struct belief *belief)
{
	if (!belief)
		return "the module has bound nothing there";
	if (belief->seen)
		return "the guest has two pages at one address";
	belief->seen = true;
	/* A sample of a huge page's pages is enough. */
	if ((self->unit == PAGE || !(belief->offset / PAGE % 61)) &&
	    el2_peek(&self->el2, page->pa) != self->tag[belief->offset / PAGE])
		return "the host had another page there";
	if (belief->state != (belief->lent ? 'l' : 's'))
		return "the module says that the guest doesn't have it";
	if (belief->lent && page->host_access)
		return "it is lent, but the host can access it";
	if (!belief->lent && page->host_access != 7)
		return "it is shared, but the host can't access it";
	if (has_extents(&self->el2) &&
	    page->extent !=
		    (belief->lent ? EL2_EXTENT_PRIVATE : EL2_EXTENT_SHARED))
		return "it is in the wrong extent";
	return NULL;
}

/*
 * Read the next pages from *pa on that aren't plainly the host's. Returns the
 * number.
 */
static __u32 next_pages(self_t *self, __u64 *pa, struct el2_page *pages)
{
	uint64_t x[9] = { EL2_DUMP, *pa, self->el2.buffer_va, DUMP_PAGES };

	if (el2_call(&self->el2, x))
		return 0;
	*pa = x[2];
	memcpy(pages, self->el2.buffer, x[1] * sizeof(*pages));
	return x[1];
}

/*
 * Is it the agent's page, possibly one that the VM's failed start hasn't
 * placed?
 */
static bool is_agents(self_t *self, const struct el2_page *page)
{
	__u64 i, tag;

	if (page->gpa != EL2_NO_ADDR)
		return page->gpa >= GUNYAH_AGENT;
	tag = el2_peek(&self->el2, page->pa);
	for (i = 0; i < GUNYAH_AGENT_PAGES; i++)
		if (self->agent_tag[i] == tag)
			return true;
	return false;
}

/* Note the contents of the agent's pages, before the guest has them. */
static int note_agent(self_t *self)
{
	int err = gunyah_guest_describe(&self->guest);
	__u8 *host;
	__u64 i;

	host = map_host(self->guest.agent_mem, 0, GUNYAH_AGENT_SIZE);
	if (host == MAP_FAILED)
		return -errno;
	for (i = 0; !err && i < GUNYAH_AGENT_PAGES; i++)
		err = touch_copy(&self->agent_tag[i], host + i * PAGE,
				 sizeof(self->agent_tag[i]));
	munmap(host, GUNYAH_AGENT_SIZE);
	return err;
}

/*
 * Compare the hypervisor's pages: those with a guest address, or those without.
 * Pages without an address can be recognised only after all pages with one have
 * been seen.
 */
static const char *all_differ(self_t *self, struct belief *all, __u32 nr_all,
			      bool at_address)
{
	struct el2_page pages[DUMP_PAGES], *page;
	const char *wrong;
	__u64 pa = 0;
	__u32 nr;

	do {
		nr = next_pages(self, &pa, pages);
		for (page = pages; page < pages + nr; page++) {
			/* One for each page of the kernel. */
			if (page->pa % PAGE)
				continue;
			if ((page->gpa != EL2_NO_ADDR) != at_address)
				continue;
			if (is_lost(self, page->pa) || is_agents(self, page))
				continue;
			wrong = differs(self, page,
					belief_of(self, all, nr_all, page));
			if (!wrong)
				continue;
			printf("# page 0x%llx at 0x%llx, extent %u, access of host %u, of guest %u: %s\n",
			       page->pa, page->gpa, page->extent,
			       page->host_access, page->guest_access, wrong);
			return wrong;
		}
	} while (pa);
	return NULL;
}

/* Do both sides agree after a step that returned @ret? */
static bool agree(self_t *self, int ret)
{
	const char *wrong;
	struct belief *all;
	__u32 i, nr;
	bool *withdrawn;

	all = beliefs(self, &nr);
	wrong = all_differ(self, all, nr, true) ?:
		all_differ(self, all, nr, false);
	for (i = 0; !wrong && i < nr; i++) {
		withdrawn = &self->withdrawn[all[i].offset / PAGE];
		if (all[i].seen ||
		    (all[i].state != 'l' && all[i].state != 's')) {
			*withdrawn = false;
			continue;
		}
		*withdrawn |= ret < 0;
		if (*withdrawn)
			continue;
		wrong = "the hypervisor has no page there";
		printf("# 0x%llx, offset 0x%llx, is '%c': %s\n", all[i].gpa,
		       all[i].offset, all[i].state, wrong);
	}
	free(all);
	if (wrong)
		printf("# GMEM_SEED=%llu, %s: %d\n", self->seed, self->what, ret);
	return !wrong;
}

/* ---- the steps ---- */

/* Let one or several hypercalls or RPCs fail during the step. */
static void let_fail(self_t *self)
{
	/* donate, map, unmap */
	static const __u64 hypercalls[] = { 0x61, 0x2b, 0x2c };
	static const __u64 hypercall_errors[] = { 10, 30, 31, 36 };
	static const __u64 rpcs[] = { RM_MEM_LEND, RM_MEM_SHARE, RM_MEM_APPEND,
				      RM_MEM_RECLAIM };
	static const __u64 rpc_errors[] = { 1, 3, 5 };
	bool rpc = !has_extents(&self->el2);
	__u64 match, error;

	match = rpc ? rpcs[draw(self, ARRAY_SIZE(rpcs))] :
		      hypercalls[draw(self, ARRAY_SIZE(hypercalls))];
	error = rpc ? rpc_errors[draw(self, ARRAY_SIZE(rpc_errors))] :
		      hypercall_errors[draw(self, ARRAY_SIZE(hypercall_errors))];
	el2_hvc(&self->el2, EL2_RULE,
		rpc ? EL2_RULE_RPC_ERROR : EL2_RULE_HYPERCALL_ERROR, match,
		1 + draw(self, rpc ? 2 : 4), error, draw(self, 4));
}

static int host_step(self_t *self, __u64 page)
{
	__u64 i;
	int ret;

	switch (draw(self, 4)) {
	case 0:
		ret = peek(self->host + page * PAGE + 100);
		break;
	case 1:
		ret = touch_write(self->host + page * PAGE + 100, self->steps);
		break;
	case 2:
		set_tag(self, page, TAG << 32 | self->steps << 16 | page);
		return 0;
	default:
		page -= page % (self->unit / PAGE);
		ret = mem_alloc(self->mem, PUNCH, page * PAGE, self->unit);
		/* The pages are new: give each a new tag. */
		for (i = 0; !ret && i < self->unit / PAGE; i++)
			set_tag(self, page + i,
				TAG << 32 | self->steps << 16 | (page + i));
	}
	return ret;
}

static bool guest_has(self_t *self, __u64 gpa)
{
	struct gmem_binding_info b;
	char state;

	if (query_vm_range(self->guest.vm, gpa, self->unit, &b, 1) != 1)
		return false;
	state = unit_state(self, gpa - b.guest_addr + b.offset);
	return state == 'l' || state == 's';
}

static int guest_step(self_t *self, __u64 gpa)
{
	struct gunyah_guest *guest = &self->guest;
	int ret = 0;

	if (guest->stuck)
		ret = gunyah_resume(guest, NULL);
	if (guest->stuck)
		return ret;
	if (draw(self, 2))
		return gunyah_read(guest, gpa + 8);
	return gunyah_write(guest, gpa + 9, self->steps);
}

/* Choose a part of a binding, if there is one. */
static void somewhere_bound(self_t *self, __u64 *gpa, __u64 *length)
{
	struct gmem_binding_info b[MAX_BINDINGS];
	int nr = query_vm_range(self->guest.vm, GPA,
				(GUEST_UNITS + MAX_STEP) * self->unit, b,
				MAX_BINDINGS);
	__u32 units, first;

	if (nr <= 0)
		return;
	nr = draw(self, nr);
	units = b[nr].length / self->unit;
	first = draw(self, units);
	*gpa = b[nr].guest_addr + first * self->unit;
	*length = (1 + draw(self, units - first)) * self->unit;
}

static int any_kind(self_t *self)
{
	__u64 gpa = GPA + draw(self, GUEST_UNITS) * self->unit;
	__u64 length = (1 + draw(self, MAX_STEP)) * self->unit;
	__u64 page = draw(self, self->size / PAGE);
	bool lend = draw(self, 2);
	int vm = self->guest.vm;
	int kind = draw(self, 8);

	/* Otherwise most steps would hit unbound addresses. */
	if (kind > 1 && draw(self, 4))
		somewhere_bound(self, &gpa, &length);
	snprintf(self->what, sizeof(self->what),
		 "%lu: kind %d at 0x%llx, 0x%llx bytes, page %llu",
		 self->steps, kind, gpa, length, page);
	switch (kind) {
	case 0:
		return map_mem(vm, gpa, self->mem,
			       draw(self, UNITS - MAX_STEP + 1) * self->unit,
			       length, (lend ? LEND : SHARE) | RWX);
	case 1:
		return unmap_range(vm, gpa, length, NULL);
	case 2:
		return populate_range(vm, gpa, length, NULL);
	case 3:
		return reclaim_range(vm, gpa, length, NULL);
	case 4:
	case 5:
		return host_step(self, page);
	default:
		/*
		 * With parcels, an access to an unbound address ends the guest.
		 */
		if (!has_extents(&self->el2) && !guest_has(self, gpa))
			return 0;
		return guest_step(self,
				  gpa + page % (self->unit / PAGE) * PAGE);
	}
}

/* One step of the sequence; half of the steps have failing calls. */
static int any_step(self_t *self, int (*kind)(self_t *self))
{
	int ret;

	if (!draw(self, 2))
		let_fail(self);
	ret = kind(self);
	el2_hvc(&self->el2, EL2_RULE, EL2_RULE_CLEAR);
	self->steps++;
	self->failed += ret < 0;
	if (getenv("GMEM_VERBOSE"))
		printf("# %s: %d\n", self->what, ret);
	return ret;
}

static int begin(self_t *self)
{
	snprintf(self->what, sizeof(self->what), "start after %lu steps",
		 self->steps);
	if (note_agent(self))
		return -EIO;
	return gunyah_guest_start(&self->guest);
}

/* Is nothing of the VM left anywhere? */
static bool all_gone(self_t *self)
{
	struct gmem_stats after;

	if (!el2_settles(&self->el2, &self->el2_before))
		return false;
	get_stats(&after);
	return after.leaked_pages == self->before.leaked_pages &&
	       after.lent_pages == self->before.lent_pages;
}

/*
 * Each VM lives from its creation to its close, with steps before and after its
 * start.
 */
TEST_F_TIMEOUT(random, module_agrees_with_hypervisor, 240)
{
	double end = now() + env_uint("GMEM_RANDOM_SECONDS", 15);
	unsigned long lives;
	__u32 i, nr;
	int ret;

	/* A sequence that is too short proves nothing. */
	for (lives = 0; now() < end || self->steps <= 20 || !self->started;
	     lives++) {
		ASSERT_EQ(0, gunyah_guest_open_flags(&self->guest,
						     GMEM_POLICY_ALLOW,
						     draw(self, 2) ?
						     GMEM_VM_GUEST_ACCEPTS :
						     0));
		for (i = 0, nr = draw(self, 20); i < nr; i++) {
			ASSERT_TRUE(agree(self, any_step(self, any_kind)));
		}
		ret = any_step(self, begin);
		self->started += !ret;
		ASSERT_TRUE(agree(self, ret));
		for (i = 0, nr = draw(self, 200); !ret && i < nr; i++) {
			ASSERT_TRUE(agree(self, any_step(self, any_kind)));
		}
		gunyah_guest_close(&self->guest);
		ASSERT_TRUE(all_gone(self)) {
			TH_LOG("GMEM_SEED=%llu, life %lu, %lu steps", self->seed,
			       lives, self->steps);
		}
	}
	TH_LOG("%lu lives, %lu of them started; %lu steps, %lu of them failed; the monitor let %llu calls fail",
	       lives, self->started, self->steps, self->failed,
	       (unsigned long long)(el2_stats(&self->el2).rule_hits -
				    self->el2_before.rule_hits));
}

TEST_HARNESS_MAIN

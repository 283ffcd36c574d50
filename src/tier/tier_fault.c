// SPDX-License-Identifier: Apache-2.0
/*
 * A wrapper around any tier that makes operations go wrong as a plan says. What the runner sees is a tier like any other.
 *
 *   submit --- a rule strikes? --- no -------------------------> inner tier ---> poll
 *                   |                                               ^  |
 *                   |-- error: not made at all ------> done --------|--|-------> poll
 *                   |-- hang --------> held until cancelled         |  |   (then what gives back goes on)
 *                   |-- delay -------> delayed until its time ------|  |
 *                   |-- again, interrupt, short: passed on with orders for its first io_op
 *                   |-- torn, and other damage to what is written: passed on with that done to its buffer
 *                   '-- error of a closing, damage to what is read: passed on, made on the way back
 *
 * An error of what gives something back (close, abort, delete) comes after it was done, as the kernel's would: nothing leaks.
 */
#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tier/internal.h"

struct rule {
	const struct config_fault *plan; /* NULL: not for this tier */
	uint64_t key; /* of its draws */
	uint64_t threshold;
	_Atomic uint64_t seen;	  /* operations it could have struck */
	_Atomic uint64_t aimed;	  /* of them chosen */
	_Atomic uint64_t struck; /* and handed back so */
};

struct tier_fault {
	struct tier tier;
	struct tier_ops ops; /* the kind is that of the tier within */
	struct tier *inner;
	const struct payload *payload;
	uint32_t rank;
	uint32_t rule_count;
	struct rule rules[CONFIG_FAULTS_MAX];
};

struct tier_worker {
	struct tier_fault *f;
	struct tier_worker *inner;
	struct list done;
	struct list delayed; /* fault_value: when to go on */
	struct list held;
};

static struct tier_fault *fault_of(struct tier *t)
{
	return container_of(t, struct tier_fault, tier);
}

/* ---- which operation ---- */

/* The draws that belong to the @number-th operation of a rule: whether it strikes, and of ~@number what it does. */
static struct rng draws(const struct rule *r, uint64_t number)
{
	return rng_stream(rng_key(r->key, number));
}

static bool rule_strikes(struct rule *r, uint64_t *ret_number)
{
	const struct config_fault *p = r->plan;
	uint64_t number = atomic_fetch_add_explicit(&r->seen, 1, memory_order_relaxed) + 1;
	*ret_number = number;
	if (p->nth)
		return number >= p->nth && number - p->nth < p->count;
	struct rng rng = draws(r, number);
	return rng_chance(&rng, r->threshold) &&
	       (!p->count || atomic_fetch_add_explicit(&r->aimed, 1, memory_order_relaxed) < p->count);
}

/* Return: the first rule that strikes, -1: none. @ret_number: which of its operations this is. */
static int32_t strike(struct tier_fault *f, const struct tier_op *op, uint64_t *ret_number)
{
	for (uint32_t i = 0; i < f->rule_count; i++) {
		const struct config_fault *p = f->rules[i].plan;
		if (p && p->operations & 1u << op->kind && rule_strikes(&f->rules[i], ret_number))
			return (int32_t)i;
	}
	return -1;
}

/* ---- damage to data ---- */

static char *block_of(const struct tier_op *op, uint64_t block)
{
	return (char *)op->buf + block * PAYLOAD_BLOCK;
}

static void flip_bit(struct tier_fault *f, const struct config_fault *p, struct tier_op *op, struct rng *rng)
{
	(void)f;
	uint64_t block = rng_below(rng, op->len / PAYLOAD_BLOCK);
	size_t stamp = payload_stamp_place(op->offset + block * PAYLOAD_BLOCK);
	size_t at = rng_below(rng, PAYLOAD_BLOCK);
	if (p->part == FAULT_PART_STAMP)
		at = stamp + at % PAYLOAD_STAMP;
	else if (p->part == FAULT_PART_PAYLOAD)
		at = (stamp + PAYLOAD_STAMP + at % (PAYLOAD_BLOCK - PAYLOAD_STAMP)) % PAYLOAD_BLOCK;
	block_of(op, block)[at] ^= (char)(1 << rng_below(rng, 8));
}

static void make_stale(struct tier_fault *f, const struct config_fault *p, struct tier_op *op, struct rng *rng)
{
	(void)p;
	uint64_t block = rng_below(rng, op->len / PAYLOAD_BLOCK);
	struct payload_id before = {op->obj->key, op->obj->generation - 1, f->rank};
	payload_fill(f->payload, &before, op->offset + block * PAYLOAD_BLOCK, block_of(op, block), PAYLOAD_BLOCK);
}

static void swap_blocks(struct tier_fault *f, const struct config_fault *p, struct tier_op *op, struct rng *rng)
{
	(void)f, (void)p;
	uint64_t count = op->len / PAYLOAD_BLOCK;
	uint64_t a = rng_below(rng, count);
	uint64_t b = (a + 1 + rng_below(rng, count - 1)) % count;
	char kept[PAYLOAD_BLOCK];
	memcpy(kept, block_of(op, a), PAYLOAD_BLOCK);
	memcpy(block_of(op, a), block_of(op, b), PAYLOAD_BLOCK);
	memcpy(block_of(op, b), kept, PAYLOAD_BLOCK);
}

/* What is not written stays what it was: in a file zeros, in memory somebody else's. A single page is torn within. */
static void tear(struct tier_fault *f, const struct config_fault *p, struct tier_op *op, struct rng *rng)
{
	(void)f, (void)p, (void)rng;
	uint64_t half = op->len / 2 - op->len / 2 % TIER_PAYLOAD_ALIGN;
	if (half)
		op->len = half;
	else
		memset((char *)op->buf + op->len / 2, 0, op->len - op->len / 2);
}

typedef void damage_fn(struct tier_fault *f, const struct config_fault *p, struct tier_op *op, struct rng *rng);

static damage_fn *const damages[FAULT_KINDS] = {
	[FAULT_BIT_FLIP] = flip_bit,
	[FAULT_STALE] = make_stale,
	[FAULT_SWAP] = swap_blocks,
	[FAULT_TORN] = tear,
};

/* ---- one operation ---- */

static void count_struck(struct tier_worker *w, const struct tier_op *op)
{
	atomic_fetch_add_explicit(&w->f->rules[op->fault_rule].struck, 1, memory_order_relaxed);
}

static void pass_on(struct tier_worker *w, struct tier_op *op, uint64_t now_ns)
{
	w->f->inner->ops->submit(w->inner, op, now_ns);
}

static bool gives_back(const struct tier_op *op)
{
	return op->kind == TIER_CLOSE || op->kind == TIER_ABORT || op->kind == TIER_DELETE;
}

static int attempt_error(enum config_fault_kind kind)
{
	return kind == FAULT_AGAIN ? -EAGAIN : kind == FAULT_INTERRUPT ? -EINTR : 0;
}

/* @number: which operation of its rule this is. */
static void go_wrong(struct tier_worker *w, struct tier_op *op, uint64_t number, uint64_t now_ns)
{
	struct rule *r = &w->f->rules[op->fault_rule];
	const struct config_fault *p = r->plan;
	struct rng rng = draws(r, ~number);
	switch ((enum config_fault_kind)p->kind) {
	case FAULT_HANG:
		op->end_ns = UINT64_MAX;
		op->fault_value = now_ns;
		count_struck(w, op);
		list_push_back(&w->held, &op->node);
		return;
	case FAULT_DELAY:
		op->fault_value = now_ns + (uint64_t)(p->delay_ms * (double)NS_PER_MS);
		list_push_back(&w->delayed, &op->node);
		return;
	case FAULT_ERROR:
		if (gives_back(op))
			break;
		op->result = -p->error;
		list_push_back(&w->done, &op->node);
		return;
	case FAULT_AGAIN:
	case FAULT_INTERRUPT:
	case FAULT_SHORT:
		op->fault = (struct io_fault){attempt_error(p->kind), p->attempts};
		break;
	default:
		op->fault_value = op->kind == TIER_WRITE ? op->len : number;
		if (op->kind == TIER_WRITE)
			damages[p->kind](w->f, p, op, &rng);
	}
	pass_on(w, op, now_ns);
}

static void tier_fault_submit(struct tier_worker *w, struct tier_op *op, uint64_t now_ns)
{
	uint64_t number;
	op->fault_rule = strike(w->f, op, &number);
	if (op->fault_rule < 0)
		pass_on(w, op, now_ns);
	else
		go_wrong(w, op, number, now_ns);
}

/* On the way back from the tier within. */
static void come_back(struct tier_worker *w, struct tier_op *op)
{
	if (op->fault_rule < 0)
		return;
	struct rule *r = &w->f->rules[op->fault_rule];
	const struct config_fault *p = r->plan;
	if (p->kind == FAULT_ERROR && !op->result)
		op->result = -p->error;
	if (damages[p->kind] && op->kind == TIER_WRITE)
		op->len = op->fault_value; /* all of it, as far as anybody knows */
	if (damages[p->kind] && op->kind == TIER_READ && !op->result) {
		struct rng rng = draws(r, ~op->fault_value);
		damages[p->kind](w->f, p, op, &rng);
	}
	count_struck(w, op);
}

static void delayed_go_on(struct tier_worker *w, uint64_t now_ns)
{
	for (struct list *node = w->delayed.next, *next; node != &w->delayed; node = next) {
		struct tier_op *op = list_entry(node, struct tier_op, node);
		next = node->next;
		if (op->fault_value > now_ns)
			continue;
		list_remove(node);
		pass_on(w, op, now_ns);
	}
}

static unsigned tier_fault_poll(struct tier_worker *w, uint64_t now_ns, struct tier_op **ret, unsigned max)
{
	unsigned count = 0;
	delayed_go_on(w, now_ns);
	for (; count < max && !list_empty(&w->done); count++) {
		ret[count] = tier_queue_pop(&w->done);
		if (w->f->rules[ret[count]->fault_rule].plan->kind == FAULT_ERROR)
			count_struck(w, ret[count]);
	}
	if (count == max)
		return count;
	unsigned n = w->f->inner->ops->poll(w->inner, now_ns, ret + count, max - count);
	for (unsigned i = 0; i < n; i++)
		come_back(w, ret[count + i]);
	return count + n;
}

static uint64_t tier_fault_deadline(const struct tier_worker *w)
{
	const struct tier_ops *inner = w->f->inner->ops;
	if (!list_empty(&w->done))
		return 0;
	uint64_t at = inner->deadline ? inner->deadline(w->inner) : UINT64_MAX;
	list_for_each (node, &w->delayed)
		at = MIN(at, list_entry(node, struct tier_op, node)->fault_value);
	return at;
}

static void tier_fault_cancel(struct tier_worker *w)
{
	/* Before anything is passed on that must not be cancelled. */
	if (w->f->inner->ops->cancel)
		w->f->inner->ops->cancel(w->inner);
	for (struct list *node = w->held.next, *next; node != &w->held; node = next) {
		struct tier_op *op = list_entry(node, struct tier_op, node);
		next = node->next;
		if (w->f->rules[op->fault_rule].plan->is_final)
			continue;
		list_remove(node);
		if (gives_back(op)) {
			op->fault_rule = -1; /* late, but done: nothing leaks */
			pass_on(w, op, op->fault_value);
			continue;
		}
		op->result = -ECANCELED;
		list_push_back(&w->done, node);
	}
}

static void tier_fault_describe(const struct tier *t, const struct tier_op *op, char *buf, size_t size)
{
	const struct tier *inner = container_of(t, const struct tier_fault, tier)->inner;
	inner->ops->describe(inner, op, buf, size);
}

/* ---- life of the tier ---- */

static int tier_fault_worker_open(struct tier *t, struct io *io, uint32_t ops_max, struct tier_worker **ret)
{
	struct tier_fault *f = fault_of(t);
	struct tier_worker *w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->f = f;
	list_init(&w->done);
	list_init(&w->delayed);
	list_init(&w->held);
	int rc = f->inner->ops->worker_open(f->inner, io, ops_max, &w->inner);
	if (rc) {
		free(w);
		return rc;
	}
	*ret = w;
	return 0;
}

static void tier_fault_worker_close(struct tier_worker *w)
{
	if (!w)
		return;
	w->f->inner->ops->worker_close(w->inner);
	free(w);
}

static void tier_fault_free(struct tier *t)
{
	struct tier_fault *f = fault_of(t);
	tier_free(f->inner);
	free(f);
}

static const struct tier_ops tier_fault_ops = {
	.worker_open = tier_fault_worker_open,
	.worker_close = tier_fault_worker_close,
	.submit = tier_fault_submit,
	.poll = tier_fault_poll,
	.deadline = tier_fault_deadline,
	.cancel = tier_fault_cancel,
	.describe = tier_fault_describe,
	.free = tier_fault_free,
};

/* Damage to data reaches only tiers that hold some, and orders for I/O only those that do some. */
static bool rule_fits(const struct config_fault *p, const struct tier *t)
{
	bool is_io = p->kind == FAULT_AGAIN || p->kind == FAULT_INTERRUPT || p->kind == FAULT_SHORT;
	if (p->tier >= 0 && p->tier != (int)t->class)
		return false;
	return is_io ? t->caps & TIER_CAP_FILES : !damages[p->kind] || !(t->caps & TIER_CAP_WHOLE);
}

int tier_fault_new(struct tier *inner, const struct tier_fault_setup *setup, struct tier **ret)
{
	_Static_assert(TIER_CREATE == 0 && TIER_DELETE == 8, "config_fault_operations() has the order of enum tier_op_kind");
	struct tier_fault *f = calloc(1, sizeof(*f));
	if (!f) {
		tier_free(inner);
		return -ENOMEM;
	}
	f->tier = *inner;
	f->ops = tier_fault_ops;
	f->ops.kind = inner->ops->kind;
	f->tier.ops = &f->ops;
	f->inner = inner;
	f->payload = setup->payload;
	f->rank = setup->rank;
	f->rule_count = setup->plan->count;
	for (uint32_t i = 0; i < f->rule_count; i++) {
		const struct config_fault *p = &setup->plan->v[i];
		struct rule *r = &f->rules[i];
		r->plan = rule_fits(p, inner) ? p : NULL;
		r->key = rng_key(rng_key(setup->plan->seed, i), (uint64_t)inner->class);
		r->threshold = rng_threshold(p->rate);
	}
	*ret = &f->tier;
	return 0;
}

uint64_t tier_fault_struck(const struct tier *t, uint32_t index)
{
	const struct tier_fault *f = container_of(t, const struct tier_fault, tier);
	return atomic_load_explicit(&f->rules[index].struck, memory_order_relaxed);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/list.h - intrusive doubly linked lists: O(1), no allocation.
 *
 * Receives: nodes embedded in the caller's structs.  Gives: order.  Must not know: the structs.
 * Not thread-safe; a node is on at most one list, and a node on no list has next == NULL.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev;
	struct list *next;
};

static inline void list_init(struct list *head)
{
	head->prev = head->next = head;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

/** list_linked() - is @node on a list? Valid for nodes that were zeroed or removed by list_remove(). */
static inline bool list_linked(const struct list *node)
{
	return node->next != NULL;
}

static inline void list_insert_(struct list *prev, struct list *node, struct list *next)
{
	node->prev = prev;
	node->next = next;
	prev->next = node;
	next->prev = node;
}

static inline void list_push_back(struct list *head, struct list *node)
{
	list_insert_(head->prev, node, head);
}

static inline void list_push_front(struct list *head, struct list *node)
{
	list_insert_(head, node, head->next);
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	node->prev = node->next = NULL;
}

/** list_pop_front() - remove and return the first node, NULL when empty. */
static inline struct list *list_pop_front(struct list *head)
{
	if (list_empty(head))
		return NULL;
	struct list *node = head->next;
	list_remove(node);
	return node;
}

/** list_splice_back() - move all of @from to the end of @to; @from becomes empty. */
static inline void list_splice_back(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}

#define list_entry(node, type, member) container_of(node, type, member)
#define list_for_each(node, head) \
	for (struct list *node = (head)->next; node != (head); node = node->next)

/*
 * A doubly linked list whose nodes live inside what they link. An empty list
 * points to itself; a node that is in no list too, so removing twice is harmless.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/common.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert_after(struct list *at, struct list *node)
{
	node->prev = at;
	node->next = at->next;
	at->next->prev = node;
	at->next = node;
}

static inline void list_push_front(struct list *l, struct list *node)
{
	list_insert_after(l, node);
}

static inline void list_push_back(struct list *l, struct list *node)
{
	list_insert_after(l->prev, node);
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

static inline struct list *list_first(const struct list *l)
{
	return list_is_empty(l) ? NULL : l->next;
}

static inline struct list *list_last(const struct list *l)
{
	return list_is_empty(l) ? NULL : l->prev;
}

#define list_entry(node, type, member) container_of(node, type, member)

/* The body may remove the node it is at. */
#define list_for_each(node, l) \
	for (struct list *node = (l)->next, *node##_next = node->next; node != (l); \
	     node = node##_next, node##_next = node->next)

#endif

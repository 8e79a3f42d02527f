/*
 * Sets of (name, value) pairs that never change: a change makes another set. Equal sets are
 * the same pointer in the whole process, so comparing the parameters of a client with those of
 * a server connection is comparing two pointers. NULL is the empty set.
 * Counted; may be used from all threads. Making a set takes a lock, which is why only SET and
 * ParameterStatus do it, never a query.
 */
#ifndef LINK_PARAMS_H
#define LINK_PARAMS_H

#include "base/common.h"

struct params;

/* The part that others look at by themselves. First in struct params. */
struct params_head {
	uint64_t meaning;
	uint32_t marks;
};

const struct params *params_ref(const struct params *p);
void params_unref(const struct params *p);
/* Another reference for *to, which loses its old one. */
void params_assign(const struct params **to, const struct params *p);
/* p with name = value, or without name when value is NULL; a new reference. Out of memory: p itself. */
const struct params *params_with(const struct params *p, const char *name, const char *value);
/* *to becomes params_with(*to, ...). */
void params_set(const struct params **to, const char *name, const char *value);
const char *params_get(const struct params *p, const char *name);
/* A hash of all but those that never change what a statement's text means, or how a constant in it is read (time-outs,
 * application_name ...). 0: the server's defaults. */
static inline uint64_t params_meaning(const struct params *p)
{
	return p ? ((const struct params_head *)(const void *)p)->meaning : 0;
}

/* What of them decides how a text is read, and where it may run. */
#define PARAMS_BACKSLASHES BIT(0) /* standard_conforming_strings is off */
#define PARAMS_READ_ONLY   BIT(1) /* default_transaction_read_only is on */
#define PARAMS_ISOLATION   BIT(2) /* transactions are SERIALIZABLE unless they say otherwise */
#define PARAMS_ENCODING    BIT(3) /* client_encoding is one in which an ASCII byte may be part of a character */
#define PARAMS_HELIOS      BIT(4) /* some helios.* is there */
static inline uint32_t params_marks(const struct params *p)
{
	return p ? ((const struct params_head *)(const void *)p)->marks : 0;
}

uint32_t params_count(const struct params *p);
/* In the order of names (strcmp). */
void params_at(const struct params *p, uint32_t index, const char **ret_name, const char **ret_value);

#endif

/*
 * What the catalog of one database says of names: which functions read, and what may write although it doesn't look so.
 * Names count without their schemas. Filled once, then only read: a snapshot that threads may share.
 */
#ifndef SQL_CATALOG_H
#define SQL_CATALOG_H

#include "base/common.h"

struct catalog;

/* One row of two columns (kind, name) for each fact. Any role may run it, on the primary, by simple query. 12 and
 * later. */
extern const char catalog_query[];

struct catalog *catalog_new(void); /* NULL: out of memory */
void catalog_free(struct catalog *c);

/* A row. Of one name, what writes counts more. 0, -ENOMEM, or -EINVAL: no such kind (then don't use this catalog). */
int catalog_add(struct catalog *c, struct slice kind, struct slice name) MUST_USE;

uint32_t catalog_size(const struct catalog *c); /* names of functions and others, and operators */

enum catalog_fact { CATALOG_UNKNOWN, CATALOG_READS, CATALOG_WRITES };

/* name: as PostgreSQL means it, see scan_identifier(). */
enum catalog_fact catalog_function(const struct catalog *c, struct slice name);

/* May it write where this name stands? Also if it can't be compared: not ASCII, so encoding and case decide. */
bool catalog_name_writes(const struct catalog *c, struct slice name);

/* symbols: one or more operators that stand together; true if one that writes may be among them. */
bool catalog_operator_writes(const struct catalog *c, struct slice symbols);

/* Nothing in this database can be trusted: a cast between PostgreSQL's own types, or an = of theirs, writes. */
bool catalog_all_writes(const struct catalog *c);

#endif

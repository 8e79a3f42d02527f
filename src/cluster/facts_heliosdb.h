/*
 * The facts of a HeliosDB node, [topology] provider = "heliosdb". It speaks PostgreSQL's protocol, but has none of
 * PostgreSQL's functions of recovery and of the log: what it is stands in a view of its own.
 *
 * What it does not tell stays unknown: timelines, positions that compare, its clock. Nor does it tell which cluster it
 * is of, so that all HeliosDB nodes count as those of one.
 */
#ifndef CLUSTER_FACTS_HELIOSDB_H
#define CLUSTER_FACTS_HELIOSDB_H

#include "cluster/facts.h"

/* The system identifier of every HeliosDB node: its name, as eight letters. */
#define FACTS_HELIOSDB_SYSTEM 0x48656c696f734442ull

/* What to ask, as one Query message: a row for facts_take_heliosdb(), then rows for facts_take_heliosdb_sender(). */
extern const char facts_heliosdb_query[];

#define FACTS_HELIOSDB_COLUMNS        5u
#define FACTS_HELIOSDB_SENDER_COLUMNS 3u

/* As facts_take_node(). -EPROTO: it makes no sense; -ENOTSUP: it is a node without data, or of a role that this build
 * does not know: no query may go there. *facts is then as before. */
int facts_take_heliosdb(struct node_facts *facts, const char *const *columns, uint32_t count) MUST_USE;
int facts_take_heliosdb_sender(struct node_facts *facts, const char *const *columns, uint32_t count) MUST_USE;

#endif

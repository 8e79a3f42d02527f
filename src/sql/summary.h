/*
 * A query in a few words, for the names of spans: its verbs and the tables they are about, in their order, such as
 * "SELECT orders customers" or "INSERT archive SELECT orders" (OpenTelemetry's db.query.summary). No value of the
 * query is in it. Pure; any bytes are fine.
 */
#ifndef SQL_SUMMARY_H
#define SQL_SUMMARY_H

#include "base/common.h"

#define SQL_SUMMARY_MAX   255u
#define SQL_OPERATION_MAX 31u

struct sql_summary {
	char text[SQL_SUMMARY_MAX + 1];        /* ends with a whole word; "" when there is nothing to be said */
	char operation[SQL_OPERATION_MAX + 1]; /* the first word, in upper case; "" with none, or several statements */
};

void sql_summarize(struct slice text, struct sql_summary *ret);

#endif

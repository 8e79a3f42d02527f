/*
 * What a client wishes of where its reads go: by a comment in front of a text, or by settings of its session that begin
 * with "helios." (SET helios.route = 'standby', or a startup option).
 */
#ifndef SESSION_WISHES_H
#define SESSION_WISHES_H

#include "cluster/node.h"
#include "link/params.h"
#include "route/route.h"
#include "sql/hints.h"

#define WISH_PROBLEM_MAX 256u

/* settings: name -> SQL, as a session keeps them. hints: NULL: none; they count more. Problems are told one by one, in
 * words for the client. */
void wishes_read(const struct params *settings, const struct hints *hints, const struct node_list *nodes,
		 void (*problem)(void *to, const char *text), void *to, struct route_wish *ret);
/* The value that SQL as sessions keep it gives to a parameter: "SET x = 'value'", "SELECT set_config('x', 'value',
 * false)". Its length; the text is cut to size. */
size_t wish_value(const char *sql, char *value, size_t size);

#endif

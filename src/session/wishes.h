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

/* What may be wished, of the configuration. */
struct wish_rights {
	bool any;   /* else nothing is heeded */
	bool nodes; /* by name */
	bool primary;
	usec_t max_lag;              /* no more lag than this; 0: as much as they like */
	const struct config *config; /* names for several nodes are its */
};

/* Who is told, in words for the client, what is not heeded. */
struct wish_listener {
	void (*problem)(void *to, const char *text);
	void *to;
	bool knows_settings; /* it was told of these settings: of the comment alone, now */
};

struct wish_rights wish_rights_of(const struct config *config, const char *user);
/*
 * settings: name -> SQL, as a session keeps them. hints: NULL: none; they count more. What is wrong with a hint itself,
 * whatever it wishes, wishes_tell_of() tells. *wish is what counts where nothing is said, and becomes what is wished;
 * it lives as long as the configuration.
 */
void wishes_read(const struct params *settings, const struct hints *hints, const struct node_list *nodes,
		 const struct wish_rights *rights, const struct wish_listener *listener, struct route_wish *wish);
/*
 * Of a text's hints: what was not understood, and which keys do nothing in this build; of those only what is not in
 * *told, which gets it: bits as in hints.said.
 */
void wishes_tell_of(const struct hints *hints, const struct wish_rights *rights, const struct wish_listener *listener,
		    uint32_t *told);
/* The value that SQL as sessions keep it gives to a parameter: "SET x = 'value'", "SELECT set_config('x', 'value',
 * false)". Its length; the text is cut to size. */
size_t wish_value(const char *sql, char *value, size_t size);

#endif

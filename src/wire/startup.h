/*
 * The first packet of a connection: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage.
 * It has no type byte. https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
#ifndef WIRE_STARTUP_H
#define WIRE_STARTUP_H

#include "base/common.h"

#define STARTUP_MAX            10000u /* bytes of the packet, as PostgreSQL's MAX_STARTUP_PACKET_LENGTH */
#define STARTUP_PARAMETERS_MAX 128u
#define CANCEL_KEY_MAX         256u /* protocol 3.2 */

enum startup_kind { STARTUP_SSL, STARTUP_GSSENC, STARTUP_CANCEL, STARTUP_SESSION };

struct startup_parameter {
	struct slice name, value; /* NUL-terminated in place, too */
};

struct startup {
	enum startup_kind kind;
	uint32_t major, minor; /* of a session: asked for */
	uint32_t cancel_pid;
	struct slice cancel_key;
	struct startup_parameter parameters[STARTUP_PARAMETERS_MAX]; /* "_pq_." ones are not here */
	uint32_t parameter_count;
	struct slice protocol_options[STARTUP_PARAMETERS_MAX]; /* names that begin with "_pq_." */
	uint32_t protocol_option_count;
};

/*
 * bytes begin with the packet's length word. Returns the packet's size when it is whole and well
 * formed, 0 when more bytes are needed, or
 * -EMSGSIZE  the length cannot be (below 8, above STARTUP_MAX)
 * -EPROTO    malformed inside (missing terminators, too many parameters)
 * A major version other than 3 is left to the caller to judge (parameters are not read then).
 */
int startup_read(const uint8_t *bytes, size_t len, struct startup *ret);
/* The value of a parameter, or NULL. */
const char *startup_get(const struct startup *s, const char *name);

/*
 * The "options" parameter ("-c name=value --name=value"), with backslash escapes as PostgreSQL splits
 * it (pg_split_opts). Calls add() for each setting, names with '-' made '_'. 0, or -EINVAL for what
 * is not a setting (`bad` then names it, cut to bad_size); add()'s non-zero ends it and is returned.
 */
int startup_split_options(const char *options, int (*add)(void *to, const char *name, const char *value), void *to,
			  char *bad, size_t bad_size) MUST_USE;

#endif

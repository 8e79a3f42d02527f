/* Which bytes of a client may be shared as they are: their form. What they mean is looked at elsewhere. Pure. */
#ifndef SESSION_SHARE_READ_H
#define SESSION_SHARE_READ_H

#include "base/common.h"

/* More than this is not shared: it stays with the loop while its answer is awaited. */
#define SHARE_REQUEST_MAX 8192u

struct share_request {
	const uint8_t *bytes;
	uint32_t len;
	bool is_batch;
	struct slice sql;   /* of a simple query */
	struct slice parse; /* of a batch with a Parse of the unnamed statement: the body behind the name; else empty */
	struct slice name;  /* of a batch: the statement that is bound; "" is the unnamed one */
	struct slice values; /* of a batch: the Bind's body behind the names */
	struct slice rest;   /* of a batch: what follows the Bind, up to and with Sync */
};

/*
 * Exactly one request and nothing else: a simple query; or [Parse,] Bind, [Describe of the portal,] Execute without a
 * limit of rows, Sync, all of the unnamed portal. false: something else, or not all of it.
 */
bool share_read(const uint8_t *bytes, size_t len, struct share_request *ret);

#endif

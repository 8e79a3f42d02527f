/* What is built in; --version and GET /version show the same list. */
#ifndef SERVER_BUILT_IN_H
#define SERVER_BUILT_IN_H

#include <stddef.h>

/* The reference's names of what there is are among them, for tools that look for those. Ends with NULL. */
static const char *const features[] = {
	"pool-modes",
	"prepared-statements",
	"tls",
	"scram-sha-256",
	"scram-sha-256-plus",
	"md5",
	"cert-auth",
	"hba",
	"auth-query",
	"replication",
	"admin",
	"prometheus",
	"epoll",
	"routing-hints",
	"lag-routing",
	"circuit-breaker",
	"query-analytics",
	"observability",
	"postgres-topology",
	"heliosdb-topology",
	"patroni-topology",
#define STAGE(name) #name,
#include "pipeline.gen.h"
#undef STAGE
#ifdef HAVE_IO_URING
	"io_uring",
#endif
#ifdef HAVE_SYSTEMD
	"systemd",
#endif
	NULL,
};

#endif

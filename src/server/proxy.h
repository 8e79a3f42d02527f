/*
 * The whole proxy of one process: workers, control thread, admin API, and what they share.
 *
 *   STARTING -> RUNNING -> DRAINING -> ENDED
 *
 * The control thread is the one that calls proxy_run(): it waits for signals and does everything that is slow.
 */
#ifndef SERVER_PROXY_H
#define SERVER_PROXY_H

#include "config/config.h"

struct proxy_options {
	const char *config_path; /* NULL: made from flags */
	bool is_pgbouncer;       /* it is a pgbouncer.ini */
	struct config_flags flags;
	bool strict;
	bool test_clock;
	char *const *argv; /* to start the next binary with */
};

#define EXIT_OK     0 /* drained */
#define EXIT_START  1 /* the configuration is wrong, or the start failed */
#define EXIT_USAGE  2 /* the command line is wrong */
#define EXIT_FORCED 3 /* ended before all transactions were: deadline, or a second signal */

/* Runs until the end; takes the configuration over. The process's exit status. */
int proxy_run(const struct proxy_options *options, struct config *config);

#endif

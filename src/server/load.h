/* Reads the configuration that the command line names: proxy.toml, pgbouncer.ini, or flags alone. */
#ifndef SERVER_LOAD_H
#define SERVER_LOAD_H

#include "server/proxy.h"

/* As config_load(), with the flags that count beside a file. */
int load_config(const struct proxy_options *options, struct config **ret, struct config_report *report) MUST_USE;

#endif

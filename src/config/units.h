/*
 * Texts of durations, sizes and addresses, to and fro. Pure.
 */
#ifndef CONFIG_UNITS_H
#define CONFIG_UNITS_H

#include "base/buf.h"
#include "base/clock.h"

#define DURATION_TEXT 32u
#define SIZE_TEXT     32u
#define HOST_MAX      255u

/* "5s" "250ms" "1.5h" "10 min"; units us ms s min h d (sec, m, minute(s) ... too); without one: times `unit`.
 * 0, -EINVAL, -ERANGE. */
int duration_parse(const char *text, usec_t unit, usec_t *ret) MUST_USE;
/* A number of `unit`s. 0 or -ERANGE (also when negative or not finite). */
int duration_from_number(double number, usec_t unit, usec_t *ret) MUST_USE;
/* With the largest unit that leaves a whole number. */
const char *duration_print(usec_t duration, char text[DURATION_TEXT]);

/* "65536" "64kB" "1MB" "2 GB"; units of 1024, in any case, the B may be left out. 0, -EINVAL, -ERANGE. */
int size_parse(const char *text, uint64_t *ret) MUST_USE;
const char *size_print(uint64_t bytes, char text[SIZE_TEXT]);

/*
 * "host:port", "[v6]:port", ":port" (host ""), "unix:/path" (host is the path, port 0). The host is copied without
 * brackets; whether it is a name or an address isn't looked at. 0 or -EINVAL.
 */
int address_split(const char *text, char host[HOST_MAX + 1], uint32_t *ret_port) MUST_USE;
/* Machines other than this one can reach it: neither loopback nor unix. A name other than localhost counts as such. */
bool address_is_exposed(const char *text);

#endif

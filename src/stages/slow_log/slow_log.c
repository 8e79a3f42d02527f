/*
 * A log line for each query that took longer than [log] slow_query: how long it waited for a server connection, and how
 * long the server (and the network, and the client's reading) took. Literals are left out unless they are wanted.
 */
#include "base/log.h"
#include "config/config.h"
#include "sql/normalize.h"
#include "stage/stage.h"

#include <inttypes.h>
#include <stdio.h>

#define LINES_AT_MOST 50u /* in a second, for each worker */

struct policy {
	usec_t threshold;
	bool literals;
	uint32_t text_max;
	struct log_limit limit;
};

static int configure(const struct config *config, const void *before UNUSED, void **ret_policy)
{
	const struct config_log *c = &config->log;
	struct policy *p;

	*ret_policy = NULL;
	if (config_slow_query(config) == 0)
		return 0;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->threshold = config_slow_query(config);
	p->literals = c->slow_query_literals;
	p->text_max = (uint32_t)MIN(c->slow_query_length, (uint64_t)REQUEST_TEXT_MAX);
	*ret_policy = p;
	return 0;
}

static void milliseconds(usec_t duration, char text[32])
{
	snprintf(text, 32, "%llu.%03llu", (unsigned long long)(duration / 1000), (unsigned long long)(duration % 1000));
}

/* What is written of the text, and "" or what stands for all texts like it: only a whole one can be told. */
static struct slice describe(const struct request *r, const struct policy *p, char *text, char fingerprint[17],
			     bool *ret_cut)
{
	struct slice whole = request_text(r);
	struct sql_normalized normalized;

	sql_normalize(whole, /* standard_conforming_strings= */ true, text, p->text_max + 1, &normalized);
	fingerprint[0] = 0;
	if (r->fingerprint || r->text_len <= REQUEST_TEXT_MAX)
		snprintf(fingerprint, 17, "%016" PRIx64, r->fingerprint ? r->fingerprint : normalized.fingerprint);
	if (!p->literals) {
		*ret_cut = normalized.cut;
		return slice_make(text, normalized.len);
	}
	*ret_cut = whole.len > p->text_max;
	return slice_make(whole.bytes, MIN(whole.len, p->text_max));
}

static usec_t least(const void *policy)
{
	return ((const struct policy *)policy)->threshold;
}

static void answered(struct request *r, void *policy)
{
	struct policy *p = policy;
	char text[REQUEST_TEXT_MAX + 1], fingerprint[17], duration[32], waited[32];
	uint32_t left_out = 0;
	struct slice query;
	bool cut;

	count_add(&r->counters->slow_queries_total, 1);
	if (!log_limit_pass(&p->limit, LINES_AT_MOST, USEC_PER_SEC, &left_out))
		return;
	request_tell(r);
	milliseconds(r->took, duration);
	milliseconds(r->sent - r->began, waited);
	query = describe(r, p, text, fingerprint, &cut);
	log_warn("slow query", kv_str("duration_ms", duration), kv_str("waited_ms", waited),
		 kv_str("database", r->database), kv_str("user", r->user),
		 kv_str("application", *r->application ? r->application : NULL), kv_uint("pid", r->pid),
		 kv_str("protocol", r->extended ? "extended" : "simple"),
		 kv_str("sqlstate", *r->sqlstate ? r->sqlstate : NULL),
		 kv_str("fingerprint", *fingerprint ? fingerprint : NULL), kv_slice("query", query),
		 kv_str("cut", cut || r->text_len > REQUEST_TEXT_MAX ? "yes" : NULL), kv_uint("not_logged", left_out));
}

const struct stage stage_slow_log = {
	.name = "slow_log",
	.configure = configure,
	.release = free,
	.least = least,
	.answered = answered,
};

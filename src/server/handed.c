/*
 * See handed.h. Texts that end with a NUL each, for names may hold anything else: first the version of this, then a
 * word, and what belongs to it:
 *
 *   pause NAME       a database; "": all
 *   disable NAME
 *   members JSON     as a state file has it (cluster/members_state.h)
 *   drain HOST PORT LEFT   milliseconds to the deadline; "": there is none
 */
#include "server/handed.h"

#include "base/buf.h"
#include "base/log.h"
#include "cluster/members.h"
#include "server/proxy_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define VERSION   "1"
#define BYTES_MAX (16u << 20)

struct drained {
	const char *host; /* NULL: it is done */
	uint16_t port;
	usec_t until; /* by clock_now(); USEC_NEVER: for ever */
};

struct handed {
	struct drained drained[MEMBERS_MAX];
	uint32_t drained_count;
	size_t len;
	char text[]; /* ends with a NUL */
};

/* ---- here ---- */

static void put(struct buf *out, const char *text)
{
	buf_add(out, text, strlen(text) + 1);
}

static void put_gate(const char *database, bool paused, bool disabled, void *to)
{
	struct buf *out = to;

	if (paused) {
		put(out, "pause");
		put(out, database);
	}
	if (disabled) {
		put(out, "disable");
		put(out, database);
	}
}

static void put_drained(struct proxy *p, struct buf *out)
{
	const struct node_set *set = node_list_now(p->nodes);
	usec_t now = clock_update();

	for (uint32_t i = 0; i < set->count; i++) {
		struct node *n = set->nodes[i];
		usec_t deadline = atomic_load(&n->drain_deadline);
		char number[24];

		if (!atomic_load(&n->draining) || atomic_load(&n->leaving)) /* else who handed it on would drain it */
			continue;
		put(out, "drain");
		put(out, n->host);
		snprintf(number, sizeof(number), "%u", n->port);
		put(out, number);
		snprintf(number, sizeof(number), "%" PRIu64,
			 deadline > now ? (uint64_t)((deadline - now) / USEC_PER_MSEC) : 0);
		put(out, deadline == USEC_NEVER ? "" : number);
	}
}

static int keep_in_file(const struct buf *out)
{
	int fd = memfd_create("heliosdb-proxy-state", MFD_CLOEXEC), r;
	size_t at = 0;

	if (fd < 0)
		return -errno;
	while (at < out->len) {
		ssize_t n = write(fd, out->bytes + at, out->len - at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			r = n < 0 ? -errno : -EIO;
			close(fd);
			return r;
		}
		at += (size_t)n;
	}
	return fd;
}

int handed_write(struct proxy *p)
{
	struct buf out = BUF_INIT(BYTES_MAX);
	char *members = members_hand_on(p->members);
	int r = -ENOMEM;

	if (members) {
		put(&out, VERSION);
		put(&out, "members");
		put(&out, members);
		pools_each_gate(p->pools, put_gate, &out);
		put_drained(p, &out);
		r = out.failed ? -ENOMEM : keep_in_file(&out);
	}
	free(members);
	buf_free(&out);
	return r;
}

/* ---- there ---- */

static const struct record_kind {
	const char *word;
	uint32_t args;
} kinds[] = {{"pause", 1}, {"disable", 1}, {"members", 1}, {"drain", 3}};

struct record {
	const char *word, *args[3];
};

/* The text behind this one; NULL: there is none. */
static const char *next(const struct handed *h, const char *at)
{
	at += strlen(at) + 1;
	return at < h->text + h->len ? at : NULL;
}

/* The record behind the text at *at, which is its last text then. 0, -ENODATA: there is none, -EINVAL. */
static int take_record(const struct handed *h, const char **at, struct record *ret)
{
	uint32_t kind = 0;

	ret->word = *at = next(h, *at);
	if (!ret->word)
		return -ENODATA;
	while (kind < ARRAY_SIZE(kinds) && strcmp(kinds[kind].word, ret->word) != 0)
		kind++;
	if (kind == ARRAY_SIZE(kinds))
		return -EINVAL;
	for (uint32_t i = 0; i < kinds[kind].args; i++) {
		ret->args[i] = *at = next(h, *at);
		if (!ret->args[i])
			return -EINVAL;
	}
	return 0;
}

static bool take_drained(struct handed *h, const struct record *r)
{
	if (h->drained_count == MEMBERS_MAX)
		return false;
	h->drained[h->drained_count++] = (struct drained){
		.host = r->args[0],
		.port = (uint16_t)strtoul(r->args[1], NULL, 10),
		.until = *r->args[2] ? clock_update() + strtoull(r->args[2], NULL, 10) * USEC_PER_MSEC : USEC_NEVER,
	};
	return true;
}

/* false: it is not as it was written, or of a version with more in it. */
static bool take_all(struct proxy *p, struct handed *h)
{
	const char *at = h->text;
	struct record record;
	int r;

	if (strcmp(at, VERSION) != 0)
		return false;
	while ((r = take_record(h, &at, &record)) == 0) {
		if (strcmp(record.word, "members") == 0 && members_take_over(p->members, record.args[0]) < 0)
			return false;
		if (strcmp(record.word, "drain") == 0 && !take_drained(h, &record))
			return false;
	}
	return r == -ENODATA;
}

/* NULL: it can't be read. */
static struct handed *read_all(int fd)
{
	struct stat st;
	struct handed *h;
	size_t len;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > BYTES_MAX)
		return NULL;
	len = (size_t)st.st_size;
	h = calloc(1, sizeof(*h) + len + 1);
	if (h && pread(fd, h->text, len, 0) == (ssize_t)len) {
		h->len = len;
		return h;
	}
	free(h);
	return NULL;
}

bool handed_read(struct proxy *p, struct handed **ret)
{
	const char *number = getenv(HANDED_ENVIRONMENT);
	int fd = number ? atoi(number) : -1;
	struct handed *h = NULL;
	bool fine;

	*ret = NULL;
	unsetenv(HANDED_ENVIRONMENT);
	if (fd < 3)
		return true;
	h = read_all(fd);
	close(fd);
	fine = h && take_all(p, h);
	if (fine) {
		*ret = h;
		return true;
	}
	handed_free(h);
	log_error("what operators changed in the process before this one is not understood");
	return false;
}

/* One that the configuration does not have any more needs nothing. */
static bool is_done(int r, const char *what, const char *database)
{
	if (r < 0 && r != -EALREADY)
		log_warn("what an operator did with a database in the process before this one is not done here",
			 kv_str("what", what), kv_str("database", database), kv_str("reason", strerror(-r)));
	return r != -ENOMEM;
}

bool handed_close_databases(struct proxy *p, const struct handed *h)
{
	const char *at = h ? h->text : NULL;
	struct record r;
	bool fine = true;

	while (at && fine && take_record(h, &at, &r) == 0) {
		const char *name = r.args[0];

		if (strcmp(r.word, "pause") == 0)
			fine = is_done(pools_pause(p->pools, *name ? name : NULL), r.word, name);
		else if (strcmp(r.word, "disable") == 0)
			fine = is_done(pools_disable(p->pools, name, true), r.word, name);
	}
	return fine;
}

void handed_drain_nodes(struct proxy *p, struct handed *h)
{
	const struct node_set *set = node_list_now(p->nodes);

	for (uint32_t i = 0; h && i < h->drained_count; i++) {
		struct drained *d = &h->drained[i];
		usec_t now = clock_update();

		for (uint32_t j = 0; d->host && j < set->count; j++) {
			if (set->nodes[j]->port != d->port || strcasecmp(set->nodes[j]->host, d->host) != 0)
				continue;
			node_drain(set->nodes[j], d->until == USEC_NEVER ? USEC_NEVER
						  : d->until > now       ? d->until - now
									 : 0);
			d->host = NULL;
		}
	}
}

void handed_free(struct handed *h)
{
	free(h);
}

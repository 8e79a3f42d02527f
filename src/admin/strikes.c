/* See strikes.h. */
#include "admin/strikes.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#define WAIT_FIRST USEC_PER_SEC
#define DOUBLINGS  6u /* so at most 64 s: who mistyped is not kept out for long */
#define FORGET     (600 * USEC_PER_SEC)

struct source source_of(const struct sockaddr *address, uint32_t uid)
{
	struct source s = {.family = address ? address->sa_family : AF_UNSPEC};

	if (s.family == AF_INET) {
		memcpy(s.bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
	} else if (s.family == AF_INET6) {
		const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
		bool is_v4 = IN6_IS_ADDR_V4MAPPED(v6);

		s.family = is_v4 ? AF_INET : AF_INET6;
		memcpy(s.bytes, is_v4 ? &v6->s6_addr[12] : v6->s6_addr, is_v4 ? 4 : sizeof(s.bytes));
	} else {
		s.family = AF_UNIX;
		memcpy(s.bytes, &uid, sizeof(uid));
	}
	return s;
}

bool source_equal(const struct source *a, const struct source *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

static bool is_of_late(const struct strike *strike, usec_t now)
{
	return strike->count > 0 && clock_since(strike->last, now) < FORGET;
}

static uint32_t find(const struct strikes *s, const struct source *source, usec_t now)
{
	uint32_t i = 0;

	while (i < STRIKES_MAX && !(is_of_late(&s->table[i], now) && source_equal(&s->table[i].source, source)))
		i++;
	return i;
}

usec_t strikes_wait(const struct strikes *s, const struct source *source, usec_t now)
{
	uint32_t i = find(s, source, now);

	return i < STRIKES_MAX && s->table[i].until > now ? s->table[i].until - now : 0;
}

/* A free row, or that of whom nothing was heard for longest. */
static struct strike *make_room(struct strikes *s, usec_t now)
{
	struct strike *oldest = &s->table[0];

	for (uint32_t i = 0; i < STRIKES_MAX; i++) {
		if (!is_of_late(&s->table[i], now))
			return &s->table[i];
		if (s->table[i].last < oldest->last)
			oldest = &s->table[i];
	}
	return oldest;
}

void strikes_add(struct strikes *s, const struct source *source, usec_t now, uint32_t *ret_count)
{
	uint32_t i = find(s, source, now);
	struct strike *strike = i < STRIKES_MAX ? &s->table[i] : make_room(s, now);

	if (i == STRIKES_MAX)
		*strike = (struct strike){.source = *source};
	strike->count++;
	strike->last = now;
	if (strike->count >= STRIKES_FREE)
		strike->until = now + (WAIT_FIRST << MIN(strike->count - STRIKES_FREE, DOUBLINGS));
	*ret_count = strike->count;
}

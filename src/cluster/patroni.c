/* See patroni.h. */
#include "cluster/patroni.h"

#include "base/event.h"
#include "base/log.h"
#include "services/http.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>

#define URLS_MAX      80u
#define ANOTHER_TOO   (250 * USEC_PER_MSEC) /* who has not answered by then is not waited for alone */
#define HURRY_APART   (250 * USEC_PER_MSEC) /* of two rounds, however much in doubt things are */
#define TURN_MAX      (10 * USEC_PER_SEC)
#define UNDER_WAY_MAX (3 * URLS_MAX)

struct settings {
	char *urls[URLS_MAX];
	uint32_t url_count;
	bool is_on;
	bool secret_only; /* learned URLs must be https, as the configured ones are */
	char *user, *password, *ca_path, *cert_path, *key_path;
	usec_t interval, timeout;
};

/* One question to all URLs, until the first answer. */
struct round {
	char urls[URLS_MAX][PATRONI_URL_MAX];
	uint32_t count, next, failed; /* next: to be asked */
	usec_t begun, next_at;        /* next_at: then the next one is asked as well */
	uint64_t number;
	bool goes_on;
	char error[300]; /* of the last that failed */
};

struct patroni {
	struct patroni_context context;
	pthread_t thread;
	_Atomic bool stopping, asked;
	bool has_thread; /* of the control thread */
	/* the thread's own; so is the view, but for those who look at it */
	struct settings *settings;
	struct round round;
	usec_t due;
	uint32_t silent_rounds;
	bool owes_telling; /* told() could not take it */
	/* shared */
	pthread_mutex_t lock;
	struct settings *fresh; /* NULL: none */
	struct http *http;      /* replaced under the lock, used by the thread alone but for waking */
	struct patroni_view view;
};

struct question {
	struct patroni *patroni;
	uint64_t round;
	char url[PATRONI_URL_MAX];
};

/* ---- settings ---- */

static void settings_free(struct settings *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; i < s->url_count; i++)
		free(s->urls[i]);
	if (s->password)
		explicit_bzero(s->password, strlen(s->password));
	free(s->user);
	free(s->password);
	free(s->ca_path);
	free(s->cert_path);
	free(s->key_path);
	free(s);
}

static char *url_copy(const char *url)
{
	char *copy = strdup(url);

	for (size_t len = copy ? strlen(copy) : 0; len > 0 && copy[len - 1] == '/'; len--)
		copy[len - 1] = 0;
	return copy;
}

/* NULL: out of memory. */
static struct settings *settings_new(const struct config *config)
{
	const struct config_topology *t = &config->topology;
	struct settings *s = calloc(1, sizeof(*s));
	bool failed = !s;

	for (uint32_t i = 0; !failed && i < t->patroni_urls.count && s->url_count < URLS_MAX; i++) {
		s->urls[s->url_count] = url_copy(t->patroni_urls.items[i]);
		failed = !s->urls[s->url_count++];
		s->secret_only |= http_url_is_secret(t->patroni_urls.items[i]);
	}
	if (!failed) {
		s->is_on = t->provider == PROVIDER_PATRONI;
		s->user = strdup(t->patroni_user);
		s->password = strdup(t->patroni_password);
		s->ca_path = strdup(t->patroni_ca_path);
		s->cert_path = strdup(t->patroni_cert_path);
		s->key_path = strdup(t->patroni_key_path);
		s->interval = t->patroni_interval;
		s->timeout = t->patroni_timeout;
		failed = !s->user || !s->password || !s->ca_path || !s->cert_path || !s->key_path;
	}
	if (!failed)
		return s;
	settings_free(s);
	return NULL;
}

static int new_http(const struct settings *s, struct http **ret)
{
	return http_new(&(struct http_settings){.user = s->user,
						.password = s->password,
						.ca_path = s->ca_path,
						.cert_path = s->cert_path,
						.key_path = s->key_path,
						.timeout = s->timeout},
			ret);
}

static void tell(struct patroni *p, bool decides)
{
	p->owes_telling = !p->context.told(p->context.server, &p->view.answer, decides);
}

/* Whom it named before it was turned off may be gone: nothing of that is kept. */
static void turn(struct patroni *p, bool on)
{
	pthread_mutex_lock(&p->lock);
	p->view = (struct patroni_view){.state = on ? PATRONI_WAITING : PATRONI_OFF};
	pthread_mutex_unlock(&p->lock);
	if (on)
		tell(p, /* decides= */ true);
	else
		p->context.left(p->context.server);
}

static void take_settings(struct patroni *p)
{
	struct settings *fresh;
	struct http *http = NULL, *old = p->http;

	pthread_mutex_lock(&p->lock);
	fresh = p->fresh;
	p->fresh = NULL;
	pthread_mutex_unlock(&p->lock);
	if (!fresh)
		return;
	if (new_http(fresh, &http) < 0) {
		log_error("out of memory; Patroni is asked as before");
		settings_free(fresh);
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->http = http;
	pthread_mutex_unlock(&p->lock);
	p->round.goes_on = false;
	http_free(old);
	settings_free(p->settings);
	p->settings = fresh;
	p->due = 0;
	if (fresh->is_on != (p->view.state != PATRONI_OFF))
		turn(p, fresh->is_on);
}

/* ---- what an answer changes ---- */

static bool members_are_equal(const struct patroni_member *a, const struct patroni_member *b)
{
	return strcmp(a->name, b->name) == 0 && strcmp(a->host, b->host) == 0 && a->port == b->port &&
	       a->role == b->role && a->no_failover == b->no_failover && a->no_load_balance == b->no_load_balance;
}

/* But for what only people look at. */
static bool answers_are_equal(const struct patroni_answer *a, const struct patroni_answer *b)
{
	bool equal = a->count == b->count;

	for (uint32_t i = 0; equal && i < a->count; i++)
		equal = members_are_equal(&a->members[i], &b->members[i]);
	return equal;
}

static void log_answer(const struct patroni_view *before, const struct patroni_answer *now, const char *url)
{
	const struct patroni_member *old_leader = patroni_answer_leader(&before->answer);
	const struct patroni_member *leader = patroni_answer_leader(now);
	const char *old_name = old_leader ? old_leader->name : "", *name = leader ? leader->name : "";

	if (before->state == PATRONI_SILENT)
		log_event(EVENT_PROVIDER_BACK, LOG_INFO, "Patroni answers again", kv_str("url", url));
	if (strcmp(old_name, name) != 0 || (before->state == PATRONI_WAITING && !leader))
		log_event(
			EVENT_PROVIDER_LEADER, leader ? LOG_INFO : LOG_WARN,
			!leader ? "Patroni names no leader: writes wait until it does"
			: leader->role == PATRONI_STANDBY_LEADER
				? "Patroni names the leader of a standby cluster: there is no primary, and writes wait"
				: "Patroni names its leader",
			kv_str("leader", leader ? name : NULL), kv_str("before", *old_name ? old_name : NULL),
			kv_uint("members", now->count), kv_str("url", url));
	if (now->left_out && now->left_out != before->answer.left_out)
		log_warn("Patroni names members that cannot be used: without an address yet, or too many",
			 kv_uint("members", now->left_out), kv_uint("max", PATRONI_MEMBERS_MAX));
	if (now->paused != before->answer.paused)
		log_event(EVENT_PROVIDER_PAUSED, LOG_WARN,
			  now->paused ? "Patroni is paused: it does not fail over" : "Patroni is not paused any more");
}

static void take_answer(struct patroni *p, const struct patroni_answer *answer, const char *url)
{
	bool equal, was_silent;

	pthread_mutex_lock(&p->lock);
	if (p->view.state == PATRONI_OFF) { /* a moment ago */
		pthread_mutex_unlock(&p->lock);
		return;
	}
	log_answer(&p->view, answer, url);
	was_silent = p->view.state != PATRONI_ANSWERS;
	equal = p->view.answered_wall && answers_are_equal(&p->view.answer, answer);
	p->view.state = PATRONI_ANSWERS;
	p->view.answer = *answer;
	p->view.answered_wall = clock_wall();
	p->view.error[0] = 0;
	snprintf(p->view.url, sizeof(p->view.url), "%s", url);
	pthread_mutex_unlock(&p->lock);
	p->silent_rounds = 0;
	if (!equal || was_silent || p->owes_telling)
		tell(p, /* decides= */ true);
}

static void take_silence(struct patroni *p)
{
	bool is_news, is_owed;

	p->silent_rounds++;
	pthread_mutex_lock(&p->lock);
	p->view.failed++;
	snprintf(p->view.error, sizeof(p->view.error), "%s", p->round.error);
	is_news = p->view.state == PATRONI_WAITING ||
		  (p->view.state == PATRONI_ANSWERS && p->silent_rounds >= PATRONI_PATIENCE);
	if (is_news)
		p->view.state = PATRONI_SILENT;
	is_owed = p->owes_telling && p->view.state == PATRONI_SILENT;
	pthread_mutex_unlock(&p->lock);
	if (is_news || is_owed)
		tell(p, /* decides= */ false);
	if (!is_news)
		return;
	log_event(
		EVENT_PROVIDER_LOST, LOG_ERROR,
		"Patroni does not answer: its members stay as they were, and what the nodes say of themselves decides",
		kv_str("reason", p->round.error), kv_uint("urls", p->round.count),
		kv_uint("members", p->view.answer.count));
}

/* ---- a round ---- */

static void round_add(struct round *r, const char *url)
{
	for (uint32_t i = 0; i < r->count; i++)
		if (strcasecmp(r->urls[i], url) == 0)
			return;
	if (*url && r->count < URLS_MAX && strlen(url) < PATRONI_URL_MAX)
		snprintf(r->urls[r->count++], PATRONI_URL_MAX, "%s", url);
}

/* The one that answered last, the configured ones, those that were learned. */
static void list_urls(struct patroni *p)
{
	const struct patroni_answer *known = &p->view.answer;
	struct round *r = &p->round;
	char url[PATRONI_URL_MAX];

	r->count = 0;
	round_add(r, p->view.url);
	for (uint32_t i = 0; i < p->settings->url_count; i++)
		round_add(r, p->settings->urls[i]);
	for (uint32_t i = 0; i < known->count; i++)
		if (patroni_member_base_url(&known->members[i], url, sizeof(url)) && http_url_is_good(url) &&
		    (http_url_is_secret(url) || !p->settings->secret_only))
			round_add(r, url);
}

static void begin_round(struct patroni *p)
{
	struct round *r = &p->round;

	list_urls(p);
	r->next = r->failed = 0;
	r->begun = r->next_at = clock_now();
	r->number++;
	r->goes_on = true;
	r->error[0] = 0;
	atomic_store(&p->asked, false);
	p->due = clock_now() + p->settings->interval;
	pthread_mutex_lock(&p->lock);
	p->view.asked++;
	pthread_mutex_unlock(&p->lock);
}

static void round_failed(struct patroni *p, const char *url, const char *reason)
{
	struct round *r = &p->round;

	snprintf(r->error, sizeof(r->error), "%s: %s", url, reason);
	log_debug("no answer from Patroni", kv_str("url", url), kv_str("reason", reason));
	r->failed++;
	r->next_at = clock_now();
	if (r->failed < r->count)
		return;
	r->goes_on = false;
	take_silence(p);
}

static void answered(void *argument, const struct http_answer *answer)
{
	struct question *q = argument;
	struct patroni *p = q->patroni;
	struct patroni_answer *parsed = NULL;
	char why[200] = "";

	clock_update();
	if (q->round == p->round.number && p->round.goes_on) {
		parsed = malloc(sizeof(*parsed));
		if (!parsed)
			snprintf(why, sizeof(why), "out of memory");
		else if (answer->status == 0)
			snprintf(why, sizeof(why), "%s", answer->error);
		else if (answer->status != 200)
			snprintf(why, sizeof(why), "its answer is status %u", answer->status);
		else if (patroni_answer_parse(answer->body, answer->len, parsed, why, sizeof(why)) == 0)
			why[0] = 0;
		if (*why) {
			round_failed(p, q->url, why);
		} else {
			p->round.goes_on = false;
			take_answer(p, parsed, q->url);
		}
	}
	free(parsed);
	free(q);
}

static void ask_next(struct patroni *p)
{
	struct round *r = &p->round;
	struct question *q = calloc(1, sizeof(*q));
	char url[PATRONI_URL_MAX + 16];
	int i = (int)r->next++;

	r->next_at = clock_now() + ANOTHER_TOO;
	snprintf(url, sizeof(url), "%s/cluster", r->urls[i]);
	if (q) {
		*q = (struct question){.patroni = p, .round = r->number};
		memcpy(q->url, r->urls[i], sizeof(q->url));
	}
	if (q && http_under_way(p->http) < UNDER_WAY_MAX && http_get(p->http, url, answered, q) == 0)
		return;
	free(q);
	round_failed(p, r->urls[i], "it cannot be asked: out of memory, or no such URL");
}

/* ---- the thread ---- */

static bool is_due(struct patroni *p)
{
	usec_t now = clock_now();

	if (!p->settings->is_on)
		return false;
	return now >= p->due || (atomic_load(&p->asked) && now >= p->round.begun + HURRY_APART);
}

static usec_t until_next(struct patroni *p)
{
	usec_t now = clock_now(), at = p->due;

	if (!p->settings->is_on)
		at = USEC_NEVER;
	else if (p->round.goes_on)
		at = p->round.next < p->round.count ? p->round.next_at : USEC_NEVER;
	else if (atomic_load(&p->asked))
		at = MIN(at, p->round.begun + HURRY_APART);
	return at <= now ? 0 : MIN(at - now + USEC_PER_MSEC, TURN_MAX);
}

static void *patroni_main(void *argument)
{
	struct patroni *p = argument;

	pthread_setname_np(pthread_self(), "patroni");
	while (!atomic_load(&p->stopping)) {
		clock_update();
		take_settings(p);
		if (!p->round.goes_on && is_due(p))
			begin_round(p);
		while (p->round.goes_on && p->round.next < p->round.count && clock_now() >= p->round.next_at)
			ask_next(p);
		http_turn(p->http, until_next(p));
	}
	return NULL;
}

void patroni_ask(struct patroni *p)
{
	if (!p || atomic_load(&p->stopping) || atomic_exchange(&p->asked, true))
		return;
	pthread_mutex_lock(&p->lock);
	if (p->http)
		http_wake(p->http);
	pthread_mutex_unlock(&p->lock);
}

/* ---- what others look at ---- */

void patroni_look(struct patroni *p, struct patroni_view *view)
{
	pthread_mutex_lock(&p->lock);
	*view = p->view;
	pthread_mutex_unlock(&p->lock);
}

/* ---- start and end ---- */

struct patroni *patroni_new(const struct patroni_context *context)
{
	struct patroni *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->context = *context;
	p->view.state = PATRONI_OFF;
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

/* Nobody else can see it yet. */
static int start_thread(struct patroni *p, struct settings *s)
{
	int r = new_http(s, &p->http);

	if (r < 0)
		return r;
	p->settings = s;
	r = -pthread_create(&p->thread, NULL, patroni_main, p);
	if (r == 0) {
		p->has_thread = true;
		return 0;
	}
	p->settings = NULL;
	http_free(p->http);
	p->http = NULL;
	return r;
}

int patroni_configure(struct patroni *p, const struct config *config)
{
	bool on = config->topology.provider == PROVIDER_PATRONI;
	struct settings *fresh = on || p->has_thread ? settings_new(config) : NULL, *old;
	int r;

	if (!on && !p->has_thread)
		return 0;
	if (!fresh)
		return -ENOMEM;
	if (!p->has_thread) {
		turn(p, true); /* before anybody asks the nodes */
		r = start_thread(p, fresh);
		if (r < 0) {
			turn(p, false);
			settings_free(fresh);
		}
		return r;
	}
	pthread_mutex_lock(&p->lock);
	old = p->fresh;
	p->fresh = fresh;
	http_wake(p->http);
	pthread_mutex_unlock(&p->lock);
	settings_free(old);
	return 0;
}

void patroni_stop(struct patroni *p)
{
	if (!p || !p->has_thread)
		return;
	atomic_store(&p->stopping, true);
	pthread_mutex_lock(&p->lock);
	http_wake(p->http);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	p->has_thread = false;
}

void patroni_free(struct patroni *p)
{
	if (!p)
		return;
	p->round.goes_on = false;
	http_free(p->http);
	settings_free(p->settings);
	settings_free(p->fresh);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

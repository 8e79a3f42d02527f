/*
 * A new configuration, from the control thread: all of it is made and checked, then one pointer after the other is
 * replaced; on any error everything stays. What was in force before is freed when each worker has taken the new one.
 */
#include "server/proxy_priv.h"

#include "base/event.h"
#include "base/log.h"
#include "route/breaker.h"
#include "server/load.h"
#include "server/notify.h"

#include <stdio.h>
#include <time.h>

#define CHANGED_MAX (1u << 20) /* bytes of names; more are in the log only */

/* ---- TLS ---- */

static const char *or_null(const char *text)
{
	return *text ? text : NULL;
}

bool make_client_tls(const struct config *c, struct tls_context **ret)
{
	struct tls_settings s = {
		.cert_path = c->tls.cert_path,
		.key_path = c->tls.key_path,
		.ca_path = c->tls.ca_path,
		.min_version = c->tls.min_version,
		.ciphers = or_null(c->tls.ciphers),
		.ciphersuites = or_null(c->tls.ciphersuites),
		.ktls = c->tls.ktls,
		.require_client_cert = c->tls.require_client_cert || c->tls.mode >= TLS_VERIFY_CA,
		.request_client_cert = *c->tls.ca_path != 0,
	};
	char why[300];

	*ret = NULL;
	if (!c->tls.enabled || c->tls.mode == TLS_DISABLE)
		return true;
	*ret = tls_server_context_new(&s, why, sizeof(why));
	if (!*ret)
		log_error("TLS towards clients is not possible: check [tls] cert_path, key_path and ca_path",
			  kv_str("reason", why), kv_str("cert_path", c->tls.cert_path),
			  kv_str("key_path", c->tls.key_path));
	return *ret != NULL;
}

bool make_server_tls(const struct config *c, struct tls_context **ret)
{
	struct tls_settings s = {
		.cert_path = c->server_tls.cert_path,
		.key_path = c->server_tls.key_path,
		.ca_path = c->server_tls.ca_path,
		.min_version = c->server_tls.min_version,
		.ciphers = or_null(c->server_tls.ciphers),
		.ciphersuites = or_null(c->server_tls.ciphersuites),
		.ktls = c->server_tls.ktls,
		.mode = c->server_tls.mode,
	};
	char why[300];

	*ret = NULL;
	if (c->server_tls.mode < TLS_ALLOW)
		return true;
	*ret = tls_client_context_new(&s, why, sizeof(why));
	if (!*ret)
		log_error("TLS towards nodes is not possible: check [server_tls]", kv_str("reason", why));
	return *ret != NULL;
}

/* ---- reload ---- */

struct reloaded { /* what was in force before */
	struct config *config;
	struct config_pool **settings;
	struct tls_context *client_tls;
	struct worker_settings fresh;
};

static void take_settings(struct worker *w, void *argument)
{
	struct reloaded *r = argument;

	worker_reload(w, &r->fresh);
}

/* Every worker has left what it did with the old ones behind. */
static void free_old(void *argument)
{
	struct reloaded *r = argument;

	for (size_t i = 0; r->settings && r->settings[i]; i++)
		free(r->settings[i]);
	free(r->settings);
	tls_context_unref(r->client_tls);
	config_free(r->config);
	free(r);
}

static void tell_difference(void *argument, const char *path, const char *old_value, const char *new_value,
			    bool reloads)
{
	struct reload_outcome *outcome = argument;

	if (reloads)
		buf_add(&outcome->changed, path, strlen(path) + 1);
	log_event(EVENT_CONFIG_CHANGED, reloads ? LOG_INFO : LOG_WARN,
		  reloads ? "configuration changed"
			  : "configuration changed, but this key needs a restart; the running value stays",
		  kv_str("key", path), kv_str("from", old_value), kv_str("to", new_value));
}

static uint32_t count_changed(const struct reload_outcome *outcome)
{
	uint32_t count = 0;

	for (size_t i = 0; i < outcome->changed.len; i++)
		count += outcome->changed.bytes[i] == 0;
	return count;
}

static void log_reloaded(const struct proxy *p, const struct config *c, const struct reload_outcome *outcome,
			 bool client_tls, bool server_tls)
{
	log_event(EVENT_CONFIG_RELOADED, LOG_INFO, "configuration reloaded", kv_str("file", p->options->config_path),
		  kv_uint("changed", count_changed(outcome)));
	if (client_tls || (server_tls && (*c->server_tls.cert_path || *c->server_tls.ca_path)))
		log_event(EVENT_TLS_RELOADED, LOG_INFO, "certificates read again",
			  kv_str("cert_path", client_tls ? c->tls.cert_path : NULL),
			  kv_str("server_cert_path", server_tls ? or_null(c->server_tls.cert_path) : NULL));
}

static void keep_reason(struct reload_outcome *outcome, const struct report_message *m)
{
	if (m->severity != REPORT_ERROR || outcome->why[0])
		return;
	if (m->line)
		snprintf(outcome->why, sizeof(outcome->why), "%s:%u: %s", m->file, m->line, m->text);
	else
		snprintf(outcome->why, sizeof(outcome->why), "%s%s%s", m->file, m->file[0] ? ": " : "", m->text);
}

/* What SET has given; of a real reload none. */
struct settings {
	const struct config_setting *list;
	uint32_t count;
};

/* settings NULL: from the file. */
static struct config *load_again(struct proxy *p, const struct settings *settings, struct reload_outcome *outcome)
{
	struct config_report report;
	struct config *fresh = NULL;
	int r;

	config_report_init(&report, p->options->strict);
	if (settings)
		r = config_load_settings(p->config, settings->list, settings->count, &p->options->flags, &fresh,
					 &report);
	else
		r = load_config(p->options, &fresh, &report);
	for (const struct report_message *m = report.first; m; m = m->next) {
		keep_reason(outcome, m);
		if (m->severity != REPORT_NOTICE)
			log_at(m->severity == REPORT_ERROR ? LOG_ERROR : LOG_WARN, m->text, kv_str("file", m->file),
			       kv_uint("line", m->line));
	}
	config_report_free(&report);
	if (r < 0) {
		config_free(fresh);
		return NULL;
	}
	return fresh;
}

/* ---- who waits for a reload ---- */

void reload_news_init(struct reload_news *news)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&news->over, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_mutex_init(&news->lock, NULL);
}

void reload_news_free(struct reload_news *news)
{
	buf_free(&news->outcome.changed);
	pthread_cond_destroy(&news->over);
	pthread_mutex_destroy(&news->lock);
}

/* What is asked for from now on needs one more: this one may have read the file already. */
static uint64_t news_begin(struct reload_news *news)
{
	uint64_t asked;

	pthread_mutex_lock(&news->lock);
	asked = news->asked;
	pthread_mutex_unlock(&news->lock);
	return asked;
}

/* Takes the outcome over. */
static void news_tell(struct reload_news *news, uint64_t asked, int result, struct reload_outcome *outcome)
{
	pthread_mutex_lock(&news->lock);
	buf_free(&news->outcome.changed);
	news->outcome = *outcome;
	news->result = result;
	news->done = MAX(news->done, asked);
	pthread_cond_broadcast(&news->over);
	pthread_mutex_unlock(&news->lock);
}

void reload_news_end(struct reload_news *news)
{
	struct reload_outcome nothing = {.why = "the proxy ends"};

	news_tell(news, UINT64_MAX, -EINVAL, &nothing);
}

static struct timespec after(unsigned ms)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}

int reload_and_wait(void *proxy, unsigned wait_ms, struct reload_outcome *ret)
{
	struct proxy *p = proxy;
	struct reload_news *news = &p->reload_news;
	struct timespec until = after(wait_ms);
	uint64_t number;
	int r;

	*ret = (struct reload_outcome){.changed = BUF_INIT(CHANGED_MAX)};
	pthread_mutex_lock(&news->lock);
	number = ++news->asked;
	pthread_mutex_unlock(&news->lock);
	r = reload_ask(p);
	if (r < 0)
		return r;
	pthread_mutex_lock(&news->lock);
	while (news->done < number && r == 0)
		if (pthread_cond_timedwait(&news->over, &news->lock, &until) == ETIMEDOUT)
			r = -ETIMEDOUT;
	if (news->done >= number) {
		r = news->result;
		buf_add(&ret->changed, news->outcome.changed.bytes, news->outcome.changed.len);
		memcpy(ret->why, news->outcome.why, sizeof(ret->why));
	}
	pthread_mutex_unlock(&news->lock);
	return r;
}

/* ---- the reload itself ---- */

/* settings NULL: the file is read. false: the old one stays; the log says why. */
static bool change(struct proxy *p, const struct settings *settings, struct reload_outcome *outcome)
{
	struct tls_context *client_tls = NULL, *server_tls = NULL;
	struct reloaded *r = calloc(1, sizeof(*r));
	struct config *fresh = r ? load_again(p, settings, outcome) : NULL;

	if (!fresh || !make_client_tls(fresh, &client_tls) || !make_server_tls(fresh, &server_tls) ||
	    !admin_prepare(p->admin, fresh))
		goto fail;
	config_diff(p->config, fresh, tell_difference, outcome);
	log_set_level(fresh->log.level);
	log_set_format(fresh->log.format);
	r->config = p->config;
	r->client_tls = p->client_tls;
	r->fresh = (struct worker_settings){.config = fresh, .client_tls = client_tls};
	p->config = fresh;
	p->client_tls = client_tls;
	members_reload(p->members, fresh);
	if (exporter_configure(p->telemetry, fresh) < 0)
		log_error("no memory to configure telemetry anew: it goes on as before");
	provider_reload(p);
	(void)nodes_take(p); /* ahead of the pools, which look for theirs */
	pools_reload(p->pools, fresh, server_tls, &r->settings);
	breakers_reload(p->shared.breakers, fresh);
	cluster_reload(p->cluster, fresh, server_tls);
	catalogs_reload(p->catalogs, fresh);
	p->resolve_all = true; /* by the next tick */
	tls_context_unref(p->server_tls);
	p->server_tls = server_tls;
	listen_set_options(&p->listeners, &fresh->proxy);
	admin_reload(p->admin, fresh);
	workers_let_spin(p);
	workers_tell(p, take_settings, free_old, r);
	log_reloaded(p, fresh, outcome, client_tls != NULL, server_tls != NULL);
	return true;
fail:
	tls_context_unref(client_tls);
	tls_context_unref(server_tls);
	config_free(fresh);
	free(r);
	log_event(EVENT_CONFIG_REFUSED, LOG_ERROR, "configuration not reloaded; keeping the old one",
		  kv_str("reason", outcome->why[0] ? outcome->why : NULL));
	return false;
}

void reload(struct proxy *p)
{
	struct reload_outcome outcome = {.changed = BUF_INIT(CHANGED_MAX)};
	uint64_t asked = news_begin(&p->reload_news);
	bool done;

	notify_reloading();
	if (!p->options->config_path)
		log_warn("there is no file to reload: the configuration was given by flags");
	done = p->options->config_path && change(p, NULL, &outcome);
	if (done)
		reload_forget_settings(p);
	else
		atomic_fetch_add(&p->reloads_failed, 1);
	notify_ready();
	atomic_fetch_add(&p->reloads, 1);
	news_tell(&p->reload_news, asked, done ? 0 : -EINVAL, &outcome);
}

/* ---- SET on the console ---- */

#define SETTINGS_MAX 1000u

static void free_setting(struct config_setting *s)
{
	free((char *)(uintptr_t)s->section);
	free((char *)(uintptr_t)s->name);
	free((char *)(uintptr_t)s->value);
}

void reload_forget_settings(struct proxy *p)
{
	for (uint32_t i = 0; i < p->setting_count; i++)
		free_setting(&p->settings[i]);
	free(p->settings);
	p->settings = NULL;
	p->setting_count = 0;
}

/* The new one comes last, in the place of an older one of the same key. */
static void keep_setting(struct proxy *p, struct config_setting *list, uint32_t count)
{
	for (uint32_t i = 0; i + 1 < count; i++) {
		if (strcmp(list[i].section, list[count - 1].section) != 0 ||
		    strcmp(list[i].name, list[count - 1].name) != 0)
			continue;
		free_setting(&list[i]);
		list[i] = list[--count];
		break;
	}
	p->settings = list;
	p->setting_count = count;
}

int reload_set(void *proxy, const char *section, const char *name, const char *value, char *why, size_t size)
{
	struct proxy *p = proxy;
	struct reload_outcome outcome = {.changed = BUF_INIT(CHANGED_MAX)};
	struct settings settings;
	struct config_setting *list, *last;
	bool done;

	if (!p->config->text.len || p->setting_count == SETTINGS_MAX) {
		snprintf(why, size, p->setting_count ? "too many were set" : "there is no configuration file");
		return -EINVAL;
	}
	list = realloc(p->settings, (p->setting_count + 1) * sizeof(*list));
	if (!list)
		return -ENOMEM;
	p->settings = list;
	last = &list[p->setting_count];
	*last = (struct config_setting){.section = strdup(section), .name = strdup(name), .value = strdup(value)};
	settings = (struct settings){.list = list, .count = p->setting_count + 1};
	done = last->section && last->name && last->value && change(p, &settings, &outcome);
	snprintf(why, size, "%s", outcome.why);
	buf_free(&outcome.changed);
	if (done) {
		keep_setting(p, list, settings.count);
		return 0;
	}
	free_setting(last);
	return -EINVAL;
}

int reload_ask(void *proxy)
{
	struct proxy *p = proxy;

	if (!p->options->config_path)
		return -ENOENT;
	atomic_store(&p->reload_asked, true);
	(void)pthread_kill(p->control, SIGNAL_MEMBERS); /* it looks at once */
	return 0;
}

void reload_count(void *proxy, uint64_t *ret_over, uint64_t *ret_failed)
{
	struct proxy *p = proxy;

	*ret_over = atomic_load(&p->reloads);
	*ret_failed = atomic_load(&p->reloads_failed);
}

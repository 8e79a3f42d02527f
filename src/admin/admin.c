/* See admin.h. The beginning and the end; transport.c speaks HTTP, dispatch.c finds who answers. */
#include "admin/sql.h"
#include "admin/streams.h"
#include "admin/views.h"

#include "base/log.h"

#include <unistd.h>

static void admin_free(struct admin *admin)
{
	sql_runner_stop(admin->sql); /* first: transports can't stop while answers are owed */
	if (admin->streams)
		streams_end(admin->streams); /* nor while a connection is suspended */
	for (uint32_t i = 0; i < admin->transport_count; i++)
		transport_stop(admin->transports[i]);
	sql_runner_free(admin->sql);
	sampler_stop(admin->sampler);
	streams_free(admin->streams);
	round_unref(admin->ping);
	running_config_free(admin->running);
	admin_tls_unref(admin->tls);
	admin_tls_unref(admin->next_tls);
	pthread_mutex_destroy(&admin->queries_lock);
	pthread_mutex_destroy(&admin->lock);
	free(admin);
}

int admin_start(const struct admin_context *context, const struct admin_listener *listeners, uint32_t count,
		struct admin **ret_admin)
{
	struct admin *admin = calloc(1, sizeof(*admin));
	int r = 0;

	assert(count <= ADMIN_LISTENERS_MAX);
	if (!admin)
		return -ENOMEM;
	admin->context = *context;
	admin->running = running_config_new(context->config);
	admin->sql = sql_runner_new();
	pthread_mutex_init(&admin->lock, NULL);
	pthread_mutex_init(&admin->queries_lock, NULL);
	r = streams_new(context->config->admin.max_streams, &admin->streams);
	if (r == 0 && !admin->sql)
		r = -ENOMEM;
	else if (r == 0 && !admin_prepare(admin, context->config))
		r = -EINVAL;
	admin->tls = admin->next_tls;
	admin->next_tls = NULL;
	admin->sampler = r == 0 ? sampler_start(admin) : NULL;
	for (uint32_t i = 0; i < count && r == 0; i++) {
		struct transport *t = NULL;

		r = transport_start(admin, &listeners[i], &t);
		if (r < 0)
			break;
		pthread_mutex_lock(&admin->lock); /* it serves already, and shows the metrics of all */
		admin->listen_fds[i] = listeners[i].fd;
		admin->transports[admin->transport_count++] = t;
		pthread_mutex_unlock(&admin->lock);
	}
	if (r < 0) {
		admin_free(admin);
		return r;
	}
	*ret_admin = admin;
	return 0;
}

void admin_tick(struct admin *admin)
{
	usec_t now = clock_update();
	uint32_t late = 0;

	for (uint32_t i = 0; admin && i < admin->transport_count; i++)
		late += transport_tick(admin->transports[i], now);
	if (late == 0)
		return;
	atomic_fetch_add(&admin->counts.connections_late, late);
	log_info("connections to the admin API closed: no whole request came in time", kv_uint("connections", late));
}

bool admin_prepare(struct admin *admin, const struct config *config)
{
	char why[400];

	if (!admin)
		return true;
	admin_tls_unref(admin->next_tls);
	admin->next_tls = NULL;
	if (admin_tls_new(&config->admin, &admin->next_tls, why, sizeof(why)))
		return true;
	log_error("TLS of the admin API is not possible", kv_str("reason", why));
	return false;
}

void admin_reload(struct admin *admin, const struct config *config)
{
	struct admin_tls *old;

	if (!admin)
		return;
	old = admin->next_tls;
	pthread_mutex_lock(&admin->lock);
	admin->context.config = config;
	if (admin->tls && admin->next_tls) {
		old = admin->tls;
		admin->tls = admin->next_tls;
	}
	pthread_mutex_unlock(&admin->lock);
	if (!admin->tls != !admin->next_tls)
		log_warn("whether the admin API speaks HTTPS is decided at the start; the running one stays as it is");
	admin->next_tls = NULL;
	admin_tls_unref(old);
}

void admin_set_draining(struct admin *admin)
{
	if (admin)
		atomic_store(&admin->draining, true);
}

void admin_quiesce(struct admin *admin)
{
	if (!admin)
		return;
	for (uint32_t i = 0; i < admin->transport_count; i++)
		transport_quiesce(admin->transports[i]);
	streams_end(admin->streams);
}

void admin_stop(struct admin *admin)
{
	int fds[ADMIN_LISTENERS_MAX];
	uint32_t count;

	if (!admin)
		return;
	count = admin->transport_count;
	memcpy(fds, admin->listen_fds, sizeof(fds));
	admin_free(admin);
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
}

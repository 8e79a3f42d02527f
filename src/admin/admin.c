/* See admin.h. The beginning and the end; transport.c speaks HTTP, dispatch.c finds who answers. */
#include "admin/streams.h"
#include "admin/views.h"

int admin_start(const struct admin_context *context, int listen_fd, struct admin **ret_admin)
{
	struct admin *admin = calloc(1, sizeof(*admin));
	int r;

	if (!admin)
		return -ENOMEM;
	admin->context = *context;
	admin->running = running_config_new(context->config);
	r = streams_new(context->config->admin.max_streams, &admin->streams);
	if (r < 0) {
		running_config_free(admin->running);
		free(admin);
		return r;
	}
	pthread_mutex_init(&admin->lock, NULL);
	r = transport_start(admin, listen_fd, &admin->transport);
	if (r < 0) {
		streams_free(admin->streams);
		running_config_free(admin->running);
		pthread_mutex_destroy(&admin->lock);
		free(admin);
		return r;
	}
	*ret_admin = admin;
	return 0;
}

void admin_reload(struct admin *admin, const struct config *config)
{
	if (!admin)
		return;
	pthread_mutex_lock(&admin->lock);
	admin->context.config = config;
	pthread_mutex_unlock(&admin->lock);
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
	transport_quiesce(admin->transport);
	streams_end(admin->streams);
}

void admin_stop(struct admin *admin)
{
	if (!admin)
		return;
	streams_end(admin->streams);
	transport_stop(admin->transport);
	streams_free(admin->streams);
	round_unref(admin->ping);
	running_config_free(admin->running);
	pthread_mutex_destroy(&admin->lock);
	free(admin);
}

/*
 * HTTP over one listening socket: a daemon of libmicrohttpd with a few threads of its own, so that a handler that waits
 * for a busy worker (two seconds at most) holds up no health check. A handler runs once its request's body has come.
 */
#include "admin/admin_priv.h"

#include "base/log.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define THREADS              4u
#define CONNECTIONS_MAX      256u
#define CONNECTION_TIMEOUT_S 15u
#define CONNECTION_MEMORY    (32u << 10) /* for the request's head; a larger one is answered with 431 */
#define BODY_MAX             (64u << 10)

struct transport {
	struct admin *admin;
	struct MHD_Daemon *daemon;
	int listen_fd;   /* ours; the daemon has a duplicate */
	int quiesced_fd; /* that duplicate, once the daemon no longer uses it; -1 */
};

/* ---- requests and answers ---- */

static struct MHD_Response *response_new(struct answer *answer)
{
	static const char no_memory[] = "{\"error\":\"out of memory\"}";
	struct MHD_Response *response;

	if (answer->response)
		return answer->response;
	if (!answer->body) {
		answer->status = MHD_HTTP_INTERNAL_SERVER_ERROR;
		answer->type = "application/json";
		return MHD_create_response_from_buffer(sizeof(no_memory) - 1, (void *)(uintptr_t)no_memory,
						       MHD_RESPMEM_PERSISTENT);
	}
	response = MHD_create_response_from_buffer(answer->len, answer->body, MHD_RESPMEM_MUST_FREE);
	if (!response)
		free(answer->body);
	return response;
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer *answer)
{
	struct MHD_Response *response = response_new(answer);
	char text[16];
	enum MHD_Result r;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
	if (answer->allow[0])
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, answer->allow);
	if (answer->retry_after) {
		snprintf(text, sizeof(text), "%u", answer->retry_after);
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, text);
	}
	if (answer->status == MHD_HTTP_UNAUTHORIZED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"heliosdb-proxy\"");
	r = MHD_queue_response(connection, answer->status, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result refuse_body(const struct request *request)
{
	struct answer answer = {.tells_problems = path_is_versioned(request->path)};

	answer_error(&answer, MHD_HTTP_CONTENT_TOO_LARGE, "the body is longer than %u bytes", BODY_MAX);
	return send_answer(request->connection, &answer);
}

static void on_end(void *transport, struct MHD_Connection *connection, void **state,
		   enum MHD_RequestTerminationCode how)
{
	struct buf *body = *state;

	(void)transport;
	(void)connection;
	(void)how;
	if (body)
		buf_free(body);
	free(body);
	*state = NULL;
}

/* What follows from the head alone. */
static enum MHD_Result begin_request(const struct request *request, void **state)
{
	const char *announced = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
	struct buf *body;
	uint64_t len;

	if (announced && !parse_number(announced, BODY_MAX, &len))
		return refuse_body(request);
	body = malloc(sizeof(*body));
	if (!body)
		return MHD_NO;
	buf_init(body, BODY_MAX);
	*state = body;
	return MHD_YES;
}

/* Called with the head (*state NULL), with each piece of the body, and at the end. *state is what has come of it. */
static enum MHD_Result on_request(void *transport, struct MHD_Connection *connection, const char *path,
				  const char *method, const char *version, const char *piece, size_t *piece_len,
				  void **state)
{
	struct transport *t = transport;
	struct request request = {.admin = t->admin, .connection = connection, .method = method, .path = path};
	struct answer answer = {.tells_problems = path_is_versioned(path)};
	struct buf *body = *state;

	if (!body)
		return begin_request(&request, state);
	if (*piece_len > 0) {
		buf_add(body, piece, *piece_len);
		*piece_len = 0;
		return body->failed ? MHD_NO : MHD_YES; /* in the middle of a body nothing can be answered */
	}
	request.body = slice_make(body->bytes, body->len);
	dispatch(&request, &answer);
	return send_answer(connection, &answer);
}

static void on_library_log(void *unused, const char *format, va_list arguments) PRINTF_LIKE(2, 0);

static void on_library_log(void *unused, const char *format, va_list arguments)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, arguments);
	text[strcspn(text, "\n")] = 0;
	log_debug("admin API", kv_str("detail", text));
}

/* ---- beginning and end ---- */

/* fd is the daemon's, whatever comes of it. */
static struct MHD_Daemon *start_daemon(struct transport *t, int fd)
{
	struct MHD_Daemon *daemon;
	sigset_t all, before;

	/* Signals are for the control thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	daemon = MHD_start_daemon(
		MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, /* port= */ 0, NULL, NULL,
		on_request, t, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_end,
		NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE, THREADS, MHD_OPTION_CONNECTION_LIMIT,
		CONNECTIONS_MAX + t->admin->context.config->admin.max_streams, MHD_OPTION_CONNECTION_TIMEOUT,
		CONNECTION_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return daemon;
}

int transport_start(struct admin *admin, int listen_fd, struct transport **ret)
{
	struct transport *t = calloc(1, sizeof(*t));
	int flags = fcntl(listen_fd, F_GETFL), fd = fcntl(listen_fd, F_DUPFD_CLOEXEC, 3), r = -ENOMEM;

	if (!t)
		goto out;
	/* Several threads accept: who comes late must not sleep in there. */
	if (fd < 0 || flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		r = -errno;
		goto out;
	}
	*t = (struct transport){.admin = admin, .listen_fd = listen_fd, .quiesced_fd = -1};
	errno = 0;
	t->daemon = start_daemon(t, fd);
	fd = -1; /* the library has closed it if it failed */
	if (!t->daemon) {
		r = errno ? -errno : -EIO;
		goto out;
	}
	*ret = t;
	return 0;
out:
	if (fd >= 0)
		close(fd);
	free(t);
	return r;
}

void transport_quiesce(struct transport *t)
{
	if (t->quiesced_fd < 0)
		t->quiesced_fd = MHD_quiesce_daemon(t->daemon);
}

void transport_stop(struct transport *t)
{
	if (!t)
		return;
	MHD_stop_daemon(t->daemon);
	if (t->quiesced_fd >= 0)
		close(t->quiesced_fd);
	close(t->listen_fd);
	free(t);
}

/*
 * HTTP over one listening socket: a daemon of libmicrohttpd with a few threads of its own, so that a handler that waits
 * for a busy worker (two seconds at most) holds up no health check. A handler runs once its request's body has come.
 */
#include "admin/admin_priv.h"

#include "base/log.h"
#include "config/units.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define THREADS              4u
#define CONNECTIONS_MAX      (THREADS << 17) /* of the library's: ours, which can be reloaded, is far below */
#define CONNECTION_TIMEOUT_S 15u
#define CONNECTION_MEMORY    (32u << 10) /* for the request's head; a larger one is answered with 431 */
#define BODY_MAX             (64u << 10)
#define LATE_WAITS           100
#define LATE_WAIT_US         5000
#define DROP_MAX             (1u << 20) /* of a body that is too long; then the connection is closed */
#define REFUSED_MAX          16u        /* connections above the limits that are told so, at the same time */
#define REFUSED_AGAIN_S      1u         /* when they may try again */

struct transport {
	struct admin *admin;
	struct MHD_Daemon *daemon;
	int quiesced_fd; /* the daemon's duplicate of the listening socket, once it no longer uses it; -1 */
	bool is_exposed; /* other machines can reach it */
	bool has_tls;
	struct clients clients;
	_Atomic uint32_t late; /* answers that come later, and were not sent to their end */
};

/* A request whose body comes. */
struct upload {
	struct transport *transport;
	struct buf body;
	uint64_t dropped;    /* bytes beyond BODY_MAX */
	struct later *later; /* NULL: the answer follows at once, or is being sent */
	bool was_late;
};

struct later {
	struct MHD_Connection *connection;
	struct answer answer; /* unset until it was given; MHD's lock is between */
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
	response = MHD_create_response_from_buffer(
		answer->len, answer->body, answer->body_is_static ? MHD_RESPMEM_PERSISTENT : MHD_RESPMEM_MUST_FREE);
	if (!response && !answer->body_is_static)
		free(answer->body);
	return response;
}

/* What has a tag may be kept, but the browser asks each time whether it is still the same. */
static void add_caching(struct MHD_Response *response, const struct answer *answer)
{
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, answer->etag[0] ? "no-cache" : "no-store");
	if (!answer->etag[0])
		return;
	MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, answer->etag);
	MHD_add_response_header(response, MHD_HTTP_HEADER_VARY, MHD_HTTP_HEADER_ACCEPT_ENCODING);
	if (answer->encoding)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_ENCODING, answer->encoding);
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer *answer)
{
	struct MHD_Response *response = response_new(answer);
	char text[16];
	enum MHD_Result r;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
	add_caching(response, answer);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	MHD_add_response_header(response, "Content-Security-Policy",
				answer->policy ? answer->policy : "default-src 'none'; frame-ancestors 'none'");
	if (answer->allow[0])
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, answer->allow);
	if (answer->retry_after) {
		snprintf(text, sizeof(text), "%u", answer->retry_after);
		MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, text);
	}
	if (answer->closes)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	if (answer->status == MHD_HTTP_UNAUTHORIZED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"heliosdb-proxy\"");
	r = MHD_queue_response(connection, answer->status, response);
	MHD_destroy_response(response);
	return r;
}

static enum MHD_Result refuse_client(const struct request *request)
{
	struct answer answer = {
		.tells_problems = path_is_versioned(request->path), .retry_after = REFUSED_AGAIN_S, .closes = true};

	answer_problem(&answer, MHD_HTTP_SERVICE_UNAVAILABLE, "too_many_connections",
		       "there are as many connections as [admin] max_connections or max_connections_per_address "
		       "allows");
	dispatch_count(request->admin, &answer);
	return send_answer(request->connection, &answer);
}

static enum MHD_Result refuse_body(const struct request *request)
{
	struct answer answer = {.tells_problems = path_is_versioned(request->path)};

	answer_error(&answer, MHD_HTTP_CONTENT_TOO_LARGE, "the body is longer than %u bytes", BODY_MAX);
	dispatch_end(request, &answer);
	return send_answer(request->connection, &answer);
}

static struct client *client_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static void on_end(void *transport, struct MHD_Connection *connection, void **state,
		   enum MHD_RequestTerminationCode how)
{
	struct transport *t = transport;
	struct client *client = client_of(connection);
	struct upload *upload = *state;

	(void)how;
	if (upload) {
		if (upload->later)
			free(upload->later->answer.body); /* it was not sent */
		free(upload->later);
		if (upload->was_late)
			atomic_fetch_sub(&t->late, 1);
		buf_free(&upload->body);
	}
	free(upload);
	*state = NULL;
	if (client)
		client_waits(&t->clients, client);
}

struct later *request_later(struct request *request, struct answer *answer)
{
	struct upload *upload = request->upload;
	struct later *later = malloc(sizeof(*later));

	if (!later)
		return NULL;
	*later = (struct later){.connection = request->connection, .answer.tells_problems = answer->tells_problems};
	upload->later = later;
	upload->was_late = answer->is_late = true;
	atomic_fetch_add(&upload->transport->late, 1);
	MHD_suspend_connection(later->connection);
	return later;
}

int later_client_fd(const struct later *later)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(later->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	return info ? info->connect_fd : -1;
}

struct answer *later_answer(struct later *later)
{
	return &later->answer;
}

void later_send(struct later *later)
{
	MHD_resume_connection(later->connection); /* from here on it is the transport's */
}

/* The answer that was waited for: as if it had been given at once. */
static enum MHD_Result send_later(const struct request *request, struct upload *upload)
{
	struct answer answer = upload->later->answer;

	free(upload->later);
	upload->later = NULL;
	dispatch_count(request->admin, &answer);
	return send_answer(request->connection, &answer);
}

/* What follows from the head alone. */
static enum MHD_Result begin_request(struct transport *t, const struct request *request, void **state)
{
	const char *announced = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
	struct upload *upload;
	uint64_t len;

	if (announced && !parse_number(announced, BODY_MAX, &len))
		return refuse_body(request);
	upload = calloc(1, sizeof(*upload));
	if (!upload)
		return MHD_NO;
	upload->transport = t;
	buf_init(&upload->body, BODY_MAX);
	*state = upload;
	return MHD_YES;
}

/* In the middle of a body nothing can be answered: what is too much of one whose length nobody said is read and
 * dropped. */
static enum MHD_Result take_piece(struct upload *upload, const char *piece, size_t *piece_len)
{
	if (upload->dropped || *piece_len > BODY_MAX - upload->body.len)
		upload->dropped += *piece_len;
	else
		buf_add(&upload->body, piece, *piece_len);
	*piece_len = 0;
	return upload->body.failed || upload->dropped > DROP_MAX ? MHD_NO : MHD_YES;
}

/* Called with the head (*state NULL), with each piece of the body, at the end, and when an answer that comes later is
 * there. */
static enum MHD_Result on_request(void *transport, struct MHD_Connection *connection, const char *path,
				  const char *method, const char *version, const char *piece, size_t *piece_len,
				  void **state)
{
	struct transport *t = transport;
	struct request request = {.admin = t->admin, .connection = connection, .method = method, .path = path};
	struct answer answer = {.tells_problems = path_is_versioned(path)};
	struct upload *upload = *state;

	(void)version;
	request.client = client_of(connection);
	if (!request.client) /* there was no memory for it */
		return MHD_NO;
	if (request.client->is_refused)
		return refuse_client(&request);
	if (!upload)
		return begin_request(t, &request, state);
	if (*piece_len > 0)
		return take_piece(upload, piece, piece_len);
	if (upload->later)
		return send_later(&request, upload);
	request.upload = upload;
	request.is_exposed = t->is_exposed;
	request.body = slice_make(upload->body.bytes, upload->body.len);
	client_is_served(&t->clients, request.client);
	if (upload->dropped)
		return refuse_body(&request);
	dispatch(&request, &answer);
	dispatch_end(&request, &answer);
	if (answer.response) /* handlers make one themselves only to send bit by bit */
		client_streams(&t->clients, request.client);
	return answer.is_late ? MHD_YES : send_answer(connection, &answer);
}

/* ---- connections ---- */

/* What may_come() said of the connection that begins: the library calls both on the thread that has accepted it. */
static _Thread_local bool comes_refused;

static enum MHD_Result may_come(void *transport, const struct sockaddr *address, socklen_t len)
{
	struct transport *t = transport;
	struct source source = source_of(address, (uint32_t)-1);
	struct room room = {.refused = t->has_tls ? 0 : REFUSED_MAX}; /* no handshake for those */
	bool let_in;

	(void)len;
	pthread_mutex_lock(&t->admin->lock);
	room.max = t->admin->context.config->admin.max_connections;
	room.max_per_source =
		source.family == AF_UNIX ? room.max : t->admin->context.config->admin.max_connections_per_address;
	pthread_mutex_unlock(&t->admin->lock);
	let_in = clients_have_room(&t->clients, &source, &room, &comes_refused);
	if (comes_refused)
		atomic_fetch_add(&t->admin->counts.connections_refused, 1);
	return let_in ? MHD_YES : MHD_NO;
}

static void begin_client(struct transport *t, struct MHD_Connection *connection, void **ret_client)
{
	const union MHD_ConnectionInfo *fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD),
				       *address =
					       MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS),
				       *session;
	struct client *client =
		fd ? client_new(&t->clients, fd->connect_fd, address ? address->client_addr : NULL, comes_refused)
		   : NULL;

	*ret_client = client;
	if (!client || !t->has_tls)
		return;
	session = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
	pthread_mutex_lock(&t->admin->lock);
	client->tls = admin_tls_ref(t->admin->tls);
	pthread_mutex_unlock(&t->admin->lock);
	if (session && session->tls_session)
		admin_tls_use(client->tls, session->tls_session);
}

static void on_connection(void *transport, struct MHD_Connection *connection, void **client,
			  enum MHD_ConnectionNotificationCode what)
{
	struct transport *t = transport;
	struct admin_tls *tls;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		begin_client(t, connection, client);
	} else if (*client) {
		tls = ((struct client *)*client)->tls;
		client_free(&t->clients, *client);
		*client = NULL;
		admin_tls_unref(tls);
	}
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

static size_t on_escaped(void *transport, struct MHD_Connection *connection, char *text)
{
	return url_unescape(text);
}

/* fd is the daemon's, whatever comes of it. */
static struct MHD_Daemon *start_daemon(struct transport *t, int fd)
{
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls_options[] = {
		{MHD_OPTION_HTTPS_CERT_CALLBACK, 0, admin_tls_no_key()},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_PRIORITIES},
		{MHD_OPTION_END, 0, NULL},
	};
	struct MHD_Daemon *daemon;
	sigset_t all, before;

	/* Signals are for the control thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	daemon = MHD_start_daemon(t->has_tls ? flags | MHD_USE_TLS : flags, /* port= */ 0, may_come, t, on_request, t,
				  MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_end,
				  t, MHD_OPTION_NOTIFY_CONNECTION, on_connection, t, MHD_OPTION_LISTEN_SOCKET, fd,
				  MHD_OPTION_THREAD_POOL_SIZE, THREADS, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
				  MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_TIMEOUT_S,
				  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
				  MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_UNESCAPE_CALLBACK, on_escaped, t,
				  MHD_OPTION_ARRAY, t->has_tls ? tls_options : &tls_options[2], MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return daemon;
}

int transport_start(struct admin *admin, const struct admin_listener *listener, struct transport **ret)
{
	struct transport *t = calloc(1, sizeof(*t));
	bool is_unix = strncmp(listener->address, "unix:", 5) == 0;
	int flags = fcntl(listener->fd, F_GETFL), fd = fcntl(listener->fd, F_DUPFD_CLOEXEC, 3), r = -ENOMEM;

	if (!t)
		goto out;
	/* Several threads accept: who comes late must not sleep in there. */
	if (fd < 0 || flags < 0 || fcntl(listener->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		r = -errno;
		goto out;
	}
	*t = (struct transport){.admin = admin, .quiesced_fd = -1};
	t->is_exposed = !is_unix && address_is_exposed(listener->address);
	t->has_tls = !is_unix && admin->tls;
	clients_init(&t->clients);
	errno = 0;
	t->daemon = start_daemon(t, fd);
	fd = -1; /* the library has closed it if it failed */
	if (!t->daemon) {
		r = errno ? -errno : -EIO;
		clients_destroy(&t->clients);
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

uint32_t transport_tick(struct transport *t, usec_t now)
{
	return clients_hang_up_late(&t->clients, now);
}

uint32_t transport_clients(struct transport *t)
{
	return clients_count(&t->clients);
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
	/* who has waited for an answer until now gets it, unless he is slow */
	for (int i = 0; i < LATE_WAITS && atomic_load(&t->late) > 0; i++)
		usleep(LATE_WAIT_US);
	MHD_stop_daemon(t->daemon);
	if (t->quiesced_fd >= 0)
		close(t->quiesced_fd);
	clients_destroy(&t->clients);
	free(t);
}

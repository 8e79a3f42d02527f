/*
 * Which proxy is meant, and what proves that one may. In this order: the command line, the environment, the proxy's own
 * configuration on this machine. The configuration's token goes to the address that the same file names, and nowhere
 * else.
 */
#include "client/client_priv.h"

#include "config/config.h"

#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONVENTIONAL_PATH "/etc/heliosproxy/proxy.toml"
#define DEFAULT_URL       "http://127.0.0.1:9090"
#define TOKEN_MAX         4096u

bool target_option(struct target_options *o, int option, const char *value)
{
	switch (option) {
	case OPT_URL:
		o->url = value;
		return true;
	case OPT_SOCKET:
		o->socket_path = value;
		return true;
	case OPT_TOKEN_FILE:
		o->token_file = value;
		return true;
	case OPT_CACERT:
		o->ca_path = value;
		return true;
	case OPT_CERT:
		o->cert_path = value;
		return true;
	case OPT_KEY:
		o->key_path = value;
		return true;
	case 'c':
		o->config_path = value;
		return true;
	default:
		return false;
	}
}

static bool out_of_memory(bool quiet)
{
	if (!quiet)
		client_say("", "out of memory");
	return false;
}

/* ---- the token ---- */

/* Its first line. */
static char *read_token(const char *path)
{
	char line[TOKEN_MAX];
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *token = NULL;

	if (!file)
		return NULL;
	if (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\r\n")] = 0;
		token = strdup(line);
	} else if (!ferror(file)) {
		token = strdup("");
	}
	if (file != stdin)
		fclose(file);
	explicit_bzero(line, sizeof(line));
	return token;
}

/* ---- the configuration ---- */

/* Where the listener is, seen from this machine: "0.0.0.0:9090" is 127.0.0.1:9090. */
static char *url_of_address(const char *address, bool tls)
{
	const char *port = strrchr(address, ':');
	struct buf url = BUF_INIT(1024);
	char *copy;

	buf_add_str(&url, tls ? "https://" : "http://");
	if (!port)
		buf_add_str(&url, address);
	else if (strncmp(address, "0.0.0.0:", 8) == 0 || strncmp(address, "*:", 2) == 0 || port == address)
		buf_printf(&url, "127.0.0.1%s", port);
	else if (strncmp(address, "[::]:", 5) == 0)
		buf_printf(&url, "[::1]%s", port);
	else
		buf_add_str(&url, address);
	copy = url.failed ? NULL : strdup(buf_cstr(&url));
	buf_free(&url);
	return copy;
}

static bool take_config(struct target *t, const struct config *c, bool wants_token)
{
	const char *address = c->proxy.admin_address;

	/* nothing is nearer than the socket */
	if (*c->admin.socket && access(c->admin.socket, W_OK) == 0) {
		free(t->url);
		t->socket_path = strdup(c->admin.socket);
		t->url = strdup("http://localhost");
		if (wants_token && *c->proxy.admin_token)
			t->token = strdup(c->proxy.admin_token);
		return t->url && t->socket_path;
	}
	if (!*address) {
		snprintf(t->note, sizeof(t->note), "%s turns the admin API off: [proxy] admin_address is empty",
			 c->path);
		return true;
	}
	free(t->url);
	if (strncmp(address, "unix:", 5) == 0) {
		t->socket_path = strdup(address + 5);
		t->url = strdup("http://localhost");
	} else {
		t->url = url_of_address(address, *c->admin.tls_cert_path);
	}
	if (wants_token && *c->proxy.admin_token)
		t->token = strdup(c->proxy.admin_token);
	return t->url && (t->socket_path || strncmp(address, "unix:", 5) != 0);
}

/* The first error of a report. */
static const char *first_error(const struct config_report *report)
{
	for (const struct report_message *m = report->first; m; m = m->next)
		if (m->severity == REPORT_ERROR)
			return m->text;
	return "it cannot be read";
}

/* false: out of memory. What is wrong with the file is noted. */
static bool read_config(struct target *t, const char *path, bool wants_token)
{
	struct config_report report;
	struct config *config = NULL;
	bool done = true;

	config_report_init(&report, /* strict= */ false);
	if (config_load(path, &config, &report) < 0)
		snprintf(t->note, sizeof(t->note), "%s was not used: %s", path, first_error(&report));
	else
		done = take_config(t, config, wants_token);
	config_free(config);
	config_report_free(&report);
	return done;
}

/* ---- all of it ---- */

static bool find_token(const struct target_options *o, struct target *t, bool quiet)
{
	const char *environment = getenv("HELIOS_ADMIN_TOKEN");

	if (o->token_file) {
		t->token = read_token(o->token_file);
		if (!t->token && !quiet)
			client_say("", "cannot read %s: %s", o->token_file, strerror(errno));
		return t->token != NULL;
	}
	if (environment && *environment) {
		t->token = strdup(environment);
		return t->token || out_of_memory(quiet);
	}
	return true;
}

/* Not over the net in clear: the way to oneself is fine. */
static void warn_of_clear_token(const struct target *t)
{
	static const char *const near[] = {"http://127.", "http://localhost", "http://[::1]"};

	if (!t->token || !*t->token || t->socket_path || strncasecmp(t->url, "http://", 7) != 0)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(near); i++)
		if (strncasecmp(t->url, near[i], strlen(near[i])) == 0)
			return;
	client_say("", "warning: the token goes to %s in clear", t->url);
}

static bool find_place(const struct target_options *o, struct target *t, bool quiet)
{
	const char *url = o->url ? o->url : getenv("HELIOS_ADMIN_URL");
	const char *path = o->config_path ? o->config_path : CONVENTIONAL_PATH;
	bool is_said = o->socket_path || (url && *url);

	if (o->socket_path)
		t->socket_path = strdup(o->socket_path);
	t->url = strdup(url && *url ? url : o->socket_path ? "http://localhost" : DEFAULT_URL);
	if (!t->url || (o->socket_path && !t->socket_path))
		return out_of_memory(quiet);
	if (is_said || (!o->config_path && access(path, F_OK) < 0))
		return true;
	if (!read_config(t, path, /* wants_token= */ !t->token))
		return out_of_memory(quiet);
	if (o->config_path && *t->note && !quiet)
		client_say("", "%s", t->note);
	return !o->config_path || !*t->note;
}

bool target_find(const struct target_options *o, struct target *t, bool quiet)
{
	size_t len;

	*t = (struct target){.ca_path = o->ca_path, .cert_path = o->cert_path, .key_path = o->key_path};
	if (!find_token(o, t, quiet) || !find_place(o, t, quiet)) {
		target_free(t);
		return false;
	}
	for (len = strlen(t->url); len > 0 && t->url[len - 1] == '/'; len--)
		t->url[len - 1] = 0;
	if (!quiet)
		warn_of_clear_token(t);
	return true;
}

void target_free(struct target *t)
{
	if (t->token)
		explicit_bzero(t->token, strlen(t->token));
	free(t->token);
	free(t->url);
	free(t->socket_path);
	*t = (struct target){0};
}

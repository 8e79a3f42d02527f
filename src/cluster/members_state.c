/* See members_state.h. */
#include "cluster/members_state.h"

#include "config/read_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define WEIGHT_MAX     1000000
#define SOCKET_DIR_MAX 90u /* with the socket's name it must fit into a sockaddr_un */

#define complain(why, ...) (snprintf(why, MEMBERS_WHY_MAX, __VA_ARGS__), -EINVAL)

static const char *const roles[] = {[NODE_PRIMARY] = "primary", [NODE_STANDBY] = "standby", [NODE_REPLICA] = "replica"};

const char *member_role_word(enum node_role role)
{
	return roles[role];
}

/* ---- values ---- */

static int take_text(const json_t *value, const char *key, char *to, size_t size, char *why)
{
	if (!json_is_string(value))
		return complain(why, "%s must be a text", key);
	if (json_string_length(value) >= size)
		return complain(why, "%s is longer than %zu bytes", key, size - 1);
	memset(to, 0, size);
	memcpy(to, json_string_value(value), json_string_length(value));
	for (const unsigned char *c = (const unsigned char *)to; *c; c++)
		if (*c < ' ' || *c == 0x7f)
			return complain(why, "%s has a character that does not belong there", key);
	return 0;
}

static int take_host(const json_t *value, char to[MEMBER_HOST_MAX], char *why)
{
	int r = take_text(value, "host", to, MEMBER_HOST_MAX, why);

	if (r < 0)
		return r;
	if (!*to || strpbrk(to, " \"'\\") || (*to == '/' && strlen(to) > SOCKET_DIR_MAX))
		return complain(why, "host must be a name, an IP address, or the directory of a unix socket");
	return 0;
}

static int take_number(const json_t *value, const char *key, json_int_t min, json_int_t max, json_int_t *to, char *why)
{
	double number = json_number_value(value); /* exact: bounds are small, and 5432.0 is a whole number, too */

	if (!json_is_number(value) || !(number >= (double)min && number <= (double)max) ||
	    number != (double)(json_int_t)number)
		return complain(why, "%s must be a number from %lld to %lld", key, (long long)min, (long long)max);
	*to = (json_int_t)number;
	return 0;
}

static int take_port(const json_t *value, uint16_t *to, char *why)
{
	json_int_t number;
	int r = take_number(value, "port", 1, 65535, &number, why);

	if (r == 0)
		*to = (uint16_t)number;
	return r;
}

static int take_bool(const json_t *value, const char *key, bool *to, char *why)
{
	if (!json_is_boolean(value))
		return complain(why, "%s must be true or false", key);
	*to = json_is_true(value);
	return 0;
}

static int take_role(const json_t *value, enum node_role *to, char *why)
{
	for (size_t i = 0; json_is_string(value) && i < ARRAY_SIZE(roles); i++)
		if (strcmp(json_string_value(value), roles[i]) == 0) {
			*to = (enum node_role)i;
			return 0;
		}
	return complain(why, "role must be \"primary\", \"standby\" or \"replica\"");
}

/* ---- objects ---- */

static int take_member_key(struct member *m, const char *key, const json_t *value, char *why)
{
	json_int_t number;
	int r;

	if (strcmp(key, "host") == 0)
		return take_host(value, m->host, why);
	if (strcmp(key, "port") == 0)
		return take_port(value, &m->port, why);
	if (strcmp(key, "name") == 0) {
		r = take_text(value, "name", m->name, sizeof(m->name), why);
		return r == 0 && strchr(m->name, '/') ? complain(why, "name must have no \"/\"") : r;
	}
	if (strcmp(key, "role") == 0)
		return take_role(value, &m->role, why);
	if (strcmp(key, "zone") == 0)
		return take_text(value, "zone", m->zone, sizeof(m->zone), why);
	if (strcmp(key, "enabled") == 0)
		return take_bool(value, "enabled", &m->enabled, why);
	if (strcmp(key, "sync") == 0)
		return take_bool(value, "sync", &m->sync, why);
	if (strcmp(key, "weight") != 0)
		return complain(why, "%.60s is no key of a node", key);
	r = take_number(value, "weight", 0, WEIGHT_MAX, &number, why);
	if (r == 0)
		m->weight = (uint32_t)number;
	return r;
}

static int take_member(json_t *object, struct member *m, char *why)
{
	const char *key;
	json_t *value;

	member_init(m, "", 5432);
	m->source = MEMBER_MANUAL;
	if (!json_is_object(object))
		return complain(why, "a node must be an object");
	json_object_foreach(object, key, value)
	{
		int r = take_member_key(m, key, value, why);

		if (r < 0)
			return r;
	}
	return *m->host ? 0 : complain(why, "host is missing");
}

static int take_switch(json_t *object, struct member_switch *s, char *why)
{
	int r;

	if (!json_is_object(object) || json_object_size(object) != 3)
		return complain(why, "\"enabled\" must hold objects with host, port and enabled");
	r = take_host(json_object_get(object, "host"), s->host, why);
	if (r == 0)
		r = take_port(json_object_get(object, "port"), &s->port, why);
	return r < 0 ? r : take_bool(json_object_get(object, "enabled"), "enabled", &s->enabled, why);
}

static int take_list(json_t *array, const char *key, char *why)
{
	if (!json_is_array(array))
		return complain(why, "\"%s\" must be a list", key);
	if (json_array_size(array) > MEMBERS_MAX)
		return complain(why, "\"%s\" has more than %u entries", key, MEMBERS_MAX);
	return 0;
}

static int take_nodes(json_t *array, struct members_state *s, char *why)
{
	int r = take_list(array, "nodes", why);

	for (size_t i = 0; r == 0 && i < json_array_size(array); i++)
		r = take_member(json_array_get(array, i), &s->list[s->count++], why);
	return r;
}

static int take_switches(json_t *array, struct members_state *s, char *why)
{
	int r = take_list(array, "enabled", why);

	for (size_t i = 0; r == 0 && i < json_array_size(array); i++)
		r = take_switch(json_array_get(array, i), &s->switches[s->switch_count++], why);
	return r;
}

static int take_primary(json_t *object, struct members_state *s, char *why)
{
	int r;

	if (json_is_null(object))
		return 0;
	if (!json_is_object(object) || json_object_size(object) != 2)
		return complain(why, "\"primary\" must be null, or an object with host and port");
	r = take_host(json_object_get(object, "host"), s->primary_host, why);
	return r < 0 ? r : take_port(json_object_get(object, "port"), &s->primary_port, why);
}

static int take_state_key(struct members_state *s, const char *key, json_t *value, char *why)
{
	if (strcmp(key, "version") == 0)
		return 0;
	if (strcmp(key, "nodes") == 0)
		return take_nodes(value, s, why);
	if (strcmp(key, "enabled") == 0)
		return take_switches(value, s, why);
	if (strcmp(key, "primary") == 0)
		return take_primary(value, s, why);
	return complain(why, "%.60s is no key of it", key);
}

static int take_state(json_t *root, struct members_state *s, char *why)
{
	const json_t *version = json_object_get(root, "version");
	const char *key;
	json_t *value;

	if (!json_is_integer(version) || json_integer_value(version) < 1)
		return complain(why, "it has no version");
	if (json_integer_value(version) > MEMBERS_STATE_VERSION)
		return complain(why, "it is of version %lld, written by a newer proxy; this one knows version %d",
				(long long)json_integer_value(version), MEMBERS_STATE_VERSION);
	json_object_foreach(root, key, value)
	{
		int r = take_state_key(s, key, value, why);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- texts ---- */

static json_t *parse(const char *text, size_t len, char *why)
{
	json_error_t error;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);

	if (root)
		return root;
	(void)complain(why, "line %d: %.180s", error.line, error.text);
	return NULL;
}

int members_state_parse(const char *text, size_t len, struct members_state *ret, char why[MEMBERS_WHY_MAX])
{
	json_t *root = parse(text, len, why);
	int r = -EINVAL;

	*ret = (struct members_state){0};
	if (root)
		r = take_state(root, ret, why);
	json_decref(root);
	return r;
}

int member_parse(const char *text, size_t len, struct member *ret, char why[MEMBERS_WHY_MAX])
{
	json_t *root = parse(text, len, why);
	int r = -EINVAL;

	if (root)
		r = take_member(root, ret, why);
	json_decref(root);
	return r;
}

static json_t *member_json(const struct member *m)
{
	return json_pack("{s:s, s:i, s:s, s:s, s:i, s:s, s:b, s:b}", "host", m->host, "port", (int)m->port, "name",
			 m->name, "role", roles[m->role], "weight", (int)m->weight, "zone", m->zone, "sync", m->sync,
			 "enabled", m->enabled);
}

char *members_state_text(const struct members_state *s)
{
	json_t *nodes = json_array(), *switches = json_array(), *root;
	json_t *primary = *s->primary_host
				  ? json_pack("{s:s, s:i}", "host", s->primary_host, "port", (int)s->primary_port)
				  : json_null();
	char *text = NULL;
	int r = 0;

	for (uint32_t i = 0; i < s->count; i++)
		r |= json_array_append_new(nodes, member_json(&s->list[i]));
	for (uint32_t i = 0; i < s->switch_count; i++)
		r |= json_array_append_new(switches,
					   json_pack("{s:s, s:i, s:b}", "host", s->switches[i].host, "port",
						     (int)s->switches[i].port, "enabled", s->switches[i].enabled));
	root = json_pack("{s:i, s:o, s:o, s:o}", "version", MEMBERS_STATE_VERSION, "nodes", nodes, "enabled", switches,
			 "primary", primary);
	if (root && r == 0)
		text = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	return text;
}

/* ---- the file ---- */

int members_state_load(const char *path, struct members_state *ret, char why[MEMBERS_WHY_MAX])
{
	struct buf text = BUF_INIT(READ_FILE_MAX);
	int r = read_regular_file(path, &text, NULL);

	if (r < 0)
		(void)complain(why, "%s", read_file_error(r));
	else
		r = members_state_parse((const char *)text.bytes, text.len, ret, why);
	buf_free(&text);
	return r;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* So that the new name is still there after a crash. */
static int sync_folder(const char *path)
{
	char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int r = !copy ? -ENOMEM : fd < 0 || fsync(fd) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	free(copy);
	return r;
}

static int write_file(const char *path, const char *text)
{
	char *fresh = NULL;
	int fd, r;

	if (asprintf(&fresh, "%s.new", path) < 0)
		return -ENOMEM;
	(void)unlink(
		fresh); /* of a process that ended in the middle; never follow a link that somebody has put there */
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : write_all(fd, text, strlen(text));
	if (fd >= 0 && close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(fresh, path) < 0)
		r = -errno;
	if (r < 0 && fd >= 0)
		(void)unlink(fresh);
	free(fresh);
	return r < 0 ? r : sync_folder(path);
}

int members_state_save(const char *path, const struct members_state *state, char why[MEMBERS_WHY_MAX])
{
	char *text = members_state_text(state);
	int r = text ? write_file(path, text) : -ENOMEM;

	free(text);
	if (r < 0)
		(void)complain(why, "cannot write %.150s: %s", path, strerror(-r));
	return r;
}

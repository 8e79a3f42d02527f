/* The tables: verbs.def and columns.def. */
#include "client/client_priv.h"

#define NONE         ARGUMENT_NONE
#define NODE         ARGUMENT_NODE
#define NODE_OR_NONE ARGUMENT_NODE_OR_NONE
#define PID          ARGUMENT_PID
#define DATABASE     ARGUMENT_DATABASE
#define ADDRESS      ARGUMENT_ADDRESS
#define CONFIG_KEY   ARGUMENT_CONFIG_KEY
#define QUERY        ARGUMENT_QUERY
#define PATH         ARGUMENT_PATH
#define ASKS         VERB_ASKS
#define BODY         VERB_BODY
#define FOLLOWS      VERB_FOLLOWS
#define RAW          VERB_RAW
#define WHOLE        VERB_WHOLE

const struct verb verbs[] = {
#define VERB(words, argument, keys, method, path, rows, flags, help) \
	{words, keys, method, path, rows, help, argument, flags},
#include "client/verbs.def"
};
const size_t verb_count = ARRAY_SIZE(verbs);

const struct column client_columns[] = {
#define COLUMN(list, key, title, format, width) {list, key, title, FORMAT_##format, width},
#include "client/columns.def"
};
const size_t client_column_count = ARRAY_SIZE(client_columns);

/* ---- verbs ---- */

/* How many of the words are the verb's; 0: it is another one. */
static int matches(const struct verb *verb, char *const *words, int count)
{
	const char *at = verb->words;
	int used = 0;

	while (*at) {
		size_t len = strcspn(at, " ");

		if (used == count || strlen(words[used]) != len || memcmp(words[used], at, len) != 0)
			return 0;
		used++;
		at += len + (at[len] == ' ');
	}
	return used;
}

const struct verb *verb_find(char *const *words, int count, int *ret_used)
{
	const struct verb *found = NULL;
	int most = 0;

	for (size_t i = 0; i < verb_count; i++) {
		int used = matches(&verbs[i], words, count);

		if (used <= most)
			continue;
		most = *ret_used = used;
		found = &verbs[i];
	}
	return found;
}

const char *verb_argument_name(enum verb_argument argument)
{
	static const char *const names[] = {
		[ARGUMENT_NONE] = "",
		[ARGUMENT_NODE] = "NODE",
		[ARGUMENT_NODE_OR_NONE] = "NODE|none",
		[ARGUMENT_PID] = "PID",
		[ARGUMENT_DATABASE] = "DATABASE",
		[ARGUMENT_ADDRESS] = "HOST:PORT",
		[ARGUMENT_CONFIG_KEY] = "[KEY]",
		[ARGUMENT_QUERY] = "QUERY",
		[ARGUMENT_PATH] = "PATH",
	};

	return names[argument];
}

bool verb_next_key(const char **at, struct verb_key *ret)
{
	size_t len, name;

	*at += strspn(*at, " ");
	len = strcspn(*at, " ");
	if (len == 0)
		return false;
	name = MIN(strcspn(*at, ": "), len);
	*ret = (struct verb_key){.type = 's'};
	snprintf(ret->name, sizeof(ret->name), "%.*s", (int)name, *at);
	if (name < len) {
		snprintf(ret->words, sizeof(ret->words), "%.*s", (int)(len - name - 1), *at + name + 1);
		ret->type = strcmp(ret->words, "n") == 0 ? 'n' : strcmp(ret->words, "b") == 0 ? 'b' : 'w';
		if (ret->type == 'b')
			snprintf(ret->words, sizeof(ret->words), "true|false");
		else if (ret->type == 'n')
			ret->words[0] = 0;
	}
	*at += len;
	return true;
}

bool verb_find_key(const struct verb *verb, const char *name, size_t len, struct verb_key *ret)
{
	const char *at = verb->keys;

	while (verb_next_key(&at, ret))
		if (strlen(ret->name) == len && memcmp(ret->name, name, len) == 0)
			return true;
	return false;
}

/* How many letters must change, be added or go. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[64], rows = (unsigned)MIN(strlen(a), 62u), columns = (unsigned)MIN(strlen(b), 62u);

	for (unsigned j = 0; j <= columns; j++)
		row[j] = j;
	for (unsigned i = 1; i <= rows; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= columns; j++) {
			unsigned changed = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = MIN(MIN(row[j] + 1, row[j - 1] + 1), changed);
		}
	}
	return row[columns];
}

const char *verb_near(const char *word)
{
	const char *near = NULL;
	unsigned least = 3;

	for (size_t i = 0; i < verb_count; i++) {
		unsigned d = distance(word, verbs[i].words);

		if (d < least) {
			least = d;
			near = verbs[i].words;
		}
	}
	return near;
}

/* ---- columns ---- */

const struct column *columns_of(const char *list, size_t *ret_count)
{
	const struct column *first = NULL;
	size_t count = 0;

	for (size_t i = 0; i < client_column_count; i++) {
		if (strcmp(client_columns[i].list, list) != 0)
			continue;
		first = first ? first : &client_columns[i];
		count++;
	}
	*ret_count = count;
	return first;
}

json_t *json_member(const json_t *object, const char *key)
{
	const char *dot = strchr(key, '.');
	char head[64];

	if (!dot)
		return json_object_get(object, key);
	snprintf(head, sizeof(head), "%.*s", (int)(dot - key), key);
	return json_object_get(json_object_get(object, head), dot + 1);
}
